"""What a network costs and is worth: counted, timed and validated, on any grid."""

import math
from typing import NamedTuple

import torch

from app.inputfile.phases import Evaluate, Trains
from app.learning.evaluation import evaluate
from app.learning.latency import NOTHING, Timing, time_forward
from app.learning.losses import loss
from app.learning.pipeline import Pipeline
from app.networks.shapes import operations_of_sample
from app.networks.sparse import running_sparse
from app.phases.context import Context
from app.phases.context.networks import BuiltNetwork
from app.phases.context.pipelines import make_pipeline
from app.phases.context.reading import metrics_of, read_batches, sum_of
from app.phases.context.thinned import say_sparse
from app.plan.plan import LOSSES_OF
from app.report.appraisal import Appraisal, lines
from app.storage.networks import stored_bytes
from app.storage.tree import Tree

__all__ = ["Appraisal", "appraise", "record"]


class _Counts(NamedTuple):
    """Of the layers of one stage."""

    parameters: int
    nonzero: int
    bytes: int
    operations: int


def appraise(
    context: Context, phase: Trains | Evaluate, built: BuiltNetwork, *, seconds: float | None = None
) -> Appraisal:
    """The network as it is now in `built`, by validation and by timing; seconds of it: None is [run] measure, 0 none.

    The same on every rank; all but times and joules are so on any grid. Collective over: world. Raises NumbersError
    when an output is not finite.
    """
    run = context.plan.input.run
    pipeline = make_pipeline(context, built, loss(LOSSES_OF[context.plan.input.data.task][0]))
    counts = _counts(context, pipeline, built)
    with running_sparse(pipeline.chunks.values(), built.sparse, bf16=pipeline.bf16) as layers:
        found = _validation(context, phase, pipeline)
        seconds = run.measure if seconds is None else seconds
        one, several = _timings(context, pipeline, (1, run.measure_batch), seconds)
    say_sparse(context, built, layers)
    pipeline.close()
    context.timers.reset()  # none of this belongs to the next epoch's times
    return Appraisal(
        *counts,
        latency_1_s=one.seconds,
        latency_n_s=several.seconds,
        batch_n=run.measure_batch,
        samples_per_s=run.measure_batch / several.seconds,
        joules=several.joules,
        loss=found.get("loss", math.nan),
        accuracy=found.get("accuracy", found.get("r2", math.nan)),
    )


def record(context: Context, phase_name: str, before: Appraisal | None, after: Appraisal) -> None:
    """Say what a phase made of a network, and keep it in run.h5 under phases/NAME/appraisal. Collective over: world."""
    quality = "r2" if context.plan.input.data.task == "regression" else "accuracy"
    context.log.info("\n".join([f"{phase_name}: what its network costs and is worth", *lines(before, after, quality)]))
    known = {"before": before, "after": after}
    table: Tree = {side: found._asdict() for side, found in known.items() if found is not None}
    changes: Tree = {"phases": {phase_name: {"appraisal": {"quality": quality, **table}}}}
    context.alone(lambda: context.results.update(changes, context.provenance_of(phase_name)))


def _validation(context: Context, phase: Trains | Evaluate, pipeline: Pipeline) -> dict[str, float]:
    if not context.data.split.count("validation"):
        return {}
    return evaluate(
        pipeline,
        read_batches(context, phase, "validation"),
        metrics_of(context, ()),
        sum_of(context, "sum of validation metrics"),
    )


def _counts(context: Context, pipeline: Pipeline, built: BuiltNetwork) -> _Counts:
    """Summed over the stages. Collective over: pipeline."""
    # One that is tied counts where its owner is.
    own = [p.detach() for name, p in built.network.named_parameters() if name not in built.ties]
    counts = _Counts(
        sum(parameter.numel() for parameter in own),
        sum(int(torch.count_nonzero(parameter)) for parameter in own),
        stored_bytes(built.network.state_dict(), built.sparse),
        sum(
            operations_of_sample(chunk, pipeline.entering[number], context.device)
            for number, chunk in pipeline.chunks.items()
        ),
    )
    with context.watchdog.operation("sum of the stages' costs"):
        everyone = context.stage_group.allgather(counts)
    return _Counts(*map(sum, zip(*everyone, strict=True)))


def _timings(context: Context, pipeline: Pipeline, sizes: tuple[int, ...], seconds: float) -> list[Timing]:
    """For each number of samples, the stages of the first replica added up. Collective over: world.

    One rank works at a time, and those that wait sleep: on the cores of a shared host nothing else is to run.
    """
    if not seconds:
        return [NOTHING] * len(sizes)
    grid = context.plan.grid
    own = [NOTHING] * len(sizes)
    chunks = [(chunk, pipeline.entering[number]) for number, chunk in pipeline.chunks.items()]
    share = seconds / len(sizes) / grid.stages
    for stage in range(-1, grid.stages):
        if (context.replica, context.stage) == (0, stage):
            own = [time_forward(chunks, size, context.device, bf16=pipeline.bf16, seconds=share) for size in sizes]
        with context.watchdog.operation("timing of the network"):
            context.everyone.barrier_asleep()
    with context.watchdog.operation("gathering of the network's times"):
        everyone = context.world.allgather(own)
    found = [everyone[grid.rank(0, stage)] for stage in range(grid.stages)]
    totals = [_total(timings) for timings in zip(*found, strict=True)]
    for size, total in zip(sizes, totals, strict=True):
        if total.problem:
            context.log.warn(f"no time is known for a forward pass of {size} samples: {total.problem}")
    return totals


def _total(stages: tuple[Timing, ...]) -> Timing:
    problems = [stage.problem for stage in stages if stage.problem]
    return Timing(
        sum(stage.seconds for stage in stages), sum(stage.joules for stage in stages), problems[0] if problems else ""
    )
