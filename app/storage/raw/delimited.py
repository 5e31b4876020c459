"""CSV: a record is a line. Names are in the first line; types are those of a sample of the file, for all its pieces.

A value that is not of its column's type, or a line with another number of fields, makes a bad record.
"""

from __future__ import annotations

import csv
import functools
import gzip
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from app.errors import DataError
from app.storage.raw import arrow
from app.storage.raw.records import SHOWN, Piece, Records, Stamp, assembled, chosen, decoded, stamp

SAMPLE_BYTES = 1 << 20  # of the beginning
PLACES, PLACE_BYTES = 16, 64 << 10  # and as much again, of other places of the file
LINE_BYTES = 16 << 20
LOOK_BYTES = 64 << 10
UNPACKED_BYTES = 1 << 30  # of a compressed file, which is read whole
PIECE_BYTES = 1 << 30
MOST_FIELDS = 100_000
NEWLINE, RETURN, QUOTE = 10, 13, 34
MARK = b"\xef\xbb\xbf"  # of UTF-8, by Windows
NULLS = tuple(pyarrow.csv.ConvertOptions().null_values)
TYPE_WORDS = {"int64": "a whole number", "double": "a number", "bool": "true or false"}
UNPAIRED = "has a quotation mark without its partner; line breaks within quotation marks are not read"


class Layout(NamedTuple):
    """start: byte at which the first record begins. types: per column, of Arrow."""

    start: int
    delimiter: str
    types: dict[str, pa.DataType]


class Lines(NamedTuple):
    """What is to be parsed, and of each of its lines the number of the record; why other records are bad."""

    text: bytes
    rows: np.ndarray
    total: int
    bad: dict[int, str]


def is_compressed(file: Path) -> bool:
    """By its name."""
    return file.name.lower().endswith(".gz")


def pieces(file: Path, form: str, piece_bytes: int) -> list[Piece]:
    """Runs of lines; of a compressed file one piece. Collective over: none. Raises DataError."""
    mark = stamp(file)
    start = layout(mark).start
    if is_compressed(file):
        return [Piece(file, form, 0, mark.size)]
    step = min(max(1, piece_bytes), PIECE_BYTES)
    with file.open("rb") as handle:
        cuts = [start]
        while cuts[-1] + step < mark.size:
            cuts.append(_line_begins(file, handle.fileno(), cuts[-1] + step, mark.size))
    cuts = [*cuts, mark.size] if cuts[-1] < mark.size else cuts
    return [Piece(file, form, begin, end) for begin, end in zip(cuts, cuts[1:], strict=False)]


def read(piece: Piece, columns: Collection[str] | None) -> Records:
    """Collective over: none. Raises DataError."""
    mark = stamp(piece.file)
    found = layout(mark)
    names = chosen(piece.file, found.types, {}, columns)
    text = _unpacked(piece.file)[found.start :] if is_compressed(piece.file) else _bytes(piece)
    lines = _lines(text)
    del text
    parsed = _parsed(lines, found, names)
    if parsed is None:  # quotation marks that only a slow look at each line finds
        lines = _without_odd_quotes(lines, found.delimiter)
        parsed = _parsed(lines, found, names)
    if parsed is None:
        raise DataError(
            f"{piece.file}: the lines of bytes {piece.start:,} to {piece.stop:,} cannot be told from one another."
            " What to try: values without quotation marks and line breaks in them."
        )
    values, bad, rows = parsed
    bad = {int(rows[at]): why for at, why in bad.items()} | lines.bad
    return _spread(values, rows, lines.total, bad)


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
    for sample in _samples(file, head, start):
        _widen(types, sample, delimiter)
    return Layout(start, delimiter, {name: _final(kind) for name, kind in types.items()})


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
    names = [field.strip() or f"column {number}" for number, field in enumerate(fields, 1)]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(names) <= MOST_FIELDS else ["too many"]
    if not fields or twice:
        found = f"the name '{twice[0]}' twice" if twice and fields else "no names of columns"
        raise DataError(f"{path}: has {found} in the first line. What to try: one line of different names above all.")
    if all(map(_is_number, names)):
        raise DataError(
            f"{path}: has no names of columns: its first line is {', '.join(names)[:SHOWN]}. What to try: put a line"
            " with their names above it."
        )
    return names


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


def _widen(types: dict[str, pa.DataType], sample: bytes, delimiter: str) -> None:
    """Make the types such that they hold a sample too."""
    lines = _lines(sample)
    if not len(lines.rows):
        return
    try:
        table, _ = _table(lines.text, list(types), delimiter, {}, list(types))
    except pa.ArrowInvalid:
        return  # what is wrong there is told by `read`
    for name, column in zip(types, table.columns, strict=True):
        kind = column.type
        if pa.types.is_null(kind) or (pa.types.is_integer(kind) and column.null_count):
            kind = pa.float64()
        types[name] = _joined(types[name], kind)


