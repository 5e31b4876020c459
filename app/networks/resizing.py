"""Layers made smaller than their kind says: a pruned network is built again from the shapes of its weights."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from app.errors import ArtifactError
from app.networks.layers import Layer

Shapes = Mapping[str, Sequence[int]]


def resized(layers: Sequence[Layer], shapes: Shapes) -> list[Layer]:
    """The same layers, whose tensors have the given shapes where one is given, by full name in the network.

    What a layer computes follows its weights: torch's own layers are told their new sizes. Collective over: none.
    """
    whole = layers[0].whole if layers else None
    if whole is not None:
        made, names = whole, {layer.name for layer in layers}
        theirs = {name: shape for name, shape in shapes.items() if name.partition(".")[0] in names}

        def all_of_them() -> dict[str, nn.Module]:
            modules = made()
            resize_(nn.Sequential(OrderedDict(modules)), theirs)  # together, as they may share parameters
            return modules

        return [replace(layer, whole=all_of_them, build=_one_of(all_of_them, layer.name)) for layer in layers]
    return [replace(layer, build=_then(layer.build, _below(layer.name, shapes))) for layer in layers]


def resize_(module: nn.Module, shapes: Shapes) -> nn.Module:
    """Give tensors of a module these shapes, by name; their values are any. Raises ArtifactError for what is not there.

    Only the sizes of dims change; what is one tensor under several names, of one shape, stays one.
    Collective over: none.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    touched: dict[str, nn.Module] = {}
    made: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}  # old and new, by the old one and the shape
    for name, shape in shapes.items():
        path, _, tensor = name.rpartition(".")
        old = getattr(parts.get(path), tensor, None)
        if not isinstance(old, torch.Tensor) or old.dim() != len(shape):
            raise ArtifactError(f"a tensor {name!r} of shape {tuple(shape)} belongs to no layer of this network.")
        if tuple(old.shape) == tuple(shape):
            continue
        _, new = made.setdefault((id(old), *shape), (old, _like(old, shape)))
        setattr(parts[path], tensor, new)
        touched[path] = parts[path]
    for part in touched.values():
        _tell_sizes_(part)
    return module


def _like(old: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    new = torch.zeros(tuple(shape), dtype=old.dtype, device=old.device)
    return nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new


def _tell_sizes_(part: Any) -> None:
    """Set the numbers that torch's layers keep beside their weights."""
    if isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, _ConvNd):
        depthwise = part.groups == part.out_channels == part.in_channels > 1
        if depthwise:
            part.groups = part.weight.shape[0]
        first, second = part.weight.shape[0], part.weight.shape[1] * part.groups
        part.out_channels, part.in_channels = (second, first) if part.transposed else (first, second)
    elif isinstance(part, nn.GroupNorm):
        channels = part.weight.numel()
        if part.num_groups > 1:  # whole groups were removed: what is left is normalised as before
            part.num_groups = channels // (part.num_channels // part.num_groups)
            cast("Any", part).whole_groups = True  # also where one group is left
        part.num_channels = channels
    elif isinstance(part, _NormBase):
        part.num_features = (part.running_mean if part.weight is None else part.weight).numel()
    elif isinstance(part, nn.LayerNorm):
        part.normalized_shape = tuple(part.weight.shape)
    elif isinstance(part, nn.PReLU):
        part.num_parameters = part.weight.numel()
    elif isinstance(part, nn.Embedding):
        part.num_embeddings, part.embedding_dim = part.weight.shape


def _below(layer: str, shapes: Shapes) -> dict[str, Sequence[int]]:
    """The shapes of one layer's tensors, by their names in the layer."""
    return {name.partition(".")[2]: shape for name, shape in shapes.items() if name.partition(".")[0] == layer}


def _then(build: Callable[[], nn.Module], shapes: Shapes) -> Callable[[], nn.Module]:
    return (lambda: resize_(build(), shapes)) if shapes else build


def _one_of(whole: Callable[[], dict[str, nn.Module]], name: str) -> Callable[[], nn.Module]:
    return lambda: whole()[name]
