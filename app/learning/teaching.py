"""A teacher's pass over samples: its outputs, and those of some of its layers, as arrays."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.data.batches import Batch
from app.learning.pipeline import Pipeline

OUTPUTS = "outputs"

Add = Callable[[np.ndarray, Mapping[str, np.ndarray]], None]


def layer_subject(layer: str) -> str:
    """What the outputs of a layer are called beside those of the network."""
    return f"layer {layer}"


def teach(
    pipeline: Pipeline,
    batches: Iterable[Batch],
    layers: Mapping[str, nn.Module],
    add: Add,
    on_batch: Callable[[Batch], None] = lambda batch: None,
) -> str | None:
    """Hand what this rank computes to `add`, batch by batch, float32; None, or the sentence about what is not finite.

    layers: those of this rank whose outputs are wanted, by name. Where anything is to come the batches have numbers of
    samples. The network is in evaluation: running statistics, no dropout. Collective over: pipeline.
    """
    kept: dict[str, list[np.ndarray]] = {}

    def keep(subject: str, outputs: Tensor) -> None:
        kept.setdefault(subject, []).append(outputs.float().cpu().numpy())

    def look(subject: str, _: nn.Module, inputs: Any, outputs: Tensor) -> None:
        keep(subject, outputs)

    for chunk in pipeline.chunks.values():
        chunk.eval()
    handles = [layer.register_forward_hook(partial(look, layer_subject(name))) for name, layer in layers.items()]
    problem: str | None = None
    try:
        with torch.inference_mode():
            for batch in batches:
                for found in pipeline.evaluate(batch):
                    keep(OUTPUTS, found.outputs)
                problem = problem or _handed_on(batch, kept, add)
                kept.clear()
                on_batch(batch)
    finally:
        for handle in handles:
            handle.remove()
    return problem


def _handed_on(batch: Batch, kept: Mapping[str, list[np.ndarray]], add: Add) -> str | None:
    """The sentence is kept to the end: the other stages and replicas have to learn of it before anyone leaves."""
    if not kept:
        return None
    samples = np.concatenate([microbatch.samples for microbatch in batch.microbatches])
    rows = {subject: np.concatenate(pieces) for subject, pieces in kept.items()}
    for subject, values in rows.items():
        finite = np.isfinite(values.reshape(len(values), -1)).all(1)
        if not finite.all():
            what = "outputs" if subject == OUTPUTS else f"outputs of {subject}"
            return f"its {what} for sample {samples[~finite][0]} (counted from 0) are not finite numbers."
    add(samples, rows)
    return None
