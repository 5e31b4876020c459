"""Constants of standardise and minmax, measured on the training part and applied to all: float64, in one order."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.data.moments import Moments, merge, moments_of
from app.data.preparing.records import is_text
from app.errors import DataError
from app.inputfile.preparing import MinMax, Standardise

BLOCK_BYTES = 1 << 23  # of float64 in work at once


class Measured(NamedTuple):
    """Of the training samples of one piece, or of several: moments, or the least and the greatest value."""

    moments: Moments | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None


class Constants(NamedTuple):
    """(x - offset) / scale; words: what is noted of it, by name, broadcastable to a sample."""

    offset: np.ndarray
    scale: np.ndarray
    words: Mapping[str, np.ndarray]


def measured(values: np.ndarray, step: Standardise | MinMax) -> Measured:
    """Of samples (n, ...)."""
    over, rows = _kept(values.ndim - 1, step.axis), max(1, BLOCK_BYTES // max(1, 8 * values[:1].size))
    found = Measured()
    for start in range(0, len(values), rows):
        block = values[start : start + rows]
        if isinstance(step, Standardise):
            found = merged(found, Measured(moments_of(block, over, None)))
        else:
            axes = tuple(axis + 1 for axis in range(values.ndim - 1) if axis not in over)
            low, high = (way(axis=(0, *axes), keepdims=True)[0].astype(np.float64) for way in (block.min, block.max))
            found = merged(found, Measured(None, low, high))
    return found


def merged(a: Measured, b: Measured) -> Measured:
    """Of both together."""
    low = b.low if a.low is None else a.low if b.low is None else np.minimum(a.low, b.low)
    high = b.high if a.high is None else a.high if b.high is None else np.maximum(a.high, b.high)
    return Measured(merge(a.moments, b.moments), low, high)


def constants(found: Measured) -> Constants:
    """What to apply; a value that is the same in all training samples becomes 0."""
    if found.moments is not None:
        mean, number = np.asarray(found.moments.mean), found.moments.number
        std = np.sqrt(found.moments.squares / number)
        std = np.where(std <= 1e-12 * np.abs(mean), 0.0, std)  # a constant, up to the rounding of its mean
        return Constants(mean, np.where(std > 0, std, 1.0), {"mean": mean, "std": std})
    if found.low is None or found.high is None:
        raise ValueError("constants of no samples")
    low, high = np.asarray(found.low), np.asarray(found.high)
    return Constants(low, np.where(high > low, high - low, 1.0), {"min": low, "max": high})


def scaled(values: np.ndarray, by: Constants) -> np.ndarray:
    """(n, ...) float64 where they were, else float32; computed in float64."""
    dtype = scaled_type(values.dtype)
    out = np.empty(values.shape, dtype)
    rows = max(1, BLOCK_BYTES // max(1, 8 * values[:1].size))
    for start in range(0, len(values), rows):
        block = np.subtract(values[start : start + rows], by.offset, dtype=np.float64)
        out[start : start + rows] = np.divide(block, by.scale, out=block)
    return out


def scaled_type(dtype: np.dtype) -> np.dtype:
    """Of a column once it is scaled."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def check_scaled(names: Sequence[str], types: Mapping[str, np.dtype], kind: str) -> None:
    """Raises DataError for columns that are no numbers."""
    for name in names:
        if is_text(np.empty(0, types[name])):
            raise DataError(f"{kind}: the column {name!r} holds text; encode it first, or leave it out.")


def _kept(dims: int, axis: str) -> tuple[int, ...]:
    """The axes of a sample along which constants differ."""
    return {"channel": (0,)[:dims], "feature": tuple(range(dims)), "all": ()}[axis]


def described(step: Standardise | MinMax) -> dict[str, Any]:
    """What is noted of a column."""
    return {"kind": step.kind, "axis": step.axis}
