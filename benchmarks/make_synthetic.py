"""Make a synthetic HDF5 set of any size: uint8 images (N, C, H, W) whose class can be learnt, and labels.

python -m benchmarks.make_synthetic set.h5 --gib 3
"""

import argparse
from pathlib import Path

import h5py
import numpy as np

PIECE_BYTES = 32 * 2**20  # made and written at once


def images(numbers: np.ndarray, labels: np.ndarray, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Images (n, C, H, W) uint8 of the sample numbers: a pattern of the class, its place varied, and fine noise."""
    channels, height, width = shape
    generator = np.random.default_rng((seed, int(numbers[0])))
    y, x = np.linspace(0, 2 * np.pi, height), np.linspace(0, 2 * np.pi, width)
    phase = generator.uniform(0, 2 * np.pi, (len(numbers), channels)).astype(np.float32)
    waves = (1 + labels % 5)[:, None, None, None] * y[:, None] + (1 + labels // 5)[:, None, None, None] * x
    result = np.sin(waves.astype(np.float32) + phase[:, :, None, None])
    result *= 90
    result += 128
    result = result.astype(np.uint8)
    result += generator.integers(0, 8, result.shape, dtype=np.uint8)
    return result


def make(
    file: Path, size: int, shape: tuple[int, int, int], chunk: int, classes: int, seed: int, compression: str | None
) -> int:
    """Write about `size` bytes of images; the number of samples."""
    count = max(1, size // int(np.prod(shape)))
    rows = max(chunk, PIECE_BYTES // int(np.prod(shape)) // chunk * chunk)
    with h5py.File(file, "w") as h5:
        chunks = (min(chunk, count), *shape)
        inputs = h5.create_dataset("images", (count, *shape), np.uint8, chunks=chunks, compression=compression)
        targets = h5.create_dataset("labels", (count,), np.int64, chunks=(min(count, 64 * chunk),))
        h5.attrs["source"] = "synthetic, made by benchmarks/make_synthetic.py"
        for start in range(0, count, rows):
            numbers = np.arange(start, min(start + rows, count))
            labels = np.random.default_rng((seed, 1, start)).integers(0, classes, len(numbers))
            inputs[start : start + len(numbers)] = images(numbers, labels, shape, seed)
            targets[start : start + len(numbers)] = labels
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--gib", type=float, default=3.0, help="GiB of images (3)")
    parser.add_argument("--shape", type=int, nargs=3, default=(3, 32, 32), metavar=("C", "H", "W"))
    parser.add_argument("--chunk", type=int, default=64, help="samples of a chunk (64)")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compression", choices=("gzip", "lzf"))
    args = parser.parse_args()
    count = make(
        args.file, int(args.gib * 2**30), tuple(args.shape), args.chunk, args.classes, args.seed, args.compression
    )
    print(f"{args.file}: {count} samples, {args.file.stat().st_size / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
