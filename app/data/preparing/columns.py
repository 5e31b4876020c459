"""What the columns of a set are, agreed between the pieces that it is made of."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from app.data.preparing.records import LISTED
from app.errors import DataError

RESERVED = ("bad", "constants")  # groups of the finished file


class Seen(NamedTuple):
    """A column of a piece of `where`: type and shape of a sample, what was done to it, names of classes."""

    where: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    history: list[dict[str, Any]]
    names: list[str] | None


@dataclass(frozen=True)
class Column:
    """A column of the set; text is UTF-8 of fixed length ("S")."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    history: tuple[dict[str, Any], ...]
    names: tuple[str, ...] | None

    @property
    def row_bytes(self) -> int:
        """Bytes of a sample."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def agreed(pieces: Sequence[Sequence[Seen]]) -> tuple[Column, ...]:
    """The columns of all; numbers get the type that holds those of all pieces.

    Raises DataError: columns that not all have, shapes that differ, text against numbers, names that HDF5 cannot have.
    """
    first = pieces[0]
    problems: list[str] = []
    for other in pieces[1:]:
        problems += _differences(first, other)
        if problems:
            raise DataError(*problems)
    found: Mapping[str, list[Seen]] = {one.name: [] for one in first}
    for piece in pieces:
        for one in piece:
            found[one.name].append(one)
    columns = tuple(_column(same) for same in found.values())
    _check_names([column.name for column in columns])
    return columns


def _differences(first: Sequence[Seen], other: Sequence[Seen]) -> list[str]:
    here, there = {one.name: one for one in first}, {one.name: one for one in other}
    problems = []
    for a, b in ((here, there), (there, here)):
        for name in [name for name in a if name not in b][:LISTED]:
            near = difflib.get_close_matches(name, [one for one in b if one not in a], 1)
            advice = f"did you mean {near[0]!r}? A rename step gives both one name" if near else _SELECT
            where = next(iter(b.values())).where if b else a[name].where
            problems.append(f"{where}: has no column {name!r}, which {a[name].where} has; {advice}.")
    for name in here.keys() & there.keys():
        a_column, b_column = here[name], there[name]
        if a_column.shape != b_column.shape:
            problems.append(
                f"{b_column.where}: a sample of {name!r} has the shape {list(b_column.shape)}, in {a_column.where}"
                f" {list(a_column.shape)}; expected one shape in all files."
            )
        elif _is_text(a_column) != _is_text(b_column):
            words = {True: "text", False: "numbers"}
            problems.append(
                f"{b_column.where}: {name!r} holds {words[_is_text(b_column)]}, in {a_column.where}"
                f" {words[_is_text(a_column)]}. What to try: a cast step makes numbers of texts that are numbers."
            )
    return sorted(problems)


_SELECT = "what to try: a select step of the columns that all have"


def _is_text(column: Seen) -> bool:
    return np.dtype(column.dtype).kind == "S"


def _column(same: Sequence[Seen]) -> Column:
    first = same[0]
    dtype = np.result_type(*{np.dtype(one.dtype) for one in same})
    names = None if first.names is None else tuple(first.names)
    return Column(first.name, dtype, tuple(first.shape), tuple(first.history), names)


def _check_names(names: Sequence[str]) -> None:
    problems = []
    for name in names:
        words = name.split("/")
        if "\0" in name or any(word in ("", ".", "..") for word in words):
            problems.append(f"the column {name!r} cannot be a dataset's name; a rename step gives it another one.")
        elif words[0] in RESERVED:
            problems.append(f"a column cannot be called {name!r}, which the set needs itself; rename it.")
        inner = next((other for other in names if other.startswith(f"{name}/")), None)
        if inner is not None:
            problems.append(f"{name!r} and {inner!r} cannot both be columns of one HDF5 file; rename one of them.")
    if problems:
        raise DataError(*problems)
