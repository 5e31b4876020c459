"""Sum over ranks of several hosts with MPI's own all-reduce, in place, one tensor after the other."""

from collections.abc import Sequence

import torch

from app.parallel.group import Group


class AllReduce:
    """MPI_Allreduce of each flat tensor; MPI picks the algorithm by bytes and ranks, so a grid repeats itself."""

    def __init__(self, group: Group) -> None:
        """Collective over: data."""
        self._comm = group.comm.Dup()

    def sum_(self, flats: Sequence[torch.Tensor]) -> None:
        """Sum flat contiguous CPU tensors in place. Collective over: data."""
        from mpi4py import MPI

        for flat in flats:
            self._comm.Allreduce(MPI.IN_PLACE, flat.numpy())

    def close(self) -> None:
        """Collective over: data."""
        self._comm.Free()
