"""Loss and metrics of a network over many batches: sums and counts, so that the grid does not matter."""

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import torch

from app.data.batches import Batch
from app.errors import NumbersError
from app.learning.step import Forward


class Metrics(Protocol):
    """Sums over samples (app.learning.metrics)."""

    def add_(self, outputs: torch.Tensor, targets: torch.Tensor) -> None: ...
    def sums(self) -> np.ndarray: ...
    def load_(self, sums: np.ndarray) -> None: ...
    def result(self) -> dict: ...


def evaluate(
    forward: Forward,
    batches: Iterable[Batch],
    metrics: Metrics,
    sum_: Callable[[np.ndarray], None],
    on_batch: Callable[[Batch], None] = lambda batch: None,
) -> dict:
    """{"loss": mean over the samples, "samples": count, ...metrics}, the same on every rank.

    Collective over: data, through `sum_`, which adds a float64 array over the replicas in place.
    Raises NumbersError on all ranks when an output is not finite.
    """
    own = np.zeros(2)
    failure: NumbersError | None = None
    forward.network.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                for microbatch in batch.microbatches:
                    outputs, loss, targets = forward(microbatch)
                    metrics.add_(outputs, targets)
                    own += loss.item(), microbatch.size
                on_batch(batch)
    except NumbersError as error:  # the other ranks have to learn of it before anyone leaves
        failure = error
        own[:] = np.nan
    finally:
        forward.network.train()
    sums = np.concatenate([own, metrics.sums()])
    sum_(sums)
    if failure is not None or not np.isfinite(sums).all():
        raise (failure or NumbersError("the network's outputs are not finite on another rank.")).on_every_rank()
    metrics.load_(sums[2:])
    return {"loss": sums[0] / sums[1], "samples": int(sums[1]), **metrics.result()}
