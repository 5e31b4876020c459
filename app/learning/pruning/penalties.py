"""What drives weights to zero while a network trains: applied to the weights after each step."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from app.learning.pruning.scores import STATISTICS, Gather, is_parameter, sizes
from app.learning.pruning.units import Member, Removed, UnitGroup


class Penalty(Protocol):
    """Moves weights towards zero. Collective over: pipeline."""

    def __call__(self, rate: float, progress: float) -> None:
        """rate: of the step that was done; progress: share of the training done, 1 after the last step."""
        ...


class Lasso:
    """Group lasso: the norm of each unit, over all its layers, shrinks by rate x strength x sqrt(its numbers).

    The proximal step makes units exactly zero. Source: Yuan and Lin, Model selection and estimation in regression with
    grouped variables, 2006; for coupled layers Wen et al., Learning Structured Sparsity in DNNs, NeurIPS 2016.
    """

    def __init__(
        self, groups: Sequence[UnitGroup], tensors: Mapping[str, Tensor], strength: float, gather: Gather
    ) -> None:
        self._groups, self._tensors, self._strength, self._gather = groups, tensors, strength, gather
        own = [_numbers(group, tensors) for group in groups]
        self._numbers = [float(sum(counts)) for counts in zip(*gather(own), strict=True)]

    @torch.no_grad()
    def __call__(self, rate: float, progress: float) -> None:
        norms = sizes(self._groups, self._tensors, self._gather)
        for group, norm, numbers in zip(self._groups, norms, self._numbers, strict=True):
            shrink = rate * self._strength * np.sqrt(numbers)
            _scale_(group, self._tensors, np.maximum(0.0, 1 - shrink / np.maximum(norm, 1e-30)))


class Growing:
    """Takes a growing share off the units that will go, all of it at the end.

    Source: Wang et al., Neural Pruning via Growing Regularization, ICLR 2021.
    """

    def __init__(self, removed: Removed, tensors: Mapping[str, Tensor]) -> None:
        self._removed, self._tensors = removed, tensors

    @torch.no_grad()
    def __call__(self, rate: float, progress: float) -> None:
        for group, units in self._removed:
            factors = np.ones(group.units)
            factors[list(units)] = 1 - progress**2
            _scale_(group, self._tensors, factors)


class ScaleL1:
    """L1 on the scale factors of normalisations. Source: Liu et al., Network Slimming, ICCV 2017."""

    def __init__(self, groups: Sequence[UnitGroup], tensors: Mapping[str, Tensor], strength: float) -> None:
        named = [m.tensor for group in groups for m in group.members if m.tensor.endswith("weight")]
        here = [tensors[name] for name in named if name in tensors and tensors[name].dim() == 1]
        self._scales = list({scale.data_ptr(): scale for scale in here}.values())
        self._strength = strength

    @torch.no_grad()
    def __call__(self, rate: float, progress: float) -> None:
        for scale in self._scales:
            shrink_(scale, rate * self._strength)


class ConnectionL1:
    """L1 on single weights: the lasso of units of one."""

    def __init__(self, weights: Mapping[str, Tensor], strength: float) -> None:
        self._weights, self._strength = list(weights.values()), strength

    @torch.no_grad()
    def __call__(self, rate: float, progress: float) -> None:
        for weight in self._weights:
            shrink_(weight, rate * self._strength)


class ConnectionGrowing:
    """Takes a growing share off the weights that will go, all of it at the end."""

    def __init__(self, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
        self._pairs = [(weights[name], mask) for name, mask in masks.items()]

    @torch.no_grad()
    def __call__(self, rate: float, progress: float) -> None:
        for weight, mask in self._pairs:
            weight.mul_(torch.where(mask, 1.0, 1 - progress**2))


def shrink_(tensor: Tensor, by: float) -> None:
    """Soft threshold: the proximal step of an L1 norm (Tibshirani 1996)."""
    tensor.copy_(tensor.sign() * (tensor.abs() - by).clamp_(min=0))


def _numbers(group: UnitGroup, tensors: Mapping[str, Tensor]) -> int:
    """Of one unit, in the tensors that are here."""
    counted = [member for member in _here(group, tensors) if is_parameter(member)]
    return sum(tensors[m.tensor].numel() // tensors[m.tensor].shape[m.dim] * m.places.shape[1] for m in counted)


def _scale_(group: UnitGroup, tensors: Mapping[str, Tensor], factors: np.ndarray) -> None:
    """Multiply all numbers of each unit by its factor."""
    changed = np.flatnonzero(factors != 1)
    if not len(changed):
        return
    # A tied parameter has two names in one group and is one tensor where one stage holds both.
    here = {(tensors[member.tensor].data_ptr(), member.dim): member for member in _here(group, tensors)}
    for member in here.values():
        tensor = tensors[member.tensor]
        along = np.ones(tensor.shape[member.dim])
        along[member.places[changed]] = factors[changed, None]
        shape = [-1 if dim == member.dim else 1 for dim in range(tensor.dim())]
        tensor.mul_(torch.from_numpy(along).to(tensor.device, tensor.dtype).view(shape))


def _here(group: UnitGroup, tensors: Mapping[str, Tensor]) -> list[Member]:
    """All but running statistics; every name of a tensor, as each stage that has it has to change its copy."""
    return [member for member in group.members if member.tensor in tensors and not member.tensor.endswith(STATISTICS)]
