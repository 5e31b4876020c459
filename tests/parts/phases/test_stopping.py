"""Whether a run is to stop: signals, the clock, a file; and what is said."""

from types import SimpleNamespace

import pytest

from app.errors import Held, Stopped
from app.phases.context import stopping
from app.phases.context.stopping import Stopping


class Clock:
    """time.time and time.monotonic, of which the second began somewhere else."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now

    def monotonic(self):
        return self.now - 400


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(stopping, "time", made)
    return made


def make(tmp_path, *, rank=0, others=(), ends_at=lambda ask: None, margin_s=60.0, asked=None):
    world = SimpleNamespace(rank=rank, allgather=lambda mine: [mine, *others])
    return Stopping(world, SimpleNamespace(asked=asked), tmp_path / "stop", ends_at, margin_s)


def test_nothing_asks(tmp_path, clock):
    one = make(tmp_path)
    assert not one.asked()
    one.between("phase b")


def test_a_signal(tmp_path, clock):
    one = make(tmp_path, rank=3, asked="SIGUSR1")
    assert one.asked()
    assert str(one.stopped("x is saved")) == "stopped: SIGUSR1 arrived; x is saved. The same command goes on."


def test_a_reason_of_another_rank(tmp_path, clock):
    one = make(tmp_path, others=["", "SIGTERM arrived"])
    assert not one.asked()
    with pytest.raises(Stopped, match="SIGTERM arrived on rank 2; phase b has not begun"):
        one.between("phase b")


def test_the_file_is_looked_for_by_rank_0_once_a_second(tmp_path, clock):
    one, two = make(tmp_path), make(tmp_path, rank=1)
    assert not one.asked()
    (tmp_path / "stop").touch()
    clock.now += 0.5
    assert not one.asked()
    clock.now += 0.6
    assert one.asked()
    assert not two.asked()
    assert isinstance(one.stopped("x"), Held)
    (tmp_path / "stop").unlink()
    assert one.asked(), "once asked, always"


def test_the_time_limit(tmp_path, clock):
    one = make(tmp_path, ends_at=lambda ask: 2000.0)
    clock.now = 1939.0
    assert not one.asked()
    clock.now = 1941.0
    assert one.reason() == "59 s are left of the time limit"


def test_the_margin_is_a_quarter_of_a_short_limit(tmp_path, clock):
    one = make(tmp_path, ends_at=lambda ask: 1040.0)
    clock.now = 1029.0
    assert not one.asked()
    clock.now = 1031.0
    assert one.asked()


def test_the_margin_grows_with_what_steps_and_saving_take(tmp_path, clock):
    one = make(tmp_path, ends_at=lambda ask: 3000.0)
    one.took("step", 20.0)
    one.took("save", 80.0)
    one.took("step", 5.0)
    clock.now = 2799.0
    assert not one.asked()
    clock.now = 2801.0
    assert one.asked()


def test_more_time_that_was_given_meanwhile(tmp_path, clock):
    one = make(tmp_path, ends_at=lambda ask: 5000.0 if ask else 2000.0)
    clock.now = 1990.0
    assert not one.asked()
    clock.now = 4939.0
    assert not one.asked()
    clock.now = 4941.0
    assert one.asked()


def test_the_ranks_of_a_group_agree(tmp_path, clock):
    group = SimpleNamespace(allgather=lambda mine: [mine, True])
    assert make(tmp_path).agreed(group)
    assert not make(tmp_path).agreed(None)
