"""Unfinished pieces of a set or of predictions, of no use to anybody else: columns of numbers in one plain file.

    two lines of text, "PHALANX" and "piece FORMAT LENGTH CRC32", and JSON of LENGTH bytes: fingerprint, facts, columns
    (name, type, shape, place)
    the values of each column at its place, a multiple of 64

A file is written whole or not at all; its fingerprint says of what it was made, so that a restart knows whether it is
still good. Texts are UTF-8 of fixed length.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import ArtifactError
from app.storage import atomic_write

FORMAT = 1
ALIGNED = 64
OPEN_PIECES = 128
_LINE = re.compile(rb"PHALANX\npiece (\d{1,9}) (\d{1,12}) ([0-9a-f]{8})\n")
_LONGEST = 64  # bytes of that line


def write_piece(path: Path, fingerprint: str, columns: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write columns (n, ...) and what JSON can say about them. Collective over: none. Raises MachineError."""
    described, place, values = [], 0, []
    for name, column in columns.items():
        plain = np.ascontiguousarray(column)
        described.append([name, plain.dtype.str, list(plain.shape), place])
        size = plain.nbytes
        values += [plain.reshape(-1).view(np.uint8).data] if size else []
        values.append(memoryview(bytes(-size % ALIGNED)))
        place += size + -size % ALIGNED
    text = json.dumps({"fingerprint": fingerprint, "facts": dict(facts), "columns": described, "bytes": place}).encode()
    line = b"PHALANX\npiece %d %d %08x\n" % (FORMAT, len(text), zlib.crc32(text))
    text += b" " * (-(len(line) + len(text)) % ALIGNED)  # spaces behind JSON are JSON still, but not counted
    atomic_write.replace(path, [line, text, *values])


def piece_is_good(path: Path, fingerprint: str) -> bool:
    """Whether there is a whole piece that was made of the same. Collective over: none."""
    try:
        with Piece(path) as piece:
            return piece.fingerprint == fingerprint
    except ArtifactError:
        return False


class Piece:
    """One open piece; a column is read in part. Collective over: none. Raises ArtifactError: missing, damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be opened: {error.strerror}. {_AGAIN}") from error
        try:
            described = self._header()
        except (ValueError, KeyError, TypeError, OSError) as error:
            self.close()
            raise ArtifactError(f"{path}: damaged: {error}. {_AGAIN}") from error
        self.fingerprint: str = described["fingerprint"]
        self.facts: dict[str, Any] = described["facts"]
        self._columns = {name: (np.dtype(kind), tuple(shape), at) for name, kind, shape, at in described["columns"]}

    def __enter__(self) -> Piece:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, in the order in which they were given."""
        return tuple(self._columns)

    def __len__(self) -> int:
        return next((shape[0] for _, shape, _ in self._columns.values()), 0)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start:stop of a column, (n, ...)."""
        dtype, shape, at = self._columns[name]
        stop = shape[0] if stop is None else stop
        out = np.empty((stop - start, *shape[1:]), dtype)
        size = math.prod(shape[1:]) * dtype.itemsize
        self._read_into(out, self._begin + at + start * size)
        return out

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The rows (n,) int64 of a column, wherever they are."""
        if not len(rows):
            return self.read(name, 0, 0)
        first, last = int(rows.min()), int(rows.max())
        found = self.read(name, first, last + 1)
        return found if last - first + 1 == len(rows) and bool((np.diff(rows) == 1).all()) else found[rows - first]

    def search(self, name: str, value: int) -> int:
        """How many of the values of an ascending column (n,) uint64 are below this one, by looking at few of them."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if int(self.read(name, middle, middle + 1)[0]) < value:
                low = middle + 1
            else:
                high = middle
        return low

    def _header(self) -> dict[str, Any]:
        line = _LINE.match(os.pread(self._descriptor, _LONGEST, 0))
        if line is None or int(line[1]) != FORMAT:
            raise ValueError("its first line is not that of a piece")
        text = os.pread(self._descriptor, int(line[2]), line.end())
        if f"{zlib.crc32(text):08x}".encode() != line[3]:
            raise ValueError("the checksum of its header differs")
        described: dict[str, Any] = json.loads(text)
        behind = line.end() + len(text)
        self._begin = behind + -behind % ALIGNED
        size, wanted = os.fstat(self._descriptor).st_size, self._begin + described["bytes"]
        if size != wanted:
            raise ValueError(f"{size:,} bytes, expected {wanted:,}")
        return described

    def _read_into(self, out: np.ndarray, place: int) -> None:
        view = out.reshape(-1).view(np.uint8).data if out.nbytes else memoryview(b"")
        while view:
            count = os.preadv(self._descriptor, [view], place)
            if count <= 0:
                raise ArtifactError(f"{self.path}: ended too early. {_AGAIN}")
            view, place = view[count:], place + count


class Pieces:
    """Pieces by number, of which the ones used last stay open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OrderedDict[int, Piece] = OrderedDict()

    def path(self, number: int) -> Path:
        """Of the piece with this number."""
        return self.folder / f"piece-{number:06}"

    def dropped(self, number: int) -> Path:
        """Of the file that says which of its samples are repeated ones."""
        return self.folder / f"piece-{number:06}.repeated"

    def __getitem__(self, number: int) -> Piece:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        while len(self._open) >= OPEN_PIECES:
            self._open.popitem(last=False)[1].close()
        self._open[number] = Piece(self.path(number))
        return self._open[number]

    def close(self) -> None:
        """Close all; using one opens it again."""
        while self._open:
            self._open.popitem()[1].close()


def clear_pieces(folder: Path) -> list[Path]:
    """Delete the pieces in a folder, and the folder when it is empty then; what was deleted. Raises OSError."""
    removed = []
    for path in sorted(folder.glob("piece-*")):
        if path.is_file():
            path.unlink()
            removed.append(path)
    atomic_write.clean_leftovers(folder)
    for empty in (folder, folder.parent):
        with contextlib.suppress(OSError):
            empty.rmdir()
    return removed


_AGAIN = "What to try: run the phase again; it makes anew what is missing or damaged."
