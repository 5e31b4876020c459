"""Columns of an HDF5 file of any layout: each dataset, at any depth, whose axis 0 has the length that most have."""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from app.errors import DataError
from app.storage.header_walk import Task, problems_of
from app.storage.opening import check_filters, find_dataset, open_file, type_name, why
from app.storage.raw import netcdf
from app.storage.raw.records import (
    Piece,
    Records,
    Stamp,
    assembled,
    chosen,
    common_length,
    cut,
    decoded,
    stamp,
)
from app.storage.rows import PLAIN_PIPELINES, Rows, native, open_rows
from app.storage.untrusted import (
    SHUFFLE,
    check_storage,
    chunk_places,
    filters,
    inflated,
    reach,
    sources,
    wrong_size,
)

MOST_OBJECTS = 20_000  # datasets and groups of a file
TEXT_BYTES = 64  # of a text of any length, guessed
TEXT_ROWS = 1 << 16  # texts of any length read at once
TEXTS_BYTES = 4 << 30
TEXT_LENGTHS = 8  # bytes beside an address: how long a text is, and which of a heap it is
CHUNK_PIECES = 8  # a piece is as long as a chunk of so many pieces, before the chunk is undone more than once


class Column(NamedTuple):
    """A dataset of records. row_bytes: of one of its rows in memory. chunk_rows: 1 without chunks."""

    is_text: bool
    length: int
    row_bytes: int
    chunk_rows: int
    is_scale: bool


class Contents(NamedTuple):
    """The columns of a file, and why its other datasets are none."""

    columns: dict[str, Column]
    left_out: dict[str, str]
    length: int


def check(files: Sequence[Path]) -> None:
    """Have the headers looked through by a process of its own, which a damaged one may end.

    Collective over: none (rank 0). Raises DataError with what is wrong with any of the files.
    """
    for file in files:
        netcdf.check(stamp(file))
    problems = problems_of([Task("describe", file) for file in files])
    if not any(problems):
        problems = problems_of([Task("data", file, _numbers(file)) for file in files])
    if any(problems):
        raise DataError(*(problem for found in problems for problem in found))


