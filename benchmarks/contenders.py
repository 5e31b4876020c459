"""Contenders as jobs of their own, of which one runs at a time: launched together, stopped and continued by signals.

The others are stopped (SIGSTOP) because an initialised Horovod slows whatever else runs. Blocks of steps take turns, in
an order that rotates, so that drift of the machine hits all alike.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.interleave import rotated

RANKS = 2


class Rank(NamedTuple):
    """One process of a contender."""

    pid: int
    line: Connection


Times = dict[str, dict[str, list[float]]]  # by case and contender: seconds per step of each round


@contextmanager
def jobs(
    names: Sequence[str], folder: Path, module: str, environ: Mapping[str, str] = os.environ
) -> Iterator[dict[str, list[Rank]]]:
    """All contenders started and stopped again at once, by name; each as a job of its own, which runs `module`."""
    launched, ranks = [], {}
    with Listener(str(folder / "socket")) as listener:
        for name in names:
            launched.append(launch(name, folder, module, environ))
            ranks[name] = meet(listener)
            pause(ranks[name], signal.SIGSTOP)
    try:
        yield ranks
    except EOFError:
        time.sleep(1)  # mpirun passes the last words on
        print(*(out.read_text() for out in sorted(folder.glob("*.out"))), sep="\n", file=sys.stderr)
        raise
    finally:
        for rank in (rank for pair in ranks.values() for rank in pair):
            with suppress(OSError):  # one that failed
                os.kill(rank.pid, signal.SIGCONT)
                rank.line.send(None)
        for job in launched:
            job.wait(timeout=60)


def launch(name: str, folder: Path, module: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """One contender under mpirun; its name may carry variables: NAME@VARIABLE=VALUE."""
    mpirun = Path(sys.executable).with_name("mpirun")
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    command = [str(mpirun) if mpirun.exists() else "mpirun", *root, "--oversubscribe", "-np", str(RANKS)]
    name, *settings = name.split("@")
    own = dict(setting.split("=", 1) for setting in settings)
    environ = {**environ, **own, "BENCHMARK_FOLDER": str(folder), "BENCHMARK_RANKS": str(RANKS)}
    with (folder / f"{name}.out").open("wb") as out:  # mpirun's words about ranks that leave early
        return subprocess.Popen([*command, sys.executable, "-m", module, name], env=environ, stdout=out, stderr=out)


def meet(listener: Listener) -> list[Rank]:
    """Wait for the ranks of the contender just launched."""
    found: dict[int, Rank] = {}
    while len(found) < RANKS:
        line = listener.accept()
        name, rank, pid, about = line.recv()
        found[rank] = Rank(pid, line)
        if rank == 0:
            print(f"{name:12} {about}", flush=True)
    return [found[rank] for rank in range(RANKS)]


def pause(some: Sequence[Rank], number: signal.Signals) -> None:
    """Stop or continue ranks."""
    for rank in some:
        os.kill(rank.pid, number)


def ask(some: Sequence[Rank], order: object) -> list[Any]:
    """What each of these ranks answers to an order; they run only meanwhile."""
    pause(some, signal.SIGCONT)
    for rank in some:
        rank.line.send(order)
    answers = [rank.line.recv() for rank in some]
    pause(some, signal.SIGSTOP)
    return answers


def measure(
    ranks: Mapping[str, list[Rank]], cases: Sequence[str], rounds: int, block: Callable[[list[Rank], str], float]
) -> Times:
    """Blocks of steps in turns. Round -1 builds networks and warms up."""
    times: Times = {case: {name: [] for name in ranks} for case in cases}
    for number in range(-1, rounds):
        for case in cases:
            for name in rotated(list(ranks), number):
                seconds = block(ranks[name], case)
                if number >= 0:
                    times[case][name].append(seconds)
    return times
