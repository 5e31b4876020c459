"""The evaluate phase: loss and metrics of a network on one part of the data, exact over ranks."""

import time
from typing import Any

from app.errors import InputError
from app.inputfile.phases import Evaluate
from app.learning.evaluation import evaluate
from app.learning.losses import loss
from app.phases.context import Context
from app.phases.context.networks import stored_network
from app.phases.context.pipelines import make_pipeline
from app.phases.context.reading import announce_reading, metrics_of, read_batches, sum_of
from app.plan.microbatches import steps_per_epoch
from app.plan.plan import LOSSES_OF, PhasePlan
from app.report.progress import Progress
from app.storage.tree import Tree


def run(context: Context, plan: PhasePlan) -> dict[str, Any]:
    """Metrics of the whole part, also written to run.h5; the numbers of them. Collective over: world."""
    phase: Evaluate = plan.phase  # type: ignore[assignment]
    given = context.plan.input
    count = context.data.split.count(phase.part)
    if not count:
        raise InputError(
            f'[[phase]] "{phase.name}": the {phase.part} part of {context.data.source.length} samples is empty.'
        ).on_every_rank()
    announce_reading(context, phase)
    built = stored_network(context, phase, context.folder.network(str(plan.network)))
    pipeline = make_pipeline(context, built, loss(LOSSES_OF[given.data.task][0]))
    begun = time.monotonic()
    steps = steps_per_epoch(count, phase.batch_size)
    with Progress(context.log, phase.name, steps=steps, every_s=given.run.log_seconds) as progress:
        found = evaluate(
            pipeline,
            read_batches(context, phase, phase.part),
            metrics_of(context, phase.top_k),
            sum_of(context, "sum of metrics"),
            lambda batch: progress.update(0, batch.step, batch.size),
        )
    pipeline.close()
    if context.speaks:
        table: Tree = {"kind": phase.kind, "network": plan.network, "part": phase.part, "metrics": found}
        context.results.update({"phases": {phase.name: table}}, context.provenance_of(phase.name))
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
    return numbers | {"samples_per_s": count / (time.monotonic() - begun)}
