"""run.h5: the results of a run as one tree, rewritten as a whole at each change.

A table is a dict of columns, each a dataset of one dimension: h5py reads one with `file["teacher/epochs/loss"][:]`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from app.storage import artifact_file
from app.storage.artifact_file import Provenance
from app.storage.tree import Tree, Value, merged

KIND = "run"

Cells = int | float | bool | Sequence[int | float | bool] | np.ndarray
_State = tuple[int, int, int]


class Results:
    """The tree of one run.h5; only one rank writes. What was read last is kept, so that a change costs a few ms."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tree: Tree = {}
        self._state: _State | None = None

    def read(self) -> Tree:
        """The whole tree, {} where there is no file yet. Raises ArtifactError when the file is damaged."""
        state = self._now()
        if state is None:
            self._tree = {}
        elif state != self._state:
            self._tree = artifact_file.read(self.path, kind=KIND).tree
        self._state = state
        return merged(self._tree, {})

    def update(self, changes: Tree, provenance: Provenance) -> None:
        """Merge `changes` into the tree (a dict into a dict, anything else replaces) and write it.

        Collective over: none (one rank). Raises MachineError; the older file is then left whole.
        """
        tree = merged(self.read(), changes)
        artifact_file.write(self.path, tree, kind=KIND, provenance=provenance)
        self._tree, self._state = tree, self._now()

    def append(
        self, table: Sequence[str], columns: Mapping[str, Cells], provenance: Provenance, start: int | None = None
    ) -> None:
        """Add rows to the table at this place, e.g. `append(("teacher", "epochs"), {"loss": 0.3}, provenance)`.

        `start`: the number of the first of these rows; rows from there on are replaced, so that a run that went back to
        a checkpoint writes no row twice. Raises ValueError when the columns do not fit the table, MachineError.
        """
        place: Value = self.read()
        for name in table:
            place = place.get(name, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise ValueError(f"{'/'.join(table)} of {self.path} is not a table")
        changes: Tree = dict(extended(place, columns, start))
        for name in reversed(table):
            changes = {name: changes}
        self.update(changes, provenance)

    def _now(self) -> _State | None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return None
        except OSError:
            return (0, 0, 0)  # let `read` say what is wrong
        return status.st_ino, status.st_size, status.st_mtime_ns


def extended(table: Mapping[str, Value], columns: Mapping[str, Cells], start: int | None) -> dict[str, np.ndarray]:
    """The columns of a table with rows put at `start` (None: after its last row); ValueError when they do not fit."""
    lengths = {name: len(column) for name, column in table.items() if isinstance(column, np.ndarray)}
    rows = max(lengths.values(), default=0)
    begin = rows if start is None else start
    if begin > rows or begin < 0:
        raise ValueError(f"rows from number {begin} on, but the table ends after {rows}")
    fresh = {name: np.atleast_1d(np.asarray(cells)) for name, cells in columns.items()}
    if table and set(lengths) != set(fresh):
        raise ValueError(f"columns {sorted(fresh)}, but the table has {sorted(lengths)}")
    shapes = {name: column.shape for name, column in fresh.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"columns of shapes {shapes}, expected one length for all")
    return {
        name: np.concatenate([np.asarray(table[name])[:begin], column]) if table else column
        for name, column in fresh.items()
    }
