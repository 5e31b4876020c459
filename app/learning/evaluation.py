"""Loss and metrics of a network over many batches: sums and counts, so that the grid does not matter."""

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import torch

from app.data.batches import Batch
from app.errors import NumbersError
from app.learning.pipeline import Outputs, Pipeline


class Metrics(Protocol):
    """Sums over samples (app.learning.metrics)."""

    def add_(self, outputs: torch.Tensor, targets: torch.Tensor) -> None: ...
    def sums(self) -> np.ndarray: ...
    def load_(self, sums: np.ndarray) -> None: ...
    def result(self) -> dict: ...


def evaluate(
    pipeline: Pipeline,
    batches: Iterable[Batch],
    metrics: Metrics,
    sum_: Callable[[np.ndarray], None],
    on_batch: Callable[[Batch], None] = lambda batch: None,
) -> dict:
    """{"loss": mean over the samples, "samples": count, ...metrics}, the same on every rank.

    Collective over: world, through `sum_`, which adds a float64 array over all ranks in place.
    Raises NumbersError on all ranks when an output is not finite.
    """
    own = np.zeros(2)
    failure: NumbersError | None = None
    for chunk in pipeline.chunks.values():
        chunk.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                for found in pipeline.evaluate(batch):
                    failure = failure or _add(found, metrics, own)
                on_batch(batch)
    finally:
        for chunk in pipeline.chunks.values():
            chunk.train()
    if failure is not None:
        own[:] = np.nan
    sums = np.concatenate([own, metrics.sums()])
    sum_(sums)
    if failure is not None or not np.isfinite(sums).all():
        raise (failure or NumbersError("the network's outputs are not finite.")).on_every_rank()
    metrics.load_(sums[2:])
    return {"loss": sums[0] / sums[1], "samples": int(sums[1]), **metrics.result()}


def _add(found: Outputs, metrics: Metrics, own: np.ndarray) -> NumbersError | None:
    """An error is kept to the end: the other stages and replicas have to learn of it before anyone leaves."""
    try:
        metrics.add_(found.outputs, found.targets)
    except NumbersError as error:
        return error
    own += found.loss.item(), len(found.targets)
    return None
