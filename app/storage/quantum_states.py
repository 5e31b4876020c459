"""A state vector in a folder: a file a rank, each checked on its own, read again on any other number of ranks.

Amplitudes lie in the order of physical positions, part after part; `positions` says where each qubit is. A set of parts
has a number, and a newer set takes the place of an older one only when all its parts are written.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from app.errors import ArtifactError, MachineError, PhalanxError
from app.storage import artifact_file, atomic_write
from app.storage.artifact_file import Provenance
from app.storage.tree import Tree

if TYPE_CHECKING:
    from app.parallel.group import Group

KIND = "quantum-state"
_NAME = re.compile(r"(\d{6})\.([1-9]\d{0,5})of([1-9]\d{0,5})\.h5")
_CHUNK = 1 << 20


class StoredState(NamedTuple):
    """This rank's part. re, im: (2^local_bits,) float32 or float64; positions: qubit -> physical position."""

    re: np.ndarray
    im: np.ndarray
    positions: list[int]


class _Set(NamedTuple):
    number: int
    parts: int
    paths: dict[int, Path]  # by part, from 0


def write_state(
    folder: Path, re: np.ndarray, im: np.ndarray, positions: Sequence[int], group: Group | None, provenance: Provenance
) -> None:
    """Write a state; the arrays go to the files from where they are. An older state stays until this one is whole.

    re, im: this rank's part, as long on every rank. Collective over: the group that holds the state.
    Raises MachineError, on every rank, when one of them cannot write.
    """
    rank, parts = (group.rank, group.size) if group else (0, 1)
    number = max((one.number for one in _sets(folder)), default=0) + 1 if rank == 0 else 0
    number = group.bcast(number) if group else number
    tree: Tree = {"positions": [int(place) for place in positions], "part": rank, "parts": parts, "re": re, "im": im}
    failure: PhalanxError | None = None
    try:
        artifact_file.write(folder / f"{number:06d}.{rank + 1}of{parts}.h5", tree, kind=KIND, provenance=provenance)
    except MachineError as error:
        failure = error
    _agree(failure, group)
    if rank == 0:
        _drop_older(folder, number)


def read_state(folder: Path, group: Group | None) -> StoredState:
    """The newest whole state of a folder, on a group of any 2^p ranks; each reads only the files of its part.

    Collective over: the group. Raises ArtifactError, on every rank, when a file that one needs is missing or damaged,
    or so many ranks cannot hold the state.
    """
    ranks = group.size if group else 1
    found, failure = None, None
    try:
        stored = _newest(folder) if not group or group.rank == 0 else None
    except ArtifactError as error:
        stored, failure = None, error
    _agree(failure, group)
    if group:
        stored = group.bcast(stored)
    assert stored
    failure = None
    try:
        found = _read_part(stored, group.rank if group else 0, ranks)
    except ArtifactError as error:
        failure = error
    _agree(failure, group)
    assert found
    return found


def _read_part(stored: _Set, rank: int, ranks: int) -> StoredState:
    re = im = np.empty(0)
    positions: list[int] = []
    size, place = 0, 0  # place: the index in the whole state that is read next
    while not positions or place < (rank + 1) * size:
        part = place * stored.parts // (size * ranks) if positions else rank * stored.parts // ranks
        path = stored.paths[part]
        with artifact_file.opened(path, kind=KIND) as (root, _):
            try:
                if (int(root["part"][()]), int(root["parts"][()])) != (part, stored.parts):
                    raise ArtifactError(f"{path}: its name does not say which part it holds.")
                first = int(root["re"].shape[0])
                if not positions:
                    positions = [int(value) for value in root["positions"][()]]
                    size = _size(len(positions), ranks)
                    re, im = np.empty(size, root["re"].dtype), np.empty(size, root["im"].dtype)
                    place = rank * size
                here = place - part * first
                count = min(first - here, (rank + 1) * size - place)
                for name, array in (("re", re), ("im", im)):
                    _fill(root[name], here, array[place - rank * size :][:count])
                place += count
            except (KeyError, ValueError, OSError, IndexError, TypeError) as error:
                raise ArtifactError(
                    f"{path}: its checksum is right, but it holds no part of a state: {error}"
                ) from error
    return StoredState(re, im, positions)


def _size(qubits: int, ranks: int) -> int:
    if ranks & (ranks - 1) or ranks.bit_length() > qubits:
        raise ArtifactError(f"a state of {qubits} qubits cannot be held by {ranks} ranks; expected 1, 2, 4, ...")
    return (1 << qubits) // ranks


def _fill(dataset: object, start: int, target: np.ndarray) -> None:
    for low in range(0, target.size, _CHUNK):
        high = min(target.size, low + _CHUNK)
        dataset.read_direct(target, np.s_[start + low : start + high], np.s_[low:high])  # type: ignore[attr-defined]


def _sets(folder: Path) -> list[_Set]:
    """Oldest first, whole or not."""
    sets: dict[tuple[int, int], dict[int, Path]] = {}
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            if match := _NAME.fullmatch(path.name):
                sets.setdefault((int(match[1]), int(match[3])), {})[int(match[2]) - 1] = path
    return [_Set(number, parts, paths) for (number, parts), paths in sorted(sets.items())]


def _newest(folder: Path) -> _Set:
    sets = _sets(folder)
    for one in reversed(sets):
        if all(part in one.paths for part in range(one.parts)):
            return one
    what = f"{sum(len(one.paths) for one in sets)} files, of no state all parts" if sets else "nothing of a state"
    raise ArtifactError(f"{folder}: holds {what}. What to try: run the phase that writes it.")


def _drop_older(folder: Path, number: int) -> None:
    atomic_write.clean_leftovers(folder)
    for one in _sets(folder):
        for path in one.paths.values() if one.number < number else ():
            with contextlib.suppress(OSError):  # one file too many harms nothing
                path.unlink()


def _agree(failure: PhalanxError | None, group: Group | None) -> None:
    """Raise on every rank what one of them has met. Collective over: the group."""
    failures = group.allgather(failure) if group else [failure]
    for one in failures:
        if one is not None:
            raise one.on_every_rank() if group else one
