"""From a network's kind and numbers to its layers, and from layers to modules with their starting weights."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from app.errors import InputError
from app.networks.layers import Layer, chosen, ties
from app.networks.lenet import lenet
from app.networks.listed import listed
from app.networks.mlp import mlp
from app.networks.resizing import resized
from app.networks.resnet import resnet
from app.networks.transformer import transformer
from app.networks.user import is_user_kind, user_layers

KINDS: dict[str, Callable[..., list[Layer]]] = {
    "mlp": mlp,
    "lenet": lenet,
    "resnet": resnet,
    "transformer": transformer,
    "layers": listed,
}
WEIGHTS = 0x77656967  # keeps the keys of starting weights apart from other uses of the same seed


def layers(kind: str, options: Mapping[str, Any], sample_shape: Sequence[int], outputs: int) -> list[Layer]:
    """Layers of a built-in kind, or of the user's "/absolute/file.py:function"; options are the kind's own keys.

    sample_shape: shape of one sample without its batch dim. outputs: K, the size of the last dim of the outputs.
    Collective over: none. Raises InputError.
    """
    if is_user_kind(kind):
        return user_layers(kind, options=options, sample_shape=sample_shape, outputs=outputs)
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise InputError(f"network kind {kind!r} is not known; use one of {known}, or 'file.py:function' of your own")
    parameters = inspect.signature(KINDS[kind]).parameters
    expected = set(parameters) - {"sample_shape", "outputs"}
    # A key that came later has a default, so that networks stored before can be read.
    later = {name for name in expected if parameters[name].default is not inspect.Parameter.empty}
    if differing := (set(options) ^ expected) - later:
        wrong = ", ".join(sorted(differing))
        raise InputError(f"network {kind}: expected exactly the keys {', '.join(sorted(expected))}; differing: {wrong}")
    return KINDS[kind](**options, sample_shape=tuple(sample_shape), outputs=outputs)


def build(layers: Sequence[Layer], seed: int, chunks: Sequence[range] | None = None) -> nn.Sequential:
    """The layers of all chunks (ranges of layer numbers), in order; None: all layers.

    They are on the CPU, with starting weights, in training mode. The weights of a layer depend on the seed and its
    number alone, so that a stage starts with the same weights as the whole network. A user's network that is made in
    one call has the key of layer 0; what is not in the chunks is dropped. A tied parameter has its owner's value, and
    all that are the same parameter are one Parameter. Torch's global random generator is left as it was.
    Collective over: none. Raises InputError.
    """
    numbers = list(range(len(layers))) if chunks is None else [number for chunk in chunks for number in chunk]
    if layers and layers[0].whole is not None:
        with _keyed(seed, 0):
            whole = layers[0].whole()
        return nn.Sequential(OrderedDict((layers[number].name, whole[layers[number].name]) for number in numbers))
    modules = OrderedDict((layers[number].name, _make(layers, number, seed)) for number in numbers)
    owners: dict[str, dict[str, str]] = {}
    for alias, owner in ties([layers[number] for number in numbers]).items():
        owners.setdefault(owner.partition(".")[0], {})[alias] = owner
    for number, layer in enumerate(layers):
        if layer.name in owners:
            # An owner that another stage holds is made here for a moment, to take the value from.
            source = modules[layer.name] if layer.name in modules else _make(layers, number, seed)
            _tie_(modules, owners[layer.name], source)
            del source
    return nn.Sequential(modules)


def _make(layers: Sequence[Layer], number: int, seed: int) -> nn.Module:
    with _keyed(seed, number):
        return layers[number].build()


def _tie_(modules: Mapping[str, nn.Module], ties: Mapping[str, str], source: nn.Module) -> None:
    """Put the parameters of `source`, the owner's layer, in the place of those tied to them."""
    for alias, owner in ties.items():
        layer, _, inside = alias.partition(".")
        path, _, name = inside.rpartition(".")
        setattr(modules[layer].get_submodule(path), name, source.get_parameter(owner.partition(".")[2]))


@contextmanager
def _keyed(seed: int, number: int) -> Iterator[None]:
    """Torch's CPU generator seeded by (seed, layer number) inside, and put back afterwards."""
    key = int(np.random.SeedSequence((WEIGHTS, seed, number)).generate_state(1, np.uint64)[0])
    state = torch.default_generator.get_state()
    try:
        # The CPU generator alone: networks are made on the CPU, so that the device does not change the weights.
        torch.default_generator.manual_seed(key)
        yield
    finally:
        torch.default_generator.set_state(state)


def architecture(kind: str, options: Mapping[str, Any], sample_shape: Sequence[int], outputs: int) -> dict[str, Any]:
    """The tree from which the same layers can be made again; plain values only, for storage."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    return {"kind": kind, "options": plain, "sample_shape": list(sample_shape), "outputs": outputs}


def from_architecture(tree: Mapping[str, Any]) -> list[Layer]:
    """Layers from the tree made by `architecture`, of the "shapes" that pruning has left; of "layers" those named.

    Raises InputError.
    """
    found = layers(tree["kind"], tree["options"], tree["sample_shape"], tree["outputs"])
    if "shapes" in tree:
        found = resized(found, tree["shapes"])
    return chosen(found, tree["layers"]) if "layers" in tree else found
