"""Networks in the run folder: made new, read from an earlier phase, written at the end of one; a stage has its part."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from app.errors import ArtifactError, InputError
from app.inputfile.models import Input
from app.inputfile.networks import NetworkTable
from app.inputfile.phases import Distill, Evaluate, Trains
from app.learning.training import load_weights_
from app.networks import build
from app.networks.layers import Layer, ties
from app.networks.user import is_user_kind
from app.phases.context import Context
from app.phases.context.cutting import Cut, cut_of
from app.plan.costs import LayerCost
from app.storage.networks import StoredNetwork, read_architecture, read_network


class BuiltNetwork(NamedTuple):
    """This rank's layers on its device, the tree to build the network again from, and how it is cut.

    names: of all layers. ties: of tied parameters, by full name, to their owner. masks: 0 where a parameter is zero and
    stays so, 1 elsewhere, of those that have single connections removed.
    """

    network: nn.Sequential
    architecture: dict[str, Any]
    cut: Cut
    names: tuple[str, ...]
    ties: Mapping[str, str]
    masks: Mapping[str, torch.Tensor]

    @property
    def sparse(self) -> frozenset[str]:
        """Names of the parameters that have single connections removed, of all layers."""
        return frozenset(self.architecture.get("sparse", ()))

    def weights(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers of this rank's layers by name, not copied."""
        return {name: tensor.detach() for name, tensor in self.network.state_dict().items()}

    def chunks(self, held: Sequence[int]) -> dict[int, nn.Sequential]:
        """The modules of each of this rank's chunks."""
        found: dict[int, nn.Sequential] = {}
        begin = 0
        for number in held:
            end = begin + len(self.cut.pieces[number])
            found[number] = cast("nn.Sequential", self.network[begin:end])
            begin = end
        return found

    def numbers(self, held: Sequence[int]) -> list[int]:
        """The numbers of this rank's layers in the whole network."""
        return [number for chunk in held for number in self.cut.pieces[chunk]]


def new_network(
    context: Context,
    phase: Trains | Evaluate,
    table: NetworkTable | None = None,
    keep_layers: Sequence[str] | None = None,
) -> BuiltNetwork:
    """A network with starting weights, those of a layer the same on every replica; None: the input file's, all layers.

    Collective over: world. Raises InputError when the network does not go with the data.
    """
    table, data = table or context.plan.input.network, context.data
    tree = build.architecture(context.user_file(table.kind), table.arguments(), data.sample_shape, data.outputs)
    tree |= {} if keep_layers is None else {"layers": list(keep_layers)}
    layers = context.together(lambda: build.from_architecture(tree))
    cut = cut_of(context, phase, tree, layers, partial(_refuse_other_targets, context))
    held = context.plan.grid.chunks_of(context.stage)
    seed = context.plan.input.run.seed
    network = context.together(lambda: build.build(layers, seed, [cut.pieces[number] for number in held]))
    # a user's function may draw from generators that the seed does not reach
    context.data_group.bcast_(list(network.state_dict().values()))
    return _built(context, network, tree, cut, layers)


def stored_network(
    context: Context, phase: Trains | Evaluate, path: Path, keep_layers: Sequence[str] | None = None
) -> BuiltNetwork:
    """The network in a file, as a phase left it; keep_layers: of those layers alone, None: of all.

    Collective over: world. Raises ArtifactError, and InputError when it does not go with the data or wants code that
    the input file does not name.
    """
    tree = dict(context.together(lambda: read_known(context, path)).architecture)
    tree |= {} if keep_layers is None else {"layers": list(keep_layers)}
    layers = context.together(lambda: build.from_architecture(tree))
    cut = cut_of(context, phase, tree, layers, partial(_refuse_other_targets, context))
    held = context.plan.grid.chunks_of(context.stage)
    all_of_it = context.plan.grid.stages == 1 and keep_layers is None

    def make() -> nn.Sequential:
        network = build.build(layers, 0, [cut.pieces[number] for number in held])
        own = network.state_dict().keys()
        stored = read_network(path, None if all_of_it else lambda name: name in own)
        try:
            load_weights_(network, stored.weights)
        except ArtifactError as error:
            raise ArtifactError(*(f"{path}: {text}" for text in error.problems)) from None
        return network

    return _built(context, context.together(make), tree, cut, layers)


def read_known(context: Context, path: Path) -> StoredNetwork:
    """A network without its weights, whose architecture can be built.

    Collective over: none. Raises ArtifactError when it is none, InputError when building it would run code that the
    input file does not name.
    """
    stored = read_architecture(path)
    tree = stored.architecture
    wrong = [key for key, kind in _ARCHITECTURE.items() if not isinstance(tree.get(key), kind)]
    if wrong:
        raise ArtifactError(
            f"{path}: its architecture has no {wrong[0]!r} as Phalanx writes it. What to try: name another file."
        )
    kind = str(tree["kind"])
    if is_user_kind(kind) and kind not in {context.user_file(word) for word in _named_kinds(context.plan.input)}:
        raise InputError(
            f"{path}: its network is made by {kind}, which this input file does not name; code is not run because a"
            " file says so. What to try: if you trust it, give that file and function as [network] kind."
        )
    return stored


_ARCHITECTURE = {"kind": str, "options": dict, "sample_shape": list, "outputs": int}


def _named_kinds(given: Input) -> Iterator[str]:
    """Kinds of networks and functions of teachers, as the input file has them."""
    yield given.network.kind
    for phase in given.phase:
        if isinstance(phase, Distill):
            yield from phase.teacher
        for key in ("architecture", "student"):
            table = getattr(phase, key, None)
            if table is not None:
                yield table.kind


def _built(
    context: Context, network: nn.Sequential, tree: dict[str, Any], cut: Cut, layers: Sequence[Layer]
) -> BuiltNetwork:
    names = tuple(layer.name for layer in layers)
    network = network.to(context.device)
    sparse = frozenset(tree.get("sparse", ()))
    masks = {name: (p.detach() != 0).to(p.dtype) for name, p in network.named_parameters() if name in sparse}
    return BuiltNetwork(network, tree, cut, names, ties(layers), masks)


def _refuse_other_targets(context: Context, costs: Sequence[LayerCost]) -> None:
    """The loss compares outputs with targets: refuse shapes it cannot, before the first step."""
    if context.data.source.targets_name is None:  # a network is applied to new samples, and nothing is compared
        return
    outputs = tuple(costs[-1].output_shape)
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
