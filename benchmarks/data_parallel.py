"""Time of a training step on 2 ranks x 1 thread: our gradient sums beside torch DDP, and beside no communication.

Every contender is a job of its own. Only one runs at a time; the others are stopped (SIGSTOP), because an initialised
Horovod slows whatever else runs. Blocks of steps take turns, in an order that rotates; ratios are of the same round.

    python -m benchmarks.data_parallel [--rounds 20] [--cases LeNet MLP] [--contenders ddp mpi none]
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import NamedTuple

from benchmarks.interleave import Ratio, last_line, ratio, rotated

RANKS = 2
CONTENDERS = ("ddp", "ddp-fused", "mpi", "horovod", "auto", "none")
STEPS = {"LeNet": 20, "ResNet": 4, "MLP": 4}  # timed ones in a block
GOALS = {"LeNet": (0.95, 1.0, 0.95), "ResNet": (0.97, 1.0, 0.95), "MLP": (0.75, 0.9, 0.80)}


class Rank(NamedTuple):
    """One process of a contender."""

    pid: int
    line: Connection


Times = dict[str, dict[str, list[float]]]  # by case and contender: seconds per step of each round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cases", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), help="NAME or NAME@VARIABLE=VALUE")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # leave no stopped processes behind
    with tempfile.TemporaryDirectory(prefix="phalanx-bench-") as folder, jobs(args.contenders, Path(folder)) as ranks:
        report(measure(ranks, args.cases, args.rounds))


@contextmanager
def jobs(names: Sequence[str], folder: Path) -> Iterator[dict[str, list[Rank]]]:
    """All contenders started and stopped again at once, by name; each as a job of its own."""
    launched, ranks = [], {}
    with Listener(str(folder / "socket")) as listener:
        for name in names:
            launched.append(launch(name, folder))
            ranks[name] = meet(listener)
            pause(ranks[name], signal.SIGSTOP)
    try:
        yield ranks
    finally:
        for rank in (rank for pair in ranks.values() for rank in pair):
            os.kill(rank.pid, signal.SIGCONT)
            rank.line.send(None)
        for job in launched:
            job.wait(timeout=60)


def launch(name: str, folder: Path) -> subprocess.Popen[bytes]:
    """One contender under mpirun."""
    mpirun = Path(sys.executable).with_name("mpirun")
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    command = [str(mpirun) if mpirun.exists() else "mpirun", *root, "--oversubscribe", "-np", str(RANKS)]
    name, *settings = name.split("@")
    own = dict(setting.split("=", 1) for setting in settings)
    environ = os.environ | own | {"BENCHMARK_FOLDER": str(folder), "BENCHMARK_RANKS": str(RANKS)}
    with (folder / f"{name}.out").open("wb") as out:  # mpirun's words about ranks that leave early
        return subprocess.Popen(
            [*command, sys.executable, "-m", "benchmarks.ranks.step_time", name], env=environ, stdout=out, stderr=out
        )


def meet(listener: Listener) -> list[Rank]:
    """Wait for the ranks of the contender just launched."""
    found: dict[int, Rank] = {}
    while len(found) < RANKS:
        line = listener.accept()
        name, rank, pid, about = line.recv()
        found[rank] = Rank(pid, line)
        if rank == 0:
            print(f"{name:12} {about}")
    return [found[rank] for rank in range(RANKS)]


def pause(pair: list[Rank], number: signal.Signals) -> None:
    """Stop or continue the ranks of a contender."""
    for rank in pair:
        os.kill(rank.pid, number)


def measure(ranks: dict[str, list[Rank]], cases: Sequence[str], rounds: int) -> Times:
    """Blocks of steps in turns. Round -1 builds networks and warms up."""
    times: Times = {case: {name: [] for name in ranks} for case in cases}
    for number in range(-1, rounds):
        for case in cases:
            for name in rotated(list(ranks), number):
                seconds = block(ranks[name], case)
                if number >= 0:
                    times[case][name].append(seconds)
    return times


def block(pair: list[Rank], case: str) -> float:
    """Seconds per step, mean over the ranks."""
    pause(pair, signal.SIGCONT)
    for rank in pair:
        rank.line.send((case, STEPS[case]))
    seconds = [rank.line.recv() for rank in pair]
    pause(pair, signal.SIGSTOP)
    return statistics.fmean(seconds)


def report(times: Times) -> None:
    """The table, the goals, and the last line. Only what was measured."""
    ratios: dict[str, Ratio] = {}
    efficiencies: dict[str, float] = {}
    for case, by_name in times.items():
        peers = [name for name in by_name if name.startswith("ddp")]
        peer = min(peers, key=lambda name: statistics.median(by_name[name]), default=None)
        print(f"\n{case}: {len(next(iter(by_name.values())))} rounds; peer: {peer}, the fastest DDP")
        print(f"  {'':12} {'ms/step':>9} {'over peer':>10} {'quartiles':>14} {'efficiency':>11}")
        for name, seconds in by_name.items():
            beside = ratio(seconds, by_name[peer], f"torch DDP gloo ({peer})") if peer else None
            limit = ratio(by_name["none"], seconds, "none").median if "none" in by_name else float("nan")
            print(row(name, seconds, beside, limit))
            if beside and name in ("auto", "mpi", "horovod"):
                ratios[f"{case} {name}"] = beside
                efficiencies[f"{case} {name}"] = round(limit, 4)
        best, horovod, efficiency = GOALS[case]
        print(f"  goals        auto {best}, Horovod {horovod} of the peer; efficiency of auto {efficiency}")
    print()
    print(last_line("data_parallel", ratios, {"efficiency": efficiencies, "ranks": RANKS, "threads": 1}))


def row(name: str, seconds: list[float], beside: Ratio | None, limit: float) -> str:
    """One line of the table."""
    text = f"  {name:12} {1000 * statistics.median(seconds):9.2f}"
    if beside:
        text += f" {beside.median:10.3f} {beside.lower:7.3f}-{beside.upper:.3f}"
    return f"{text} {limit:11.3f}"


if __name__ == "__main__":
    main()