def _joined(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other or pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    times = [pa.types.is_timestamp(kind) or pa.types.is_date(kind) for kind in (one, other)]
    return pa.timestamp("ns") if all(times) and not any(getattr(k, "tz", None) for k in (one, other)) else pa.string()


def _final(kind: pa.DataType) -> pa.DataType:
    """What a column is read as; one without any value in the sample has numbers."""
    if pa.types.is_null(kind):
        return pa.float64()
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return pa.timestamp("ns", tz=getattr(kind, "tz", None))
    return kind if kind in (pa.int64(), pa.float64(), pa.bool_()) else pa.string()


def _line_begins(file: Path, descriptor: int, at: int, size: int) -> int:
    """The first byte at or behind `at` at which a line begins."""
    at -= 1
    for place in range(at, min(size, at + LINE_BYTES), LOOK_BYTES):
        found = os.pread(descriptor, LOOK_BYTES, place).find(b"\n")
        if found >= 0:
            return min(place + found + 1, size)
    if at + LINE_BYTES < size:
        raise DataError(f"{file}: a line behind byte {at:,} has more than {LINE_BYTES:,} bytes; is it text?")
    return size


def _bytes(piece: Piece) -> bytes:
    with piece.file.open("rb") as handle:
        handle.seek(piece.start)
        found = handle.read(piece.stop - piece.start)
    if len(found) < piece.stop - piece.start:
        raise DataError(f"{piece.file}: was cut short while it was read; copy it again.")
    return found


def _unpacked(file: Path) -> bytes:
    try:
        with gzip.open(file) as handle:
            found = handle.read(UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: is damaged and cannot be unpacked ({error}); copy it again.") from error
    if len(found) > UNPACKED_BYTES:
        raise DataError(f"{file}: unpacks to more than {UNPACKED_BYTES:,} bytes. What to try: gunzip it beforehand.")
    return found


def _lines(text: bytes) -> Lines:
    """Cut a text into records: lines that are not empty. Those of which Arrow would make more or fewer are bad."""
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(data == NEWLINE)
    if len(data) and data[-1] != NEWLINE:
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    quotes = np.flatnonzero(data == QUOTE)
    odd = np.diff(np.searchsorted(quotes, np.append(starts, len(data)))) & 1 == 1
    returns = np.flatnonzero(data == RETURN)
    last = len(data) - 1
    inner = returns[(data[np.minimum(returns + 1, last)] != NEWLINE) & (returns != last)]
    broken = np.zeros(len(ends), bool)
    broken[np.searchsorted(ends, inner)] = True
    empty = (ends == starts) | ((ends == starts + 1) & (data[np.minimum(starts, last)] == RETURN))
    kept = ~empty
    numbers = np.cumsum(kept) - 1
    bad = dict.fromkeys(numbers[kept & broken].tolist(), "has a carriage return within")
    bad |= dict.fromkeys(numbers[kept & odd].tolist(), UNPAIRED)
    good = kept & ~odd & ~broken
    return Lines(_only(text, starts, ends, good, kept), numbers[good], int(kept.sum()), bad)


def _only(text: bytes, starts: np.ndarray, ends: np.ndarray, good: np.ndarray, kept: np.ndarray) -> bytes:
    """The text without some lines; empty ones are skipped by Arrow."""
    if good.all() or (good == kept).all():
        return text
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    runs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return b"".join(text[int(starts[first]) : int(ends[stop - 1]) + 1] for first, stop in runs)


def _without_odd_quotes(lines: Lines, delimiter: str) -> Lines:
    """Lines one by one, without those in which a quotation begins and does not end."""
    texts = [line for line in lines.text.split(b"\n") if line not in (b"", b"\r")]
    good = np.ones(len(texts), bool)
    for number, line in enumerate(texts):
        good[number] = not _is_open(line.decode(errors="replace"), delimiter)
    bad = lines.bad | dict.fromkeys(lines.rows[~good].tolist(), UNPAIRED)
    text = b"\n".join(line for line, keep in zip(texts, good, strict=True) if keep)
    return Lines(text, lines.rows[good], lines.total, bad)


def _is_open(line: str, delimiter: str) -> bool:
    """Whether a quotation goes on behind the end of a line."""
    reader = csv.reader([line + "\n", "next"], delimiter=delimiter)
    try:
        next(reader)
    except csv.Error:
        return True
    return reader.line_num > 1


Parsed = tuple[dict[str, np.ndarray], dict[int, str], np.ndarray]


def _parsed(lines: Lines, found: Layout, names: list[str]) -> Parsed | None:
    """Columns, why some of their rows are bad, and the records that the rows are; None where lines were not told apart.

    Bad ones are counted as lines of the text are.
    """
    all_names, wanted = list(found.types), names or list(found.types)[:1]
    if not len(lines.rows):
        empty = pa.table({name: pa.array([], kind) for name, kind in found.types.items()})
        return _converted(empty, found, names)[0], {}, lines.rows
    # A last line of ours, which a quotation that does not end before it would swallow.
    text = b"\n".join([lines.text.rstrip(b"\r\n"), found.delimiter.join(['""'] * len(all_names)).encode()])
    types = {name: found.types[name] for name in wanted} if names else {wanted[0]: pa.binary()}
    try:
        table, ragged = _table(text, all_names, found.delimiter, types, wanted)
    except pa.ArrowInvalid:
        types = dict.fromkeys(wanted, pa.binary())
        try:
            table, ragged = _table(text, all_names, found.delimiter, types, wanted)
        except pa.ArrowInvalid:
            return None
    if table.num_rows + len(ragged) != len(lines.rows) + 1:
        return None
    table = table.slice(0, table.num_rows - 1)
    lines.bad.update({int(lines.rows[at]): why for at, why in ragged.items()})
    rows = np.delete(lines.rows, list(ragged))
    values, bad = _converted(table, found, names)
    return values, bad, rows


def _table(
    text: bytes, all_names: list[str], delimiter: str, types: Mapping[str, pa.DataType], wanted: list[str]
) -> tuple[pa.Table, dict[int, str]]:
    """Lines as a table, and those with another number of fields, counted from 0. Raises ArrowInvalid."""
    ragged: dict[int, str] = {}

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        ragged[row.number - 1] = f"has {row.actual_columns} fields, expected {row.expected_columns}"
        return "skip"

    table = pyarrow.csv.read_csv(
        pa.BufferReader(text),
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=max(len(text), LOOK_BYTES), column_names=all_names
        ),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict(types), include_columns=wanted),
    )
    return table, ragged


