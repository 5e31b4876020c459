"""Which engine sums the gradients."""

import importlib.util
import subprocess
import sys

import pytest

from app.errors import MachineError
from app.parallel.sums import gradients


class Group:
    """A group whose ranks all say the same."""

    def __init__(self, size):
        self.size, self.rank = size, 0

    def allgather(self, value):
        return [value] * self.size


@pytest.fixture
def engines(monkeypatch):
    """The engines are not opened, only named; answers (name, reason)."""
    from app.parallel.sums import horovod_sum, mpi_sum

    class Opened:
        def __init__(self, name, reason):
            self.name, self.reason = name, reason

    monkeypatch.setattr(mpi_sum, "open_mpi_sum", lambda group, hosts: Opened("mpi", f"mpi: {hosts} hosts"))
    monkeypatch.setattr(horovod_sum, "HorovodSum", lambda group, reason: Opened("horovod", reason))
    monkeypatch.setattr(horovod_sum, "has_nccl", lambda: False)
    installed = {"horovod": True}
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: installed["horovod"] or None if name == "horovod" else find(name)
    )
    return installed


def choose(size=2, wanted="auto", device_type="cpu", hosts=1):
    return gradients.choose(Group(size), wanted=wanted, device_type=device_type, hosts=hosts)


def test_one_rank_has_nothing_to_sum():
    assert choose(size=1, wanted="horovod").name == "none"


@pytest.mark.parametrize(
    ("wanted", "device_type", "hosts", "name"),
    [
        ("auto", "cpu", 1, "mpi"),
        ("auto", "cpu", 4, "horovod"),
        ("auto", "cuda", 4, "mpi"),  # this Horovod was built without NCCL
        ("mpi", "cpu", 4, "mpi"),
        ("horovod", "cpu", 1, "horovod"),
    ],
)
def test_the_rule(engines, wanted, device_type, hosts, name):
    engine = choose(wanted=wanted, device_type=device_type, hosts=hosts)
    assert engine.name == name
    assert engine.reason.startswith(f"{name}: ")


def test_without_horovod_auto_says_so_and_goes_on(engines):
    engines["horovod"] = False
    engine = choose(hosts=4)
    assert engine.name == "mpi"
    assert "Horovod is not installed (phalanx doctor says how)" in engine.reason


def test_without_horovod_wanting_it_is_refused(engines):
    engines["horovod"] = False
    with pytest.raises(MachineError, match='allreduce = "mpi"'):
        choose(wanted="horovod")


def test_the_world_does_not_load_torch():
    program = (
        "import sys, app.parallel.world, app.parallel.sums.gradients, app.parallel.watchdog, app.parallel.failures;"
    )
    program += "print([name for name in ('torch', 'horovod', 'mpi4py') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
