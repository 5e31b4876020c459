"""The files that the stages of a phase leave in its folder of checkpoints: after-1.h5, after-2.h5, ..., each a network.

The resumable states of a stage at work lie in a folder of its number beside them.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from app.errors import ArtifactError
from app.storage import atomic_write
from app.storage.checkpoints import Checkpoints
from app.storage.networks import read_architecture

_FILE = re.compile(r"after-([1-9]\d{0,5})\.h5")
_FOLDER = re.compile(r"[1-9]\d{0,5}")


def stage_file(folder: Path, number: int) -> Path:
    """Where a stage leaves its network."""
    return folder / f"after-{number}.h5"


def newest_stage(folder: Path) -> int:
    """The last stage whose file is whole; 0: none. Collective over: none."""
    for number in sorted(_files(folder), reverse=True):
        with contextlib.suppress(ArtifactError):
            read_architecture(stage_file(folder, number))
            return number
    return 0


def drop_stages(folder: Path, done: int, keep: int) -> None:
    """Delete the states of stages up to `done`, and all files but the last `keep`. Collective over: none (one rank)."""
    atomic_write.clean_leftovers(folder)
    for number, path in _files(folder).items():
        if number <= done - keep:
            path.unlink(missing_ok=True)
    for number, path in _folders(folder).items():
        if number <= done:
            Checkpoints(path).clear()


def clear_checkpoints(folder: Path) -> tuple[Path, ...]:
    """Delete all that a phase keeps to go on from, and the folder when it is then empty; what was deleted."""
    removed = tuple(_files(folder).values())
    for path in removed:
        path.unlink(missing_ok=True)
    for path in _folders(folder).values():
        removed += Checkpoints(path).clear()
    return removed + Checkpoints(folder).clear()


def _files(folder: Path) -> dict[int, Path]:
    return {int(m[1]): p for p in _entries(folder) if (m := _FILE.fullmatch(p.name)) and p.is_file()}


def _folders(folder: Path) -> dict[int, Path]:
    return {int(p.name): p for p in _entries(folder) if _FOLDER.fullmatch(p.name) and p.is_dir()}


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
