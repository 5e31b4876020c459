"""What the readers of raw files share: pieces of files, the records in them, and which of their columns go together."""

from __future__ import annotations

import difflib
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.errors import DataError
from app.report.log import escaped
from app.storage.opening import near_file

SHORT_TEXT = 64  # characters; a longer one would make an array of numpy's "U" wide for all
SHOWN = 40  # characters of a value in a message
LISTED = 6


class Piece(NamedTuple):
    """A run of records of one file, of images of one folder, that is read at once; the same on every rank.

    start, stop: rows of the file; of CSV the bytes of the file, cut where a line begins.
    """

    file: Path
    format: str
    start: int
    stop: int


class Bad(NamedTuple):
    """A record that cannot be used. row: within its piece, from 0. why: part of a sentence, without a full stop."""

    row: int
    why: str


class Records(NamedTuple):
    """The records of a piece.

    columns: (n, ...) numbers in native order of at most 8 bytes, or (n,) texts, numpy's "U" or objects.
    rows: (n,) int64, where in the piece the whole records lie. count: records in the piece, the bad ones too.
    """

    columns: dict[str, np.ndarray]
    rows: np.ndarray
    count: int  # type: ignore[assignment]  # of tuple
    bad: tuple[Bad, ...]


class Stamp(NamedTuple):
    """A file as it is now: what is known of it by this key is forgotten when it changes."""

    file: Path
    size: int
    changed_ns: int


def stamp(file: Path) -> Stamp:
    """Collective over: none. Raises DataError: not there, not a regular file, empty."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such file{near_file(file)}.") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be looked at ({error.strerror}).") from None
    if not stat.S_ISREG(found.st_mode):  # a named pipe would block for ever
        raise DataError(f"{file}: is {'a folder' if stat.S_ISDIR(found.st_mode) else 'not a regular file'}.")
    if not found.st_size:
        raise DataError(f"{file}: is empty (0 bytes). What to try: copy it again, or leave it out.")
    return Stamp(Path(file), found.st_size, found.st_mtime_ns)


def cut(file: Path, form: str, count: int, rows: int) -> list[Piece]:
    """The records 0:count in pieces of so many rows."""
    return [Piece(file, form, start, min(start + rows, count)) for start in range(0, count, max(1, rows))]


def assembled(columns: Mapping[str, np.ndarray], count: int, bad: Mapping[int, str]) -> Records:
    """Columns of `count` rows each without the bad ones, which are given by their row and why."""
    rows = np.arange(count, dtype=np.int64)
    whole = np.ones(count, bool)
    whole[list(bad)] = False
    if bad:
        rows, columns = rows[whole], {name: values[whole] for name, values in columns.items()}
    return Records(dict(columns), rows, count, tuple(Bad(row, escaped(bad[row])) for row in sorted(bad)))


def common_length(file: Path, lengths: Mapping[str, int], auxiliary: Collection[str] = ()) -> int:
    """How many records a file has whose columns may differ in length: as many as most of its columns.

    auxiliary: columns that do not count. Where no two agree it is the longest. Raises DataError: as many columns have
    another length.
    """
    votes = Counter(length for name, length in lengths.items() if name not in auxiliary) or Counter(lengths.values())
    most = max(votes.values())
    best = sorted((length for length, count in votes.items() if count == most), reverse=True)
    if len(best) > 1 and most > 1:
        shown = ", ".join(
            f"{length:,} ({some(name for name, found in lengths.items() if found == length)})" for length in best[:3]
        )
        raise DataError(
            f"{file}: its columns differ in length: {shown}; which of them are the records is not clear. What to try:"
            " columns of one length in one file."
        )
    return best[0]


def chosen(file: Path, names: Iterable[str], left_out: Mapping[str, str], columns: Collection[str] | None) -> list[str]:
    """The columns to read, in the file's order. Raises DataError for one that is asked for and is no column."""
    if columns is None:
        return list(names)
    problems = [f"{file}: '{name}' {why}." for name, why in left_out.items() if name in columns]
    if problems:
        raise DataError(*problems)
    return [name for name in names if name in columns]


def decoded(values: Sequence[bytes | None], name: str) -> tuple[np.ndarray, dict[int, str]]:
    """Texts of UTF-8, and why some rows are not; nothing is the empty text."""
    out: list[str] = []
    bad: dict[int, str] = {}
    for row, value in enumerate(values):
        try:
            out.append(value.decode() if value else "")
        except UnicodeDecodeError:
            out.append("")
            bad[row] = f"'{name}' is no text of UTF-8: {value[:SHOWN]!r}"  # type: ignore[index]
    return texts(out), bad


def texts(values: Sequence[str]) -> np.ndarray:
    """(n,) of numpy's "U" where all are short, else of objects."""
    if max(map(len, values), default=0) <= SHORT_TEXT:
        return np.array(values, dtype=np.str_) if len(values) else np.empty(0, "U1")
    return np.array(values, dtype=object)


def plain(values: np.ndarray) -> np.ndarray:
    """Numbers in native order of at most 8 bytes; points and spans of time as nanoseconds, int64."""
    if values.dtype.kind in "mM":
        return values.astype(f"{values.dtype.kind}8[ns]").view(np.int64)
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        return values.astype(np.float64)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def some(names: Iterable[str]) -> str:
    """The first few, for a message."""
    found = list(names)
    return ", ".join(f"'{name}'" for name in found[:LISTED]) + (", ..." if len(found) > LISTED else "")


def near(name: str, names: Iterable[str]) -> str:
    """' (did you mean ...?)'"""
    found = difflib.get_close_matches(name, list(names), 1)
    return f" (did you mean '{found[0]}'?)" if found else ""
