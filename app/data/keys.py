"""Randomness by key: the same numbers on every platform and for every version of numpy, with no state to carry."""

import numpy as np

SPLIT, BLOCKS, WINDOW, RECORDS, LOTS = 1, 2, 3, 4, 5  # what a key is for, so that no two uses share one


def permutation(length: int, seed: int, *key: int) -> np.ndarray:
    """A permutation (length,) int64 that depends on the seed and the key alone. Collective over: none.

    Sorted raw Philox words instead of Generator.permutation: numpy promises the words, not the method (NEP 19).
    Each word carries its place in its low bits, so all are different and every sorting method gives the same order.
    """
    words = np.random.Philox(np.random.SeedSequence((seed, *key))).random_raw(length)
    low = np.uint64((1 << max(1, length).bit_length()) - 1)
    words &= ~low
    words |= np.arange(length, dtype=np.uint64)
    words.sort()
    words &= low
    return words.astype(np.int64)


def word(seed: int, *key: int) -> int:
    """One 64-bit number that depends on the seed and the key alone."""
    return int(np.random.SeedSequence((seed, *key)).generate_state(1, np.uint64)[0])


def mix(numbers: np.ndarray) -> np.ndarray:
    """Each uint64 scrambled on its own (the finaliser of SplitMix64, Steele et al. 2014)."""
    z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z
