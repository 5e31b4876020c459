"""Samples a second of the predict phase: on 2 ranks beside 1, and on 1 beside torch's DataLoader, all of one thread.

Beside that thread a rank reads and writes with others. On a machine of two cores one rank alone has a core for them
that two ranks have not: so there is also one rank with one core, as batch systems bind it.

The peer is what most programs do (benchmarks/ranks/predict_peer.py): a map-style dataset with one h5py read a sample,
batches of 256, the same network; with no worker processes or with two, which have cores of their own where there are
any: both are tried once, and the better one takes turns with ours. Everything is a process of its own, and they take
turns in an order that rotates; labels and probabilities are compared before anything is timed. A rate is that of the
phase: from the first sample read to the file written, without start-up; seconds of whole processes stand beside it.
The samples are so many that two ranks predict for some seconds, as a first agreement and the joining of pieces are the
same for any number. A ratio is that of two runs of a round. All cases take some ten minutes.

Two cores that compute at once are seldom twice as fast as one: what the machine itself gives is measured in the same
rounds, by processes that apply the network to samples in memory (benchmarks/ranks/predict_ceiling.py).

    python -m benchmarks.predict [--rounds 5] [--cases lenet mlp] [--folder FOLDER]
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from benchmarks.interleave import Ratio, last_line, ratio, rotated
from benchmarks.startup import launcher

TREE = Path(__file__).parents[1]
ENVIRON = os.environ | {"PYTHONPATH": str(TREE), "OMP_NUM_THREADS": "1"}
TRAINING = 2000  # samples of the file that the networks are trained on, for an epoch
GOALS = {"2 ranks": 1.9, "2 ranks, a core each": 1.9, "DataLoader": 1.5}


class Case(NamedTuple):
    """A network, and what it is applied to: so many samples of this shape and type."""

    network: str
    count: int
    shape: tuple[int, ...]
    dtype: type


CASES = {
    "lenet": Case('kind = "lenet"', 100_000, (3, 32, 32), np.uint8),
    "mlp": Case('kind = "mlp"\nwidths = [256, 128]', 400_000, (64,), np.float32),
    "resnet": Case('kind = "resnet"\ndepth = 8\nwidth = 16', 6_000, (3, 32, 32), np.uint8),
}
WAYS = ("1 rank", "1 core", "2 ranks")
PEERS = ("0 workers", "2 workers")
CEILINGS = ("1 computes", "2 compute")  # processes, which read and write nothing
TRAIN = """
[run]
name = "training"
folder = "{folder}/training"
measure = 0

[data]
file = "training.h5"
inputs = "x"
targets = "y"

[network]
{network}

[[phase]]
kind = "train"
name = "net"
epochs = 1
batch_size = 64
"""
PREDICT = """
[run]
name = "predictions"
folder = "{folder}/predictions"
threads = 1

[[phase]]
kind = "predict"
name = "use"
network = "{folder}/training/networks/net.h5"
file = "samples.h5"
"""


class Run(NamedTuple):
    """Seconds of the phase, and of the whole process."""

    phase: float
    whole: float


def make(folder: Path, case: Case) -> None:
    """The files of a case, and a trained network."""
    for name, count in (("training", TRAINING), ("samples", case.count)):
        generator = np.random.default_rng(count)
        with h5py.File(folder / f"{name}.h5", "w") as file:
            inputs = file.create_dataset("x", (count, *case.shape), case.dtype, chunks=(64, *case.shape))
            for start in range(0, count, 10_000):
                shape = (min(10_000, count - start), *case.shape)
                drawn = generator.integers(0, 256, shape) if case.dtype is np.uint8 else generator.normal(size=shape)
                inputs[start : start + shape[0]] = drawn
            file["y"] = generator.integers(0, 10, count)
    for name, text in (("train", TRAIN), ("predict", PREDICT)):
        (folder / f"{name}.toml").write_text(text.format(folder=folder, network=case.network))
    called([*launcher(1), sys.executable, "-m", "app", "run", str(folder / "train.toml")])


def called(command: list[str]) -> str:
    """What a command printed; ends the benchmark with its words when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENVIRON, cwd=TREE)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def play(folder: Path, way: str, count: int) -> Run:
    """One run of a way."""
    number = int(way.split()[0])
    begun = time.monotonic()
    if way.endswith("workers"):
        files = [folder / "training" / "networks" / "net.h5", folder / "samples.h5", folder / "peer.h5"]
        said = called([sys.executable, "-m", "benchmarks.ranks.predict_peer", *map(str, files), str(number)])
        return Run(json.loads(said.splitlines()[-1])["seconds"], time.monotonic() - begun)
    if way in CEILINGS:
        return Run(computing(folder, number, count), time.monotonic() - begun)
    bound = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))] if way == "1 core" else []
    called([*bound, *launcher(number), sys.executable, "-m", "app", "run", str(folder / "predict.toml"), "--fresh"])
    whole = time.monotonic() - begun
    with h5py.File(folder / "predictions" / "run.h5") as file:
        return Run(count / float(file["phases/use/samples_per_s"][()]), whole)


