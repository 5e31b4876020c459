"""Parquet tables: a piece is one row group or several; lists of one length become (n, k), structs a column a field."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import DataError
from app.storage.raw import arrow
from app.storage.raw.records import Bad, Piece, Records, Stamp, assembled, chosen, stamp

GROUP_BYTES = 16 << 30  # a row group, in memory
FIRST = 64  # records that decide how long lists are
DEEPEST = 8  # structs and lists in one another
NUMBER_BYTES = 8
ENCRYPTED = "is encrypted, which is not read"
INDEX = "__index_level_"  # what pandas adds
T = TypeVar("T")


class Column(NamedTuple):
    """top: the column of the table. path: from it through structs. widths: of lists. floating: numbers are missing."""

    top: str
    path: tuple[str, ...]
    widths: tuple[int, ...]
    is_text: bool
    floating: bool


class Contents(NamedTuple):
    """starts: first row of each row group, and the number of rows."""

    columns: dict[str, Column]
    left_out: dict[str, str]
    starts: tuple[int, ...]


def pieces(file: Path, form: str, piece_bytes: int) -> list[Piece]:
    """Runs of whole row groups. Collective over: none. Raises DataError."""
    mark = stamp(file)
    starts = contents(mark).starts
    found: list[Piece] = []
    begin, held = 0, 0
    with _open(mark) as table:
        for group in range(len(starts) - 1):
            size = table.metadata.row_group(group).total_byte_size
            if starts[group] > begin and held + size > piece_bytes:
                found.append(Piece(file, form, begin, starts[group]))
                begin, held = starts[group], 0
            held += size
    return [*found, Piece(file, form, begin, starts[-1])] if starts[-1] > begin else found


def read(piece: Piece, columns: Collection[str] | None) -> Records:
    """Collective over: none. Raises DataError."""
    mark = stamp(piece.file)
    found = contents(mark)
    names = chosen(piece.file, found.columns, found.left_out, columns)
    if piece.start not in found.starts or piece.stop not in found.starts:
        raise DataError(f"{piece.file}: has changed: its row groups are others than they were.")
    table, damaged = _groups(mark, found, piece, list(dict.fromkeys(found.columns[name].top for name in names)))
    count = piece.stop - piece.start
    places = np.setdiff1d(np.arange(count), [row for rows in damaged for row in rows])
    values: dict[str, np.ndarray] = {}
    bad: dict[int, str] = {}
    for name in names:
        values[name], wrong = _guarded(mark, functools.partial(_column, table, found.columns[name], name))
        bad = wrong | bad
    part = assembled(values, len(places), bad)
    wrong_there = [Bad(int(places[row]), why) for row, why in part.bad]
    wrong_there += [Bad(row, f"its row group {why}") for rows, why in damaged.items() for row in rows]
    return Records(part.columns, places[part.rows], count, tuple(sorted(wrong_there)))


def _groups(file: Stamp, found: Contents, piece: Piece, columns: list[str]) -> tuple[pa.Table, dict[range, str]]:
    """The rows that can be read, and the rows of the piece that cannot, with why."""
    damaged: dict[range, str] = {}
    with _open(file) as table:
        parts = [table.schema_arrow.empty_table().select(columns)]
        for group, (start, stop) in enumerate(itertools.pairwise(found.starts)):
            if start == stop or start < piece.start or stop > piece.stop:
                continue
            try:
                parts.append(_guarded(file, functools.partial(_group, table, group, columns)))
            except DataError as error:
                if ENCRYPTED in str(error):
                    raise
                damaged[range(start - piece.start, stop - piece.start)] = f"cannot be read ({_short(error.__cause__)})"
    return pa.concat_tables(parts), damaged


def _group(table: pq.ParquetFile, group: int, columns: list[str]) -> pa.Table:
    return table.read_row_group(group, columns=columns, use_threads=False, use_pandas_metadata=False)


@functools.lru_cache(maxsize=256)
def contents(file: Stamp) -> Contents:
    """What is in a table. Collective over: none. Raises DataError: damaged, encrypted, no column that can be read."""
    with _open(file) as table:
        return _guarded(file, lambda: _contents(file, table))


def _contents(file: Stamp, table: pq.ParquetFile) -> Contents:
    starts = [0]
    for group in range(table.metadata.num_row_groups):
        rows = table.metadata.row_group(group).num_rows
        size = max(table.metadata.row_group(group).total_byte_size, rows * NUMBER_BYTES)
        if rows < 0 or size > GROUP_BYTES:
            raise DataError(
                f"{file.file}: row group {group} has {rows:,} rows and {size:,} bytes, expected at most"
                f" {GROUP_BYTES:,}. What to try: write it with smaller row groups (row_group_size)."
            )
        starts.append(starts[-1] + rows)
    columns: dict[str, Column] = {}
    left_out: dict[str, str] = {}
    missing = _with_missing(table.metadata)
    for field in table.schema_arrow:
        for path, kind in _leaves(field.type, (field.name,)):
            name = "/".join(path)
            widths, inner = _lists(kind)
            if field.name.startswith(INDEX):
                left_out[name] = "is the index of pandas"
            elif not (arrow.is_number(inner) or arrow.is_text(inner)) or (widths and arrow.is_text(inner)):
                left_out[name] = f"holds values of type {kind}, expected numbers or texts"
            elif None in widths and starts[-1]:
                widths = _usual_widths(table, path, len(widths))
            if name not in left_out:
                text, floating = arrow.is_text(inner), ".".join(path) in missing
                columns[name] = Column(field.name, path[1:], tuple(width or 0 for width in widths), text, floating)
    if not columns:
        raise DataError(f"{file.file}: has no column of numbers or texts.")
    return Contents(columns, left_out, tuple(starts))


def _with_missing(metadata: pq.FileMetaData) -> set[str]:
    """Columns of which some value of the file is missing, where it says so; they have one type in all pieces."""
    found = set()
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            part = metadata.row_group(group).column(number)
            if part.is_stats_set and part.statistics.has_null_count and part.statistics.null_count:
                found.add(part.path_in_schema)
    return found


def _leaves(kind: pa.DataType, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], pa.DataType]]:
    if not pa.types.is_struct(kind) or len(path) > DEEPEST:
        yield path, kind
        return
    for field in kind:
        yield from _leaves(field.type, (*path, field.name))


def _lists(kind: pa.DataType) -> tuple[tuple[int | None, ...], pa.DataType]:
    """The lengths of lists in lists, None where they are not said, and what is in them."""
    widths: list[int | None] = []
    while True:
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        if not arrow.is_list(kind) or len(widths) > DEEPEST:
            return tuple(widths), kind
        widths.append(kind.list_size if pa.types.is_fixed_size_list(kind) else None)
        kind = kind.value_type


def _usual_widths(table: pq.ParquetFile, path: tuple[str, ...], depth: int) -> tuple[int, ...]:
    """The lengths that most of the first records have."""
    batch = next(table.iter_batches(FIRST, columns=[path[0]], use_threads=False))
    array = _inside(arrow.one_array(pa.chunked_array([batch.column(0)])), path[1:])
    seen = Counter(_shape(value, depth) for value in array.to_pylist() if value is not None)
    return seen.most_common(1)[0][0] if seen else (0,) * depth


def _shape(value: Any, depth: int) -> tuple[int, ...]:
    found = []
    for _ in range(depth):
        found.append(len(value or ()))
        value = value[0] if value else ()
    return tuple(found)


def _inside(array: pa.Array, path: tuple[str, ...]) -> pa.Array:
    for name in path:
        array = array.flatten()[array.type.get_field_index(name)]
    return array


def _column(table: pa.Table, column: Column, name: str) -> arrow.Found:
    array = _inside(arrow.one_array(table.column(column.top)), column.path)
    array = arrow.one_array(pa.chunked_array([array]))
    if column.is_text:
        return arrow.text_column(array, name)
    numbers = functools.partial(arrow.number_column, floating=column.floating and not column.widths)
    return arrow.list_column(array, name, column.widths, numbers)


def _short(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _open(file: Stamp) -> pq.ParquetFile:
    return _guarded(file, lambda: pq.ParquetFile(file.file, page_checksum_verification=True))


def _guarded(file: Stamp, do: Callable[[], T]) -> T:
    """Raises DataError with what Arrow says of a file."""
    try:
        return do()
    except (pa.ArrowException, OSError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        text = _short(error)
        if "encrypt" in text or "decrypt" in text:
            raise DataError(f"{file.file}: {ENCRYPTED} ({text}).") from error
        raise DataError(f"{file.file}: is damaged, or no Parquet file ({text}); copy or make it again.") from error
