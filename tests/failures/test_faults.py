"""Faults of one rank while the ranks wait for each other in MPI and in Horovod: all are gone soon, and the text says
which rank, where in the run, and in what.

PHALANX_FAULTS=all asks for every combination; an everyday test takes each fault in each thread once.
"""

import importlib.util
import os
import re
import signal
import time
from typing import NamedTuple

import pytest

from tests import launch
from tests.failures.programs.job import Job

RANKS = 2
LIMIT_S = 2.0  # of the watchdog
GONE_S = 10.0 + LIMIT_S
SAID = "said"  # by the rank itself
DIED = "died"  # the launcher names it, the others say where
HANGS = "hangs"  # the watchdog finds it
MAIN = {
    "exception": SAID,
    "exit": SAID,
    "exit-0": SAID,
    "_exit-0": DIED,
    "SIGSTOP": HANGS,
    "SIGSEGV": DIED,
    "SIGKILL": DIED,
    "elsewhere": HANGS,
    "size": HANGS,
    "lost": HANGS,
}
THREAD = ("exception", "exit", "_exit-0", "SIGSTOP", "SIGSEGV", "SIGKILL")
CODES = {"SIGSEGV": 139, "SIGKILL": 137}
WORDS = {
    "exception": "ValueError: bad luck",
    "_exit-0": "exiting\\s+improperly",
    "SIGSEGV": "Fatal Python error: Segmentation fault",
    "SIGKILL": "signal 9",
    "elsewhere": "broadcast of weights",
}


class Case(NamedTuple):
    """One rank's fault: in its main thread or beside it, while the others wait in this engine."""

    fault: str
    place: str
    rank: int
    engine: str


def cases() -> list[Case]:
    """All of them, or one of each four."""
    faults = [(fault, "main") for fault in MAIN] + [(fault, "thread") for fault in THREAD]
    whole = [[Case(*one, rank, engine) for rank in range(RANKS) for engine in ("mpi", "horovod")] for one in faults]
    if os.environ.get("PHALANX_FAULTS") == "all":
        return [case for four in whole for case in four]
    return [four[number % 4] for number, four in enumerate(whole)]


@pytest.mark.parametrize("case", cases(), ids=lambda case: "-".join(map(str, case)))
def test_a_fault_ends_the_job(case, tmp_path):
    if case.engine == "horovod" and importlib.util.find_spec("horovod") is None:
        pytest.skip("Horovod is not installed")
    job = Job(case.fault, tmp_path, LIMIT_S, RANKS, (str(case.rank), case.place, case.engine))
    try:
        job.misbehaves()
        begun = time.monotonic()
        code = job.code()
        assert time.monotonic() - begun <= GONE_S, job.text()
        assert code in codes(case), job.text()
        assert_told(case, job.text())
    finally:
        job.end()


# A state of 12 qubits; the ranks below the largest power of two hold it, the others wait for them.
QUANTUM = """
[run]
name = "states"
seed = 3
watchdog = 4
log_seconds = 0.1

[[phase]]
kind = "quantum"
name = "ground"
task = "minimise"
circuit = { template = "strongly_entangling", qubits = 12, layers = 4 }
observable = { model = "ising", qubits = 12, periodic = true }
start = "random"
tolerance = 0.0
"""


HALVES = "exchange between two ranks|sum over ranks|gathering over ranks|agreement whether to stop"
END = "end of what other ranks compute"


@pytest.mark.parametrize(
    ("ranks", "stopped", "steps", "waits"),
    [
        (2, (1,), 100_000, HALVES),
        (3, (0,), 100_000, HALVES),
        (3, (0, 1), 100_000, END),
        (3, (2,), 40, f"{END}|gathering over ranks|broadcast"),
    ],
)
def test_ranks_that_are_stopped_in_a_quantum_phase(ranks, stopped, steps, waits, tmp_path):
    """Half of the state does not come any more; or the end of the phase."""
    file = tmp_path / "input.toml"
    file.write_text(f"{QUANTUM}steps = {steps}\n".replace("[run]", f'[run]\nfolder = "{tmp_path / "out"}"'))
    with launch.Job(file, ranks) as job:
        assert job.until("ground step"), job.text()
        for pid in [job.pids(rank)[0] for rank in stopped]:
            os.kill(pid, signal.SIGSTOP)
        job.seconds_to_be_gone()
        code, text = job.wait()
    assert code == 1, text
    assert re.search(f'"({waits})" has taken .* at phase ground, epoch 0, step', text), text
    assert f"no answer from rank {', '.join(map(str, stopped))}:" in text


def codes(case: Case) -> tuple[int, ...]:
    """Exit codes of the job."""
    if case[:4:3] == ("size", "mpi"):
        return 1, 134, 139  # MPI reports it, waits, or writes over its own memory
    return (CODES.get(case.fault, 1),)


def assert_told(case: Case, text: str) -> None:
    """The rank at fault, phase, epoch, step and operation, by whoever can still speak."""
    place = r"phase faulty, epoch 0, step 2[01]"
    at = rf'of 2 on .*, {place}, (in|after) "(sum of the loss|broadcast of weights)"'
    told = {
        SAID: [rf"rank {case.rank} {at}"],
        DIED: [rf"rank {case.rank} with PID", rf"rank {1 - case.rank} {at}"],
        HANGS: [rf'LOG "(sum of the loss|broadcast of weights)" has taken .* at {place}', *silent(case)],
    }
    kinds = [MAIN[case.fault]]
    if case.fault == "size":  # our engine for Horovod looks at the sizes itself
        kinds = [SAID] if case.engine == "horovod" else list(told)
    assert any(all(re.search(one, text) for one in told[kind]) for kind in kinds), text
    assert re.search(WORDS.get(case.fault, ""), text), text


def silent(case: Case) -> list[str]:
    """The rank that the watchdog of a rank that waits finds missing or elsewhere."""
    if case.fault == "elsewhere":  # each rank misses the other one
        return ["LOG rank [01] on .* has not reached it"]
    return [f"LOG (no answer from rank {case.rank}|rank {case.rank} on .* has not reached it)"]
