"""Networks in the run folder: made new, read from an earlier phase, written at the end of one."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from app.errors import ArtifactError, InputError
from app.learning.training import load_weights_
from app.networks import build
from app.networks.shapes import trace
from app.networks.user import is_user_kind
from app.phases.context import Context
from app.plan.costs import layer_costs
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
    table, data = context.plan.input.network, context.data

    def make() -> BuiltNetwork:
        kind = context.user_file(table.kind)
        tree = build.architecture(kind, table.arguments(), data.sample_shape, data.outputs)
        layers = build.from_architecture(tree)
        if is_user_kind(kind):
            shape = trace(layers, data.sample_shape, data.outputs)[-1].output_shape
        else:
            shape = layer_costs(kind, table.arguments(), data.sample_shape, data.outputs)[-1].output_shape
        _refuse_other_targets(context, tuple(shape))
        return BuiltNetwork(build.build(layers, context.plan.input.run.seed), tree)

    network, architecture = context.together(make)
    # a user's function may draw from generators that the seed does not reach
    context.data_group.bcast_(list(network.state_dict().values()))
    return BuiltNetwork(network.to(context.device), architecture)


def stored_network(context: Context, phase: str) -> BuiltNetwork:
    """The network that an earlier phase made. Collective over: world. Raises ArtifactError."""
    stored = context.together(lambda: read_network(context.folder.network(phase)))

    def make() -> nn.Sequential:
        network = build.build(build.from_architecture(stored.architecture), 0)
        try:
            load_weights_(network, stored.weights)
        except ArtifactError as error:
            raise ArtifactError(*(f"{context.folder.network(phase)}: {text}" for text in error.problems)) from None
        return network

    return BuiltNetwork(context.together(make).to(context.device), stored.architecture)


def _refuse_other_targets(context: Context, outputs: tuple[int, ...]) -> None:
    """The loss compares outputs with targets: refuse shapes it cannot, before the first step."""
    data = context.plan.input.data
    targets = context.data.source.target_shape or ()
    if data.task == "classification":
        fits, wanted = outputs[:-1] == (() if targets == (1,) else targets), "one row of outputs for each label"
    else:
        fits, wanted = math.prod(outputs) == math.prod(targets), "as many outputs as target values"
    if not fits:
        raise InputError(
            f"network: its outputs for one sample have shape {outputs}, but a target of {data.targets!r} has shape"
            f" {targets}; [data] task = {data.task!r} wants {wanted}."
        )


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
