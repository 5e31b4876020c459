"""Mean and sum of squared deviations, mergeable (Chan, Golub, LeVeque 1983), float64, in one order."""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """`number` values a cell, their mean and their squared deviations from it, float64, broadcastable to a sample."""

    number: int
    mean: np.ndarray
    squares: np.ndarray


def moments_of(rows: np.ndarray, kept: tuple[int, ...], near: Moments | None) -> Moments | None:
    """Moments of rows (n, ...) over samples and all axes of a sample but the `kept`; None for no rows.

    `near` gives a value close to the mean to measure from, so that squares do not cancel.
    """
    if not len(rows):
        return None
    over = tuple(axis for axis in range(rows.ndim - 1) if axis not in kept)
    origin = near.mean if near is not None else rows[0].mean(axis=over, keepdims=True, dtype=np.float64)
    count = rows[0].size // max(1, origin.size) * len(rows)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are found when all are merged
        away = np.subtract(rows, origin, dtype=np.float64)
        first = away.sum(axis=0).sum(axis=over, keepdims=True)
        second = np.multiply(away, away, out=away).sum(axis=0).sum(axis=over, keepdims=True)
        return Moments(count, origin + first / count, np.maximum(second - first * first / count, 0.0))


def merge(a: Moments | None, b: Moments | None) -> Moments | None:
    """Moments of both together."""
    if a is None or b is None:
        return b if a is None else a
    count = a.number + b.number
    apart = b.mean - a.mean
    return Moments(
        count,
        a.mean + apart * (b.number / count),
        a.squares + b.squares + apart * apart * (a.number * (b.number / count)),
    )
