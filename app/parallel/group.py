"""A group: some ranks of the world that work on the same thing."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    import torch
    from mpi4py import MPI

T = TypeVar("T")
POLL_S = 0.005
GATHERED_BYTES = 1 << 20  # up to this, sums are formed in rank order by everybody


class Waiting(Protocol):
    """Makes what is entered around a wait for other ranks, such as Watchdog.waiting."""

    def __call__(self, name: str, patient: bool = False) -> AbstractContextManager: ...


def unwatched(name: str, patient: bool = False) -> AbstractContextManager:
    return nullcontext()


@dataclass(frozen=True)
class Group:
    """The ranks of one communicator."""

    comm: "MPI.Intracomm"
    waiting: Waiting = unwatched

    @property
    def rank(self) -> int:
        """This rank's number in the group."""
        return self.comm.rank

    @property
    def size(self) -> int:
        """Number of ranks in the group."""
        return self.comm.size

    def watched(self, waiting: Waiting) -> "Group":
        """The same ranks; whenever one waits for others it enters what `waiting` makes. Collective over: none."""
        return replace(self, waiting=waiting)

    def sum_(self, array: np.ndarray) -> None:
        """Sum float64 or int64 numbers over the ranks in place; every rank gets the same bits.

        Small arrays are added in rank order, so that the result does not depend on how MPI orders its sums; large ones
        are left to MPI's all-reduce, which is exact for integers. Collective over: the group.
        """
        if self.size == 1:
            return
        flat = np.ascontiguousarray(array)
        if flat.nbytes * self.size <= GATHERED_BYTES:
            everyone = np.empty((self.size, *flat.shape), flat.dtype)
            with self.waiting("sum over ranks"):
                self.comm.Allgather(flat, everyone)
            total = everyone[0]
            for other in everyone[1:]:
                total += other
            array[...] = total
            return
        total = np.empty_like(flat)
        with self.waiting("sum over ranks"):
            self.comm.Allreduce(flat, total)
        array[...] = total

    def split(self, color: int, key: int) -> "Group":
        """The ranks that pass the same color, in the order of key. Collective over: the group."""
        with self.waiting("forming of a group of ranks"):
            return Group(cast("MPI.Intracomm", self.comm.Split(color, key)), self.waiting)

    def bcast_(self, tensors: Sequence["torch.Tensor"], root: int = 0) -> None:
        """Overwrite tensors of any type, layout and device with the root's. Collective over: the group."""
        import torch

        for tensor in tensors:
            host = tensor.detach().to("cpu", copy=False).contiguous()
            buffer = host.view(-1).view(torch.uint8).numpy() if host.numel() else np.empty(0, np.uint8)
            with self.waiting("broadcast of tensors"):
                self.comm.Bcast(buffer, root)
            if self.rank != root and host.numel() and host.data_ptr() != tensor.data_ptr():
                with torch.no_grad():
                    tensor.copy_(host)

    def allgather(self, value: T) -> list[T]:
        """Every rank's value, by rank. Collective over: the group."""
        with self.waiting("gathering over ranks"):
            return self.comm.allgather(value)

    def bcast(self, value: T | None, root: int = 0) -> T:
        """The root's value on every rank. Collective over: the group."""
        with self.waiting("broadcast"):
            return self.comm.bcast(value, root=root)

    def barrier(self) -> None:
        """Wait until every rank of the group is here. Collective over: the group."""
        with self.waiting("barrier"):
            self.comm.Barrier()

    def barrier_asleep(self) -> None:
        """As `barrier`, but who waits leaves its core to others: MPI itself asks without a pause. 5 ms slower.

        The others may take as long as they like. Collective over: the group.
        """
        if self.size == 1:
            return
        with self.waiting("end of what other ranks compute", patient=True):
            request = self.comm.Ibarrier()
            while not request.Test():
                time.sleep(POLL_S)
