"""The gradient sum over plain MPI: shared memory on one host, MPI's all-reduce over several."""

from collections.abc import Sequence

import torch

from app.parallel.group import Group
from app.parallel.sums import shared_memory
from app.parallel.sums.all_reduce import AllReduce
from app.parallel.sums.packing import Packing
from app.parallel.sums.shared_memory import SharedMemory


class MpiSum:
    """Sums after backward, in place; accelerators' tensors pass through pinned host memory."""

    name = "mpi"

    def __init__(self, group: Group, reason: str, *, shared: bool) -> None:
        """shared: sum through shared memory (all ranks on one host). Collective over: data."""
        self.reason = reason
        self._group = group
        self._transport: SharedMemory | AllReduce = SharedMemory(group) if shared else AllReduce(group)
        self._packing: Packing | None = None

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Sum the tensors over the ranks in place. Collective over: data. Raises NumbersError: lists differ."""
        if self._packing is None:
            self._packing = Packing(tensors, self._group, on_device=False)
        with torch.no_grad():
            flats = self._packing.pack(tensors)
            self._transport.sum_(flats)
            self._packing.unpack_(tensors)

    def close(self) -> None:
        """Give shared memory back. Collective over: data."""
        self._transport.close()


def open_mpi_sum(group: Group, hosts: int) -> MpiSum:
    """The fitting way for this group. Collective over: data."""
    if hosts > 1:
        return MpiSum(group, f"mpi: {group.size} ranks on {hosts} hosts; MPI's all-reduce", shared=False)
    if shared_memory.available(group):
        text = f"mpi: {group.size} ranks on one host; shared memory is the fastest way on CPUs"
        return MpiSum(group, text, shared=True)
    text = f"mpi: {group.size} ranks on one host, but without shared memory for all of them (a small /dev/shm?)"
    return MpiSum(group, text, shared=False)
