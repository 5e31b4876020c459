"""Sum over the ranks of one host through memory that all of them see, in segments that stay in the L2 cache."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from app.parallel.group import Group

# Measured for 75 MB over 2 ranks: segments of 256 KB 12.0 ms, 1 MB 11.0, 4 MB 17.5; MPI_Allreduce 21 at its best. With
# more ranks every one adds a smaller part, and more barriers cost more than a cache that is too small.
BYTES_PER_RANK = 512 * 1024
LARGEST_SEGMENT = 2 * 1024 * 1024
CACHE_LINE = 64
SHARED_FOLDER = Path("/dev/shm")


class Sizes(NamedTuple):
    """Bytes of one segment for numbers that go out, and of one for sums that come back (a rank's part of it)."""

    out: int
    back: int

    @property
    def window(self) -> int:
        """Bytes that one rank contributes: two segments of each."""
        return 2 * (self.out + self.back)


def sizes_for(ranks: int) -> Sizes:
    """The segments for this number of ranks. Collective over: none."""
    out = min(ranks * BYTES_PER_RANK, LARGEST_SEGMENT)
    return Sizes(out, (out // ranks // CACHE_LINE + 1) * CACHE_LINE)


def available(group: Group) -> bool:
    """True when all ranks of the group share memory and there is room for the segments. Collective over: data."""
    from mpi4py import MPI

    local = group.comm.Split_type(MPI.COMM_TYPE_SHARED, group.rank)
    sees_all = local.size == group.size
    local.Free()
    room = (
        not SHARED_FOLDER.is_dir()
        or shutil.disk_usage(SHARED_FOLDER).free > 2 * group.size * sizes_for(group.size).window
    )
    return all(group.allgather(sees_all and room))


class SharedMemory:
    """Two alternating segments per rank for numbers that go out, and two for the sums that come back.

    A rank may write a segment again two barriers after it filled it: the others have read it before the one between.
    Numbers are added in rank order, so the sum repeats bit for bit at every number of ranks.
    """

    def __init__(self, group: Group) -> None:
        """Collective over: data."""
        from mpi4py import MPI

        self._rank, self._size = group.rank, group.size
        self._sizes = sizes_for(group.size)
        self._comm = group.comm.Dup()
        pages = MPI.Info.Create({"alloc_shared_noncontig": "true"})
        self._window: Any = MPI.Win.Allocate_shared(self._sizes.window, 1, pages, self._comm)
        pages.Free()
        self._raw = [self._window.Shared_query(rank)[0] for rank in range(self._size)]
        self._typed: dict[torch.dtype, list[tuple[torch.Tensor, ...]]] = {}

    def sum_(self, flats: Sequence[torch.Tensor]) -> None:
        """Sum flat contiguous CPU tensors in place. Collective over: data."""
        if self._size == 1:
            return
        for dtype in dict.fromkeys(flat.dtype for flat in flats):
            segments = self._segments(dtype)
            length = self._sizes.out // dtype.itemsize
            chunks = [chunk for flat in flats if flat.dtype == dtype for chunk in flat.split(length)]
            if self._size == 2:
                self._exchange(chunks, segments)
            else:
                self._scatter_and_gather(chunks, segments)

    def close(self) -> None:
        """Give the shared memory back. Collective over: data."""
        self._typed, self._raw = {}, []
        self._window.Free()
        self._comm.Free()

    def _segments(self, dtype: torch.dtype) -> list[tuple[torch.Tensor, ...]]:
        """By rank: out, out, back, back, as tensors of this type."""
        if dtype not in self._typed:
            out, back = (size // dtype.itemsize for size in self._sizes)
            whole = [torch.frombuffer(raw, dtype=dtype, count=2 * (out + back)) for raw in self._raw]
            self._typed[dtype] = [flat.split([out, out, back, back]) for flat in whole]
        return self._typed[dtype]

    def _exchange(self, chunks: list[torch.Tensor], segments: list[tuple[torch.Tensor, ...]]) -> None:
        """Two ranks: each shows its numbers and adds the other's. One barrier per chunk."""
        mine, other = segments[self._rank], segments[1 - self._rank]
        barrier = self._comm.Barrier
        for number, chunk in enumerate(chunks):
            turn, count = number & 1, chunk.numel()
            mine[turn][:count].copy_(chunk)
            barrier()
            chunk.add_(other[turn][:count])
        barrier()  # the next call begins with segment 0 again, whatever the number of chunks was

    def _scatter_and_gather(self, chunks: list[torch.Tensor], segments: list[tuple[torch.Tensor, ...]]) -> None:
        """More ranks: each adds one part of every chunk, so that its work does not grow with their number.

        One barrier per chunk: between two of them a rank sends chunk k, adds its part of k - 1, fetches sums of k - 2.
        """
        parts = [chunk.split(-(-chunk.numel() // self._size)) for chunk in chunks]
        for k in range(len(chunks) + 2):
            if k < len(chunks):
                self._send(parts[k], segments[self._rank][k & 1])
            if 1 <= k <= len(chunks):
                self._add(parts[k - 1], segments, (k - 1) & 1)
            if k >= 2:
                self._fetch(parts[k - 2], segments, k & 1)
            self._comm.Barrier()

    def _send(self, parts: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        start = 0
        for owner, part in enumerate(parts):
            if owner != self._rank:
                out[start : start + part.numel()].copy_(part)
            start += part.numel()

    def _add(self, parts: tuple[torch.Tensor, ...], segments: list[tuple[torch.Tensor, ...]], turn: int) -> None:
        if self._rank >= len(parts):
            return
        own = parts[self._rank]
        start = self._rank * parts[0].numel()
        place = slice(start, start + own.numel())
        terms = [own if rank == self._rank else segments[rank][turn][place] for rank in range(self._size)]
        total = segments[self._rank][2 + turn][: own.numel()]
        torch.add(terms[0], terms[1], out=total)
        for term in terms[2:]:
            total.add_(term)
        own.copy_(total)

    def _fetch(self, parts: tuple[torch.Tensor, ...], segments: list[tuple[torch.Tensor, ...]], turn: int) -> None:
        for owner, part in enumerate(parts):
            if owner != self._rank:
                part.copy_(segments[owner][2 + turn][: part.numel()])
