"""What units are worth: their weights, or what removing them would cost. The least go first.

Each stage of a pipeline has the tensors of its own layers. What a tensor contributes is computed where it is, and added
in one order everywhere, so that scores do not depend on the cut.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
from torch import Tensor

from app.learning.pruning.units import Member, UnitGroup

Gather: TypeAlias = Callable[[Any], list[Any]]  # of every stage, in order
Scores: TypeAlias = list[np.ndarray]  # by group, (units,) float64
Place: TypeAlias = tuple[int, int]  # numbers of a group and of its member
STATISTICS = ("running_mean", "running_var")


def magnitude(groups: Sequence[UnitGroup], tensors: Mapping[str, Tensor], norm: str, gather: Gather) -> Scores:
    """Mean over a group's weights of the l1 or l2 norm of each unit's part, relative to the mean of the units.

    Biases do not count. Source: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017; over all coupled layers
    as in Fang et al., DepGraph, CVPR 2023. Collective over: pipeline, through `gather`.
    """
    value = Tensor.abs if norm == "l1" else Tensor.square
    found = _everywhere(groups, per_member(groups, tensors, is_weight, value), gather)
    return [np.mean([_relative(one if norm == "l1" else np.sqrt(one)) for one in own], 0) for own in found]


def sizes(groups: Sequence[UnitGroup], tensors: Mapping[str, Tensor], gather: Gather) -> Scores:
    """The l2 norm of all numbers of each unit, biases too; 0 where all are. Collective over: pipeline."""
    found = _everywhere(groups, per_member(groups, tensors, is_parameter, Tensor.square), gather)
    return [np.sqrt(np.sum(own, 0)) for own in found]


def scales(groups: Sequence[UnitGroup], tensors: Mapping[str, Tensor], gather: Gather) -> Scores:
    """Mean absolute scale factor of each unit in the normalisations of its group; none: infinity, so that it stays.

    Source: Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017.
    Collective over: pipeline.
    """
    flat = {name: tensor for name, tensor in tensors.items() if tensor.dim() == 1}
    found = _everywhere(groups, per_member(groups, flat, is_weight, Tensor.abs), gather)
    return [np.mean(own, 0) if own else np.full(group.units, np.inf) for group, own in zip(groups, found, strict=True)]


class Taylor:
    """First-order Taylor importance: |what the loss changes by when the unit's outputs become zero|, batch by batch.

    Of a batch it is the sum of gradient times weight over the columns through which the unit is read.
    Source: Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019.
    """

    def __init__(self, groups: Sequence[UnitGroup]) -> None:
        self._groups = groups
        self._batches: list[dict[Place, np.ndarray]] = []

    def add_(self, tensors: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Note a batch: weights by name, and the gradients of its mean loss. Collective over: none."""
        products = {name: gradient.double() * tensors[name].double() for name, gradient in gradients.items()}
        self._batches.append(per_member(self._groups, products, is_read, lambda one: one))

    def scores(self, gather: Gather) -> Scores:
        """Mean over the batches. Collective over: pipeline, through `gather`."""
        places = self._batches[0].keys()
        stacked = {place: np.stack([batch[place] for batch in self._batches]) for place in places}
        found = _everywhere(self._groups, stacked, gather)
        return [np.abs(np.sum(own, 0)).mean(0) for own in found]


def at_random(groups: Sequence[UnitGroup], seed: int, title: str) -> Scores:
    """Uniform numbers keyed by the seed, the title and the group. Collective over: none."""
    return [
        np.random.default_rng((seed, crc32(title.encode()), crc32(group.name.encode()))).random(group.units)
        for group in groups
    ]


def per_member(
    groups: Sequence[UnitGroup],
    tensors: Mapping[str, Tensor],
    counts: Callable[[Member], bool],
    value: Callable[[Tensor], Tensor],
) -> dict[Place, np.ndarray]:
    """Sums of the value of each number of a unit (units,) float64, of the members that count and are here."""
    found = {}
    for number, group in enumerate(groups):
        for place, member in enumerate(group.members):
            tensor = tensors.get(member.tensor)
            if tensor is not None and counts(member):
                along = (
                    value(tensor.detach().double()).movedim(member.dim, 0).reshape(tensor.shape[member.dim], -1).sum(1)
                )
                found[number, place] = along.cpu().numpy()[member.places].sum(1)
    return found


def is_weight(member: Member) -> bool:
    """Weights and scale factors, each once; neither biases nor running statistics."""
    return member.tensor.endswith("weight") and not member.again


def is_parameter(member: Member) -> bool:
    """All but running statistics, each once."""
    return not member.tensor.endswith(STATISTICS) and not member.again


def is_read(member: Member) -> bool:
    """The columns that a unit's values come in by, each once."""
    return member.enters and not member.again


def _everywhere(groups: Sequence[UnitGroup], own: dict[Place, np.ndarray], gather: Gather) -> list[list[np.ndarray]]:
    """By group, what its members contribute, in their order, from all stages."""
    merged: dict[Place, np.ndarray] = {}
    for one in gather(own):
        merged |= one
    return [
        [merged[number, place] for place in range(len(group.members)) if (number, place) in merged]
        for number, group in enumerate(groups)
    ]


def _relative(values: np.ndarray) -> np.ndarray:
    mean = values.mean()
    return values / mean if mean > 0 else values


def finite(scores: Scores) -> bool:
    """Whether every score is a number (infinity says: stays)."""
    return not any(np.isnan(one).any() for one in scores)
