"""How long batches took: a histogram with buckets of equal ratios, which adds up over pieces and ranks."""

import math

import numpy as np

SHORTEST_S, RATIO = 1e-6, 1.025  # of the first bucket; from one to the next
BUCKETS = math.ceil(math.log(1e9) / math.log(RATIO))  # up to 1000 s


def bucket(seconds: float) -> int:
    """The number of the bucket; the first and the last hold all that is outside."""
    if seconds <= SHORTEST_S:
        return 0
    return min(BUCKETS - 1, int(math.log(seconds / SHORTEST_S) / math.log(RATIO)))


def percentile_s(counts: np.ndarray, share: float, longest_s: float) -> float:
    """The duration that `share` of those counted (BUCKETS,) do not exceed, to 1.3 %; 0 of none."""
    total = int(counts.sum())
    if total == 0:
        return 0.0
    at = int(np.searchsorted(np.cumsum(counts), math.ceil(share * total)))
    return min(SHORTEST_S * RATIO ** (at + 0.5), longest_s)
