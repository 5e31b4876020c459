"""How good and how fast the forms of a network are, by their outputs for samples as stored."""

import math
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from app.errors import NumbersError
from app.inference.comparing import Answer
from app.inputfile.phases import Export
from app.learning.losses import loss
from app.phases.context import Context
from app.phases.context.reading import metrics_of, sum_of
from app.phases.export.samples import stored_batches
from app.plan.microbatches import steps_per_epoch
from app.plan.plan import LOSSES_OF
from app.report.progress import Progress

FEWEST = 5  # timed calls, however long they take


def quality(context: Context, phase: Export, what: str, answer: Answer) -> dict[str, float]:
    """Loss and metrics over the phase's part, the ranks sharing the work. Collective over: world.

    Raises NumbersError for outputs that are not finite, and what `answer` raises, on every rank.
    """
    task = context.plan.input.data.task
    metrics, lost, total = metrics_of(context, ()), loss(LOSSES_OF[task][0]), np.zeros(2)
    steps = steps_per_epoch(context.data.split.count(phase.part), phase.batch_size)

    def measure(progress: Progress) -> None:
        for batch in stored_batches(context, phase, phase.part):
            for one in batch.microbatches:
                assert one.inputs is not None  # they are wanted
                assert one.targets is not None
                outputs = torch.from_numpy(answer(one.inputs.numpy()))
                metrics.add_(outputs, one.targets)
                total[:] += float(lost(outputs, one.targets)), one.size
            progress.update(0, batch.step, batch.size)

    every_s = context.plan.input.run.log_seconds
    with Progress(context.log, f"{phase.name} {what}", steps=steps, every_s=every_s) as progress:
        context.together(lambda: measure(progress))
    sums = np.concatenate([total, metrics.sums()])
    sum_of(context, "sum of metrics")(sums)
    if not np.isfinite(sums).all():
        raise NumbersError(f'[[phase]] "{phase.name}": the loss of {what} is not finite.').on_every_rank()
    metrics.load_(sums[2:])
    found = {"loss": sums[0] / sums[1], **metrics.result()}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def worth(metrics: Mapping[str, float]) -> tuple[str, float]:
    """Of the metrics the number that says most, and its name."""
    name = next(name for name in ("accuracy", "r2", "loss") if name in metrics)
    return name, metrics[name]


def latencies(
    answers: Mapping[str, Answer], rows: np.ndarray, sizes: tuple[int, ...], seconds: float
) -> dict[str, Any]:
    """Median seconds of each form's answer, one number for each number of samples; about `seconds` in all.

    Collective over: none.
    """
    if not seconds:
        return {}
    share = seconds / len(answers) / len(sizes)
    found = {
        name: [_median(answer, rows[np.arange(size) % len(rows)], share) for size in sizes]
        for name, answer in answers.items()
    }
    return {"samples": list(sizes), "seconds": found}


def _median(answer: Answer, rows: np.ndarray, seconds: float) -> float:
    times: list[float] = []
    answer(rows)  # the first call allocates memory
    end = time.perf_counter() + seconds
    while len(times) < FEWEST or time.perf_counter() < end:
        begin = time.perf_counter()
        answer(rows)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) if times else math.nan
