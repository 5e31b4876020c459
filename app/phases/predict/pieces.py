"""How samples are cut into pieces, the same on any grid, and which windows a rank reads for its own."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.data import order
from app.data.batches import Reading, members_before, reading
from app.data.source import Source
from app.data.split import AnySplit

PIECE_NUMBERS = 1 << 16  # outputs of a piece
PIECE_BYTES = 32 << 20  # of its inputs
PIECES = 32  # of a set, at least, so that ranks have equal shares
MOST_PIECES = 1 << 14  # of one that is not small: each is a file


@dataclass(frozen=True)
class Pieces:
    """`count` samples of a part in pieces of `rows`, the last of which may be short; each is whole microbatches."""

    epoch: order.Epoch
    count: int
    rows: int
    microbatch: int

    @property
    def number(self) -> int:
        """How many there are."""
        return -(-self.count // self.rows)

    def positions(self, piece: int) -> range:
        """Of the samples of a piece among those of the part."""
        return range(piece * self.rows, min(self.count, (piece + 1) * self.rows))

    def sizes(self, piece: int) -> list[int]:
        """Samples of each microbatch."""
        size = len(self.positions(piece))
        return [min(self.microbatch, size - at) for at in range(0, size, self.microbatch)]

    def samples(self, piece: int) -> np.ndarray:
        """The numbers (m,) int64 of its samples in the source, ascending."""
        wanted, ends = self.positions(piece), self.epoch.ends
        first, last = (int(n) for n in np.searchsorted(ends, (wanted.start, wanted.stop - 1), side="right"))
        before = int(ends[first - 1]) if first else 0
        edges = self.epoch.blocks.bounds(np.array([first, last]))
        members = self.epoch.split.members(self.epoch.part, int(edges[0][0]), int(edges[1][1]))
        return members[wanted.start - before : wanted.stop - before]


def cut(
    source: Source, split: AnySplit, part: str, batch_size: int, microbatch: int, outputs: int, memory_bytes: int
) -> tuple[Pieces, Reading]:
    """outputs: numbers that the network gives for a sample. Depends on the input file and the samples alone.

    Collective over: none. Raises DataError when a chunk is too large for the memory.
    """
    plan = reading(
        source, batch_size=batch_size, microbatch_size=microbatch, replica=0, replicas=1, shuffle=False,
        memory_bytes=memory_bytes, wants=frozenset({"inputs"}),
    )  # fmt: skip
    count = split.count(part)
    wanted = min(PIECE_NUMBERS // max(1, outputs), PIECE_BYTES // source.input_bytes, -(-count // PIECES))
    wanted = max(wanted, -(-count // MOST_PIECES))
    both = math.lcm(microbatch, plan.blocks.most_rows)
    unit = both if both <= wanted else microbatch  # then no chunk is read for two pieces
    epoch = order.epoch_order(plan.blocks, split, part, members_before(plan.blocks, split, part), 0, 0, False)
    return Pieces(epoch, count, unit * max(1, -(-wanted // unit)), microbatch), plan


def windows(pieces: Pieces, own: Sequence[int], blocks: int) -> Iterator[order.Window]:
    """The windows of at most so many blocks each that hold these pieces, in order; none holds samples of two."""
    ends = pieces.epoch.ends
    for piece in own:
        wanted = pieces.positions(piece)
        at = wanted.start
        while at < wanted.stop:
            first = int(np.searchsorted(ends, at, side="right"))
            stop = min(wanted.stop, int(ends[min(first + blocks, len(ends)) - 1]))
            last = int(np.searchsorted(ends, stop - 1, side="right"))
            before = int(ends[first - 1]) if first else 0
            place = order.Place(0, 0, 0, piece == own[-1] and stop == wanted.stop)
            members = order.members_of(pieces.epoch, first, last + 1)
            yield order.window_of(place, members, slice(at - before, stop - before), None)
            at = stop
