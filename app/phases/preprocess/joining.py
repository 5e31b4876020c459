"""The finished set: one file of the part files, or virtual datasets over them; and what it says about itself."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from app.data.preparing.columns import Column
from app.data.preparing.scaling import described
from app.phases.preprocess.dividing import Division
from app.phases.preprocess.measuring import Scaling
from app.phases.preprocess.storing import Stored
from app.phases.preprocess.work import Work
from app.report.progress import Progress
from app.storage.set_files import (
    CREATOR,
    KIND,
    clear_parts,
    describe,
    finish,
    join_chunks,
    join_parallel,
    join_virtual,
    list_bad,
    open_together,
    parallel_hdf5,
    small_file,
    temporary_name,
    whole_file,
    written,
)


class BadRecord(NamedTuple):
    """file: as messages name it. row: in the file, from 0."""

    file: str
    row: int
    why: str


class Said(NamedTuple):
    """What the finished file says about itself: attributes of the root and of the columns, and bad records."""

    attributes: Mapping[str, Any]
    columns: Mapping[str, Mapping[str, Any]]
    bad: Sequence[BadRecord]


def said(
    work: Work,
    columns: Sequence[Column],
    division: Division,
    scaling: Mapping[str, Scaling],
    digest: str,
    counts: Mapping[str, int],
    bad: Sequence[BadRecord],
) -> Said:
    """Collective over: none."""
    origin = asdict(work.context.provenance_of(work.phase.name))
    attributes: dict[str, Any] = {
        "creator": CREATOR,
        "version": origin["version"],
        "kind": KIND,
        "input": origin["input_text"],
        "run_id": origin["run_id"],
        "phase": origin["phase"],
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "digest": digest,
        "made_of": work.mark,
        "sources": list(dict.fromkeys(work.titles)),
        "steps": [step.model_dump(mode="json") for step in work.phase.steps],
        **counts,
    }
    if work.phase.splits:
        attributes["parts"] = division.parts
    return Said(attributes, {one.name: _column(one, scaling.get(one.name)) for one in columns}, bad)


def _column(column: Column, scaling: Scaling | None) -> dict[str, Any]:
    steps: list[dict[str, Any]] = list(column.history)
    found: dict[str, Any] = {"steps": steps if scaling is None else [*steps, described(scaling.step)]}
    if column.names is not None:
        found["class_names"] = list(column.names)
    return found | (dict(scaling.by.words) if scaling is not None else {})


def join(work: Work, stored: Stored, what: Said) -> None:
    """Collective over: world. Raises MachineError."""
    context, phase = work.context, work.phase
    if phase.join == "file" and parallel_hdf5() and phase.compression == "none" and context.world.size > 1:
        _join_together(work, stored, what)
    else:
        context.apart(lambda: _join_alone(work, stored, what) if context.speaks else None)
    if phase.join == "file":
        context.alone(lambda: clear_parts(stored.files))


def _join_alone(work: Work, stored: Stored, what: Said) -> None:
    """Rank 0 streams, or says where the samples are."""

    def fill(file: Any) -> None:
        if work.phase.join == "virtual":
            join_virtual(file, stored.layout, stored.files)
        else:
            every_s, title = work.context.plan.input.run.log_seconds, f"{work.phase.name}: joining"
            with Progress(work.context.log, title, steps=len(stored.files), every_s=every_s) as progress:
                join_chunks(file, stored.layout, stored.files, lambda n: progress.update(0, n, stored.layout.rows))
        _say(file, what)

    if work.phase.join == "virtual":
        small_file(work.target, fill)
    else:
        whole_file(work.target, fill, sum(file.stat().st_size for file in stored.files))


def _join_together(work: Work, stored: Stored, what: Said) -> None:
    """All ranks write their parts of one file, which wants an h5py that was built with MPI."""
    context, target = work.context, work.target
    temporary = context.world.bcast(temporary_name(target))

    def write() -> None:
        with (
            written(target, temporary if context.speaks else None),
            open_together(temporary, context.world.comm) as file,
        ):
            join_parallel(file, stored.layout, stored.files, context.world.rank, context.world.size)

    with context.watchdog.operation("joining of the set"):
        context.together(write)
    context.alone(lambda: finish(target, temporary, lambda file: _say(file, what)))


def _say(file: Any, what: Said) -> None:
    describe(file, what.attributes, what.columns)
    if what.bad:
        list_bad(file, *zip(*what.bad, strict=True))
