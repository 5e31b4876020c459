"""Records on their way to becoming samples, and finding their columns by name."""

import difflib
import fnmatch
import glob
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from app.errors import DataError

LISTED = 12  # names of columns in a message
TEXT_BYTES = 1 << 30  # of a column of texts in memory
History = tuple[dict[str, Any], ...]  # what was done to a column, in order


class Bad(NamedTuple):
    """A record that cannot be used. row: within the piece. why: a part of a sentence."""

    row: int
    why: str


@dataclass(frozen=True)
class Block:
    """n records that are still good.

    where     the file, for messages
    columns   of each name (n, ...) numbers or texts ("U")
    rows      (n,) int64 ascending: the row in its piece of each record
    bad       those that were found to be bad
    dropped   records that filters have left out
    history   of each column what was done to it
    names     of the classes that an encoded column holds the labels of
    """

    where: str
    columns: dict[str, np.ndarray]
    rows: np.ndarray
    bad: tuple[Bad, ...]
    dropped: int
    history: dict[str, History]
    names: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.rows)


def block_of(where: str, columns: Mapping[str, np.ndarray], rows: np.ndarray, bad: Sequence[tuple[int, str]]) -> Block:
    """The records that a reader gives. Raises DataError: values of no use, texts too long."""
    plain = {name: _plain(where, name, values) for name, values in columns.items()}
    history: dict[str, History] = {name: ({"kind": "read", "column": name},) for name in plain}
    return Block(where, plain, np.asarray(rows, np.int64), tuple(Bad(*one) for one in bad), 0, history, {})


def kept(block: Block, mask: np.ndarray) -> Block:
    """The records of which the mask (n,) bool is true."""
    if mask.all():
        return block
    return replace(block, columns={name: values[mask] for name, values in block.columns.items()}, rows=block.rows[mask])


def without_bad(block: Block, wrong: np.ndarray, why: Callable[[int], str]) -> Block:
    """Those of which `wrong` (n,) bool is true become bad records; why: of the record with this number."""
    if not wrong.any():
        return block
    found = tuple(Bad(int(block.rows[number]), why(int(number))) for number in np.flatnonzero(wrong))
    return replace(kept(block, ~wrong), bad=(*block.bad, *found))


def with_column(block: Block, name: str, values: np.ndarray, step: dict[str, Any]) -> Block:
    """A column with other values; what was done is added to its history."""
    history = block.history | {name: (*block.history.get(name, ()), step)}
    return replace(block, columns=block.columns | {name: values}, history=history)


def column(block: Block, name: str, what: str) -> np.ndarray:
    """One column. Raises DataError with the nearest names where it is not there."""
    if name not in block.columns:
        raise DataError(missing(block.where, name, block.columns, what))
    return block.columns[name]


def chosen(block: Block, patterns: Sequence[str], what: str) -> list[str]:
    """The names that names and globs stand for, each once: in their order, those of a glob as they are in the file.

    Raises DataError where one stands for none.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        names = [pattern] if pattern in block.columns else []
        if not names and glob.has_magic(pattern):
            names = [name for name in block.columns if fnmatch.fnmatchcase(name, pattern)]
        if not names:
            raise DataError(missing(block.where, pattern, block.columns, what))
        found |= dict.fromkeys(names)
    return list(found)


def missing(where: str, name: str, known: Collection[str], what: str) -> str:
    """The sentence for a column that is not there."""
    near = difflib.get_close_matches(name, known, 3, 0.6)
    if near:
        return f"{where}: {what}: has no column {name!r}; did you mean {' or '.join(map(repr, near))}?"
    shown = ", ".join(list(known)[:LISTED]) + (f", ... ({len(known)} in all)" if len(known) > LISTED else "")
    return f"{where}: {what}: has no column {name!r}; its columns here: {shown or 'none'}."


def is_text(values: np.ndarray) -> bool:
    """Whether a column holds texts."""
    return values.dtype.kind in "US"


def type_word(values: np.ndarray) -> str:
    """The type of a column in a user's words."""
    return "text" if is_text(values) else str(values.dtype)


def _plain(where: str, name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "biuf" and values.dtype.itemsize <= 8:
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "O":
        longest = max((len(str(one)) for one in values.flat), default=1)
        if longest * values.size * 4 > TEXT_BYTES:
            raise DataError(
                f"{where}: the texts of {name!r} have up to {longest:,} characters, too many to hold {values.size:,} of"
                " them. What to try: a select step without it, or a smaller piece."
            )
        return values.astype(f"U{max(1, longest)}")
    if values.dtype.kind == "U":
        return values
    raise DataError(f"{where}: the column {name!r} holds {values.dtype}, expected numbers or texts.")
