"""What a teacher is worth where labels are few: a student distilled beside the same student trained alone, ten seeds.

The data are the 1,797 real digits of inputs/digits.h5. The teacher learns from all labels but those of the test part,
in a run of its own. Both students have the labels of 180 samples, a part of the teacher's, the same network with the
same starting weights, the same epochs, batches, optimizer and rates; all are measured on the same 359 samples that
nobody has learned from. The last network counts, as a validation part would be more labels.

    python -m benchmarks.distill [--seeds 10] [--first-seed 1] [--split 3] [--epochs 80]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py

TREE = Path(__file__).parents[1]
DATA = TREE / "inputs" / "digits.h5"
AT_ONCE = 2  # runs, of one thread each
TEACHER = """
[run]
name = "teacher"
seed = 1
threads = 1
measure = 0
[data]
file = "{data}"
inputs = "images"
targets = "labels"
validation = 0.1
test = 0.2
split_seed = {split}
[network]
kind = "lenet"
channels = [32, 64]
activation = "gelu"
dropout = 0.2
[[phase]]
kind = "train"
name = "teacher"
epochs = 30
optimizer = "adamw"
rate = 3e-3
weight_decay = 0.05
schedule = "cosine"
warmup_epochs = 1
[[phase]]
kind = "evaluate"
name = "teacher-test"
"""
TRAINING = """
epochs = {epochs}
batch_size = 12
microbatch_size = 12
rate = 3e-3
schedule = "cosine"
keep = "last"
"""
STUDENTS = (
    """
[run]
name = "students"
threads = 1
measure = 0
[data]
file = "{data}"
inputs = "images"
targets = "labels"
classes = 10
validation = 0.7
test = 0.2
split_seed = {split}
[network]
kind = "lenet"
channels = [8, 16]
widths = [32, 32]
activation = "gelu"
[[phase]]
kind = "train"
name = "alone"
"""
    + TRAINING
    + """
[[phase]]
kind = "distill"
name = "distilled"
teacher = "teacher/networks/teacher.h5"
student = {{kind = "lenet", channels = [8, 16], widths = [32, 32], activation = "gelu"}}
soft = 0.9
temperature = 20
"""
    + TRAINING
    + """
[[phase]]
kind = "evaluate"
name = "alone-test"
network = "alone"
[[phase]]
kind = "evaluate"
name = "distilled-test"
network = "distilled"
"""
)


class Pair(NamedTuple):
    """Accuracies on the test part of one seed's students."""

    alone: float
    distilled: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--split", type=int, default=3, help="seed of which samples are held out")
    parser.add_argument("--epochs", type=int, default=80)
    args = parser.parse_args()
    seeds = list(range(args.first_seed, args.first_seed + args.seeds))
    with tempfile.TemporaryDirectory(prefix="phalanx-bench-") as name:
        folder = Path(name)
        texts = {"teacher": TEACHER, "students": STUDENTS}
        for file, text in texts.items():
            (folder / f"{file}.toml").write_text(text.format(data=DATA, epochs=args.epochs, split=args.split))
        phalanx(folder, "teacher", "teacher")
        teacher = accuracy(folder / "teacher", "teacher-test")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            pairs = list(pool.map(partial(students, folder), seeds))
    report(seeds, pairs, teacher)


def students(folder: Path, seed: int) -> Pair:
    """Both students of one seed: of their starting weights and of the order of the samples."""
    run = f"seed{seed}"
    phalanx(folder, "students", run, f"run.seed={seed}")
    return Pair(*(accuracy(folder / run, f"{name}-test") for name in Pair._fields))


def phalanx(folder: Path, file: str, run: str, *settings: str) -> None:
    """One run, on one rank."""
    chosen = [word for setting in (f"run.folder={folder / run}", *settings) for word in ("--set", setting)]
    command = [sys.executable, "-m", "app", "run", str(folder / f"{file}.toml"), *chosen]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def accuracy(run: Path, phase: str) -> float:
    with h5py.File(run / "run.h5") as file:
        return float(file[f"phases/{phase}/metrics/accuracy"][()])


def report(seeds: Sequence[int], pairs: Sequence[Pair], teacher: float) -> None:
    """Every seed, the means and spreads, and the last line."""
    print(f"test accuracy; teacher {teacher:.4f}\n\n{'seed':>5} {'alone':>8} {'distilled':>10} {'gain':>8}")
    for seed, pair in zip(seeds, pairs, strict=True):
        print(f"{seed:5} {pair.alone:8.4f} {pair.distilled:10.4f} {pair.distilled - pair.alone:+8.4f}")
    alone, distilled = zip(*pairs, strict=True)
    margin = statistics.fmean(distilled) - statistics.fmean(alone)
    apart = min(distilled) - max(alone)
    rows = (("mean", statistics.fmean), ("deviation", statistics.pstdev), ("least", min), ("most", max))
    for name, function in rows:
        print(f"{name:>9} {function(alone):4.4f} {function(distilled):10.4f}")
    print(f"\nmargin of the means {margin:+.4f}; the worst distilled seed is {apart:+.4f} from the best one alone\n")
    numbers = {name: [round(getattr(pair, name), 4) for pair in pairs] for name in Pair._fields}
    summary = {"teacher": round(teacher, 4), "margin": round(margin, 4), "worst_over_best": round(apart, 4)}
    print(json.dumps({"name": "distill", "seeds": list(seeds), **numbers, **summary}))


if __name__ == "__main__":
    main()
