"""Time of a training step with a checkpoint every 10 steps, on 2 ranks x 1 thread.

Ours, written while training goes on, beside no checkpoints at all, ours written while training waits, torch.save, and
torch.distributed.checkpoint.async_save.

Every contender is a job of its own, and only one runs at a time (see benchmarks/contenders.py); ratios are of the same
round. All of them end a block with their last checkpoint on the disk.

    python -m benchmarks.checkpoints [--rounds 20] [--cases LeNet MLP] [--folder FOLDER]
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.contenders import RANKS, Rank, Times, ask, jobs, measure
from benchmarks.interleave import Ratio, last_line, ratio

CONTENDERS = ("none", "background", "wait", "torch-save", "torch-async")
STEPS = 20  # in a block, with two checkpoints
CASES = ("LeNet", "ResNet", "MLP")
GOAL = 1.03  # of none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--folder", type=Path, help="where checkpoints are written; default a temporary folder")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # leave no stopped processes behind
    with tempfile.TemporaryDirectory(prefix="phalanx-bench-", dir=args.folder) as folder:
        environ = os.environ | {"BENCHMARK_CHECKPOINTS": folder, "OMP_NUM_THREADS": "1"}
        with jobs(args.contenders, Path(folder), "benchmarks.ranks.checkpoint_step", environ) as ranks:
            report(measure(ranks, args.cases, args.rounds, block))


def block(pair: list[Rank], case: str) -> float:
    """Seconds per step, of the slower rank."""
    return max(ask(pair, (case, STEPS)))


def report(times: Times) -> None:
    """The table, the goal, and the last line."""
    ratios: dict[str, Ratio] = {}
    for case, by_name in times.items():
        print(f"\n{case}: {len(next(iter(by_name.values())))} rounds of {STEPS} steps with 2 checkpoints")
        print(f"  {'':12} {'ms/step':>9} {'over none':>10} {'quartiles':>14}")
        for name, seconds in by_name.items():
            beside = ratio(seconds, by_name["none"], "no checkpoints")
            ms = 1000 * statistics.median(seconds)
            print(f"  {name:12} {ms:9.2f} {beside.median:10.3f} {beside.lower:7.3f}-{beside.upper:.3f}")
            if name == "background":
                ratios[case] = beside
            if name.startswith("torch") and "background" in by_name:
                ratios[f"{case} beside {name}"] = ratio(by_name["background"], seconds, name)
        print(f"  goal         background {GOAL} of none")
    print()
    print(last_line("checkpoints", ratios, {"ranks": RANKS, "threads": 1}))


if __name__ == "__main__":
    main()
