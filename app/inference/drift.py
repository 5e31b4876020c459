"""How far two histograms of the same values are apart, and whether chance could have done it.

Population stability index: the sum of (q - p) ln(q / p) over bins (Jeffreys divergence; Siddiqi, Credit Risk
Scorecards, 2006). Without a shift it is near (1/n + 1/m) chi-square with bins - 1 degrees of freedom (Yurdakul, 2018).
Kolmogorov-Smirnov distance: the largest difference of the two distribution functions, here at the bins' edges.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from app.inputfile.using import Monitor

PSI_BINS = 10  # about equally full ones, which the finer bins are joined to
CHANCE = 1e-3  # that a phase without any shift finds one


class Drift(NamedTuple):
    """Of each of F features: the index, the distance, and whether both are too large, (F,) each."""

    psi: np.ndarray
    ks: np.ndarray
    drifted: np.ndarray


def drift(
    before: np.ndarray, after: np.ndarray, samples: tuple[int, int], table: Monitor, *, categories: bool = False
) -> Drift:
    """Counts (F, B) of the training set and of new samples; `samples` independent ones of each, however many values.

    It is drift where index and distance exceed the limits of `table`, and what chance gives at so few samples: KS by
    the bound of Kolmogorov and Smirnov, shared among the features (Bonferroni). categories: bins are not joined.
    """
    alpha = CHANCE / max(1, len(before))
    scale = sum(1 / number for number in samples) if min(samples) > 0 else math.inf
    distances = ks(before, after)
    indices, freedom = psi(before, after) if categories else psi(joined(before, before), joined(before, after))
    by_chance = np.array([psi_by_chance(int(number), scale, alpha) for number in freedom])
    over = (indices > np.maximum(table.psi, by_chance)) & (distances > max(table.ks, ks_by_chance(scale, alpha)))
    return Drift(indices, distances, over)


def psi(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The index (F,) of counts (F, B), and the degrees of freedom (F,): bins that are used, less one.

    Half a value is added to each bin that is used, so that an empty one gives no infinity.
    """
    used = before + after > 0
    number = np.maximum(used.sum(axis=1, keepdims=True), 1)
    p, q = (np.where(used, (c + 0.5) / (c.sum(axis=1, keepdims=True) + 0.5 * number), 1.0) for c in (before, after))
    found = ((q - p) * np.log(q / p)).sum(axis=1)
    return np.where(after.sum(axis=1) > 0, found, 0.0), np.maximum(number[:, 0] - 1, 1)


def ks(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The distance (F,) of counts (F, B); of what was constant, the share of values that are something else."""
    p, q = (c / np.maximum(c.sum(axis=1, keepdims=True), 1) for c in (before, after))
    distances = np.abs(np.cumsum(q - p, axis=1)).max(axis=1)
    constant = (before > 0).sum(axis=1) == 1
    elsewhere = np.where(before > 0, 0.0, q).sum(axis=1)
    return np.where(after.sum(axis=1) > 0, np.where(constant, elsewhere, distances), 0.0)


def joined(before: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`counts` (F, B) in the PSI_BINS bins (F, PSI_BINS) among which `before` (F, B) is divided about equally."""
    middle = np.cumsum(before, axis=1) - before / 2
    share = middle / np.maximum(before.sum(axis=1, keepdims=True), 1)
    group = np.minimum((PSI_BINS * share).astype(np.int64), PSI_BINS - 1)
    flat = group + PSI_BINS * np.arange(len(before))[:, None]
    sums = np.bincount(flat.reshape(-1), weights=counts.reshape(-1), minlength=PSI_BINS * len(before))
    return sums.astype(np.int64).reshape(-1, PSI_BINS)


def psi_by_chance(freedom: int, scale: float, alpha: float) -> float:
    """What the index exceeds with probability `alpha` where nothing has shifted; scale: 1/n + 1/m.

    The quantile of chi-square by Wilson and Hilferty (1931); of 1 degree of freedom it is up to 15 % too large.
    """
    part = 2 / (9 * freedom)
    return scale * freedom * (1 - part + NormalDist().inv_cdf(1 - alpha) * math.sqrt(part)) ** 3


def ks_by_chance(scale: float, alpha: float) -> float:
    """What the distance exceeds with probability `alpha`, at most, where nothing has shifted; scale: 1/n + 1/m."""
    return math.sqrt(scale * math.log(2 / alpha) / 2)
