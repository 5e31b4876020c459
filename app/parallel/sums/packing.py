"""Turns a list of tensors into few flat ones that can be summed, and back: small ones share a bucket, large ones stay.

Copies cost more than the sum on shared memory, so a large tensor is handed over as a view of itself wherever it can be.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch

from app.errors import NumbersError
from app.parallel.group import Group

SMALL_BYTES = 64 * 1024
WIDER = {torch.bfloat16: torch.float32, torch.float16: torch.float32}  # summed in


class Bucket(NamedTuple):
    """Small tensors of one type and device, copied side by side into `flat`."""

    members: list[int]
    flat: torch.Tensor
    views: list[torch.Tensor]


class Packing:
    """The fixed plan for one list of tensors. Same number, shapes and types at every call; other tensors are fine."""

    def __init__(self, tensors: Sequence[torch.Tensor], group: Group, *, on_device: bool) -> None:
        """Check that all ranks pass the same list. Collective over: data. Raises NumbersError when they do not.

        on_device: leave the flat tensors on their device instead of staging them through (pinned) host memory.
        """
        self._on_device = on_device
        self._signature = _signature(tensors)
        self._dims = _agree(tensors, group)
        small = [i for i, tensor in enumerate(tensors) if 0 < tensor.nbytes < SMALL_BYTES]
        self._buckets = _buckets(tensors, small)
        self._large = [i for i, tensor in enumerate(tensors) if tensor.nbytes >= SMALL_BYTES]
        self._stages: dict[int, torch.Tensor] = {}
        self._staged: list[tuple[torch.Tensor, torch.Tensor]] = []

    def pack(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Flat contiguous tensors to sum in place. Collective over: none. Raises NumbersError: the list changed."""
        if _signature(tensors) != self._signature:
            raise NumbersError(_change(self._signature, _signature(tensors)))
        self._staged = []
        for bucket in self._buckets:
            torch._foreach_copy_(bucket.views, [tensors[i] for i in bucket.members])
        flats = [self._flat(-1 - number, bucket.flat) for number, bucket in enumerate(self._buckets)]
        flats += [self._flat(i, self._in_memory_order(tensors[i], i)) for i in self._large]
        if torch.accelerator.is_available() and any(source.device.type != "cpu" for source, _ in self._staged):
            torch.accelerator.synchronize()
        return flats

    def unpack_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put the sums where the numbers came from. Collective over: none."""
        for source, stage in self._staged:
            source.copy_(stage.view(source.shape), non_blocking=True)
        self._staged = []
        for bucket in self._buckets:
            torch._foreach_copy_([tensors[i] for i in bucket.members], bucket.views)

    def _in_memory_order(self, tensor: torch.Tensor, number: int) -> torch.Tensor:
        dims = self._dims[number]
        return tensor.permute(dims) if dims else tensor

    def _flat(self, key: int, source: torch.Tensor) -> torch.Tensor:
        """A flat view where possible; otherwise a copy of the right type, order and device, remembered for unpack_."""
        wanted = WIDER.get(source.dtype, source.dtype)
        stays = self._on_device or source.device.type == "cpu"
        if stays and wanted == source.dtype and source.is_contiguous():
            return source.view(-1)
        if key not in self._stages:
            device = source.device if stays else torch.device("cpu")
            pinned = not stays and torch.accelerator.is_available()  # not for XLA
            self._stages[key] = torch.empty(source.numel(), dtype=wanted, device=device, pin_memory=pinned)
        stage = self._stages[key]
        stage.view(source.shape).copy_(source, non_blocking=True)
        self._staged.append((source, stage))
        return stage


def _signature(tensors: Sequence[torch.Tensor]) -> list[tuple[torch.Size, torch.dtype]]:
    return [(tensor.shape, tensor.dtype) for tensor in tensors]


def _change(before: list[tuple[torch.Size, torch.dtype]], now: list[tuple[torch.Size, torch.dtype]]) -> str:
    """The sentence for a list that changed between two steps."""
    found = f"The list of tensors to sum changed between two steps: {len(before)} tensors before, {len(now)} now"
    for number, (old, new) in enumerate(zip(before, now, strict=False)):
        if old != new:
            found += f"; tensor {number} was {_describe(*old)} and is {_describe(*new)}"
            break
    return found + ". Every parameter must get a gradient in every step; check layers that are used only sometimes."


def _describe(shape: torch.Size, dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} of shape {tuple(shape)}"


def _buckets(tensors: Sequence[torch.Tensor], small: list[int]) -> list[Bucket]:
    kinds: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    for i in small:
        kinds.setdefault((WIDER.get(tensors[i].dtype, tensors[i].dtype), tensors[i].device), []).append(i)
    buckets = []
    for (dtype, device), members in kinds.items():
        sizes = [tensors[i].numel() for i in members]
        flat = torch.empty(sum(sizes), dtype=dtype, device=device)
        views = [part.view(tensors[i].shape) for i, part in zip(members, flat.split(sizes), strict=True)]
        buckets.append(Bucket(members, flat, views))
    return buckets


def _memory_order(tensor: torch.Tensor) -> tuple[int, ...]:
    """Dims from the largest stride to the smallest, for tensors such as channels_last; () when nothing to permute."""
    if tensor.is_contiguous():
        return ()
    dims = tuple(sorted(range(tensor.dim()), key=lambda dim: -tensor.stride()[dim]))
    return dims if tensor.permute(dims).is_contiguous() else ()


def _agree(tensors: Sequence[torch.Tensor], group: Group) -> list[tuple[int, ...]]:
    """All ranks' lists must be equal. Their memory order may differ: then every rank uses the plain one."""
    lines = [_describe(tensor.shape, tensor.dtype) for tensor in tensors]
    orders = [_memory_order(tensor) for tensor in tensors]
    found = group.allgather((_digest(lines), _digest(orders)))
    if len({lists for lists, _ in found}) > 1:
        raise NumbersError(_difference(group.allgather(lines))).on_every_rank()
    return orders if len({order for _, order in found}) == 1 else [()] * len(orders)


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _difference(lists: list[list[str]]) -> str:
    """The sentence for ranks that would sum different tensors."""
    rank = next(r for r, lines in enumerate(lists) if lines != lists[0])
    first, other = lists[0], lists[rank]
    found = f"The ranks would sum different tensors: rank 0 of the group has {len(first)}, rank {rank} has {len(other)}"
    for number, (one, two) in enumerate(zip(first, other, strict=False)):
        if one != two:
            found += f"; tensor {number} is {one} on rank 0 and {two} on rank {rank}"
            break
    return found + ". Every rank must build the same network; check that it does not depend on the rank or on chance."
