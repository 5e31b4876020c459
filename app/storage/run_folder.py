"""The folder of a run: where each file lies, making it, and emptying it of what Phalanx itself wrote."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.errors import MachineError
from app.storage import atomic_write

_LOG_LINE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (debug|info|warning|error) ")
_TRACE = re.compile(rb'\{"otherData": \{"creator": "phalanx"')
_PICTURE = re.compile(rb"\x89PNG.*tEXtSoftware\0phalanx", re.DOTALL)
_PAGE = re.compile(rb"<!doctype html><!-- phalanx report -->")
_PARTS = ("networks", "checkpoints", "data", "predictions", "exports", "traces", "report", "teachers", "states", "work")


class Cleared(NamedTuple):
    """What `RunFolder.clear` deleted, and what it left because Phalanx did not write it."""

    removed: tuple[Path, ...]
    left: tuple[Path, ...]


@dataclass(frozen=True)
class RunFolder:
    """The paths of everything one input file produces; making an object touches no disk."""

    path: Path

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def results(self) -> Path:
        return self.path / "run.h5"

    @property
    def progress(self) -> Path:
        return self.path / "progress.json"

    @property
    def outcome(self) -> Path:
        return self.path / "outcome.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock.json"

    @property
    def stop(self) -> Path:
        """The file with which a user asks the run to stop."""
        return self.path / "stop"

    @property
    def watchdog(self) -> Path:
        return self.path / ".watchdog"

    @property
    def exports(self) -> Path:
        return self.path / "exports"

    @property
    def traces(self) -> Path:
        return self.path / "traces"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def page(self) -> Path:
        """The page that shows the run."""
        return self.report / "index.html"

    def network(self, name: str) -> Path:
        return self.path / "networks" / f"{name}.h5"

    def checkpoints(self, name: str) -> Path:
        return self.path / "checkpoints" / name

    def has_checkpoints(self, name: str) -> bool:
        """Whether a phase has any, whole or damaged."""
        folder = self.checkpoints(name)
        return (
            any(self.work(name).glob(f"piece-{'?' * 9}"))  # of predictions; those of sets may be made otherwise
            or any(folder.glob("[0-9]*.h5"))
            or any(folder.glob("after-*.h5"))
            or any(folder.glob("[1-9]*/[0-9]*.h5"))
        )

    def teacher(self, name: str) -> Path:
        """The folder of what a teacher gives for the training part."""
        return self.path / "teachers" / name

    def data(self, name: str) -> Path:
        return self.path / "data" / f"{name}.h5"

    def state(self, name: str) -> Path:
        """The folder of the state vector that a quantum phase keeps."""
        return self.path / "states" / name

    def predictions(self, name: str) -> Path:
        return self.path / "predictions" / f"{name}.h5"

    def exported(self, name: str, suffixes: Iterable[str]) -> tuple[Path, ...]:
        """Files of an export phase."""
        return tuple(self.exports / f"{name}{suffix}" for suffix in suffixes)

    def work(self, name: str) -> Path:
        """The folder of what a phase has made so far of what it will put together: records, predictions."""
        return self.path / "work" / name

    def create(self) -> None:
        """Make the folder and try to write in it; the folders inside come with their first file.

        Collective over: none (rank 0). Raises MachineError.
        """
        atomic_write.make_folder(self.path)
        for name in _PARTS:
            if (self.path / name).exists() and not (self.path / name).is_dir():
                raise MachineError(
                    f"{self.path / name}: a file lies where the run needs a folder. What to try: move it away, or "
                    "choose another [run] folder."
                )
        atomic_write.make_folder(self.watchdog)
        probe = self.path / f".probe.{os.getpid()}.part"
        try:
            atomic_write.make_empty(probe)
            probe.unlink()
        except OSError as error:
            raise MachineError(atomic_write.explain_folder(error, self.path)) from error
        atomic_write.clean_leftovers(self.path)

    def clear(self, exported: Iterable[str] = ()) -> Cleared:
        """Delete what Phalanx wrote here, for a fresh start; `exported` are the phases whose `exports/NAME.*` may go.

        HDF5 files go when they carry Phalanx's header, the log when its first line is one of ours, checkpoints by
        their names, folders when they are empty afterwards; anything else is a stranger's and stays.
        Collective over: none (rank 0). Raises MachineError when something cannot be deleted.
        """
        from app.storage.set_files import clear_set  # these bring numpy, which the plan of a run does without
        from app.storage.set_pieces import clear_pieces
        from app.storage.stages import clear_checkpoints

        removed: list[Path] = []
        try:
            for path in self._ours(frozenset(exported)):
                path.unlink()
                removed.append(path)
            for folder in _entries(self.path / "checkpoints"):
                removed += clear_checkpoints(folder)
            for name in sorted({entry.name.removesuffix(".h5") for entry in _entries(self.path / "data")}):
                removed += clear_set(self.data(name))
            for folder in _entries(self.path / "work"):
                removed += clear_pieces(folder)
        except OSError as error:
            raise MachineError(f"{error.filename}: cannot be deleted: {error.strerror}.") from error
        inner = [entry for part in ("teachers", "states", "work") for entry in _entries(self.path / part)]
        for part in (*inner, *(self.path / name for name in (*_PARTS, self.watchdog.name))):
            atomic_write.clean_leftovers(part)
            with contextlib.suppress(OSError):
                part.rmdir()
        return Cleared(tuple(removed), tuple(self._remaining()))

    def _ours(self, exported: frozenset[str]) -> Iterator[Path]:
        if _begins(self.log, _LOG_LINE):
            yield self.log
        if _begins(self.progress, re.compile(rb'\{\n "run_id"')):
            yield self.progress
        if _begins(self.outcome, re.compile(rb'\{\n "state"')):
            yield self.outcome
        candidates = [self.results]
        for part in ("networks", "data", "predictions"):
            candidates += sorted((self.path / part).glob("*.h5"))
        for part in ("teachers", "states", "work"):
            candidates += sorted((self.path / part).glob("*/*.h5"))
        yield from (path for path in candidates if _begins(path, re.compile(rb"PHALANX\n")))
        yield from (path for path in sorted(self.traces.glob("*.json")) if _begins(path, _TRACE))
        yield from (path for path in sorted(self.report.glob("*.png")) if _begins(path, _PICTURE))
        yield from (path for path in [self.page] if _begins(path, _PAGE))
        starts = tuple(f"{name}." for name in exported)
        candidates = [path for path in sorted(self.exports.glob("*")) if path.name.startswith(starts)]
        yield from (path for path in [*candidates, *sorted(self.watchdog.glob("*"))] if path.is_file())

    def _remaining(self) -> Iterator[Path]:
        for entry in _entries(self.path):
            yield from _entries(entry) if entry.name in _PARTS and entry.is_dir() else [entry]


def _begins(path: Path, pattern: re.Pattern[bytes]) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return bool(pattern.match(file.read(64)))
    except OSError:
        return False


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []
