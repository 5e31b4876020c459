"""CSV: a record is a line. Names are in the first line; types are those of most values of a sample of the file.

A value that is not of its column's type, or a line with another number of fields, makes a bad record.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import DataError
from app.storage.raw import arrow
from app.storage.raw.csv_layout import NULLS, Layout, is_compressed, layout
from app.storage.raw.csv_lines import Lines, lines_of, table_of, without_open_quotes
from app.storage.raw.records import SHOWN, Piece, Records, assembled, chosen, stamp

LINE_BYTES = 16 << 20
LOOK_BYTES = 64 << 10
UNPACKED_BYTES = 1 << 30  # of a compressed file, which is read whole
PIECE_BYTES = 1 << 30
TYPE_WORDS = {"int64": "a whole number", "double": "a number", "bool": "true or false"}


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
    names = chosen(piece.file, [name for name in found.types if name not in found.left_out], found.left_out, columns)
    text = _unpacked(piece.file)[found.start :] if is_compressed(piece.file) else _bytes(piece)
    lines = lines_of(text)
    del text
    parsed = _parsed(lines, found, names)
    if parsed is None:  # quotation marks that only a slow look at each line finds
        lines = without_open_quotes(lines, found.delimiter)
        parsed = _parsed(lines, found, names)
    if parsed is None:
        raise DataError(
            f"{piece.file}: the lines of bytes {piece.start:,} to {piece.stop:,} cannot be told from one another."
            " What to try: values without quotation marks and line breaks in them."
        )
    values, bad, rows = parsed
    bad = {int(rows[at]): why for at, why in bad.items()} | lines.bad
    return _spread(values, rows, lines.total, bad)


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
        table, ragged = table_of(text, all_names, found.delimiter, types, wanted)
    except pa.ArrowInvalid:
        types = dict.fromkeys(wanted, pa.binary())
        try:
            table, ragged = table_of(text, all_names, found.delimiter, types, wanted)
        except pa.ArrowInvalid:
            return None
    if table.num_rows + len(ragged) != len(lines.rows) + 1:
        return None
    table = table.slice(0, table.num_rows - 1)
    lines.bad.update({int(lines.rows[at]): why for at, why in ragged.items()})
    rows = np.delete(lines.rows, list(ragged))
    values, bad = _converted(table, found, names)
    return values, bad, rows


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
    words = pc.utf8_trim_whitespace(array.cast(pa.string()))
    words = pc.if_else(pc.is_in(words, value_set=pa.array(NULLS, pa.string())), None, words)
    wrong = list(_misfits(words, kind, 0))
    keep = np.ones(len(words), bool)
    keep[wrong] = False
    shown = {row: f"'{name}' is '{words[row].as_py()[:SHOWN]}', expected {_word(kind)}" for row in wrong}
    return pc.if_else(pa.array(keep), words, None).cast(kind), shown


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
