"""A preprocess phase from its beginning to its end."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from app.data.preparing.columns import agreed
from app.data.split import PARTS
from app.errors import DataError, MachineError
from app.inputfile.files import raw_files
from app.inputfile.preparing import Preprocess, Window
from app.phases.context import Context
from app.phases.preprocess.dividing import Division, divide
from app.phases.preprocess.joining import BadRecord, join, said
from app.phases.preprocess.measuring import scaling_of
from app.phases.preprocess.pieces import Facts, columns_seen, facts_of, make_pieces
from app.phases.preprocess.reading import find_out
from app.phases.preprocess.storing import store_parts
from app.phases.preprocess.work import Work, work_of
from app.plan.plan import PhasePlan
from app.report.log import escaped
from app.report.timers import Timers
from app.storage import raw
from app.storage.atomic_write import make_folder
from app.storage.set_files import finished
from app.storage.set_pieces import clear_pieces
from app.storage.tree import Tree

NAMED = 20  # bad records in the error
LISTED = 1000  # in run.h5
KEPT = 1_000_000  # in the set
SMALLEST = 1 << 16  # bytes of a piece
COUNTS = ("records", "bad", "filtered", "repeated", "samples")


def run(context: Context, plan: PhasePlan) -> dict[str, float]:
    """Make data/NAME.h5; how many records, samples, ... Collective over: world.

    Raises DataError, MachineError, Stopped.
    """
    phase: Preprocess = plan.phase  # type: ignore[assignment]
    begun, timers = time.monotonic(), Timers()
    work = _begin(context, phase)
    try:
        counts = context.world.bcast(finished(work.target, work.mark, COUNTS) if context.speaks else None)
        if counts is None:
            counts = _make(work, timers)
        else:
            context.log.info(f"{phase.name}: the set is there already")
    finally:
        work.store.close()
    context.alone(lambda: _clear(work))
    seconds = time.monotonic() - begun
    context.log.info(f"{phase.name}: {counts['samples']:,} samples in {work.target}")
    return {**{name: float(counts[name]) for name in COUNTS}, "samples_per_s": counts["samples"] / seconds}


def _begin(context: Context, phase: Preprocess) -> Work:
    """The pieces that the files are read in. Collective over: world. Raises DataError."""
    windows = [step for step in phase.steps if isinstance(step, Window)]
    growth = max([1, *(step.length // step.stride for step in windows)])
    size = max(SMALLEST, phase.piece // growth)

    def look() -> list[raw.Piece]:
        return raw.pieces(raw_files(phase, context.input_folder), size) if context.speaks else []

    pieces = context.world.bcast(context.apart(look))
    work = context.together(lambda: work_of(context, phase, pieces))
    files, many = len(dict.fromkeys(work.titles)), "s" if len(pieces) != 1 else ""
    context.log.info(f"{phase.name}: {files:,} file{'s' if files != 1 else ''} in {len(pieces):,} piece{many}")
    return work


def _make(work: Work, timers: Timers) -> dict[str, int]:
    """All that is to be done; the counts. Collective over: world."""
    context = work.context
    context.alone(lambda: make_folder(work.store.folder))
    with timers("read"):
        known = find_out(work)
        make_pieces(work, known)
        facts = facts_of(work)
    bad = context.apart(lambda: _bad_records(work, facts) if context.speaks else [])
    context.alone(lambda: _refuse(work, facts, bad))
    seen = columns_seen(work)
    columns = context.together(lambda: agreed(seen))
    with timers("divide"):
        division = divide(work, int(facts.samples.sum()))
    with timers("measure"):
        scaling = scaling_of(work, columns, division)
    counts = _counts(facts, division)
    _say_counts(work, counts, division)
    with timers("store"):
        stored = store_parts(work, columns, division, scaling)
    context.alone(lambda: _write_results(work, _results(work, facts, division, bad)))
    with timers("join"):
        join(work, stored, said(work, columns, division, scaling, stored.digest, counts, bad))
    context.alone(lambda: _write_results(work, {"seconds": dict(timers.totals())}))
    return counts


def _counts(facts: Facts, division: Division) -> dict[str, int]:
    found = (facts.records, facts.bad, facts.dropped, division.repeated)
    return {**dict(zip(COUNTS, (int(one.sum()) for one in found), strict=False)), "samples": division.samples}


def _bad_records(work: Work, facts: Facts) -> list[BadRecord]:
    """In the order of the files; rows are counted in the file."""
    found: list[BadRecord] = []
    first, title = 0, ""
    for number, records in enumerate(facts.records.tolist()):
        first, title = (first if work.titles[number] == title else 0), work.titles[number]
        if facts.bad[number] and len(found) < KEPT:
            listed = work.store[number].facts["bad"]
            found += [BadRecord(title, first + row, escaped(why)) for row, why in sorted(listed)]
        first += records
    return found[:KEPT]


def _refuse(work: Work, facts: Facts, bad: Sequence[BadRecord]) -> None:
    """Raises DataError: bad records where none may be; nothing left."""
    title, total = f'[[phase]] "{work.phase.name}"', int(facts.bad.sum())
    if total and work.phase.bad == "refuse":
        more = f" The first {NAMED} of them:" if total > NAMED else ""
        raise DataError(
            f"{title}: {total:,} of {int(facts.records.sum()):,} records cannot be used. What to try: mend the files,"
            f' or bad = "leave_out", which lists them in the set and goes on.{more}',
            *(f"  {one.file}: record {one.row:,} (from 0): {one.why}." for one in bad[:NAMED]),
        )
    if not facts.samples.sum():
        records, dropped = int(facts.records.sum()), int(facts.dropped.sum())
        first = f" The first bad one: {bad[0].file}: record {bad[0].row:,}: {bad[0].why}." if bad else ""
        windows = [step for step in work.phase.steps if isinstance(step, Window)]
        reach = (
            f" A window wants {windows[0].length + windows[0].ahead:,} rows that follow one another." if windows else ""
        )
        raise DataError(
            f"{title}: no samples are left: of {records:,} records {total:,} are bad and {dropped:,} were left out by"
            f" filters.{first}{reach}"
        )


def _say_counts(work: Work, counts: Mapping[str, int], division: Division) -> None:
    """In the log, before the long work."""
    words = [f"{counts['records']:,} records"]
    words += [f"{counts['bad']:,} bad ones left out"] if counts["bad"] else []
    words += [f"{counts['filtered']:,} left out by filters"] if counts["filtered"] else []
    words += [f"{counts['repeated']:,} repeated ones left out"] if counts["repeated"] else []
    parts = "train {:,}, validation {:,}, test {:,}".format(*division.parts) if work.phase.splits else "not divided"
    work.context.log.info(f"{work.phase.name}: {', '.join(words)}; {counts['samples']:,} samples: {parts}")


def _results(work: Work, facts: Facts, division: Division, bad: Sequence[BadRecord]) -> Tree:
    """What run.h5 keeps: counts in all and by file, the first bad records."""
    files = list(dict.fromkeys(work.titles))
    place = np.array([files.index(title) for title in work.titles])
    by_file = {
        name: np.bincount(place, weights=one, minlength=len(files)).astype(np.int64)
        for name, one in zip(COUNTS, (facts.records, facts.bad, facts.dropped, division.repeated), strict=False)
    }
    listed = bad[:LISTED]
    table: Tree = {"kind": work.phase.kind, **_counts(facts, division), "files": {"name": [*files], **by_file}}
    if work.phase.splits:
        table["parts"] = dict(zip(PARTS, division.parts, strict=True))
    if listed:
        rows = np.array([one.row for one in listed], np.int64)
        table["bad_records"] = {"file": [one.file for one in listed], "row": rows, "why": [one.why for one in listed]}
    return table


def _write_results(work: Work, table: Tree) -> None:
    context, name = work.context, work.phase.name
    context.results.update({"phases": {name: table}}, context.provenance_of(name))


def _clear(work: Work) -> None:
    """The pieces, and of a set that was made anew as one file the older part files."""
    try:
        clear_pieces(work.store.folder)
    except OSError as error:
        raise MachineError(f"{error.filename}: cannot be deleted: {error.strerror}.") from error
