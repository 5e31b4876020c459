"""Seconds from starting mpirun to the end of the first optimizer step: `phalanx run` beside the usual script.

The usual script imports mpi4py, torch and Horovod, reads the same file and takes one step with torch.optim, with
nothing tuned. Both take turns, in an order that rotates; ratios are of the same round.

    python -m benchmarks.startup [--rounds 7] [--ranks 1 2 4]
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.interleave import last_line, ratio, rotated

TREE = Path(__file__).parents[1]
INPUT = TREE / "inputs" / "digits.toml"
DONE = "first step done"  # what both print
GOAL_S = {2: 2.5}
PEER = "mpi4py + torch + Horovod + torch.optim, untuned"

Times = dict[int, dict[str, list[float]]]  # by number of ranks and contender


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="phalanx-bench-") as folder:
        report(measure(Path(folder), args.ranks, args.rounds))


def measure(folder: Path, ranks: Sequence[int], rounds: int) -> Times:
    """Starts in turns. Round -1 fills the file cache and does not count."""
    if importlib.util.find_spec("horovod") is None:
        raise SystemExit("benchmarks.startup: Horovod is not installed, and the usual script needs it: make horovod")
    commands = {"phalanx": phalanx(folder), "naive": [sys.executable, "-m", "benchmarks.ranks.naive_start"]}
    times: Times = {number: {name: [] for name in commands} for number in ranks}
    for turn in range(-1, rounds):
        for number in ranks:
            for name in rotated(list(commands), turn):
                seconds = first_step([*launcher(number), *commands[name]])
                if turn >= 0:
                    times[number][name].append(seconds)
    return times


def phalanx(folder: Path) -> list[str]:
    """The digits, one epoch, into a folder that is emptied each time."""
    settings = [f"run.folder={folder / 'run'}", "phase.teacher.epochs=1"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    beside = Path(sys.executable).with_name("phalanx")
    program = [str(beside)] if beside.exists() else [sys.executable, "-m", "app"]
    return [*program, "run", str(INPUT), *chosen, "--fresh", "-v"]


def launcher(ranks: int) -> list[str]:
    """The mpirun beside this Python, with the flags this machine needs."""
    beside = Path(sys.executable).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else "mpirun"
    flags = subprocess.run(
        [str(TREE / "install" / "mpirun-flags.sh"), mpirun, str(ranks)], capture_output=True, text=True, check=True
    )
    return [mpirun, *flags.stdout.split(), "-np", str(ranks)]


def first_step(command: list[str]) -> float:
    """Seconds until the line that says so; the job is then left to its end."""
    environ = os.environ | {"PYTHONPATH": str(TREE), "PYTHONUNBUFFERED": "1"}
    begun, seconds, lines = time.monotonic(), None, []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
    ) as job:
        assert job.stdout is not None
        for line in job.stdout:
            if seconds is None and DONE in line:
                seconds = time.monotonic() - begun
            lines.append(line)
    if seconds is None or job.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{''.join(lines)}")
    return seconds


def report(times: Times) -> None:
    """The table, the goal, and the last line."""
    print(f"{'ranks':>5} {'':8} {'median s':>9} {'quartiles':>12} {'over naive':>11} {'quartiles':>12}")
    ratios = {}
    for number, by_name in times.items():
        beside = ratio(by_name["phalanx"], by_name["naive"], PEER)
        ratios[f"{number} rank{'s' if number > 1 else ''}"] = beside
        for name, seconds in by_name.items():
            over = f"{beside.median:11.3f} {beside.lower:6.3f}-{beside.upper:.3f}" if name == "phalanx" else ""
            goal = f"   goal {GOAL_S[number]} s" if number in GOAL_S and name == "phalanx" else ""
            lower, median, upper = quartiles(seconds)
            print(f"{number:5} {name:8} {median:9.2f} {lower:6.2f}-{upper:.2f} {over}{goal}")
    medians = {str(n): {name: round(quartiles(s)[1], 3) for name, s in by.items()} for n, by in times.items()}
    print(last_line("startup", ratios, {"seconds": medians}))


def quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(seconds) < 2:
        return seconds[0], seconds[0], seconds[0]
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return lower, median, upper


if __name__ == "__main__":
    main()