def pieces(file: Path, form: str, piece_bytes: int) -> list[Piece]:
    """Runs of rows, of whole chunks of the largest column where that can be.

    Collective over: none. Raises DataError.
    """
    found = contents(stamp(file))
    columns = found.columns.values()
    rows = max(1, piece_bytes // max(1, sum(column.row_bytes for column in columns)))
    chunk = max(columns, key=lambda column: column.row_bytes).chunk_rows
    if chunk <= CHUNK_PIECES * rows:
        rows = max(rows // chunk, 1) * chunk
    return cut(file, form, found.length, rows)


def read(piece: Piece, columns: Collection[str] | None) -> Records:
    """Collective over: none. Raises DataError."""
    found = contents(stamp(piece.file))
    names = chosen(piece.file, found.columns, found.left_out, columns)
    if piece.stop > found.length:
        raise DataError(f"{piece.file}: has changed: {found.length:,} records, {piece.stop:,} were expected.")
    values: dict[str, np.ndarray] = {}
    bad: dict[int, str] = {}
    for name in names:
        way = _read_texts if found.columns[name].is_text else _read_numbers
        values[name], wrong = way(piece, name)
        bad = wrong | bad
    return assembled(values, piece.stop - piece.start, bad)


@functools.lru_cache(maxsize=256)
def contents(file: Stamp) -> Contents:
    """What is in a file. Collective over: none. Raises DataError: damaged, no records, lengths that do not agree."""
    columns: dict[str, Column] = {}
    left_out: dict[str, str] = {}
    path = file.file
    with open_file(path) as handle:
        try:
            for name, dataset in _datasets(path, handle):
                _sort(name, dataset, columns, left_out)
            if not columns:
                raise DataError(f"{path}: holds no dataset with records{_reasons(left_out)}.")
            scales = [name for name, column in columns.items() if column.is_scale]
            length = common_length(path, {name: column.length for name, column in columns.items()}, scales)
            for name, column in columns.items():
                if column.length != length:
                    left_out[name] = f"has {column.length:,} rows, the file has {length:,} records"
                else:
                    _check(path, handle, name)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: is damaged ({why(error)}); copy or make it again.") from error
    return Contents({name: column for name, column in columns.items() if name not in left_out}, left_out, length)


def _numbers(file: Path) -> tuple[str, ...]:
    return tuple(name for name, column in contents(stamp(file)).columns.items() if not column.is_text)


def _datasets(path: Path, handle: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """By hard links alone, so that none leads out of the file and none round for ever."""
    names: list[str] = []

    def visit(name: str) -> bool | None:
        names.append(name)
        return True if len(names) > MOST_OBJECTS else None

    handle.visit(visit)
    if len(names) > MOST_OBJECTS:
        raise DataError(f"{path}: holds more than {MOST_OBJECTS:,} groups and datasets. What to try: fewer in a file.")
    for name in names:
        place = reach(path, handle, name)
        found = place.open() if place is not None else None
        if isinstance(found, h5py.h5d.DatasetID):
            yield name, h5py.Dataset(found)


def _sort(name: str, dataset: h5py.Dataset, columns: dict[str, Column], left_out: dict[str, str]) -> None:
    """Put a dataset among the columns, or among what is left out."""
    try:
        dtype, shape = dataset.dtype, dataset.shape
    except (TypeError, ValueError):
        left_out[name] = "is of a type that has no numbers"
        return
    is_text = h5py.check_string_dtype(dtype) is not None
    if netcdf.is_only_dimension(dataset):
        left_out[name] = "is a netCDF dimension without values"
    elif not shape:
        left_out[name] = "is a single value, which is no column"
    elif 0 in shape:
        left_out[name] = f"is empty (shape {shape})"
    elif is_text and len(shape) > 1 and not netcdf.is_characters(dataset):
        left_out[name] = f"holds {len(shape)} axes of texts, expected one"
    elif not is_text and dtype.kind not in "buif":
        left_out[name] = f"holds {type_name(dataset)}, expected numbers or texts"
    else:
        width = (4 * dtype.itemsize if dtype.kind == "S" else TEXT_BYTES) if is_text else native(dtype).itemsize
        chunk_rows = dataset.chunks[0] if dataset.chunks else 1
        row_bytes = int(np.prod(shape[1:], dtype=np.float64)) * width
        columns[name] = Column(is_text, shape[0], row_bytes, chunk_rows, h5py.h5ds.is_scale(dataset.id))


def _reasons(left_out: dict[str, str]) -> str:
    return f" ('{next(iter(left_out))}' {next(iter(left_out.values()))})" if left_out else ""


def _check(path: Path, handle: h5py.File, name: str) -> None:
    """As `open_rows` does it for numbers, whatever is in the dataset."""
    with _opened(path, handle, name) as dataset:
        check_storage(path, dataset, name)
        check_filters(path, dataset, name)
        for _ in sources(path, dataset, name):
            pass


@contextmanager
def _opened(path: Path, handle: h5py.File, name: str) -> Iterator[h5py.Dataset]:
    place = reach(path, handle, name)
    if place is None:
        raise DataError(f"{path}: has no dataset '{name}'.")
    yield h5py.Dataset(place.open())


def _read_numbers(piece: Piece, name: str) -> tuple[np.ndarray, dict[int, str]]:
    rows = open_rows(piece.file, name)
    try:
        out = np.empty((piece.stop - piece.start, *rows.shape), rows.dtype)
        bad = _filled(rows, piece.start, out, name)
    finally:
        rows.close()
    if piece.format != netcdf.FORMAT:
        return out, bad
    with open_file(piece.file) as handle:
        return netcdf.unpacked(out, netcdf.packing(find_dataset(piece.file, handle, name, 0))), bad


def _filled(rows: Rows, start: int, out: np.ndarray, name: str) -> dict[int, str]:
    """Fill `out`; of what cannot be read the rows, block by block."""
    try:
        rows.read_into(start, out)
    except DataError:
        pass
    else:
        return {}
    bad: dict[int, str] = {}
    at = 0
    while at < len(out):
        end = min(len(out), at + rows.block_rows - (start + at) % rows.block_rows)
        try:
            rows.read_into(start + at, out[at:end])
        except DataError:
            out[at:end] = 0
            bad |= dict.fromkeys(range(at, end), f"'{name}' cannot be read there, the file is damaged")
        at = end
    return bad


def _read_texts(piece: Piece, name: str) -> tuple[np.ndarray, dict[int, str]]:
    with open_file(piece.file) as handle, _opened(piece.file, handle, name) as dataset:
        _check(piece.file, handle, name)
        try:
            if dataset.dtype.kind == "S":
                found = np.empty((piece.stop - piece.start, *dataset.shape[1:]), dataset.dtype)
                Rows(piece.file, name, handle, dataset).read_into(piece.start, found)
                if found.ndim > 1:
                    found = netcdf.joined(found)
                return decoded(found.tolist(), name)
            return decoded(list(_texts_of_any_length(piece, name, handle, dataset)), name)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise DataError(f"{piece.file}: '{name}' cannot be read ({why(error)}); copy or make it again.") from error


def _texts_of_any_length(piece: Piece, name: str, handle: h5py.File, dataset: h5py.Dataset) -> Iterator[Any]:
    """All at once where it is known how long they are; else few, since they may all be one and the same long one."""
    known = _bytes_of_texts(piece, name, handle, dataset)
    step = max(16, TEXTS_BYTES // piece.file.stat().st_size) if known is None else TEXT_ROWS
    total = known or 0
    for start in range(piece.start, piece.stop, step):
        block = dataset[start : min(start + step, piece.stop)] if total <= TEXTS_BYTES else ()
        total += sum(map(len, block)) if known is None else 0
        if total > TEXTS_BYTES:
            raise DataError(f"{piece.file}: '{name}' has more than {TEXTS_BYTES:,} bytes of text in a piece.")
        yield from block


def _bytes_of_texts(piece: Piece, name: str, handle: h5py.File, dataset: h5py.Dataset) -> int | None:
    """As their addresses say; None where a filter or another file hides those.

    Raises DataError, ValueError, zlib.error.
    """
    width = handle.id.get_create_plist().get_sizes()[0] + TEXT_LENGTHS
    if dataset.is_virtual:
        return None
    if dataset.chunks is None:
        at = dataset.id.get_offset()
        if at is None:
            return None
        stored = os.pread(handle.id.get_vfd_handle(), (piece.stop - piece.start) * width, at + piece.start * width)
        return _sum_of_lengths(stored, width)
    sizes = [
        _bytes_in_chunk(piece, name, dataset, place, width)
        for _, place in chunk_places(dataset.shape, dataset.chunks, piece.start, piece.stop)
    ]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _bytes_in_chunk(piece: Piece, name: str, dataset: h5py.Dataset, place: tuple[int, ...], width: int) -> int | None:
    """As `_bytes_of_texts`, of one chunk, which must be as large as it says."""
    used, size = filters(dataset), dataset.chunks[0] * width
    found = dataset.id.get_chunk_info_by_coord(place)
    if found.byte_offset is None:
        return 0
    whole = place[0] + dataset.chunks[0] <= dataset.shape[0]
    end = piece.file.stat().st_size
    if found.byte_offset + found.size > end or wrong_size(found.size, found.filter_mask, used, size, whole):
        raise DataError(f"{piece.file}: a chunk of '{name}' has a size that cannot be; copy or make the file again.")
    if used not in PLAIN_PIPELINES or found.filter_mask:
        return None
    _, stored = dataset.id.read_direct_chunk(place)
    plain = inflated(stored, size) if used else stored
    if SHUFFLE in used:
        plain = np.frombuffer(plain, np.uint8).reshape(width, -1).T.tobytes()
    return _sum_of_lengths(plain, width)


def _sum_of_lengths(addresses: bytes, width: int) -> int:
    lengths = np.frombuffer(addresses, np.uint8).reshape(-1, width)[:, :4]
    return int(np.ascontiguousarray(lengths).view("<u4").sum(dtype=np.int64))
