"""Weights most of whose connections were removed: the elements that are not 0 by row, as scipy.sparse.csr_matrix."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from app.storage.leaves import Later

if TYPE_CHECKING:
    import torch

Part: TypeAlias = "torch.Tensor | Later"
_COLUMN, _POINTER = 4, 8  # bytes
_WIDEST = 2**31 - 1


class Csr(NamedTuple):
    """A weight of `shape` (F, ...) as the matrix (F, product of the rest) in compressed sparse rows.

    values (N,) of the weight's dtype, columns (N,) int32, row_pointers (F + 1,) int64 and shape int64: h5py reads what
    scipy takes, `csr_matrix((values, columns, row_pointers), (shape[0], prod(shape[1:])))`.
    """

    values: Part
    columns: Part
    row_pointers: Part
    shape: Part


def packed(weights: Mapping[str, torch.Tensor], sparse: Collection[str]) -> dict[str, torch.Tensor | Csr]:
    """Those named in `sparse` in the form that takes fewer bytes, the others as they are. Collective over: none."""
    return {name: pack(weight) if name in sparse and _saves(weight) else weight for name, weight in weights.items()}


def packed_bytes(weights: Mapping[str, torch.Tensor], sparse: Collection[str]) -> int:
    """Bytes of what `packed` gives, without making it. Collective over: none."""
    sparse_ones = {name: _sparse_bytes(weight) for name, weight in weights.items() if name in sparse}
    return sum(int(min(sparse_ones.get(name, math.inf), weight.nbytes)) for name, weight in weights.items())


def pack(weight: torch.Tensor) -> Csr:
    """A weight of 2 dims or more. It comes back bit for bit, but -0.0, a masked negative number, comes back as 0.0."""
    import torch

    matrix = weight.detach().cpu().contiguous().view(len(weight), -1)
    rows, columns = torch.nonzero(matrix, as_tuple=True)
    pointers = torch.zeros(len(matrix) + 1, dtype=torch.int64)
    pointers[1:] = torch.bincount(rows, minlength=len(matrix)).cumsum(0)
    return Csr(matrix[rows, columns], columns.int(), pointers, torch.tensor(weight.shape))


def unpacked(stored: Mapping[str, Any], place: str) -> torch.Tensor:
    """The dense weight, bit for bit. Raises ValueError with its place when the parts do not go together."""
    import torch

    parts = [part for part in map(stored.get, Csr._fields) if isinstance(part, torch.Tensor) and part.dim() == 1]
    if len(parts) < len(Csr._fields) or len(stored) > len(parts):
        raise ValueError(f"{place}: not a weight in compressed sparse rows")
    values, columns, pointers, shape = parts
    sizes = [int(size) for size in shape]
    if not _together(values, columns, pointers, sizes):
        raise ValueError(f"{place}: its compressed sparse rows do not go together")
    rows, width = sizes[0], math.prod(sizes[1:])
    try:
        dense = torch.from_numpy(np.zeros(rows * width * values.element_size(), np.uint8)).view(values.dtype)
    except (MemoryError, ValueError) as error:
        raise ValueError(f"{place}: a weight of shape {tuple(sizes)} does not fit the memory") from error
    dense[torch.arange(rows).repeat_interleave(pointers.diff()) * width + columns] = values
    return dense.view(sizes)


def _together(values: torch.Tensor, columns: torch.Tensor, pointers: torch.Tensor, sizes: list[int]) -> bool:
    if len(sizes) < 2 or min(sizes) < 1 or len(pointers) != sizes[0] + 1 or len(columns) != len(values):
        return False
    begin, end = int(pointers[0]), int(pointers[-1])
    rising = begin == 0 and end == len(values) and not bool((pointers.diff() < 0).any())
    return rising and (not end or 0 <= int(columns.min()) <= int(columns.max()) < math.prod(sizes[1:]))


def _saves(weight: torch.Tensor) -> bool:
    return _sparse_bytes(weight) < weight.nbytes


def _sparse_bytes(weight: torch.Tensor) -> float:
    import torch

    if weight.dim() < 2 or not weight.numel() or weight.numel() // len(weight) > _WIDEST:
        return math.inf
    kept = int(torch.count_nonzero(weight.detach()))
    return kept * (weight.element_size() + _COLUMN) + (len(weight) + 1 + weight.dim()) * _POINTER
