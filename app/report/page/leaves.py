"""Reading of a results tree, whose shape is not to be relied on: a phase may be half done, a file a stranger's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Table = Mapping[str, Any]
_DEEPEST = 6  # tables in tables, of a phase
_MOST_WORDS = 100_000
_TOO_LARGE = 1e100


def table(tree: Any, *keys: str) -> Table:
    """The table at this place, {} where there is none."""
    found = tree
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def tables(tree: Any) -> dict[str, Table]:
    """The tables in a table."""
    return {name: one for name, one in tree.items() if isinstance(one, Mapping)} if isinstance(tree, Mapping) else {}


def numbers(tree: Table, key: str) -> np.ndarray:
    """A column (rows,) float64, (0,) where there is none; nan for what is not finite, or too large to draw."""
    found = tree.get(key)
    if isinstance(found, list) and all(isinstance(one, int | float) for one in found):
        found = np.array(found, np.float64)
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "biuf":
        return np.zeros(0)
    values = found.astype(np.float64)
    values[~(np.abs(values) < _TOO_LARGE)] = np.nan
    return values


def matrix(tree: Table, key: str) -> np.ndarray | None:
    """A square matrix of counts (K, K) int64."""
    found = tree.get(key)
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "iu":
        return None
    rows, columns = found.shape
    return found.astype(np.int64) if rows == columns and rows and found.min() >= 0 else None


def number(tree: Table, key: str) -> float | None:
    """One number, None where there is none that is finite."""
    found = tree.get(key)
    if isinstance(found, np.ndarray) and found.ndim == 0 and found.dtype.kind in "iuf":
        found = found.item()
    right = isinstance(found, int | float) and not isinstance(found, bool) and abs(found) < _TOO_LARGE
    return found if right else None


def text(tree: Table, key: str) -> str:
    """A text, "" where there is none."""
    found = tree.get(key)
    return found if isinstance(found, str) else ""


def words(tree: Table, key: str) -> list[str]:
    """A list of texts, or of numbers as texts; [] where there is none."""
    found = tree.get(key)
    if isinstance(found, np.ndarray) and found.ndim == 1:
        found = found[:_MOST_WORDS].tolist()
    return [str(one) for one in found[:_MOST_WORDS]] if isinstance(found, list | tuple) else []


def columns(tree: Table) -> dict[str, np.ndarray]:
    """The columns of a table of numbers, all as long as the shortest."""
    found = {name: column for name in tree if len(column := numbers(tree, name))}
    rows = min(map(len, found.values()), default=0)
    return {name: column[:rows] for name, column in found.items()}


def scalars(tree: Table, place: tuple[str, ...] = ()) -> Iterator[tuple[str, int | float | bool | str]]:
    """Numbers and texts of a table and of those in it, with where they are: `("splits train", 900)`."""
    for name, value in tree.items():
        where = (*place, name)
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = value.item()
        if isinstance(value, Mapping):
            if len(where) < _DEEPEST:
                yield from scalars(value, where)
        elif isinstance(value, bool | int | float | str):
            yield " ".join(where).replace("_", " "), value
