"""The order of an epoch: pure arithmetic on blocks and sample numbers that knows neither files nor threads.

Microbatch j of every batch comes from lane j, a contiguous run of the samples along the permuted blocks. So which
samples a microbatch holds depends on the input file alone, and a replica that owns every n-th microbatch reads only
its lanes' chunks.
"""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from app.data import keys
from app.data.blocks import Blocks
from app.data.split import AnySplit

SPARE_WINDOWS = 2  # read ahead of those in use


class Lane(NamedTuple):
    """The samples of microbatch `number` over an epoch: positions first:first+length, `take` in a full batch."""

    number: int
    first: int
    length: int
    take: int


class Place(NamedTuple):
    """When a window is needed and by whom: (step, stream) is the order in which windows are needed.

    Its first `skip` samples are not used (a resumed epoch); `last`: the stream needs no other window after it.
    """

    step: int
    stream: int
    skip: int
    last: bool


class Window(NamedTuple):
    """Samples that are in memory together, with the numbers `samples` (n,) in their order of use.

    Block k is starts[k]:stops[k]; its rows[cuts[k]:cuts[k + 1]] go to the places[cuts[k]:cuts[k + 1]] of the window.
    """

    place: Place
    samples: np.ndarray
    starts: list[int]
    stops: list[int]
    cuts: list[int]
    rows: np.ndarray
    places: np.ndarray


class Members(NamedTuple):
    """Samples (n,) of a part in some blocks, the block of each (n,), first sample and end of each block."""

    samples: np.ndarray
    block: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


class Epoch(NamedTuple):
    """The blocks in the order of this epoch, and where each one's members of the part end along that order."""

    blocks: Blocks
    split: AnySplit
    part: str
    order: np.ndarray
    ends: np.ndarray


def lanes(count: int, batch_size: int, microbatch_size: int) -> tuple[Lane, ...]:
    """All lanes of an epoch of `count` samples; the last batch fills its microbatches in order."""
    full, rest = divmod(count, batch_size)
    result: list[Lane] = []
    first = 0
    for number, at in enumerate(range(0, batch_size, microbatch_size)):
        take = min(microbatch_size, batch_size - at)
        length = full * take + min(take, max(0, rest - at))
        result.append(Lane(number, first, length, take))
        first += length
    return tuple(result)


def microbatch_size_at(lane: Lane, step: int) -> int:
    """Samples of the lane's microbatch in a step; 0 when the last batch does not reach it."""
    return max(0, min(lane.take, lane.length - step * lane.take))


def epoch_order(
    blocks: Blocks, split: AnySplit, part: str, before: np.ndarray, seed: int, epoch: int, shuffle: bool
) -> Epoch:
    """The blocks permuted by (seed, epoch), or in file order; `before` (blocks + 1,): members before block edges."""
    order = keys.permutation(blocks.count, seed, keys.BLOCKS, epoch) if shuffle else np.arange(blocks.count)
    return Epoch(blocks, split, part, order, np.cumsum(np.diff(before)[order]))


def members_of(epoch: Epoch, first: int, stop: int) -> Members:
    """Members of the blocks order[first:stop], block by block."""
    starts, stops = epoch.blocks.bounds(epoch.order[first:stop])
    lengths = stops - starts
    block = np.repeat(np.arange(len(starts)), lengths)
    samples = np.arange(len(block)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + starts[block]
    inside = epoch.split.mask(epoch.part, samples)
    return Members(samples[inside], block[inside], starts, stops)


def window_of(place: Place, members: Members, wanted: slice | np.ndarray, mixing: np.ndarray | None) -> Window:
    """The window of the wanted members, the k-th of which is used at mixing[k] (None: in this order)."""
    samples, block = members.samples[wanted], members.block[wanted]
    cuts = np.flatnonzero(np.diff(block, prepend=-1, append=-1))
    read = block[cuts[:-1]]  # blocks without a wanted member are not read
    places = np.arange(len(samples)) if mixing is None else mixing
    used = np.empty_like(samples)
    used[places] = samples
    starts, stops = members.starts[read].tolist(), members.stops[read].tolist()
    return Window(place, used, starts, stops, cuts.tolist(), samples - members.starts[block], places)


def shuffled_windows(
    epoch: Epoch, lane: Lane, start_step: int, size: int, lead: int, seed: int, number: int
) -> Iterator[Window]:
    """The windows of one lane from `start_step` on: `lead` blocks in the first, then `size` in each.

    `number` is the epoch's number: samples inside a window are permuted by (seed, epoch, lane, window).
    """
    begin = lane.first + start_step * lane.take
    end = lane.first + lane.length
    if begin >= end:
        return
    zero = int(np.searchsorted(epoch.ends, lane.first, side="right"))  # the block that holds the lane's first sample
    at = int(np.searchsorted(epoch.ends, begin, side="right")) - zero
    window = 0 if at < lead else 1 + (at - lead) // size
    while True:
        first = zero + (0 if window == 0 else lead + (window - 1) * size)
        stop = min(zero + lead + window * size, len(epoch.order))
        if first >= stop:
            return
        position = int(epoch.ends[first - 1]) if first else 0
        if position >= end:
            return
        members = members_of(epoch, first, stop)
        wanted = slice(max(0, lane.first - position), end - position)
        count = len(members.samples[wanted])
        last = position + len(members.samples) >= end
        position = max(position, lane.first)
        if count:
            skip = max(0, begin - position)
            place = Place((position + skip - lane.first) // lane.take, lane.number, skip, last)
            mixing = keys.permutation(count, seed, keys.WINDOW, number, lane.number, window)
            yield window_of(place, members, wanted, mixing)
        window += 1


def ordered_windows(
    epoch: Epoch, owned: tuple[Lane, ...], batch_size: int, microbatch_size: int, start_step: int, size: int
) -> Iterator[Window]:
    """The windows of one replica in file order, as one stream; each has a run of at most `size` blocks."""
    takes = np.array([lane.take for lane in owned], np.int64)
    bases = np.cumsum(takes) - takes
    offsets = np.array([lane.number * microbatch_size for lane in owned], np.int64)
    per_step = int(takes.sum())
    at, end = start_step * per_step, sum(lane.length for lane in owned)
    capacity = size * epoch.blocks.most_rows
    while at < end:
        own = np.arange(at, min(end, at + capacity))
        steps, inner = np.divmod(own, per_step)
        lane = np.searchsorted(bases, inner, side="right") - 1
        positions = steps * batch_size + offsets[lane] + inner - bases[lane]
        number = np.searchsorted(epoch.ends, positions, side="right")
        within = int(np.searchsorted(number, number[0] + size))
        positions, number = positions[:within], number[:within]
        members = members_of(epoch, int(number[0]), int(number[-1]) + 1)
        first = int(epoch.ends[number[0] - 1]) if number[0] else 0
        place = Place(at // per_step, 0, 0, at + within >= end)
        yield window_of(place, members, positions - first, None)
        at += within


def by_need(streams: list[Iterator[Window]]) -> Iterator[Window]:
    """All windows in the order in which they are needed: by step, then by stream."""
    return heapq.merge(*streams, key=lambda window: window.place[:2])
