"""The data as a phase sees them: batches of a part, metrics of the task, sums over replicas."""

from collections.abc import Callable, Iterator

import numpy as np

from app.data.batches import Batch, batches, reading
from app.inputfile.phases import Evaluate, Trains
from app.learning.metrics import Classification, Regression
from app.phases.context import Context


def read_batches(
    context: Context,
    phase: Trains | Evaluate,
    part: str,
    *,
    epoch: int = 0,
    start_step: int = 0,
    wants: frozenset[str] | None = None,
) -> Iterator[Batch]:
    """This replica's microbatches of a part: shuffled for training, else in file order.

    wants: what is read of the samples; None: what this stage needs for a loss. Waiting for them counts as reading.
    """
    given, data = context.plan.input, context.data
    shuffled = isinstance(phase, Trains) and part == "train"
    found = batches(
        data.source,
        data.split,
        part,
        data.transform,
        seed=given.run.seed,
        epoch=epoch,
        batch_size=phase.batch_size,
        microbatch_size=phase.microbatch,
        replica=context.replica,
        replicas=context.plan.grid.replicas,
        start_step=start_step,
        shuffle=shuffled,
        memory_bytes=given.data.memory,
        pin=context.device.type == "cuda",
        wants=context.wants if wants is None else wants,
    )
    while True:
        with context.timers("read"):
            batch = next(found, None)
        if batch is None:
            return
        yield batch


def announce_reading(context: Context, phase: Trains | Evaluate) -> None:
    """Say what is unlucky in how the files are laid out for this phase.

    Collective over: world. Raises DataError, on all ranks, when the data do not fit the memory allowed.
    """
    given = context.plan.input
    found = context.together(
        lambda: reading(
            context.data.source,
            batch_size=phase.batch_size,
            microbatch_size=phase.microbatch,
            replica=context.replica,
            replicas=context.plan.grid.replicas,
            shuffle=isinstance(phase, Trains),
            memory_bytes=given.data.memory,
            wants=context.wants,
        )
    )
    for note in found.notes:
        context.log.warn(note)


def metrics_of(context: Context, top_k: tuple[int, ...]) -> Classification | Regression:
    """Empty sums of the task's metrics."""
    data = context.data
    if context.plan.input.data.task == "classification":
        return Classification(data.outputs, top_k)
    mean = data.statistics.target_mean
    return Regression(data.outputs, 0.0 if mean is None else mean.reshape(-1))


def sum_of(context: Context, operation: str) -> Callable[[np.ndarray], None]:
    """A sum over all ranks, in place, that the watchdog knows by name; stages without a share add zeros."""

    def sum_(array: np.ndarray) -> None:
        with context.timers("communicate"), context.watchdog.operation(operation):
            context.everyone.sum_(array)

    return sum_
