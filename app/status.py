"""`phalanx status`: how far a run has come, who is at work in its folder, and how its last start ended."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import ArtifactError
from app.inputfile import read_input
from app.inputfile.read import read_text
from app.plan.show import folder_of
from app.storage import lock
from app.storage.outcome import LIFE, Outcome, read_outcome
from app.storage.progress import RunProgress, read_progress
from app.storage.run_folder import RunFolder

_PLACE = re.compile(r"^(?:(\d+)/)?(?:after-(\d+)|(\d+)-(\d+)(?:\.\d+of\d+)?)\.h5$")


class Status(NamedTuple):
    """state: new, running, done, stopped, held, failed or unfinished (its end was not said: killed, a node lost).

    place: a word that changes whenever the run has come further, on its disk.
    """

    state: str
    place: str
    folder: RunFolder
    progress: RunProgress | None
    outcome: Outcome | None
    holder: dict[str, Any] | None


def find(path: Path, settings: list[str]) -> Status:
    """Of an input file or of a run folder. Raises InputError, ArtifactError."""
    given = path if path.is_dir() else Path(folder_of(read_input(read_text(path), str(path), settings)))
    folder = RunFolder(given)
    progress, holder = read_progress(folder.progress), lock.held(folder.lock)
    outcome = read_outcome(folder.outcome)
    if path.is_dir() and progress is None and outcome is None and holder is None:
        raise ArtifactError(
            f"{path}: is no run folder: found no {folder.progress.name} in it. What to try: the [run] folder of an"
            " input file that has run, or the input file itself."
        )
    return Status(_state(progress, holder, outcome), _place(folder, progress), folder, progress, outcome, holder)


def brief(status: Status) -> str:
    """STATE PLACE, for scripts."""
    return f"{status.state} {status.place}"


def told(status: Status) -> list[str]:
    """Lines for people."""
    lines = [f"{status.folder.path}: {status.state}"]
    if status.holder is not None:
        lines.append(f"at work: {lock.named(status.holder)}")
    if status.outcome is not None:
        lines.append(f"last end: {status.outcome.when}, exit code {status.outcome.code}")
        lines += [f"  {line}" for line in status.outcome.text.splitlines()]
    progress = status.progress
    if progress is not None:
        names = [phase["name"] for phase in progress.input.get("phase", ())]
        lines += [f"  {name}: {_of_phase(status.folder, progress, name)}" for name in names]
    return lines


def _state(progress: RunProgress | None, holder: dict[str, Any] | None, outcome: Outcome | None) -> str:
    if holder is not None:
        return "running"
    life = os.environ.get(LIFE)
    if outcome is not None and life in (None, outcome.life):
        return outcome.state
    return "new" if progress is None and outcome is None else "unfinished"


def _place(folder: RunFolder, progress: RunProgress | None) -> str:
    if progress is None:
        return "0"
    words = [str(len(progress.done))]
    for name in progress.begun:
        if name not in progress.done:
            kept = _files(folder.path / "teachers", "*.h5"), _files(folder.work(name), "piece-*")
            words += [name, *map(str, (*_newest(folder.checkpoints(name)), *kept))]
    return re.sub(r"\s", "_", "/".join(words))


def _newest(checkpoints: Path) -> tuple[int, ...]:
    """Of the checkpoints of a phase: stages done, then epoch and step of the one at work."""
    found = [
        (int(stage or 0), 0, int(epoch), int(step)) if after is None else (int(after), 1, 0, 0)
        for path in checkpoints.rglob("*.h5")
        if (match := _PLACE.match(path.relative_to(checkpoints).as_posix()))
        for stage, after, epoch, step in [match.groups()]
    ]
    return max(found, default=())


def _files(folder: Path, names: str) -> int:
    return sum(1 for _ in folder.rglob(names))


def _of_phase(folder: RunFolder, progress: RunProgress, name: str) -> str:
    if name in progress.done:
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in progress.done[name].items() if "loss" in key)
        return f"done{', ' + numbers if numbers else ''}"
    if name not in progress.begun:
        return "not begun"
    newest = _newest(folder.checkpoints(name))
    if not newest:
        return "begun, no checkpoint yet"
    stage, finished, epoch, step = newest
    where = f"epoch {epoch + 1}, step {step}"
    if finished:
        return f"begun, stage {stage} finished"
    return f"begun, checkpoint at {f'stage {stage}, ' if stage else ''}{where}"