def computing(folder: Path, processes: int, count: int) -> float:
    """Seconds in which so many processes, all at once, apply the network to `count` samples in memory."""
    files = [str(folder / "training" / "networks" / "net.h5"), str(folder / "samples.h5")]
    command = [sys.executable, "-m", "benchmarks.ranks.predict_ceiling", *files, str(count // processes)]
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as ended:
        started = [
            ended.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ENVIRON, cwd=TREE))
            for _ in range(processes)
        ]
        talks = [(one.stdin, one.stdout) for one in started if one.stdin and one.stdout]
        for _, out in talks:
            out.readline()  # "ready"
        for into, _ in talks:
            into.write("go\n")
            into.flush()
        return max(json.loads(out.readline())["seconds"] for _, out in talks)


def better_peer(folder: Path, case: Case) -> str:
    """The way of the DataLoader that is quicker on this machine; what it gave is left in peer.h5."""
    tried = {way: play(folder, way, case.count).phase for way in PEERS}
    return min(PEERS, key=lambda way: tried[way])


def compare(folder: Path, case: Case) -> None:
    """Whether all ways give the same."""
    with h5py.File(folder / "peer.h5") as peer:
        labels, probabilities = peer["labels"][:], peer["probabilities"][:]
    for way in ("1 rank", "2 ranks"):
        play(folder, way, case.count)
        with h5py.File(folder / "predictions" / "predictions" / "use.h5") as ours:
            differing = int((ours["labels"][:] != labels).sum())
            largest = float(np.abs(ours["probabilities"][:] - probabilities).max())
            in_order = np.array_equal(ours["sample"][:], np.arange(case.count))
        if differing or largest > 1e-5 or not in_order:
            raise SystemExit(
                f"{way}: {differing} other labels, probabilities differ by {largest}, in order: {in_order}"
            )


def measure(name: str, folder: Path, rounds: int) -> dict[str, Ratio]:
    """All ways in turns, with a table."""
    case = CASES[name]
    make(folder, case)
    peer = better_peer(folder, case)
    compare(folder, case)
    ways = (*WAYS, peer, *CEILINGS)
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in rotated(ways, number):
            runs[way].append(play(folder, way, case.count))
    phases = {way: [run.phase for run in found] for way, found in runs.items()}
    print(f"\n{name}: {case.count:,} samples of {case.shape} {np.dtype(case.dtype)}, {rounds} rounds")
    print(f"  {'':12} {'samples/s':>10} {'quartiles':>17} {'whole process, s':>17}")
    for way, found in runs.items():
        rates = [case.count / run.phase for run in found]
        low, middle, high = statistics.quantiles(rates, n=4, method="inclusive") if rounds > 1 else rates * 3
        whole = statistics.median(run.whole for run in found)
        print(f"  {way:12} {middle:10,.0f} {low:8,.0f}-{high:8,.0f} {whole:17.2f}")
    ratios = {
        f"{name}: 2 ranks": ratio(phases["2 ranks"], phases["1 rank"], "1 rank"),
        f"{name}: 2 ranks, a core each": ratio(phases["2 ranks"], phases["1 core"], "1 rank with 1 core"),
        f"{name}: the machine itself": ratio(phases["2 compute"], phases["1 computes"], "1 core, computing alone"),
        f"{name}: DataLoader": ratio(phases["1 rank"], phases[peer], f"DataLoader, {peer}"),
    }
    for title, one in ratios.items():
        goal = GOALS.get(title.partition(": ")[2])
        faster = f"x{1 / one.median:.2f} (x{1 / one.upper:.2f}-{1 / one.lower:.2f})"
        print(f"  {title.partition(': ')[2]:20} {faster} of {one.peer}{f', goal x{goal}' if goal else ''}", flush=True)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--folder", type=Path, help="where files are written; default a temporary folder")
    args = parser.parse_args()
    ratios: dict[str, Ratio] = {}
    for name in args.cases:
        with tempfile.TemporaryDirectory(prefix="phalanx-bench-", dir=args.folder) as folder:
            ratios |= measure(name, Path(folder), args.rounds)
    print()
    print(last_line("predict", ratios, {"rounds": args.rounds, "threads": 1}))


if __name__ == "__main__":
    main()
