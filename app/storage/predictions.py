"""Predictions: pieces that ranks write while they predict, and the one file that is made of them at the end.

In a piece `/rows` are the columns, a row for each of some samples in the order of their numbers, `/key` says what they
depend on, and `/sums` is what was counted on the way. In the file the columns lie at the root: `sample` (n,) int64, the
number of each sample in what was read, ascending, and beside it what the network says of it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from app.errors import ArtifactError, MachineError
from app.storage import artifact_file, atomic_write
from app.storage.artifact_file import Provenance
from app.storage.image import Image
from app.storage.tree import Tree, merged

KIND, PIECE = "predictions", "predictions-piece"
SAMPLE = "sample"


def piece_path(folder: Path, number: int) -> Path:
    """The file of a piece."""
    return folder / f"{number:09d}.h5"


def write_piece(
    path: Path, key: str, rows: Mapping[str, np.ndarray], sums: Tree, provenance: Provenance, like: Image | None = None
) -> Image:
    """Rows (m, ...) of each column; like: as in artifact_file.write. Collective over: none. Raises MachineError."""
    tree: Tree = {"key": key, "rows": dict(rows), "sums": sums}
    return artifact_file.write(path, tree, kind=PIECE, provenance=provenance, like=like)


def piece_numbers(folder: Path) -> list[int]:
    """Of the files in a folder, whole or not."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.h5") if path.stem.isdigit())


def is_whole(path: Path, key: str, samples: np.ndarray) -> bool:
    """Whether a piece is as it was written, with this key and the rows of these samples. Collective over: none."""
    try:
        tree = artifact_file.read(path, kind=PIECE, keep=lambda place: place in (("key",), ("rows", SAMPLE))).tree
    except ArtifactError:
        return False
    rows = tree.get("rows")
    found = rows.get(SAMPLE) if isinstance(rows, dict) else None
    return tree.get("key") == key and isinstance(found, np.ndarray) and np.array_equal(found, samples)


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
            tree = artifact_file.read(path, kind=PIECE).tree
            rows, counted = tree.get("rows"), tree.get("sums")
            if not isinstance(rows, dict) or not isinstance(counted, dict) or tree.get("key") != key:
                raise ArtifactError(f"{path}: is not a piece of these predictions. What to try: delete it.")
            if not np.array_equal(rows.get(SAMPLE), samples_of(number)):  # type: ignore[arg-type]
                raise ArtifactError(
                    f"{path}: holds other samples than those of piece {number}. What to try: delete it."
                )
            if not spools:
                spools |= {name: opened.enter_context(_spool(folder, array)) for name, array in rows.items()}
            if spools.keys() != rows.keys():
                raise ArtifactError(f"{path}: holds {sorted(rows)}, expected {sorted(spools)}. What to try: delete it.")
            for name, spool in spools.items():
                spool.add(rows[name], path)
            add(counted)
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

    def add(self, rows: Any, path: Path) -> None:
        if not isinstance(rows, np.ndarray) or (rows.dtype, rows.shape[1:]) != (self._dtype, self._shape):
            raise ArtifactError(f"{path}: its rows are not as those of the other pieces. What to try: delete it.")
        try:
            atomic_write.write_all(self._file.fileno(), np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise MachineError(atomic_write.explain(error, self._folder / "column", rows.nbytes)) from error
        self._rows += len(rows)

    def array(self) -> np.ndarray:
        return np.memmap(self._file, self._dtype, "r", 0, (self._rows, *self._shape))


@contextlib.contextmanager
def _spool(folder: Path, first: Any) -> Iterator[_Spool]:
    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed below
    except OSError as error:
        raise MachineError(atomic_write.explain_folder(error, folder)) from error
    with file:
        yield _Spool(folder, file, np.asarray(first))
