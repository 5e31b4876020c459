"""The evaluate phase: loss and metrics of networks on one part of the data, exact over ranks."""

import time
from collections.abc import Mapping
from typing import Any

from app.errors import InputError
from app.inputfile.phases import Evaluate
from app.learning.evaluation import evaluate
from app.learning.losses import loss
from app.networks.sparse import running_sparse
from app.phases.context import Context
from app.phases.context.networks import stored_network
from app.phases.context.pipelines import make_pipeline
from app.phases.context.reading import announce_reading, metrics_of, read_batches, sum_of
from app.phases.context.thinned import say_sparse
from app.plan.microbatches import steps_per_epoch
from app.plan.plan import LOSSES_OF, PhasePlan
from app.report.networks import NetworkRow, compared, network_rows
from app.report.progress import Progress
from app.storage.tree import Tree

QUALITIES = ("accuracy", "r2", "loss")  # the first of them there says how good a network is


def run(context: Context, plan: PhasePlan) -> dict[str, Any]:
    """Metrics of the whole part, also written to run.h5; the numbers of them. Collective over: world.

    Of several networks the numbers are one each.
    """
    phase: Evaluate = plan.phase  # type: ignore[assignment]
    count = context.data.split.count(phase.part)
    if not count:
        raise InputError(
            f'[[phase]] "{phase.name}": the {phase.part} part of {context.data.source.length} samples is empty.'
        ).on_every_rank()
    announce_reading(context, phase)
    begun = time.monotonic()
    found = {network: _metrics(context, phase, network, len(plan.networks) > 1) for network in plan.networks}
    speed = {"samples_per_s": count * len(found) / (time.monotonic() - begun)}
    if len(found) == 1:
        network, metrics = next(iter(found.items()))
        _write(context, phase, {"network": network, "metrics": metrics})
        return _numbers(metrics) | speed
    _write(context, phase, {"networks": {network: {"metrics": metrics} for network, metrics in found.items()}})
    _say(context, phase, found)
    return {f"{network} {name}": value for network, (name, value) in _best_known(found).items()} | speed


def _metrics(context: Context, phase: Evaluate, network: str, several: bool) -> dict[str, Any]:
    given = context.plan.input
    built = stored_network(context, phase, context.folder.network(network))
    pipeline = make_pipeline(context, built, loss(LOSSES_OF[given.data.task][0]))
    steps = steps_per_epoch(context.data.split.count(phase.part), phase.batch_size)
    title = f"{phase.name} {network}" if several else phase.name
    with (
        Progress(context.log, title, steps=steps, every_s=given.run.log_seconds) as progress,
        running_sparse(pipeline.chunks.values(), built.sparse, bf16=pipeline.bf16) as layers,
    ):
        found = evaluate(
            pipeline,
            read_batches(context, phase, phase.part),
            metrics_of(context, phase.top_k),
            sum_of(context, "sum of metrics"),
            lambda batch: progress.update(0, batch.step, batch.size),
        )
    say_sparse(context, built, layers)
    pipeline.close()
    return found


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _best_known(found: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, float]]:
    """Of each network the number that says most."""
    names = {network: next(name for name in QUALITIES if name in metrics) for network, metrics in found.items()}
    return {network: (name, found[network][name]) for network, name in names.items()}


def _write(context: Context, phase: Evaluate, found: Tree) -> None:
    if context.speaks:
        table: Tree = {"kind": phase.kind, "part": phase.part, **found}
        context.results.update({"phases": {phase.name: table}}, context.provenance_of(phase.name))


def _say(context: Context, phase: Evaluate, found: Mapping[str, Mapping[str, Any]]) -> None:
    """The networks beside each other, with what earlier phases found out about what they cost."""
    if not context.speaks:
        return
    known = {row.name: row for row in network_rows(context.results.read(), found)}
    rows = []
    for name, metrics in found.items():
        row = known.get(name, NetworkRow(name, "-", "", None, {}))
        rows.append(row._replace(metrics={what: n for what, n in _numbers(metrics).items() if what != "samples"}))
    samples = context.data.split.count(phase.part)
    title = f"{phase.name}: {len(rows)} networks on the {samples:,} samples of the {phase.part} part"
    context.log.info("\n".join([title, *compared(rows)]))
