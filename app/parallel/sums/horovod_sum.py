"""The gradient sum over Horovod: asynchronous all-reduces that its background thread runs."""

import importlib.util
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from app.parallel.group import Group
from app.parallel.sums.packing import Packing

_numbers = itertools.count()  # one per sum, the same on all ranks: Horovod knows tensors by name


def installed(group: Group) -> bool:
    """True when every rank of the group can import Horovod for torch. Collective over: data."""
    return all(group.allgather(importlib.util.find_spec("horovod") is not None))


class HorovodSum:
    """Large tensors go to Horovod as they are, small ones in one bucket; CUDA tensors stay on their device (NCCL)."""

    name = "horovod"

    def __init__(self, group: Group, reason: str) -> None:
        """Collective over: data. MPI must have been started by mpi4py before."""
        self.reason = reason
        self._group = group
        self._horovod = _start(group)
        self._prefix = f"sum{next(_numbers)}"
        self._packing: Packing | None = None

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Sum the tensors over the ranks in place. Collective over: data. Raises NumbersError: lists differ."""
        if self._packing is None:
            self._packing = Packing(tensors, self._group, on_device=True)
        horovod = self._horovod
        with torch.no_grad():
            flats = self._packing.pack(tensors)
            handles = [
                horovod.allreduce_async_(flat, name=f"{self._prefix}.{number}", op=horovod.Sum)
                for number, flat in enumerate(flats)
            ]
            for handle in handles:
                horovod.synchronize(handle)
            self._packing.unpack_(tensors)

    def close(self) -> None:
        """Nothing to give back: Horovod lives as long as the process."""


def has_nccl() -> bool:
    """True when the installed Horovod can sum CUDA tensors on their device. Collective over: none."""
    import horovod.torch as horovod

    return bool(horovod.nccl_built())


def _start(group: Group) -> Any:
    """Horovod for this group's ranks; a second sum of the same group uses the same."""
    import horovod.torch as horovod
    from mpi4py import MPI

    if horovod.is_initialized():
        running = horovod.global_process_set.mpi_comm
        same = running is not None and MPI.Comm.Compare(running, group.comm) in (MPI.IDENT, MPI.CONGRUENT)
        if all(group.allgather(same)):
            return horovod
        horovod.shutdown()
    horovod.init(comm=group.comm)
    return horovod
