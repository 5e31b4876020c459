"""Samples a second of one rank: our batches beside torch's DataLoader with per-sample h5py reads, and beside the limit.

The limit is whole chunks read in order into one buffer (h5py read_direct): no order of samples, no batches, no tensors.
The three are interleaved, on one thread of torch, from the page cache. The peer's labels are in memory (in its favour).

    python -m benchmarks.reading [--repeats 5] [--cases A "A gzip"]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from app.data.batches import batches
from app.data.source import open_source
from app.data.split import Split
from app.data.transform import Transform

SECONDS = 1.0  # of one measurement, at least, unless the peer's share of the samples is done
BATCH = 64  # samples of one pair of tensors: a batch of the peer, a microbatch of ours where a case does not say other
MEMORY = 256 * 2**20


class Case(NamedTuple):
    """One file: samples, shape and type of a sample, rows of a chunk (0: h5py's automatic chunks), filter."""

    count: int
    shape: tuple[int, ...]
    dtype: type
    chunk: int
    compression: str | None
    microbatch: int = BATCH


SMALL, LARGE = (50_000, (3, 32, 32), np.uint8), (4_000, (128, 128), np.float32)
CASES = {
    "A": Case(*SMALL, 64, None),
    "A microbatches of 16": Case(*SMALL, 64, None, microbatch=16),
    "A gzip": Case(*SMALL, 64, "gzip"),
    "A automatic chunks": Case(*SMALL, 0, None),
    "A automatic chunks gzip": Case(*SMALL, 0, "gzip"),
    "B": Case(*LARGE, 16, None),
    "B gzip": Case(*LARGE, 16, "gzip"),
}


def make(file: Path, case: Case) -> None:
    """Write the case's file: smooth fields with fine noise, which gzip makes about half as large."""
    generator = np.random.default_rng(0)
    with h5py.File(file, "w") as h5:
        chunks = (case.chunk, *case.shape) if case.chunk else True
        inputs = h5.create_dataset(
            "x", (case.count, *case.shape), case.dtype, chunks=chunks, compression=case.compression
        )
        h5["y"] = generator.integers(0, 10, case.count)
        for start in range(0, case.count, 2000):
            stop = min(start + 2000, case.count)
            steps = generator.integers(-3, 4, (stop - start, *case.shape), dtype=np.int8)
            field = np.cumsum(steps, axis=-1, dtype=np.int16) + 128
            inputs[start:stop] = field.clip(0, 255) if case.dtype is np.uint8 else field / np.float32(64)


def ours(file: Path, case: Case) -> float:
    """Samples a second of one or more whole epochs."""
    with open_source([file], "x", "y") as source:
        split = Split(source.length, 0.0, 0.0, 0)
        seen, epoch, begin = 0, 0, time.perf_counter()
        while time.perf_counter() - begin < SECONDS:
            epoch += 1
            for batch in batches(
                source, split, "train", Transform(stored=True), seed=0, epoch=epoch, batch_size=BATCH,
                microbatch_size=case.microbatch, replica=0, replicas=1, memory_bytes=MEMORY,
            ):  # fmt: skip
                seen += batch.size
        return seen / (time.perf_counter() - begin)


def limit(file: Path, case: Case) -> float:
    """Samples a second of blocks of whole chunks read in order."""
    with h5py.File(file) as h5:
        data = h5["x"]
        rows = data.chunks[0]
        buffer = np.empty((rows, *case.shape), case.dtype)
        seen, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < SECONDS:
            for start in range(0, case.count - rows + 1, rows):
                data.read_direct(buffer, np.s_[start : start + rows])
                seen += rows
        return seen / (time.perf_counter() - begin)


class PerSample(Dataset):
    """What most programs do: one h5py read a sample."""

    def __init__(self, file: Path) -> None:
        self.h5 = h5py.File(file)
        self.inputs, self.labels = self.h5["x"], self.h5["y"][:]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.inputs[number]), int(self.labels[number])


def peer(file: Path, case: Case) -> float:
    """Samples a second of a DataLoader, over as much of an epoch as SECONDS allow."""
    data = PerSample(file)
    seen, begin = 0, time.perf_counter()
    for inputs, _ in DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=0):
        seen += len(inputs)
        if time.perf_counter() - begin > SECONDS:
            break
    elapsed = time.perf_counter() - begin
    data.h5.close()
    return seen / elapsed


def ratios(above: list[float], below: list[float]) -> tuple[float, float, float]:
    """Median and quartiles of the pairwise ratios."""
    values = [a / b for a, b in zip(above, below, strict=True)]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return round(middle, 3), round(low, 3), round(high, 3)


def measure(name: str, folder: Path, repeats: int) -> dict[str, object]:
    """All three on one case, interleaved."""
    case, file = CASES[name], folder / "case.h5"
    make(file, case)
    ways: dict[str, Callable[[Path, Case], float]] = {"ours": ours, "limit": limit, "peer": peer}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, run in ways.items():
            rates[way].append(run(file, case))
    file.unlink()
    (middle, low, high), (of_limit, limit_low, limit_high) = (
        ratios(rates["ours"], rates["peer"]),
        ratios(rates["ours"], rates["limit"]),
    )
    medians = {way: round(statistics.median(values), 1) for way, values in rates.items()}
    print(
        f"{name:24} {medians['ours']:12,.0f} {medians['peer']:12,.0f} {medians['limit']:12,.0f} "
        f"{middle:9.1f} ({low:.1f}-{high:.1f}) {of_limit:9.2f} ({limit_low:.2f}-{limit_high:.2f})",
        flush=True,
    )
    return {
        "ours_over_peer": middle,
        "quartiles": [low, high],
        "peer": "torch DataLoader, per-sample h5py reads",
        "ours_over_limit": of_limit,
        "limit_quartiles": [limit_low, limit_high],
        "samples_per_second": medians,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'samples/s, medians':24} {'ours':>12} {'DataLoader':>12} {'limit':>12} "
        f"{'over DataLoader':>19} {'of the limit':>21}"
    )
    with tempfile.TemporaryDirectory(prefix="phalanx-reading-") as folder:
        found = {name: measure(name, Path(folder), args.repeats) for name in args.cases}
    print(json.dumps({"name": "reading", "ratios": found, "repeats": args.repeats}))


if __name__ == "__main__":
    main()
