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
from app.networks.layers import Layer
from app.networks.lenet import lenet
from app.networks.mlp import mlp
from app.networks.resnet import resnet
from app.networks.transformer import transformer
from app.networks.user import is_user_kind, user_layers

KINDS: dict[str, Callable[..., list[Layer]]] = {
    "mlp": mlp,
    "lenet": lenet,
    "resnet": resnet,
    "transformer": transformer,
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
    expected = set(inspect.signature(KINDS[kind]).parameters) - {"sample_shape", "outputs"}
    if set(options) != expected:
        wrong = ", ".join(sorted(set(options) ^ expected))
        raise InputError(f"network {kind}: expected exactly the keys {', '.join(sorted(expected))}; differing: {wrong}")
    return KINDS[kind](**options, sample_shape=tuple(sample_shape), outputs=outputs)


def build(layers: Sequence[Layer], seed: int, start: int = 0, stop: int | None = None) -> nn.Sequential:
    """Layers start to stop (global numbers, stop excluded) on the CPU, with starting weights, in training mode.

    The weights of a layer depend on the seed and its global number alone, so that a stage starts with the same
    weights as the whole network. A user's network is made in one call with the key of layer 0. Torch's global random
    generator is left as it was. Collective over: none.
    """
    numbers = range(len(layers))[start:stop]
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    if layers and layers[0].whole is not None:
        with _keyed(seed, 0):
            whole = layers[0].whole()
        return nn.Sequential(OrderedDict((layers[number].name, whole[layers[number].name]) for number in numbers))
    for number in numbers:
        with _keyed(seed, number):
            modules[layers[number].name] = layers[number].build()
    return nn.Sequential(modules)


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
    """Layers from the tree made by `architecture`. Raises InputError."""
    return layers(tree["kind"], tree["options"], tree["sample_shape"], tree["outputs"])
