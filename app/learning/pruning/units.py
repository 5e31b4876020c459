"""Units that can be removed, as places in tensors, and cutting them out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor


class Member(NamedTuple):
    """A dim of a tensor that shrinks with a group. places (units, n): the indices along it that belong to each unit.

    enters: values come in along the dim, so that zeros there have the effect of the unit's removal. again: another
    member is this dim of the same tensor under another name; where numbers are added up it counts.
    """

    tensor: str
    dim: int
    places: np.ndarray
    enters: bool
    again: bool = False


class UnitGroup(NamedTuple):
    """Units that can be removed one by one, each from all members. width: channels of a unit, of its first member."""

    name: str
    units: int
    width: int
    members: tuple[Member, ...]


Removed: TypeAlias = Sequence[tuple[UnitGroup, Sequence[int]]]  # groups with the numbers of the units that go


def kept_places(shapes: Mapping[str, Sequence[int]], removed: Removed) -> dict[str, dict[int, np.ndarray]]:
    """By tensor and dim, the indices (n,) int64 that stay, ascending; `removed`: units of each group."""
    gone: dict[tuple[str, int], list[np.ndarray]] = {}
    for group, units in removed:
        for member in group.members if len(units) else ():
            gone.setdefault((member.tensor, member.dim), []).append(member.places[list(units)].reshape(-1))
    found: dict[str, dict[int, np.ndarray]] = {}
    for (tensor, dim), places in gone.items():
        stays = np.ones(shapes[tensor][dim], bool)
        stays[np.concatenate(places)] = False
        found.setdefault(tensor, {})[dim] = np.flatnonzero(stays)
    return found


def cut_shapes(shapes: Mapping[str, Sequence[int]], removed: Removed) -> dict[str, tuple[int, ...]]:
    """The new shapes of the tensors that get smaller."""
    return {
        tensor: tuple(len(dims[dim]) if dim in dims else size for dim, size in enumerate(shapes[tensor]))
        for tensor, dims in kept_places(shapes, removed).items()
    }


def cut(weights: Mapping[str, Tensor], removed: Removed) -> dict[str, Tensor]:
    """The weights by name without the removed units: new tensors where something goes. Collective over: none."""
    places = kept_places({name: tuple(tensor.shape) for name, tensor in weights.items()}, _of(weights, removed))
    found = {}
    for name, tensor in weights.items():
        for dim, stays in places.get(name, {}).items():
            tensor = tensor.index_select(dim, torch.from_numpy(stays).to(tensor.device))
        found[name] = tensor
    return found


def _of(weights: Mapping[str, Tensor], removed: Removed) -> Removed:
    """The groups with those members alone whose tensors are here."""
    return [
        (group._replace(members=tuple(member for member in group.members if member.tensor in weights)), units)
        for group, units in removed
    ]
