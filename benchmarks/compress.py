"""Pruning a residual network by 75 % of its operations: ours beside torch-pruning used directly on one process.

The network (a ResNet of 128 channels, trained on the 1,797 real digits), the ratio, the criterion (l2 norms over
coupled layers, global ranking), epochs, batches and rates of fine-tuning are the same, and so are the weights that both
start from. Ours runs on 2 ranks of one thread, the peer on two threads. Latencies are of one thread, interleaved. Then
the effect scan of the same network, on one rank and on two.

    python -m benchmarks.compress [--seeds 3] [--rounds 15] [--scans 3]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import h5py

from benchmarks.interleave import Ratio, last_line, ratio
from tests.launch import launcher

TREE = Path(__file__).parents[1]
SHARE, EPOCHS = 0.75, 6
PEER = "torch-pruning"
INPUT = """
[run]
name = "compress"
threads = 1
measure = 0
[data]
file = "{data}"
inputs = "images"
targets = "labels"
validation = 0.1
test = 0.2
split_seed = 7
[network]
kind = "resnet"
blocks = [2, 2]
width = 128
norm = "batch"
[[phase]]
kind = "train"
name = "teacher"
epochs = 8
batch_size = 64
microbatch_size = 32
optimizer = "adamw"
rate = 3e-3
epsilon = 1e-4
weight_decay = 0.05
schedule = "cosine"
"""
PRUNE = """
[[phase]]
kind = "prune"
name = "{name}"
network = "teacher"
remove = {share}
epochs = {epochs}
optimizer = "adamw"
rate = 3e-3
epsilon = 1e-4
schedule = "cosine"
keep = "last"
{keys}
"""
WEIGHT = "batch_size = 64\nmicrobatch_size = 32"
SCAN = 'method = "effect"\nmeasure = "scan"\nbatch_size = 60\nmicrobatch_size = 30'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=15, help="of the latencies")
    parser.add_argument("--scans", type=int, default=3, help="on each number of ranks")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="phalanx-bench-") as name:
        folder = Path(name)
        data = INPUT.format(data=TREE / "inputs" / "digits.h5")
        by_weight = data + PRUNE.format(name="by-weight", share=SHARE, epochs=EPOCHS, keys=WEIGHT)
        (folder / "prune.toml").write_text(by_weight)
        (folder / "scan.toml").write_text(data + PRUNE.format(name="scan", share=SHARE, epochs=0, keys=SCAN))
        seeds = [pruned(folder, seed, args.rounds) for seed in range(1, args.seeds + 1)]
        scans = [{ranks: scanned(folder, ranks) for ranks in order(number)} for number in range(args.scans)]
    report(seeds, scans)


def order(number: int) -> tuple[int, int]:
    return (1, 2) if number % 2 else (2, 1)


def pruned(folder: Path, seed: int, rounds: int) -> dict[str, dict]:
    """One seed: what the peer's process says of the dense network, ours and its own."""
    run = folder / f"seed{seed}"
    phalanx(folder / "prune.toml", 2, f"run.folder={run}", f"run.seed={seed}")
    command = [sys.executable, "-m", "benchmarks.ranks.prune_peer", str(run), str(EPOCHS), str(SHARE), str(rounds)]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def scanned(folder: Path, ranks: int) -> float:
    """Seconds of the scan alone on so many ranks."""
    run = folder / f"scan{ranks}"
    phalanx(folder / "scan.toml", ranks, f"run.folder={run}", "phase.teacher.epochs=1", options=("--fresh",))
    with h5py.File(run / "run.h5") as file:
        return float(file["phases/scan/round1/scan_seconds"][()])


def phalanx(file: Path, ranks: int, *settings: str, options: Sequence[str] = ()) -> None:
    chosen = [word for setting in settings for word in ("--set", setting)]
    command = [*launcher(ranks), sys.executable, "-m", "app", "run", str(file), *chosen, *options]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def report(seeds: Sequence[dict[str, dict]], scans: Sequence[dict[int, float]]) -> None:
    """The table over all seeds, the scan, and the last line."""
    names = list(seeds[0])
    print(
        f"{len(seeds)} seeds; {'':22} {'operations':>11} {'test accuracy':>24} {'ms for 1':>9} {'ms for 16':>10}"
        f" {'faster':>7}"
    )
    dense = statistics.median(sum((one["dense"]["seconds_16"] for one in seeds), []))
    for name in names:
        own = [one[name] for one in seeds]
        accuracies = [one["accuracy"] for one in own]
        ms = [1000 * statistics.median(sum((one[f"seconds_{size}"] for one in own), [])) for size in (1, 16)]
        share = statistics.median(one["operations"] for one in own) / seeds[0]["dense"]["operations"]
        shown = " ".join(f"{one:.4f}" for one in accuracies)
        print(f"{name:32} {share:10.1%}  {shown:>24} {ms[0]:9.2f} {ms[1]:10.2f} {1000 * dense / ms[1]:6.2f}x")
    ratios: dict[str, Ratio] = {}
    for peer in names[2:]:
        for size in (1, 16):
            pairs = [sum((one[name][f"seconds_{size}"] for one in seeds), []) for name in ("ours", peer)]
            ratios[f"latency {size}, {peer}"] = ratio(*pairs, peer)
    ideal = [one["dense"]["operations"] / one["ours"]["operations"] for one in seeds]
    factors = [
        dense_s / ours_s / best
        for one, best in zip(seeds, ideal, strict=True)
        for dense_s, ours_s in zip(one["dense"]["seconds_16"], one["ours"]["seconds_16"], strict=True)
    ]
    print(f"\nours at batch 16: {statistics.median(factors):.2f} of the ideal factor {statistics.median(ideal):.2f}")
    speedup = ratio([scan[2] for scan in scans], [scan[1] for scan in scans], "one rank")
    ratios["scan on 2 ranks"] = speedup
    times = ", ".join(f"{scan[1]:.1f} -> {scan[2]:.1f} s" for scan in scans)
    print(f"effect scan on 1 -> 2 ranks: {times}: x{1 / speedup.median:.2f}\n")
    accuracy = {name: [round(one[name]["accuracy"], 4) for one in seeds] for name in names}
    more = {"accuracy": accuracy, "of_ideal": round(statistics.median(factors), 3), "share": SHARE}
    print(last_line("compress", ratios, more))


if __name__ == "__main__":
    main()
