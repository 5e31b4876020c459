"""`phalanx report`: reads a run folder, and writes pictures and a page of what it holds into it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.errors import ArtifactError
from app.report.chrome import read_trace
from app.report.networks import exported_rows, network_rows, overview
from app.report.page.facts import Facts
from app.report.page.page import compose
from app.report.timeline import shares_table, summary
from app.status import find
from app.storage import artifact_file, atomic_write
from app.storage.results import KIND
from app.storage.run_folder import RunFolder

_LOG_BYTES = 16 << 20  # of a longer log its end is read


def report(path: Path) -> list[str]:
    """Write everything into the folder's report folder; lines for the terminal, the last of which names the page.

    Collective over: none. Raises ArtifactError: no run folder, a damaged file; MachineError: the disk.
    """
    folder = RunFolder(path)
    facts = _facts(folder)
    page = compose(facts)
    atomic_write.make_folder(folder.report)
    for picture in page.pictures:
        atomic_write.replace(folder.report / picture.file, [picture.png])
    atomic_write.replace(folder.page, [page.html.encode("utf-8", "backslashreplace")])
    return [*_told(facts), *(str(folder.report / picture.file) for picture in page.pictures), str(folder.page)]


def _facts(folder: RunFolder) -> Facts:
    if not (folder.progress.is_file() or folder.results.is_file()):
        raise ArtifactError(
            f"{folder.path}: is no run folder: found neither {folder.progress.name} nor {folder.results.name} in it."
            " What to try: the [run] folder of an input file that has run."
        )
    results, given_text = _results(folder.results)
    status = find(folder.path, []) if folder.progress.is_file() else None
    progress, outcome = (status.progress, status.outcome) if status else (None, None)
    traces = {path.stem: read_trace(path) for path in sorted(folder.traces.glob("*.json"))}
    given: Mapping[str, Any] = progress.input if progress else {}
    return Facts(
        folder=str(folder.path.absolute()),
        results=results,
        given=given,
        given_text=given_text or (json.dumps(given, indent=1) if given else ""),
        begun=progress.begun if progress else (),
        done=progress.done if progress else {},
        code=progress.code if progress else {},
        ran_on=progress.ran_on if progress else {},
        state=status.state if status else "unfinished",
        last_words=outcome.text if outcome else "",
        log=_end_of(folder.log),
        timelines={name: timeline for name, timeline in traces.items() if any(timeline.events)},
    )


def _results(path: Path) -> tuple[Mapping[str, Any], str]:
    """The tree of run.h5, and the input that it was written with; nothing where there is no file yet."""
    if not path.exists():
        return {}, ""
    stored = artifact_file.read(path, kind=KIND)
    return stored.tree, stored.header.provenance.input_text


def _end_of(log: Path) -> str:
    """The log's last lines; "" where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
            return file.read(_LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _told(facts: Facts) -> list[str]:
    """What a terminal can show."""
    lines: list[str] = []
    for timeline in facts.timelines.values():
        lines += [summary(timeline), *shares_table(timeline), ""]
    networks = overview([*network_rows(facts.results), *exported_rows(facts.results)])
    return [*lines, *networks, *([""] if networks else [])]
