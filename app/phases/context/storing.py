"""A finished network in one file: rank 0 writes it, the other stages of its replica send their tensors in turn."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from app.parallel.links import Links, Message
from app.phases.context import Context
from app.phases.context.networks import BuiltNetwork
from app.storage.leaves import Later
from app.storage.networks import write_network
from app.storage.tree import Tree

TAG = 0


def store_network(
    context: Context,
    phase: str,
    weights: Mapping[str, torch.Tensor],
    built: BuiltNetwork,
    metrics: dict,
    path: Path | None = None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write a network with all that is needed to use it elsewhere; path: None is that of the phase's finished one.

    more: what is kept beside the metrics. weights: this rank's, of the shapes that the architecture says; no rank holds
    more than its own and one tensor of another. Collective over: world.
    """
    extras: Tree = {"data": context.data.statistics.to_tree(), "metrics": metrics, **more}
    path, provenance = path or context.folder.network(phase), context.provenance_of(phase)
    with _whole(context, weights, built) as all_weights:
        context.alone(lambda: write_network(path, all_weights, built.architecture, extras, provenance))


@contextmanager
def _whole(
    context: Context, weights: Mapping[str, torch.Tensor], built: BuiltNetwork
) -> Iterator[Mapping[str, torch.Tensor | Later]]:
    """On rank 0 the tensors of all stages, in the order of the layers; the others send theirs meanwhile."""
    if context.plan.grid.stages == 1 or context.replica > 0:
        yield weights
        return
    stages = context.stage_group
    described = stages.allgather([(name, tuple(tensor.shape), tensor.dtype) for name, tensor in weights.items()])
    links = Links(stages, torch.device("cpu"))
    if stages.rank > 0:
        for tensor in weights.values():
            links.send(tensor.cpu(), 0, TAG)
    order = {name: number for number, name in enumerate(built.names)}
    all_of_them = [
        (name, Message(stage, TAG, shape, dtype)) for stage, own in enumerate(described) for name, shape, dtype in own
    ]
    all_of_them.sort(key=lambda one: order[one[0].partition(".")[0]])
    coming = deque(message for _, message in all_of_them if message.stage > 0)
    fetch = partial(_fetch, coming, links)
    found: dict[str, torch.Tensor | Later] = {}
    for name, message in all_of_them if stages.rank == 0 else ():
        found[name] = Later(message.shape, message.dtype, fetch) if message.stage else weights[name]
    try:
        yield found
    finally:
        with context.watchdog.operation("gathering of the network"):
            while stages.rank == 0 and coming:  # writing has failed; the others must not wait for ever
                fetch()
            links.close()


def _fetch(coming: deque[Message], links: Links) -> torch.Tensor:
    return links.take(links.post(coming.popleft()))
