"""NumPy's own files: .npy, one array, and .npz, an archive of them. Nothing pickled in them is ever loaded.

Of an array that lies in the file as it is only the rows of a piece are read. A compressed one is undone from its
beginning to the rows of the piece, and from there on for the next piece.
"""

from __future__ import annotations

import functools
import math
import threading
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from app.errors import DataError
from app.storage.raw.records import (
    Piece,
    Records,
    Stamp,
    assembled,
    chosen,
    common_length,
    cut,
    decoded,
    plain,
    stamp,
    texts,
)

MOST_ARRAYS = 10_000
HEADER_BYTES = 64 << 10
TURNED_BYTES = 1 << 30  # a compressed array whose axis 0 runs fastest: it is held whole
ROW_BYTES = 1 << 30
SKIPPED_BYTES = 4 << 20
LOCAL_HEADER = 30  # bytes of a zip member's before its name


class Array(NamedTuple):
    """An array in a file. member: of an archive, "" for a file of its own. offset: where its numbers begin, in the file
    or, of a compressed one, in what the member undoes to.
    """

    member: str
    compressed: bool
    offset: int
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class Contents(NamedTuple):
    """Per column its array and the field of a structured one; why other arrays are no columns."""

    columns: dict[str, tuple[Array, str | None]]
    left_out: dict[str, str]
    length: int


def pieces(file: Path, form: str, piece_bytes: int) -> list[Piece]:
    """Collective over: none. Raises DataError."""
    found = contents(stamp(file))
    row = sum(array.row_bytes for array in {array.member: array for array, _ in found.columns.values()}.values())
    return cut(file, form, found.length, piece_bytes // max(1, row))


def read(piece: Piece, columns: Collection[str] | None) -> Records:
    """Collective over: none. Raises DataError."""
    mark = stamp(piece.file)
    found = contents(mark)
    names = chosen(piece.file, found.columns, found.left_out, columns)
    if piece.stop > found.length:
        raise DataError(f"{piece.file}: has changed: {found.length:,} records, {piece.stop:,} were expected.")
    rows: dict[str, np.ndarray] = {}
    values: dict[str, np.ndarray] = {}
    bad: dict[int, str] = {}
    for name in names:
        array, field = found.columns[name]
        if array.member not in rows:
            rows[array.member] = _rows(mark, array, piece.start, piece.stop)
        part = rows[array.member] if field is None else rows[array.member][field]
        values[name], wrong = _column(part, name)
        bad = wrong | bad
    return assembled(values, piece.stop - piece.start, bad)


@functools.lru_cache(maxsize=256)
def contents(file: Stamp) -> Contents:
    """What is in a file. Collective over: none. Raises DataError: damaged, pickled, no records, lengths that differ."""
    path = file.file
    try:
        arrays = _members(path) if zipfile.is_zipfile(path) else {path.stem: _alone(path)}
        for name, array in arrays.items():
            _check(file, name, array)
    except DataError:
        raise
    except Exception as error:  # a damaged header may be anything to Python's own parser, which reads it
        raise _damaged(path, error) from error
    columns: dict[str, tuple[Array, str | None]] = {}
    left_out: dict[str, str] = {}
    for name, array in arrays.items():
        _sort(name, array, columns, left_out, alone=not array.member)
    if not columns:
        reason = f" ('{next(iter(left_out))}' {next(iter(left_out.values()))})" if left_out else ""
        raise DataError(f"{path}: holds no array with records{reason}.")
    length = common_length(path, {name: array.shape[0] for name, (array, _) in columns.items()})
    left_out |= {
        name: f"has {array.shape[0]:,} rows, the file has {length:,} records"
        for name, (array, _) in columns.items()
        if array.shape[0] != length
    }
    return Contents({name: found for name, found in columns.items() if name not in left_out}, left_out, length)


def _damaged(path: Path, error: Exception) -> DataError:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"{path}: is damaged, or no file of NumPy ({text}). What to try: copy or make it again.")


def _alone(path: Path) -> Array:
    with path.open("rb") as file:
        shape, fortran, dtype = _header(file)
        return Array("", False, file.tell(), shape, fortran, dtype)


