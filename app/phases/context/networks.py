"""Networks in the run folder: made new, read from an earlier phase, written at the end of one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from app.errors import InputError
from app.learning.training import load_weights_
from app.networks import build
from app.phases.context import Context
from app.storage.networks import read_network, write_network
from app.storage.tree import Tree


class BuiltNetwork(NamedTuple):
    """A network on its device and the tree it can be built again from."""

    network: nn.Sequential
    architecture: dict[str, Any]


def new_network(context: Context) -> BuiltNetwork:
    """The input file's network with starting weights, the same on every rank.

    Collective over: world. Raises InputError when the network does not go with the data.
    """
    given = context.plan.input
    table = given.network
    error = None
    try:
        kind = context.user_file(table.kind)
        shape, outputs = context.data.sample_shape, context.data.outputs
        architecture = build.architecture(kind, table.arguments(), shape, outputs)
        network = build.build(build.from_architecture(architecture), given.run.seed)
    except InputError as problem:
        error = problem
    context.world.agree(error)
    # a user's function may draw from generators that the seed does not reach
    context.data_group.bcast_(list(network.state_dict().values()))
    return BuiltNetwork(network.to(context.device), architecture)


def stored_network(context: Context, phase: str) -> BuiltNetwork:
    """The network that an earlier phase made. Collective over: world. Raises ArtifactError."""
    stored = context.together(lambda: read_network(context.folder.network(phase)))
    network = build.build(build.from_architecture(stored.architecture), 0)
    context.together(lambda: load_weights_(network, stored.weights))
    return BuiltNetwork(network.to(context.device), stored.architecture)


def store_network(
    context: Context, phase: str, weights: Mapping[str, torch.Tensor], built: BuiltNetwork, metrics: dict
) -> None:
    """Write a finished network with all that is needed to use it elsewhere. Collective over: world."""
    extras: Tree = {"data": context.data.statistics.to_tree(), "metrics": metrics}

    def write() -> None:
        write_network(
            context.folder.network(phase), dict(weights), built.architecture, extras, context.provenance_of(phase)
        )

    context.alone(write)
