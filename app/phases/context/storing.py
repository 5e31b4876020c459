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
from app.storage.networks import Weight, write_network
from app.storage.sparse import Csr, packed
from app.storage.tree import Tree

TAG = 0
_Place = tuple[str, str]  # a weight and its part, "" for all of it


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
    signature = context.data.signature(context.plan.input.data.inputs)
    extras: Tree = {
        "data": context.data.statistics.to_tree(),
        "signature": signature.to_tree(),
        "metrics": metrics,
        **more,
    }
    path, provenance = path or context.folder.network(phase), context.provenance_of(phase)
    with _whole(context, weights, built) as all_weights:
        context.alone(lambda: write_network(path, all_weights, built.architecture, extras, provenance))


@contextmanager
def _whole(
    context: Context, weights: Mapping[str, torch.Tensor], built: BuiltNetwork
) -> Iterator[Mapping[str, Weight]]:
    """On rank 0 the tensors of all stages, in the order of the layers; the others send theirs meanwhile.

    Whether a weight takes fewer bytes in sparse form is for the stage to say that holds it.
    """
    if context.plan.grid.stages == 1 or context.replica > 0:
        yield weights
        return
    stages = context.stage_group
    own = _parts(packed(weights, frozenset(built.architecture.get("sparse", ()))))
    described = stages.allgather([(name, part, tuple(one.shape), one.dtype) for (name, part), one in own.items()])
    links = Links(stages, torch.device("cpu"))
    if stages.rank > 0:
        for tensor in own.values():
            links.send(tensor.cpu(), 0, TAG)
    order = {name: number for number, name in enumerate(built.names)}
    all_of_them = [
        ((name, part), Message(stage, TAG, shape, dtype))
        for stage, held in enumerate(described)
        for name, part, shape, dtype in held
    ]
    all_of_them.sort(key=lambda one: order[one[0][0].partition(".")[0]])
    coming = deque(message for _, message in all_of_them if message.stage > 0)
    fetch = partial(_fetch, coming, links)
    parts: dict[_Place, torch.Tensor | Later] = {}
    for place, message in all_of_them if stages.rank == 0 else ():
        parts[place] = Later(message.shape, message.dtype, fetch) if message.stage else own[place]
    try:
        yield _joined(parts)
    finally:
        with context.watchdog.operation("gathering of the network"):
            while stages.rank == 0 and coming:  # writing has failed; the others must not wait for ever
                fetch()
            links.close()


def _parts(weights: Mapping[str, torch.Tensor | Csr]) -> dict[_Place, torch.Tensor]:
    """The tensors one by one, those of a sparse weight with the names of its parts."""
    found: dict[_Place, torch.Tensor] = {}
    for name, weight in weights.items():
        parts = weight._asdict() if isinstance(weight, Csr) else {"": weight}
        found |= {(name, part): one for part, one in parts.items()}
    return found


def _joined(parts: Mapping[_Place, torch.Tensor | Later]) -> dict[str, Weight]:
    """The inverse of `_parts`."""
    found: dict[str, dict[str, torch.Tensor | Later]] = {}
    for (name, part), one in parts.items():
        found.setdefault(name, {})[part] = one
    return {name: own[""] if "" in own else Csr(**own) for name, own in found.items()}


def _fetch(coming: deque[Message], links: Links) -> torch.Tensor:
    return links.take(links.post(coming.popleft()))