def _members(path: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if len(members) > MOST_ARRAYS or len({info.filename for info in members}) < len(members):
            raise ValueError(f"{len(members):,} arrays, more than {MOST_ARRAYS:,} or some of one name")
        for info in members:
            with archive.open(info) as member:
                shape, fortran, dtype = _header(member)
                offset = member.tell()
            array = Array(info.filename, info.compress_type != zipfile.ZIP_STORED, offset, shape, fortran, dtype)
            if math.prod(shape) * dtype.itemsize + offset != info.file_size and not dtype.hasobject:
                raise ValueError(f"'{info.filename}' has {info.file_size:,} bytes, which does not go with its shape")
            if not array.compressed:
                file.seek(info.header_offset)
                local = file.read(LOCAL_HEADER)
                before = LOCAL_HEADER + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
                array = array._replace(offset=info.header_offset + before + offset)
            arrays[info.filename.removesuffix(".npy")] = array
    return arrays


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of its format is not read")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read_header(file, max_header_size=HEADER_BYTES)


def _check(file: Stamp, name: str, array: Array) -> None:
    if array.dtype.hasobject:
        raise DataError(
            f"{file.file}: '{name}' holds Python objects (pickled), which are never loaded, since they can run any"
            " program. What to try: save it as an array of numbers or texts."
        )
    if min(array.shape, default=0) < 0 or (array.shape and array.row_bytes > ROW_BYTES):
        raise ValueError(f"'{name}' has the shape {array.shape}")
    size = math.prod(array.shape) * array.dtype.itemsize
    if not array.compressed and array.offset + size > file.size:
        raise ValueError(f"'{name}' wants {size:,} bytes, the file is cut short")
    if array.compressed and array.fortran and len(array.shape) > 1 and size > TURNED_BYTES:
        raise DataError(
            f"{file.file}: '{name}' is compressed and in Fortran order, and has {size:,} bytes, more than"
            f" {TURNED_BYTES:,}. What to try: np.savez, or np.ascontiguousarray first."
        )


def _sort(
    name: str, array: Array, columns: dict[str, tuple[Array, str | None]], left_out: dict[str, str], *, alone: bool
) -> None:
    """Put an array, or the fields of a structured one, among the columns or among what is left out."""
    if not array.shape or 0 in array.shape:
        left_out[name] = f"has no rows (shape {array.shape})"
        return
    fields = array.dtype.names or (None,)
    for field in fields:
        title = name if field is None else field if alone else f"{name}/{field}"
        dtype = (array.dtype if field is None else array.dtype[field]).base
        is_text = dtype.kind in "US"
        inner = array.shape[1:] + (() if field is None else array.dtype[field].shape)
        if dtype.kind not in "buifmMUS":
            left_out[title] = f"holds values of type {dtype}, expected numbers or texts"
        elif is_text and inner:
            left_out[title] = f"holds {len(inner) + 1} axes of texts, expected one"
        else:
            columns[title] = (array, field)


def _column(values: np.ndarray, name: str) -> tuple[np.ndarray, dict[int, str]]:
    if values.dtype.kind == "U":
        return texts(values.tolist()), {}
    if values.dtype.kind == "S":
        return decoded(values.tolist(), name)
    if values.dtype.kind not in "mM":
        return plain(values), {}
    absent = np.isnat(values).reshape(len(values), -1).any(axis=1)
    return plain(values), dict.fromkeys(np.flatnonzero(absent).tolist(), f"'{name}' has no time")


def _rows(file: Stamp, array: Array, start: int, stop: int) -> np.ndarray:
    """Rows start:stop as they are in the file."""
    try:
        if array.compressed:
            return _stream(file, array).rows(start, stop)
        if array.fortran and len(array.shape) > 1:
            whole = np.memmap(file.file, array.dtype, "r", array.offset, array.shape, "F")
            return np.array(whole[start:stop])
        count = (stop - start) * array.row_bytes
        with file.file.open("rb") as handle:
            handle.seek(array.offset + start * array.row_bytes)
            return _shaped(handle.read(count), array, stop - start)
    except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise _damaged(file.file, error) from error


def _shaped(stored: bytes, array: Array, count: int) -> np.ndarray:
    if len(stored) != count * array.row_bytes:
        raise EOFError(f"'{array.member}' ends before its last row" if array.member else "it ends before its last row")
    return np.frombuffer(stored, array.dtype).reshape(count, *array.shape[1:])


class _Stream:
    """A compressed array that is being undone; it goes on where the last piece ended, or starts again.

    The last rows are kept: those who look beyond the end of their piece come back to them.
    """

    def __init__(self, file: Path, array: Array) -> None:
        self._file, self._array = file, array
        self._member: IO[bytes] | None = None
        self._row = 0
        self._last: np.ndarray | None = None  # the rows before _row
        self._whole: np.ndarray | None = None
        self._lock = threading.Lock()

    def rows(self, start: int, stop: int) -> np.ndarray:
        with self._lock:
            if self._array.fortran and len(self._array.shape) > 1:
                return self._turned()[start:stop]
            kept = self._row - len(self._last) if self._last is not None else self._row
            if self._member is None or start < kept:
                self._begin()
            if self._last is not None and start < self._row:
                known = self._last[start - self._row :]
                more = self._next(stop - self._row)
                self._last = np.concatenate([known, more]) if len(more) else known
                return self._last[: stop - start]
            self._skip(start - self._row)
            self._row = start
            self._last = self._next(stop - start)
            return self._last

    def _next(self, count: int) -> np.ndarray:
        if count <= 0:
            return np.empty((0, *self._array.shape[1:]), self._array.dtype)
        try:
            found = _shaped(self._take(count * self._array.row_bytes), self._array, count)
        except BaseException:
            self._member = None
            raise
        self._row += count
        return found

    def _begin(self) -> None:
        self._member = zipfile.ZipFile(self._file).open(self._array.member)  # noqa: SIM115  closed with the last use
        self._take(self._array.offset)
        self._row, self._last = 0, None

    def _take(self, count: int) -> bytes:
        assert self._member is not None
        return self._member.read(count)

    def _skip(self, rows: int) -> None:
        rest = rows * self._array.row_bytes
        while rest > 0 and (taken := len(self._take(min(rest, SKIPPED_BYTES)))):
            rest -= taken

    def _turned(self) -> np.ndarray:
        if self._whole is None:
            self._begin()
            stored = self._take(math.prod(self._array.shape) * self._array.dtype.itemsize)
            self._whole = np.frombuffer(stored, self._array.dtype).reshape(self._array.shape, order="F")
        return self._whole


@functools.lru_cache(maxsize=64)
def _stream(file: Stamp, array: Array) -> _Stream:
    return _Stream(file.file, array)
