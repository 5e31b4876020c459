"""Which sample is for training, validation or test: arithmetic on sample numbers, no array as long as the data."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from app.data import keys

PARTS = ("train", "validation", "test")
STRATUM = 4096  # consecutive samples that are divided on their own, so that every region of the files is in every part
SHIFT, MASK = 12, 4095
SLAB = 64 * STRATUM  # samples looked at at once when counting


@dataclass(frozen=True)
class Split:
    """`length` samples divided by fractions; exact in total, independent of the chunks. Collective over: none.

    Within each stratum of 4096 samples a keyed permutation gives every sample a rank; the lowest ranks are the test
    part, the next the validation part, the rest is for training. Part names: PARTS, and "all". Raises ValueError for
    impossible fractions.
    """

    length: int
    validation: float
    test: float
    seed: int

    def __post_init__(self) -> None:
        if self.length < 0 or self.validation < 0 or self.test < 0 or self.validation + self.test > 1 + 1e-9:
            raise ValueError(
                f"a split of {self.length} samples into {self.validation} + {self.test} held out is not possible"
            )

    def count(self, part: str) -> int:
        """How many samples the part has."""
        held = int(self._held(np.array(self.length)))
        test = int(self._test(np.array(held)))
        return {"train": self.length - held, "validation": held - test, "test": test, "all": self.length}[part]

    def members(self, part: str, start: int, stop: int) -> np.ndarray:
        """The sample numbers (n,) int64 of a part within [start, stop), ascending."""
        samples = np.arange(start, stop, dtype=np.int64)
        return samples[self.mask(part, samples)]

    def mask(self, part: str, samples: np.ndarray) -> np.ndarray:
        """Whether each of the sample numbers (n,) int64 belongs to the part, (n,) bool."""
        if self.count(part) in (0, self.length):
            return np.full(len(samples), self.count(part) > 0)
        strata = samples >> SHIFT
        ranks = rotor(strata, samples & MASK, self.seed)
        first = int(strata.min()) if len(samples) else 0
        span = int(strata.max()) - first + 1 if len(samples) else 0
        if span <= len(samples):  # consecutive samples: thresholds once a stratum, not once a sample
            low, high = (cut[strata - first] for cut in self._cuts(np.arange(first, first + span)))
        else:
            low, high = self._cuts(strata)
        if part == "test":
            return ranks < low
        return (ranks >= low) & (ranks < high) if part == "validation" else ranks >= high

    def before(self, part: str, edges: np.ndarray) -> np.ndarray:
        """How many samples of the part lie before each of the ascending sample numbers `edges` (n,), int64 (n,)."""
        if self.count(part) in (0, self.length):
            return np.asarray(edges, np.int64) * int(self.count(part) > 0)
        result = np.empty(len(edges), np.int64)
        total = 0
        for start in range(0, self.length + 1, SLAB):
            first, last = np.searchsorted(edges, (start, start + SLAB))
            inside = self.mask(part, np.arange(start, min(start + SLAB, self.length), dtype=np.int64))
            running = np.concatenate(([0], np.cumsum(inside)))
            result[first:last] = total + running[edges[first:last] - start]
            total += int(running[-1])
        return result

    def _held(self, samples: np.ndarray) -> np.ndarray:
        """Held-out samples among the first `samples`; rises by at most one a sample, so it is exact."""
        return np.floor(samples * min(1.0, self.validation + self.test) + 0.5).astype(np.int64)

    def _test(self, held: np.ndarray) -> np.ndarray:
        """Test samples among the first `held` held-out ones."""
        fraction = self.test / (self.validation + self.test) if self.test else 0.0
        return np.floor(held * fraction + 0.5).astype(np.int64)

    def _cuts(self, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ranks at which the test part and the validation part of each stratum end."""
        start = self._held(strata * STRATUM)
        stop = self._held(np.minimum((strata + 1) * STRATUM, self.length))
        low, high = self._test(stop) - self._test(start), stop - start
        short = strata == self.length >> SHIFT
        if short.any():  # ranks of a short stratum are 0 to 4095 with gaps: count along the ranks that occur
            occurring = short_ranks(self.length, self.seed)
            low = np.where(short, occurring[np.where(short, low, 0)], low)
            high = np.where(short, occurring[np.where(short, high, 0)], high)
        return low, high


@dataclass(frozen=True)
class StoredSplit:
    """Samples stored part by part: those for training first, then validation, then test. As Split."""

    counts: tuple[int, int, int]

    @property
    def length(self) -> int:
        """All samples."""
        return sum(self.counts)

    def count(self, part: str) -> int:
        """How many samples the part has."""
        start, stop = self._range(part)
        return stop - start

    def members(self, part: str, start: int, stop: int) -> np.ndarray:
        """The sample numbers (n,) int64 of a part within [start, stop), ascending."""
        first, last = self._range(part)
        return np.arange(max(first, start), min(last, stop), dtype=np.int64)

    def mask(self, part: str, samples: np.ndarray) -> np.ndarray:
        """Whether each of the sample numbers (n,) int64 belongs to the part, (n,) bool."""
        first, last = self._range(part)
        return (samples >= first) & (samples < last)

    def before(self, part: str, edges: np.ndarray) -> np.ndarray:
        """How many samples of the part lie before each of the ascending sample numbers `edges` (n,), int64 (n,)."""
        first, last = self._range(part)
        return np.clip(np.asarray(edges, np.int64), first, last) - first

    def _range(self, part: str) -> tuple[int, int]:
        if part == "all":
            return 0, self.length
        number = PARTS.index(part)
        return sum(self.counts[:number]), sum(self.counts[: number + 1])


AnySplit = Split | StoredSplit


def rotor(strata: np.ndarray, places: np.ndarray, seed: int) -> np.ndarray:
    """The rank 0..4095 of each place of its stratum: three permutations, each after a shift by its key."""
    wheels, key = rotor_wheels(seed)
    shifts = keys.mix(strata.astype(np.uint64) + np.uint64(key))
    ranks = places
    for wheel in wheels:
        ranks = wheel[(ranks + (shifts & np.uint64(MASK)).astype(np.int64)) & MASK]
        shifts >>= np.uint64(SHIFT)
    return ranks


@lru_cache(maxsize=8)
def rotor_wheels(seed: int) -> tuple[tuple[np.ndarray, ...], int]:
    """The three permutations (4096,) and the 64-bit key of a seed."""
    wheels = tuple(keys.permutation(STRATUM, seed, keys.SPLIT, number) for number in range(3))
    return wheels, keys.word(seed, keys.SPLIT, 3) >> 1  # one bit less: strata are added without overflow


@lru_cache(maxsize=8)
def short_ranks(length: int, seed: int) -> np.ndarray:
    """The ranks that occur in the last, short stratum, ascending, closed by 4096."""
    places = np.arange(length & MASK, dtype=np.int64)
    return np.append(np.sort(rotor(np.full_like(places, length >> SHIFT), places, seed)), STRATUM)
