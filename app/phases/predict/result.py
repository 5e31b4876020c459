"""The end of a predict phase: one file of all pieces, the tables in run.h5, warnings, and numbers for the summary."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from app.phases.context import Context
from app.phases.predict.collecting import Totals
from app.phases.predict.networks import Found
from app.phases.predict.playing import Played, Work
from app.storage import atomic_write, predictions
from app.storage.tree import Tree


class Result(NamedTuple):
    """numbers: for the summary. warnings: of the monitor."""

    numbers: dict[str, float]
    warnings: tuple[str, ...]


def join(context: Context, work: Work, found: Found, played: Played, begun: float) -> Result:
    """Rank 0 makes one file of all pieces while the others sleep. begun: when playing did, as time.monotonic() counts.

    Collective over: world. Raises ArtifactError, MachineError on all ranks.
    """
    result = context.apart(lambda: _joined(context, work, found, played, begun) if context.speaks else None)
    known: Result = context.world.bcast(result)
    return known


def _joined(context: Context, work: Work, found: Found, played: Played, begun: float) -> Result:
    asked, pieces = work.asked, work.pieces
    phase, totals = asked.phase, Totals(asked)
    provenance, path = context.provenance_of(phase.name), context.folder.predictions(phase.name)
    with predictions.gathered(work.folder, work.key, pieces.number, pieces.samples, totals.add) as columns:
        metrics, findings = totals.metrics(), totals.findings(_seconds(context, played, totals, pieces.count))
        confusion = metrics.pop("confusion", None)
        watched: Tree = {} if findings is None else {"monitor": findings.tree}
        about: Tree = {
            "network": found.source,
            "part": asked.samples.part,
            "class_names": list(asked.signature.class_names),
            "signature": asked.signature.to_tree(),
        }
        measured: Tree = {"metrics": metrics} if metrics else {}
        predictions.write(path, columns, {**about, **measured, **watched}, provenance)
    speed = {"samples_per_s": played.samples / (time.monotonic() - begun)} if played.samples else {}
    if confusion is not None:
        measured["confusion"] = confusion
    table: Tree = {
        "kind": phase.kind,
        "network": found.source,
        "part": asked.samples.part,
        "samples": pieces.count,
        **speed,
        "class_names": list(asked.signature.class_names),
        **measured,
        **watched,
    }
    context.results.update({"phases": {phase.name: table}}, provenance)
    numbers = {"samples": float(pieces.count), **speed, **_numbers(metrics)}
    if findings is None:
        return Result(numbers, ())
    _tell_prometheus(context, work, findings.tree)
    return Result({**numbers, "drifted": float(findings.drifted)}, findings.warnings)


def _seconds(context: Context, played: Played, totals: Totals, count: int) -> float:
    """That all samples took, those of earlier starts as these; where there are none, by what the pieces say."""
    if played.samples:
        return played.seconds * count / played.samples
    return totals.seconds / context.plan.grid.replicas


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _tell_prometheus(context: Context, work: Work, tree: Mapping[str, Any]) -> None:
    """The text for a node exporter, where one is asked for."""
    monitor = work.asked.phase.monitor
    if monitor is None or monitor.prometheus is None:
        return
    from app.report import prometheus

    path = context.folder.path / monitor.prometheus
    content = prometheus.text(tree, context.plan.input.run.name, work.asked.phase.name)
    atomic_write.make_folder(path.parent)
    atomic_write.replace(path, [content])
