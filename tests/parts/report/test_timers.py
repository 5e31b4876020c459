"""Timers count each second once, for the innermost name."""

import pytest

from app.report import timers as module
from app.report.timers import Spread, Timers, spread, spread_line


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by hand."""

    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

        def wait(self, seconds):
            self.now += seconds

    hands = Clock()
    monkeypatch.setattr(module, "perf_counter", hands)
    return hands


def test_times_of_one_name_add_up(clock):
    timers = Timers()
    for seconds in (1, 2):
        with timers("read"):
            clock.wait(seconds)
        clock.wait(10)
    assert timers.totals() == {"read": 3}


def test_time_of_an_inner_block_is_taken_off_the_outer(clock):
    timers = Timers()
    with timers("compute"):
        clock.wait(1)
        with timers("communicate"):
            clock.wait(4)
            with timers("read"):
                clock.wait(16)
            clock.wait(4)
        clock.wait(2)
    assert timers.totals() == {"compute": 3, "communicate": 8, "read": 16}


def test_a_name_within_itself_counts_once(clock):
    timers = Timers()
    with timers("read"):
        clock.wait(1)
        with timers("read"):
            clock.wait(1)
        clock.wait(1)
    assert timers.totals() == {"read": 3}


def test_an_exception_ends_a_block(clock):
    timers = Timers()

    def failing():
        with timers("compute"), timers("read"):
            clock.wait(1)
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    clock.wait(5)
    assert timers.totals() == {"compute": 0, "read": 1}


def test_totals_and_reset_within_a_block(clock):
    timers = Timers()
    with timers("read"):
        clock.wait(1)
        assert timers.totals() == {"read": 1}
        clock.wait(1)
        timers.reset()
        clock.wait(3)
    assert timers.totals() == {"read": 3}
    timers.reset()
    assert timers.totals() == {"read": 0}


def test_the_spread_is_one_line_that_names_the_slowest_rank() -> None:
    found = {"read": Spread(0.1, 0.2, 0.3, 2, "node2"), "compute": Spread(1.0, 1.5, 2.0, 1, "node7")}
    assert spread_line(found) == (
        "seconds (min/median/max over ranks): read 0.100/0.200/0.300, compute 1.000/1.500/2.000"
        "; slowest to compute: rank 1 on node7"
    )


def test_the_spread_over_ranks():
    per_rank = [{"read": 1.0, "compute": 5.0}, {"read": 4.0, "compute": 5.0}, {"read": 2.0}]
    found = spread(per_rank, ["node1", "node1", "node2"])
    assert found == {"read": Spread(1, 2, 4, 1, "node1"), "compute": Spread(0, 5, 5, 0, "node1")}
    assert spread([{}, {}], ["a", "b"]) == {}
