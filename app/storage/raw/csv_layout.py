"""What a file of CSV looks like: where its records begin, its delimiter, names and types, the same on every rank."""

from __future__ import annotations

import csv
import functools
import gzip
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from app.errors import DataError
from app.storage.raw.csv_lines import lines_of, table_of, without_open_quotes
from app.storage.raw.records import SHOWN, Stamp

SAMPLE_BYTES = 1 << 20  # of the beginning
PLACES, PLACE_BYTES = 16, 64 << 10  # and as much again, of other places of the file
MOST_FIELDS = 100_000
NAMELESS = "column "
MOSTLY = 0.9  # of the values: then the others are damaged numbers, and not the numbers words
NUMBER = r"^(?i:[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?inf(?:inity)?)$"
WHOLE = r"^-?\d{1,18}$"
NULLS = tuple(pyarrow.csv.ConvertOptions().null_values)
MARK = b"\xef\xbb\xbf"  # of UTF-8, by Windows


class Layout(NamedTuple):
    """start: byte at which the first record begins. types: per column, of Arrow. left_out: why some are not read."""

    start: int
    delimiter: str
    types: dict[str, pa.DataType]
    left_out: dict[str, str]


class Tally(NamedTuple):
    """Values of a column in the samples: those that are not empty, numbers and whole numbers among them, empty ones."""

    filled: int
    numbers: int
    whole: int
    empty: int


def is_compressed(file: Path) -> bool:
    """By its name."""
    return file.name.lower().endswith(".gz")


@functools.lru_cache(maxsize=256)
def layout(file: Stamp) -> Layout:
    """Names and types. Collective over: none. Raises DataError: no text, no names, a name twice."""
    path = file.file
    head = _head(path)
    first, line_break, _ = head.partition(b"\n")
    if b"\0" in head or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is no text of UTF-8, it holds bytes of zero. What to try: save it as CSV in UTF-8.")
    if not line_break and len(head) > SAMPLE_BYTES:
        raise DataError(f"{path}: its first line has more than {len(first):,} bytes, expected the names of columns.")
    delimiter = _delimiter(path, first)
    names = _names(path, first.removeprefix(MARK), delimiter)
    start = min(len(first) + 1, len(head))
    types: dict[str, pa.DataType] = dict.fromkeys(names, pa.null())
    tallies = dict.fromkeys(names, Tally(0, 0, 0, 0))
    for sample in _samples(file, head, start):
        _widen(types, tallies, sample, delimiter)
    # What a delimiter at the end of each line makes.
    nothing = {
        name: "has neither a name nor values" for name in names if _is_nameless(name) and not tallies[name].filled
    }
    return Layout(start, delimiter, {name: _final(kind, tallies[name]) for name, kind in types.items()}, nothing)


def _head(path: Path) -> bytes:
    try:
        with gzip.open(path) if is_compressed(path) else path.open("rb") as handle:
            return handle.read(SAMPLE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); copy or make it again.") from error


def _delimiter(path: Path, first: bytes) -> str:
    if ".tsv" in path.suffixes or path.name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    return ";" if b";" in first and b"," not in first else ","


def _names(path: Path, first: bytes, delimiter: str) -> list[str]:
    """Those of the first line; a nameless column gets its number."""
    try:
        fields = next(csv.reader([first.decode().rstrip("\r")], delimiter=delimiter, strict=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: the names of the columns in the first line cannot be read ({error}). What to try: UTF-8, and"
            " names without line breaks."
        ) from error
    names = [field.strip() or f"{NAMELESS}{number}" for number, field in enumerate(fields, 1)]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if not fields or twice or len(names) > MOST_FIELDS:
        found = f"the name '{twice[0]}' twice" if twice else f"{len(names):,} names of columns"
        raise DataError(f"{path}: has {found} in the first line. What to try: one line of different names above all.")
    if all(map(_is_number, names)):
        raise DataError(
            f"{path}: has no names of columns: its first line is {', '.join(names)[:SHOWN]}. What to try: put a line"
            " with their names above it."
        )
    return names


def _is_nameless(name: str) -> bool:
    return name.removeprefix(NAMELESS).isdecimal() and name.startswith(NAMELESS)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _samples(file: Stamp, head: bytes, start: int) -> Iterator[bytes]:
    """Whole lines of the beginning, and of places all over the file."""
    more = len(head) > SAMPLE_BYTES
    yield head[start : head.rfind(b"\n") + 1] if more else head[start:]
    if not more or is_compressed(file.file):
        return
    with file.file.open("rb") as handle:
        for place in range(1, PLACES + 1):
            at = SAMPLE_BYTES + (file.size - SAMPLE_BYTES - PLACE_BYTES) * place // PLACES
            text = os.pread(handle.fileno(), PLACE_BYTES, max(at, SAMPLE_BYTES))
            yield text[text.find(b"\n") + 1 : text.rfind(b"\n") + 1]


def _widen(types: dict[str, pa.DataType], tallies: dict[str, Tally], sample: bytes, delimiter: str) -> None:
    """Make the types such that they hold a sample too, and count what is in it."""
    lines = lines_of(sample)
    if b'"' in lines.text:
        lines = without_open_quotes(lines, delimiter)
    if not len(lines.rows):
        return
    try:
        table, _ = table_of(lines.text, list(types), delimiter, {}, list(types))
    except pa.ArrowInvalid:
        return  # what is wrong there is told by `read`
    for name, column in zip(types, table.columns, strict=True):
        kind = column.type
        if pa.types.is_null(kind) or (pa.types.is_integer(kind) and column.null_count):
            kind = pa.float64()
        types[name] = _joined(types[name], kind)
        found = _tally(column)
        tallies[name] = Tally(*(before + now for before, now in zip(tallies[name], found, strict=True)))


def _tally(column: pa.ChunkedArray) -> Tally:
    filled = len(column) - column.null_count
    if pa.types.is_integer(column.type):
        return Tally(filled, filled, filled, column.null_count)
    if pa.types.is_floating(column.type):
        return Tally(filled, filled, 0, column.null_count)
    if not pa.types.is_string(column.type):
        return Tally(filled, 0, 0, column.null_count)
    words = pc.utf8_trim_whitespace(column)
    empty, numbers, whole = (
        pc.sum(test).as_py() or 0
        for test in (
            pc.is_in(words, value_set=pa.array(NULLS, pa.string())),
            pc.match_substring_regex(words, NUMBER),
            pc.match_substring_regex(words, WHOLE),
        )
    )
    return Tally(filled - empty, numbers, whole, empty)


def _joined(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other or pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    times = [pa.types.is_timestamp(kind) or pa.types.is_date(kind) for kind in (one, other)]
    return pa.timestamp("ns") if all(times) and not any(getattr(k, "tz", None) for k in (one, other)) else pa.string()


def _final(kind: pa.DataType, found: Tally) -> pa.DataType:
    """What a column is read as; one without any value in the sample has numbers."""
    if pa.types.is_null(kind):
        return pa.float64()
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return pa.timestamp("ns", tz=getattr(kind, "tz", None))
    if kind in (pa.int64(), pa.float64(), pa.bool_()):
        return kind
    if found.filled and found.numbers >= MOSTLY * found.filled:
        return pa.float64() if found.empty or found.whole < found.numbers else pa.int64()
    return pa.string()
