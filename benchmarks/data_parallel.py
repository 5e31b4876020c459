"""Time of a training step on 2 ranks x 1 thread: our gradient sums beside torch DDP, and beside no communication.

Every contender is a job of its own, and only one runs at a time (see benchmarks/contenders.py); ratios are of the same
round.

    python -m benchmarks.data_parallel [--rounds 20] [--cases LeNet MLP] [--contenders ddp mpi none]
"""

import argparse
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.contenders import RANKS, Rank, Times, ask, jobs, measure
from benchmarks.interleave import Ratio, last_line, ratio

CONTENDERS = ("ddp", "ddp-fused", "mpi", "horovod", "auto", "none")
STEPS = {"LeNet": 20, "ResNet": 4, "MLP": 4}  # timed ones in a block
GOALS = {"LeNet": (0.95, 1.0, 0.95), "ResNet": (0.97, 1.0, 0.95), "MLP": (0.75, 0.9, 0.80)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cases", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), help="NAME or NAME@VARIABLE=VALUE")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # leave no stopped processes behind
    with (
        tempfile.TemporaryDirectory(prefix="phalanx-bench-") as folder,
        jobs(args.contenders, Path(folder), "benchmarks.ranks.step_time") as ranks,
    ):
        report(measure(ranks, args.cases, args.rounds, block))


def block(pair: list[Rank], case: str) -> float:
    """Seconds per step, mean over the ranks."""
    return statistics.fmean(ask(pair, (case, STEPS[case])))


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
