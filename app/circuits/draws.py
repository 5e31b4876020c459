"""Random numbers by key: the same on every rank, for every number of ranks and every version of numpy."""

import numpy as np

SAMPLES, SHOTS, TRAJECTORIES = 1, 2, 3  # what a key is for, so that no two uses share one


def uniforms(count: int, seed: int, *key: int) -> np.ndarray:
    """(count,) float64 in [0, 1) that depend on the seed and the key alone. Collective over: none.

    Raw Philox words, because numpy promises those and not its distributions (NEP 19).
    """
    words = np.random.Philox(np.random.SeedSequence((seed, *key))).random_raw(count)
    return (words >> np.uint64(11)) * 2.0**-53


class Draws:
    """Uniform numbers in [0, 1), one after the other, of one key. Collective over: none."""

    def __init__(self, seed: int, *key: int) -> None:
        self._words = np.random.Philox(np.random.SeedSequence((seed, *key)))

    def next(self) -> float:
        """The next number."""
        return (int(self._words.random_raw()) >> 11) * 2.0**-53

    def below(self, count: int) -> int:
        """The next number as one of 0..count-1."""
        return int(self.next() * count)
