"""Blocks: the runs of consecutive samples that are read at once, chosen so that no chunk is undone many times."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

SMALL_BYTES = 256 * 2**10  # smaller blocks cost more in calls than in reading
CONTIGUOUS_BYTES = 2**20  # a block of a dataset without chunks
LEAST_BYTES = 4096  # a block of a small set, of which many are wanted for the order to be mixed well
MANY = 512  # blocks wanted of a set, before they grow to the sizes above


class Layout(NamedTuple):
    """How a dataset lies in a file: rows of a chunk (0: no chunks), bytes of a row, whether chunks are undone whole."""

    chunk_rows: int
    row_bytes: int
    whole: bool


def block_rows(inputs: Layout, targets: Layout | None, limit_bytes: int, set_bytes: int) -> int:
    """Samples of a block of one file: about `limit_bytes` at most, unless one chunk that must be undone is larger.

    First choice: every chunk of both datasets is read once. Next: once for the inputs, at most twice for the targets.
    Last: once for the inputs, and the targets as seldom as the limit allows. `set_bytes` is the size of the whole set:
    a small one gets small blocks, where its chunks allow it. Collective over: none.
    """
    bytes_each = inputs.row_bytes + (targets.row_bytes if targets else 0)
    most = max(1, limit_bytes // max(1, bytes_each))
    must_i = inputs.chunk_rows if inputs.whole else 1
    must_t = targets.chunk_rows if targets and targets.whole else 1
    wanted = max(LEAST_BYTES, set_bytes // MANY)
    unit = inputs.chunk_rows or max(1, min(most, min(CONTIGUOUS_BYTES, wanted) // max(1, inputs.row_bytes)))
    if unit > most and not inputs.whole:
        unit = most  # part of an uncompressed chunk costs only its part
    if must_t > 1:
        if math.lcm(unit, must_t) <= most:
            unit = math.lcm(unit, must_t)
        elif must_i == 1 and must_t <= most:
            unit = must_t
        elif (several := -(-must_t // unit) * unit) <= most:
            unit = several
        else:
            unit *= max(1, most // unit)
    several = -(-min(SMALL_BYTES, wanted) // max(1, unit * bytes_each))
    return unit * max(1, min(several, most // unit))


def undone_times(inputs: Layout, targets: Layout | None, rows: int) -> float:
    """How many times a chunk of the targets is undone in an epoch with blocks of `rows`, about."""
    if not targets or not targets.whole or rows % targets.chunk_rows == 0:
        return 1.0
    return 1.0 + targets.chunk_rows / rows


@dataclass(frozen=True)
class Blocks:
    """The blocks of several files in order; none crosses files, the last of a file may be short. Collective over: none.

    `lengths` and `rows` are samples and samples of a block for each file.
    """

    lengths: tuple[int, ...]
    rows: tuple[int, ...]

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First sample of each file (and the end), first block of each file (and the end), rows of each file."""
        counts = [-(-length // rows) for length, rows in zip(self.lengths, self.rows, strict=True)]
        first_sample = np.concatenate(([0], np.cumsum(self.lengths, dtype=np.int64)))
        first_block = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        return first_sample, first_block, np.asarray(self.rows, np.int64)

    @property
    def count(self) -> int:
        return int(self._tables[1][-1])

    @property
    def most_rows(self) -> int:
        """Samples of the largest block."""
        return max(min(length, rows) for length, rows in zip(self.lengths, self.rows, strict=True))

    def bounds(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First sample and end of each of the blocks `numbers` (n,), int64 (n,) each."""
        first_sample, first_block, rows = self._tables
        file = np.searchsorted(first_block, numbers, side="right") - 1
        starts = first_sample[file] + (numbers - first_block[file]) * rows[file]
        return starts, np.minimum(starts + rows[file], first_sample[file + 1])

    def edges(self) -> np.ndarray:
        """First sample of every block and the end of the last, (count + 1,) int64."""
        starts, stops = self.bounds(np.arange(self.count))
        return np.append(starts, stops[-1:])