def _converted(table: pa.Table, found: Layout, names: list[str]) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    values: dict[str, np.ndarray] = {}
    bad: dict[int, str] = {}
    for name in names:
        array, kind = arrow.one_array(table.column(name)), found.types[name]
        if pa.types.is_string(kind):
            values[name], wrong = arrow.text_column(array, name)
        else:
            values[name], wrong = _numbers(array, kind, name)
        bad = wrong | bad
    return values, bad


def _numbers(array: pa.Array, kind: pa.DataType, name: str) -> arrow.Found:
    """Numbers of one type, whatever is in a piece; what is missing is NaN, or bad where there is no NaN."""
    bad: dict[int, str] = {}
    if pa.types.is_binary(array.type):
        array, bad = _from_texts(array, kind, name)
    if array.null_count and not pa.types.is_floating(kind):
        absent = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist()
        bad = {row: f"'{name}' is empty, expected {_word(kind)}" for row in absent} | bad
        array = pc.fill_null(array, pa.scalar(0, pa.int64()).cast(kind))
    values, wrong = arrow.number_column(array, name)
    return values, wrong | bad


def _from_texts(array: pa.Array, kind: pa.DataType, name: str) -> tuple[pa.Array, dict[int, str]]:
    bad: dict[int, str] = {}
    try:
        words = array.cast(pa.string())
    except pa.ArrowInvalid:
        found, bad = decoded(array.to_pylist(), name)
        words = pa.array(found.tolist(), pa.string())
    words = pc.utf8_trim_whitespace(words)
    words = pc.if_else(pc.is_in(words, value_set=pa.array(NULLS, pa.string())), None, words)
    wrong = list(_misfits(words, kind, 0))
    keep = np.ones(len(words), bool)
    keep[wrong] = False
    shown = {row: f"'{name}' is '{words[row].as_py()[:SHOWN]}', expected {_word(kind)}" for row in wrong}
    return pc.if_else(pa.array(keep), words, None).cast(kind), shown | bad


def _misfits(words: pa.Array, kind: pa.DataType, first: int) -> Iterator[int]:
    """Where texts are not of a type: halves are tried until one is left."""
    try:
        words.cast(kind)
    except pa.ArrowInvalid:
        if len(words) == 1:
            yield first
            return
        half = len(words) // 2
        yield from _misfits(words[:half], kind, first)
        yield from _misfits(words[half:], kind, first + half)


def _word(kind: pa.DataType) -> str:
    return TYPE_WORDS.get(str(kind), "a date or time")


def _spread(values: dict[str, np.ndarray], rows: np.ndarray, count: int, bad: dict[int, str]) -> Records:
    """Rows that were parsed, as records among all those of the piece."""
    whole = ~np.isin(rows, list(bad)) if bad else np.ones(len(rows), bool)
    empty = assembled({}, count, bad)
    return Records({name: column[whole] for name, column in values.items()}, rows[whole], count, empty.bad)
