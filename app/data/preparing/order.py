"""In which order samples are stored, and which part each belongs to: by numbers that depend on the seed alone.

A record's key is its place in the order of its part. Its lot decides its part: of the lots in ascending order the first
are for training, the next for validation, the last for test. Nothing here is as long as all samples together.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from app.data import keys

ROWS = 40  # bits of the row in its piece
BITS = 16  # of a key or a lot, looked at at once
BINS = 1 << BITS
TOP = (1 << 64) - 1


class Cut(NamedTuple):
    """The last lot of the training part and of the validation part; -1: none."""

    train: int
    validation: int


def places(piece: int, rows: np.ndarray) -> np.ndarray:
    """(n,) uint64: ascending along all pieces, another one for each record."""
    return np.uint64(piece << ROWS) | rows.astype(np.uint64)


def shuffled(found: np.ndarray, seed: int) -> np.ndarray:
    """Keys (n,) uint64 of a random order, another one for each place."""
    return keys.mix(found + np.uint64(keys.word(seed, keys.RECORDS)))


def lots_of(values: np.ndarray, seed: int) -> np.ndarray:
    """Lots (n,) uint64 of places or of hashes of groups."""
    return keys.mix(values + np.uint64(keys.word(seed, keys.LOTS)))


def part_of(lots: np.ndarray, cut: Cut) -> np.ndarray:
    """(n,) int64: 0 training, 1 validation, 2 test."""
    part = np.full(len(lots), 2)
    for number, last in ((1, cut.validation), (0, cut.train)):
        if last >= 0:
            part[lots <= np.uint64(last)] = number
    return part


def bins_of(numbers: np.ndarray) -> np.ndarray:
    """(n,) int64 below BINS, ascending with the keys or lots."""
    return (numbers >> np.uint64(64 - BITS)).astype(np.int64)


def last_of(first: int, count: Callable[[int, int], np.ndarray]) -> int:
    """The lot up to which there are nearest to `first` records, -1 for none; records with one lot stay together.

    count: of (prefix, bits) how many records have lots that begin with these bits, by the BITS that follow, int64
    (BINS,), summed over ranks. Collective over: whoever shares `count`.
    """
    if first <= 0:
        return -1
    prefix, below = 0, 0
    for bits in range(0, 64, BITS):
        running = np.cumsum(count(prefix, bits))
        place = int(np.searchsorted(running, first - below))
        if place == BINS:
            return TOP  # there are not so many
        inside = int(running[place] - (running[place - 1] if place else 0))
        below += int(running[place]) - inside
        prefix = prefix << BITS | place
    return prefix if below + inside - first <= first - below else prefix - 1


def counted(lots: np.ndarray, prefix: int, bits: int) -> np.ndarray:
    """What `last_of` asks for, of these lots."""
    if bits:
        lots = lots[lots >> np.uint64(64 - bits) == np.uint64(prefix)]
    following = (lots >> np.uint64(64 - bits - BITS)) & np.uint64(BINS - 1)
    return np.bincount(following.astype(np.int64), minlength=BINS)


class Range(NamedTuple):
    """Samples of one part that are stored one after the other: all in the bins [first, last], `skip` of them come
    before, `wanted` are wanted.
    """

    part: int
    first: int
    last: int
    skip: int
    wanted: int


def ranges(counts: np.ndarray, start: int, stop: int) -> list[Range]:
    """Where the samples [start, stop) of the whole set are. counts (3, bins) int64: samples of each part and bin."""
    found = []
    for part, row in enumerate(counts):
        before = int(counts[:part].sum())
        first, last = max(start - before, 0), min(stop - before, int(row.sum()))
        if first < last:
            running = np.cumsum(row)
            low, high = int(np.searchsorted(running, first, "right")), int(np.searchsorted(running, last))
            skip = first - int(running[low - 1] if low else 0)
            found.append(Range(part, low, high, skip, last - first))
    return found


def buckets(total: int, at_once: int, least: int) -> Sequence[tuple[int, int]]:
    """The hashes [first, last] in ranges of about `at_once` of `total` records each, at least so many ranges."""
    number = max(1, least, -(-total // at_once))
    edges = [TOP * n // number for n in range(number + 1)]
    return [(low + (low > 0), high) for low, high in zip(edges[:-1], edges[1:], strict=True)]


def repeated(hashes: np.ndarray, ranks: Sequence[np.ndarray]) -> np.ndarray:
    """Numbers (m,) of the records whose hash (n, 2) another one has that comes before it by `ranks` (most important
    first).
    """
    if not len(hashes):
        return np.zeros(0, np.int64)
    order = np.argsort(hashes[:, 0])
    alike = hashes[order[1:], 0] == hashes[order[:-1], 0]
    some = order[np.append(alike, False) | np.append(False, alike)]  # most have a hash of their own
    order = some[np.lexsort((*(one[some] for one in reversed(ranks)), hashes[some, 1], hashes[some, 0]))]
    same = (hashes[order[1:]] == hashes[order[:-1]]).all(axis=1)
    return order[1:][same]
