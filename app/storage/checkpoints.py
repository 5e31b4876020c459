"""The resumable states of one phase: the newest two, each a whole file or a whole set of files."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from app.errors import ArtifactError
from app.storage import artifact_file, atomic_write
from app.storage.artifact_file import Header, Provenance
from app.storage.image import Image
from app.storage.tree import Keep, Tree, merged

KIND = "checkpoint"
KEPT = 2
_NAME = re.compile(r"^(\d+)-(\d+)(?:\.([1-9]\d{0,5})of([1-9]\d{0,5}))?\.h5$")

Combine: TypeAlias = Callable[[Iterator[Tree]], Tree]


class StoredCheckpoint(NamedTuple):
    """A state and where in its phase it was taken; `header` and `path` are those of its first part."""

    tree: Tree
    header: Header
    epoch: int
    step: int
    path: Path


class PassedOver(NamedTuple):
    """A checkpoint that could not be used, and the sentence that says why."""

    path: Path
    reason: str


def merge_parts(states: Iterable[Tree]) -> Tree:
    """One tree of them all; where two have the same leaf, the later one's."""
    whole: Tree = {}
    for state in states:
        whole = merged(whole, state)
    return whole


class Checkpoints:
    """The checkpoints of one phase in one folder: a file each, or a set of parts, each written by another rank.

    Of a set, one rank calls `drop` when all parts are written and before any of the next one is; and once after
    `newest`, before the first is written: else what a killed run left of a set could be completed by another run's.
    `passed_over` lists what the last call of `newest` could not use on its way to a whole one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passed_over: tuple[PassedOver, ...] = ()
        self._last: Image | None = None

    def write(
        self, tree: Tree, *, provenance: Provenance, phase: str, epoch: int, step: int, part: int = 0, parts: int = 1
    ) -> Path:
        """Write the state at (epoch, step), or part number `part` of its `parts`; the path of the new file.

        A single file is all there is to write, so older ones are dropped at once.
        Collective over: none. Raises MachineError; the older checkpoints are then left whole.
        """
        if not 0 <= part < parts:
            raise ValueError(f"part {part} of {parts}; expected 0 to {parts - 1}")
        number = f".{part + 1}of{parts}" if parts > 1 else ""
        path = self.folder / f"{epoch:06d}-{step:08d}{number}.h5"
        stored: Tree = {"phase": phase, "epoch": epoch, "step": step}
        if parts > 1:
            stored |= {"part": part, "parts": parts}
        whole = stored | {"state": tree}
        self._last = artifact_file.write(path, whole, kind=KIND, provenance=provenance, like=self._last)
        if parts == 1:
            self.drop(epoch, step, parts)
        return path

    def drop(self, epoch: int | None = None, step: int | None = None, parts: int | None = None) -> None:
        """Delete all but the newest two whole sets up to (epoch, step), by default the place of the newest whole one.

        Those of a later place go too: after a restart from an older checkpoint they are another past, or damaged; and
        of this place, with `parts` given, those of another number of parts. Collective over: none (one rank, while
        none writes).
        """
        atomic_write.clean_leftovers(self.folder)
        found = self._sets()
        whole = [one for one in found if not one.missing]
        if epoch is not None and step is not None:
            place = (epoch, step)
            whole = [one for one in whole if one.place < place or (one.place == place and parts in (None, one.parts))]
        for one in found:
            for path in one.paths.values() if one not in whole[-KEPT:] else ():
                with contextlib.suppress(OSError):  # one file too many harms nothing
                    path.unlink()

    def newest(self, combine: Combine = merge_parts, keep: Keep | None = None) -> StoredCheckpoint | None:
        """The newest checkpoint that is whole, None where none was ever finished.

        `combine` makes one state of those of the parts, which it is given one after the other; it may find that one
        is damaged (the iterator then raises, and it must not catch that) and be called again for an older set.
        `keep` says by place in a state, as in ("weights", "0.bias"), which leaves are read at all.
        Collective over: none. Raises ArtifactError, listing all of them, when none of those present is whole.
        """
        passed: list[PassedOver] = []
        found, damaged, self.passed_over = None, False, ()
        for one in reversed(self._sets()):
            if one.missing:
                passed.append(PassedOver(*one.explained(self.folder)))
                continue
            states = _States(one, keep)
            try:
                found = _combined(states, combine)
                break
            except ArtifactError as error:
                if states.damaged is None:
                    raise  # what `combine` found
                passed.append(PassedOver(states.damaged, str(error)))
                damaged = True
        self.passed_over = tuple(passed)
        if found is None and damaged:
            raise ArtifactError(
                f"{self.folder}: none of its {len(passed)} checkpoints is whole. What to try: put back a copy of one,"
                " or delete the folder: the phase then starts from its beginning.",
                *(item.reason for item in passed),
            )
        return found

    def clear(self) -> tuple[Path, ...]:
        """Delete the checkpoints (a finished phase needs none), and the folder when it is then empty."""
        removed = tuple(path for one in self._sets() for path in one.paths.values())
        atomic_write.clean_leftovers(self.folder)
        for path in removed:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        return removed

    def _sets(self) -> list[_Set]:
        """Oldest first."""
        sets: dict[tuple[int, int, int], dict[int, Path]] = {}
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    match = _NAME.match(entry.name)
                    if match and not entry.is_dir():
                        epoch, step, part, parts = (int(digits or 1) for digits in match.groups())
                        sets.setdefault((epoch, step, parts), {})[part] = self.folder / entry.name
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ArtifactError(f"{self.folder}: cannot be listed: {error.strerror}.") from error
        return [_Set((epoch, step), parts, paths) for (epoch, step, parts), paths in sorted(sets.items())]


class _Set(NamedTuple):
    """The files of one place, written as so many parts; `paths` by part, counted from 1."""

    place: tuple[int, int]
    parts: int
    paths: dict[int, Path]

    @property
    def missing(self) -> list[int]:
        return [part for part in range(1, self.parts + 1) if part not in self.paths]

    def explained(self, folder: Path) -> tuple[Path, str]:
        """The first file that is missing, and the sentence that says so."""
        epoch, step = self.place
        path = folder / f"{epoch:06d}-{step:08d}.{self.missing[0]}of{self.parts}.h5"
        others = f" (and {len(self.missing) - 1} more)" if len(self.missing) > 1 else ""
        return path, f"{path}: part {self.missing[0]} of {self.parts} is missing{others}: it was never finished."


class _States:
    """The states of a set's parts, one after the other; `damaged` is the file that ended this."""

    def __init__(self, files: _Set, keep: Keep | None) -> None:
        self.files, self.keep = files, keep
        self.header: Header | None = None
        self.damaged: Path | None = None

    def __iter__(self) -> Iterator[Tree]:
        for part, path in sorted(self.files.paths.items()):
            try:
                header, state = self._read(part, path)
            except ArtifactError:
                self.damaged = path
                raise
            self.header = self.header or header
            yield state
            del state  # the next one comes before this would go

    def _read(self, part: int, path: Path) -> tuple[Header, Tree]:
        keep = self.keep
        kept = None if keep is None else lambda place: place[0] != "state" or keep(place[1:])
        tree, header = artifact_file.read(path, kind=KIND, keep=kept)
        state = tree.get("state")
        if not isinstance(state, dict) or "epoch" not in tree or "step" not in tree:
            raise ArtifactError(f"{path}: its checksum is right, but it holds no epoch, step and state.")
        found = (tree["epoch"], tree["step"], tree.get("part", 0), tree.get("parts", 1))
        if found != (*self.files.place, part - 1, self.files.parts):
            raise ArtifactError(
                f"{path}: its name does not say what it holds (epoch {found[0]}, step {found[1]}, part {found[2]} of"
                f" {found[3]}, counted from 0). What to try: give it its name back."
            )
        return header, state


def _combined(states: _States, combine: Combine) -> StoredCheckpoint:
    each = iter(states)
    tree = combine(each)
    states.keep = lambda _: False
    for _ in each:  # a set is whole when all its parts are, also those that `combine` did not ask for
        pass
    assert states.header is not None
    return StoredCheckpoint(tree, states.header, *states.files.place, min(states.files.paths.items())[1])
