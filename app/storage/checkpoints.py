"""The resumable states of one phase: the newest two, each a whole file."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import NamedTuple

from app.errors import ArtifactError
from app.storage import artifact_file, atomic_write
from app.storage.artifact_file import Header, Provenance
from app.storage.tree import Tree

KIND = "checkpoint"
KEPT = 2
_NAME = re.compile(r"^(\d+)-(\d+)\.h5$")


class StoredCheckpoint(NamedTuple):
    """A state and where in its phase it was taken; `tree` and `header` as in StoredTree."""

    tree: Tree
    header: Header
    epoch: int
    step: int
    path: Path


class PassedOver(NamedTuple):
    """A checkpoint that could not be used, and the sentence that says why."""

    path: Path
    reason: str


class Checkpoints:
    """The checkpoints of one phase in one folder; only one rank writes.

    `passed_over` lists the damaged files that the last call of `newest` met on its way to a whole one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passed_over: tuple[PassedOver, ...] = ()

    def write(self, tree: Tree, *, provenance: Provenance, phase: str, epoch: int, step: int) -> Path:
        """Write the state at (epoch, step), then drop all but the newest two; the path of the new file.

        Files of a later place go too: after a restart from an older checkpoint they are another past, or damaged.
        Collective over: none. Raises MachineError; the older checkpoints are then left whole.
        """
        path = self.folder / f"{epoch:06d}-{step:08d}.h5"
        atomic_write.clean_leftovers(self.folder)
        stored: Tree = {"phase": phase, "epoch": epoch, "step": step, "state": tree}
        artifact_file.write(path, stored, kind=KIND, provenance=provenance)
        self._drop((epoch, step))
        return path

    def newest(self) -> StoredCheckpoint | None:
        """The newest checkpoint that is whole, None where there is none at all.

        Collective over: none. Raises ArtifactError, listing all of them, when none of those present is whole.
        """
        damaged: list[PassedOver] = []
        self.passed_over = ()
        for path in reversed(self._files()):
            try:
                found = _read(path)
            except ArtifactError as error:
                damaged.append(PassedOver(path, str(error)))
                continue
            self.passed_over = tuple(damaged)
            return found
        self.passed_over = tuple(damaged)
        if not damaged:
            return None
        raise ArtifactError(
            f"{self.folder}: none of its {len(damaged)} checkpoints is whole. What to try: put back a copy of one, or "
            "delete the folder: the phase then starts from its beginning.",
            *(item.reason for item in damaged),
        )

    def clear(self) -> tuple[Path, ...]:
        """Delete the checkpoints (a finished phase needs none), and the folder when it is then empty."""
        removed = self._files()
        atomic_write.clean_leftovers(self.folder)
        for path in removed:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        return removed

    def _files(self) -> tuple[Path, ...]:
        """Oldest first."""
        try:
            names = [path for path in self.folder.iterdir() if _NAME.match(path.name) and not path.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise ArtifactError(f"{self.folder}: cannot be listed: {error.strerror}.") from error
        return tuple(sorted(names, key=_place))

    def _drop(self, newest: tuple[int, int]) -> None:
        earlier = [path for path in self._files() if _place(path) < newest]
        later = [path for path in self._files() if _place(path) > newest]
        for path in later + earlier[: len(earlier) - (KEPT - 1)]:
            with contextlib.suppress(OSError):  # one file too many harms nothing
                path.unlink()


def _place(path: Path) -> tuple[int, int]:
    match = _NAME.match(path.name)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _read(path: Path) -> StoredCheckpoint:
    stored = artifact_file.read(path, kind=KIND)
    epoch, step, state = (stored.tree.get(name) for name in ("epoch", "step", "state"))
    if not isinstance(epoch, int) or not isinstance(step, int) or not isinstance(state, dict):
        raise ArtifactError(f"{path}: its checksum is right, but it holds no epoch, step and state.")
    return StoredCheckpoint(state, stored.header, epoch, step, path)
