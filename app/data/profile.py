"""How often the values of each feature occur: bins whose edges follow a sample of the data, counts that are exact.

Values that occur often (a background of zeros, the numbers of a one-hot code) have a bin of their own, so that a shift
away from them shows, in whichever direction it goes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from app.data import keys
from app.data.features import Features, spaced
from app.data.source import Source
from app.data.split import AnySplit
from app.data.statistics import SEGMENTS, SLICE_BYTES

FINE, COARSE, TOKEN_BINS = 64, 20, 256  # bins of a feature: of few features, of many, of tokens
FEW_FEATURES = 256
EDGE_SAMPLES, RUNS = 4096, 256  # samples that give the edges, and the runs of consecutive ones they are read in
EDGE_VALUES, EDGE_NUMBERS = 2**16, 2**24  # values of a feature, and of all, that give the edges, at most
RUN_BYTES = 16 * 2**20
MOST_VALUES = 1024  # values of a feature counted of one sample: of larger images every n-th pixel, in turn
LEAST_ROWS = 64  # counted at once: a search costs as much for one value of a feature as for some
PROFILE = 4  # what a key is for, beside those of app.data.keys


@dataclass(frozen=True)
class Profile:
    """The distribution of each of F features over `samples` samples.

    edges   (F, E) float64, ascending, filled up with inf; bin b holds edges[b - 1] < value <= edges[b]
    counts  (F, E + 1) int64
    """

    features: Features
    edges: np.ndarray
    counts: np.ndarray
    samples: int

    def count(self, values: np.ndarray) -> np.ndarray:
        """Counts (F, E + 1) int64 of values (F, N) of any numeric type; NaN counts as larger than all."""
        small = values.dtype.itemsize < 4  # float32 has all its values, and numpy sorts it fastest
        ascending = np.sort(values.astype(np.float32) if small else values, axis=1).astype(np.float64)
        below = np.zeros((len(values), self.edges.shape[1] + 2), np.int64)
        below[:, 1:-1] = torch.searchsorted(torch.from_numpy(ascending), self._edges, right=True).numpy()
        below[:, -1] = values.shape[1]
        return np.diff(below, axis=1)

    def with_counts(self, counts: np.ndarray, samples: int) -> "Profile":
        """The same bins with other counts."""
        return replace(self, counts=counts, samples=samples)

    def limited(self, most: int) -> "Profile":
        """At most so many features, evenly spaced."""
        at = spaced(len(self.counts), most)
        features = self.features.limited(most)
        return self if len(at) == len(self.counts) else Profile(features, self.edges[at], self.counts[at], self.samples)

    @cached_property
    def _edges(self) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.edges, np.float64))

    def to_tree(self) -> dict[str, Any]:
        """A tree that storage can write."""
        noun, before, along, after, chosen = self.features
        return {
            "noun": noun,
            "shape": [before, along, after],
            "chosen": np.array(chosen, np.int64),
            "edges": self.edges,
            "counts": self.counts,
            "samples": self.samples,
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "Profile":
        """The inverse of to_tree. Raises KeyError, TypeError, ValueError for another tree."""
        before, along, after = (int(n) for n in tree["shape"])
        chosen = np.asarray(tree["chosen"], np.int64)
        edges, counts = np.asarray(tree["edges"], np.float64), np.asarray(tree["counts"], np.int64)
        fits = edges.ndim == counts.ndim == 2 and counts.shape == (len(chosen), edges.shape[1] + 1)
        inside = chosen.ndim == 1 and len(chosen) > 0 and chosen.min() >= 0 and chosen.max() < along
        samples = int(tree["samples"])
        if not (fits and inside and min(before, after, samples) >= 1 and counts.min() >= 0):
            raise ValueError("a profile of values whose shapes or counts do not go together")
        if np.isnan(edges).any() or (edges[:, 1:] < edges[:, :-1]).any():
            raise ValueError("a profile of values whose edges do not ascend")
        features = Features(str(tree["noun"]), before, along, after, tuple(chosen.tolist()))
        return cls(features, edges, counts, samples)


def bins_of(features: Features) -> int:
    """How many bins a feature gets, at most one more: fewer where there are many, so that a profile stays small."""
    if features.noun in ("token", "class"):
        return TOKEN_BINS
    return FINE if len(features.chosen) <= FEW_FEATURES else COARSE


def profile_of(features: Features, values: np.ndarray, samples: int) -> Profile:
    """The profile of values (F, N), N > 0: edges at their quantiles, and their counts."""
    bins = bins_of(features)
    found = [edges_of(one, bins) for one in np.sort(values.astype(np.float64), axis=1)]
    edges = np.full((len(found), max(map(len, found))), np.inf)
    for row, one in zip(edges, found, strict=True):
        row[: len(one)] = one
    empty = Profile(features, edges, np.zeros((len(edges), edges.shape[1] + 1), np.int64), 0)
    return empty.with_counts(empty.count(values), samples)


def edges_of(ascending: np.ndarray, bins: int) -> np.ndarray:
    """At most `bins` inner edges for values (N,) in ascending order; a value that occurs often has its bin alone."""
    different = ascending[np.append(True, np.diff(ascending) > 0)]
    if len(different) <= bins // 2:
        quantiles = frequent = different
    else:
        quantiles = ascending[np.arange(1, bins) * len(ascending) // bins]
        frequent = quantiles[:-1][quantiles[1:] == quantiles[:-1]]
    return np.unique(np.concatenate([quantiles, np.nextafter(frequent, -np.inf)]))


def sampled(source: Source, split: AnySplit, features: Features, seed: int) -> Profile:
    """Bins for the inputs from a keyed sample of the training part, with the counts of that sample alone.

    Collective over: none; every caller finds the same. Raises DataError.
    """
    values, seen = [], 0
    count, wanted = split.count("train"), min(EDGE_SAMPLES, max(1, EDGE_NUMBERS // len(features.chosen)))
    each = max(1, min(EDGE_VALUES // EDGE_SAMPLES, features.before * features.after))
    longest = max(1, RUN_BYTES // max(1, source.input_bytes))
    for start, stop in runs_of(source.length, seed, min(longest, -(-2 * wanted // RUNS))):  # half may be held out
        numbers = split.members("train", start, stop)
        if len(numbers) and seen < wanted:
            rows = np.empty((stop - start, *source.sample_shape), source.dtype)
            source.read(start, rows)
            values.append(features.values(rows[numbers - start], start, each * len(numbers)))
            seen += len(numbers)
    if not values:  # a training part so small that no run has met it
        start = int(first_member(source, split))
        rows = np.empty((1, *source.sample_shape), source.dtype)
        source.read(start, rows)
        values.append(features.values(rows, start, each))
        seen = 1
    return profile_of(features, np.concatenate(values, axis=1), min(seen, count))


def runs_of(length: int, seed: int, most: int) -> Iterator[tuple[int, int]]:
    """Runs of `most` consecutive samples, one in each of equal shares of all, at a place that the seed chooses."""
    shares = min(RUNS, length)
    for number in range(shares):
        begin, end = (length * n // shares for n in (number, number + 1))
        run = min(most, end - begin)
        start = begin + keys.word(seed, PROFILE, number) % (end - begin - run + 1)
        yield start, start + run


def first_member(source: Source, split: AnySplit) -> int:
    """The number of the first sample of the training part."""
    step = 2**20
    for start in range(0, source.length, step):
        found = split.members("train", start, min(start + step, source.length))
        if len(found):
            return int(found[0])
    raise ValueError("the training part is empty")


def counts_of(
    profile: Profile, source: Source, split: AnySplit, *, member: int, members: int, memory_bytes: int
) -> np.ndarray:
    """This member's share of the counts (F, E + 1) int64 of the whole training part; all shares add up to it.

    Collective over: none. Raises DataError.
    """
    total, features = np.zeros_like(profile.counts), profile.features
    blocks = source.blocks(memory_bytes // 2)
    buffer = np.empty((blocks.most_rows, *source.sample_shape), source.dtype)
    step = max(LEAST_ROWS, SLICE_BYTES // max(1, source.input_bytes))
    segments = min(SEGMENTS, blocks.count)
    for number in range(member, segments, members):
        own = np.arange(*(blocks.count * n // segments for n in (number, number + 1)))
        for start, stop in zip(*(edge.tolist() for edge in blocks.bounds(own)), strict=True):
            inside = split.mask("train", np.arange(start, stop))
            if not inside.any():
                continue
            rows = buffer[: stop - start]
            source.read(start, rows)
            for at in range(0, len(rows), step):
                part = rows[at : at + step][inside[at : at + step]]
                if len(part):
                    total += profile.count(features.values(part, start + at, MOST_VALUES * len(part)))
    return total
