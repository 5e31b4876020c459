"""Predictions: pieces that ranks write while they predict, and the one file that is made of them at the end.

A piece is a plain file (storage.set_pieces): a column a column, a row for each of some samples in the order of their
numbers; behind them the arrays of what was counted on the way. Its fingerprint is the key of what it depends on, and
its facts hold a checksum of all values. In the file the columns lie at the root: `sample` (n,) int64, the number of
each sample in what was read, ascending, and beside it what the network says of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from app.errors import ArtifactError, MachineError
from app.storage import artifact_file, atomic_write, set_pieces
from app.storage.artifact_file import Provenance
from app.storage.tree import Tree, merged

KIND = "predictions"
SAMPLE = "sample"
COUNTED = "\0"  # begins the names of arrays that are no columns
_PREFIX = "piece-"
_AGAIN = "What to try: delete it."


class StoredPiece(NamedTuple):
    """What is in a piece: its key, the rows (m, ...) of each column, and what was counted."""

    key: str
    rows: dict[str, np.ndarray]
    sums: Tree


def piece_path(folder: Path, number: int) -> Path:
    """The file of a piece."""
    return folder / f"{_PREFIX}{number:09d}"


def write_piece(path: Path, key: str, rows: Mapping[str, np.ndarray], sums: Tree) -> None:
    """Rows (m, ...) of each column; sums: arrays (n, ...), numbers and tables of such.

    Collective over: none. Raises MachineError.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in rows.items()}
    counted = _without_arrays(sums, arrays)
    facts = {"columns": list(rows), "sums": counted, "sha256": _checksum(arrays.values())}
    set_pieces.write_piece(path, key, arrays, facts)


def read_piece(path: Path) -> StoredPiece:
    """All of a piece, checked. Collective over: none. Raises ArtifactError: missing, damaged."""
    try:
        with set_pieces.Piece(path) as piece:
            arrays = {name: piece.read(name) for name in piece.names}
            names, counted, said = (piece.facts[name] for name in ("columns", "sums", "sha256"))
            if _checksum(arrays.values()) != said:
                raise ArtifactError(f"{path}: damaged: the checksum of its values differs. {_AGAIN}")
            return StoredPiece(piece.fingerprint, {name: arrays[name] for name in names}, _with_arrays(counted, arrays))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ArtifactError(f"{path}: is not a piece of predictions: {error!r}. {_AGAIN}") from error


def piece_numbers(folder: Path) -> list[int]:
    """Of the files in a folder, whole or not."""
    names = (path.name.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}[0-9]*"))
    return sorted(int(name) for name in names if name.isdigit())


def is_whole(path: Path, key: str, samples: np.ndarray) -> bool:
    """Whether a piece is as it was written, with this key and the rows of these samples. Collective over: none."""
    try:
        piece = read_piece(path)
    except ArtifactError:
        return False
    return piece.key == key and SAMPLE in piece.rows and np.array_equal(piece.rows[SAMPLE], samples)


def begin(folder: Path) -> None:
    """Make the folder of the pieces, without what killed processes left half written. Raises MachineError."""
    atomic_write.make_folder(folder)
    atomic_write.clean_leftovers(folder)


def delete(folder: Path, numbers: Sequence[int]) -> None:
    """Pieces of another key, or such as are not needed any more; and their folder, where nothing else is in it."""
    for number in numbers:
        with contextlib.suppress(OSError):  # one that stays is written over, or is of another key
            piece_path(folder, number).unlink()
    for empty in (folder, folder.parent):
        with contextlib.suppress(OSError):
            empty.rmdir()


@contextlib.contextmanager
def gathered(
    folder: Path, key: str, pieces: int, samples_of: Callable[[int], np.ndarray], add: Callable[[Tree], None]
) -> Iterator[dict[str, np.ndarray]]:
    """The columns (n, ...) of the pieces 0, 1, ..., each once and with the samples that it is to have; mapped from
    files that have no name, so that little is in memory. add: gets the sums of each piece, in this order.

    Collective over: none. Raises ArtifactError: one is missing, damaged or of other samples; MachineError.
    """
    with contextlib.ExitStack() as opened:
        spools: dict[str, _Spool] = {}
        for number in range(pieces):
            path = piece_path(folder, number)
            piece = read_piece(path)
            rows = piece.rows
            if piece.key != key:
                raise ArtifactError(f"{path}: is not a piece of these predictions. {_AGAIN}")
            if SAMPLE not in rows or not np.array_equal(rows[SAMPLE], samples_of(number)):
                raise ArtifactError(f"{path}: holds other samples than those of piece {number}. {_AGAIN}")
            if not spools:
                spools |= {name: opened.enter_context(_spool(folder, array)) for name, array in rows.items()}
            if spools.keys() != rows.keys():
                raise ArtifactError(f"{path}: holds {sorted(rows)}, expected {sorted(spools)}. {_AGAIN}")
            for name, spool in spools.items():
                spool.add(rows[name], path)
            add(piece.sums)
        yield {name: spool.array() for name, spool in spools.items()}


def write(path: Path, columns: Mapping[str, np.ndarray], more: Tree, provenance: Provenance) -> None:
    """The file of all predictions; a column "a/b" lies in a group.

    Collective over: none (rank 0). Raises MachineError.
    """
    tree: Tree = {}
    for name, array in columns.items():
        nested: Any = array
        for word in reversed(name.strip("/").split("/")):
            nested = {word: nested}
        tree = merged(tree, nested)
    artifact_file.write(path, merged(tree, more), kind=KIND, provenance=provenance)


class _Spool:
    """A column on its way from the pieces to the file, on the disk and not in memory."""

    def __init__(self, folder: Path, file: IO[bytes], first: np.ndarray) -> None:
        self._folder, self._file = folder, file
        self._dtype, self._shape, self._rows = first.dtype, first.shape[1:], 0

    def add(self, rows: np.ndarray, path: Path) -> None:
        if (rows.dtype, rows.shape[1:]) != (self._dtype, self._shape):
            raise ArtifactError(f"{path}: its rows are not as those of the other pieces. {_AGAIN}")
        try:
            atomic_write.write_all(self._file.fileno(), np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise MachineError(atomic_write.explain(error, self._folder / "column", rows.nbytes)) from error
        self._rows += len(rows)

    def array(self) -> np.ndarray:
        return np.memmap(self._file, self._dtype, "r", 0, (self._rows, *self._shape))


@contextlib.contextmanager
def _spool(folder: Path, first: np.ndarray) -> Iterator[_Spool]:
    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed below
    except OSError as error:
        raise MachineError(atomic_write.explain_folder(error, folder)) from error
    with file:
        yield _Spool(folder, file, first)


def _checksum(arrays: Iterable[np.ndarray]) -> str:
    """Of the values of contiguous arrays, one after the other."""
    digest = hashlib.sha256()
    for array in arrays:
        if array.nbytes:
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _without_arrays(counted: Any, arrays: dict[str, np.ndarray]) -> Any:
    """What JSON can say of a tree; its arrays go to the others, and a list of one name stands for each."""
    if isinstance(counted, np.ndarray):
        name = f"{COUNTED}{len(arrays)}"
        arrays[name] = np.ascontiguousarray(counted)
        return [name]
    if isinstance(counted, Mapping):
        return {name: _without_arrays(value, arrays) for name, value in counted.items()}
    return counted


def _with_arrays(counted: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(counted, list):
        return arrays[counted[0]]
    if isinstance(counted, Mapping):
        return {name: _with_arrays(value, arrays) for name, value in counted.items()}
    return counted
