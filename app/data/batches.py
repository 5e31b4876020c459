"""The batches of an epoch as tensors: the same microbatches on any number of replicas, read ahead in bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from app.data import order
from app.data.blocks import Blocks
from app.data.order import Lane, Window
from app.data.reader import Filled, Reader
from app.data.source import Source
from app.data.split import AnySplit
from app.data.transform import Transform
from app.errors import DataError
from app.plan.microbatches import steps_per_epoch

__all__ = ["BOTH", "Batch", "Microbatch", "Reading", "batches", "reading"]

BOTH = frozenset({"inputs", "targets"})  # what may be wanted of a sample

PLAN_BYTES = 64  # numbers kept for each sample of a window: its number, row and place, for this window and the next
WINDOWS_OF_LANE = 8  # at least, unless they would be small
SMALL_WINDOW_BYTES = 4 * 2**20
PINS = 4  # microbatches of a window, at least, for its memory to be handed out without copying
SHARED_WINDOWS = order.SPARE_WINDOWS + 1  # the spare ones, and one for the block on its way


class Microbatch(NamedTuple):
    """Microbatch `number` (from 0, within its batch, over all replicas) of `size` M samples, numbered in the source.

    inputs (M, ...) float32 or int64, targets (M,) int64 or (M, ...) float32, samples (M,) int64. What is not wanted or
    not there is None; the samples' numbers are None when nothing is read.
    """

    number: int
    size: int
    inputs: torch.Tensor | None
    targets: torch.Tensor | None
    samples: np.ndarray | None


class Batch(NamedTuple):
    """Step of the epoch (from 0), samples of the batch over all replicas, this replica's microbatches."""

    step: int
    size: int
    microbatches: tuple[Microbatch, ...]


class Reading(NamedTuple):
    """How an epoch will be read: blocks, blocks of a window, windows in memory (pinned: by tensors), the most bytes."""

    blocks: Blocks
    window_blocks: int
    windows: int
    pinned: int
    peak_bytes: int
    notes: tuple[str, ...]


def reading(
    source: Source,
    *,
    batch_size: int,
    microbatch_size: int,
    replica: int,
    replicas: int,
    shuffle: bool,
    memory_bytes: int,
    wants: frozenset[str] = BOTH,
) -> Reading:
    """How what is wanted of batches of this size would be read within `memory_bytes`.

    Collective over: none. Raises DataError when a single chunk is too large for that.
    """
    lanes = -(-batch_size // microbatch_size) if shuffle else 1
    owned = len(range(replica, lanes, replicas)) if shuffle else 1
    limit, blocks, window_blocks = cut_windows(source, lanes, memory_bytes)
    notes = source.block_notes(limit)
    if not there(source, wants):
        return Reading(blocks, window_blocks, 0, 0, 0, notes)
    block_bytes = blocks.most_rows * (sum(source.bytes_of(wants)) + PLAN_BYTES)
    pinned = pinned_windows(owned)
    room = memory_bytes // (window_blocks * block_bytes) - owned - pinned - 1
    windows = owned + pinned + max(order.SPARE_WINDOWS, min(owned, room))
    peak = windows * window_blocks * block_bytes + block_bytes
    if owned and peak > memory_bytes:
        name = source.inputs_name if "inputs" in wants else source.targets_name
        raise DataError(
            f"{source.files[0]}: '{name}' is read in blocks of {mib(block_bytes)} "
            f"(one chunk, {blocks.most_rows} samples), of which {windows + 1} must be in memory at a time "
            f"for batches of {lanes} microbatches: {mib(peak)}, but {mib(memory_bytes)} are allowed; "
            "allow more memory, choose a larger microbatch, or write the file with smaller chunks."
        )
    return Reading(blocks, window_blocks, windows, pinned, peak, notes)


def cut_windows(source: Source, lanes: int, memory_bytes: int) -> tuple[int, Blocks, int]:
    """Bytes of a block, at most, unless a chunk is larger; the blocks; how many of them are a window.

    The order of samples follows from these. So they are chosen as if a rank read inputs and targets, whatever it wants:
    the inputs of a pipeline's first stage then belong to the targets of its last.
    """
    window_bytes = memory_bytes // (lanes + pinned_windows(lanes) + SHARED_WINDOWS)
    bytes_each = source.sample_bytes + PLAN_BYTES
    limit = max(1, window_bytes - window_bytes * PLAN_BYTES // bytes_each)
    blocks = source.blocks(limit)
    block_bytes = blocks.most_rows * bytes_each
    # Several windows a lane, so that the first batch need not wait long and reading goes on beside computing.
    share = max(SMALL_WINDOW_BYTES, blocks.count * block_bytes // (lanes * WINDOWS_OF_LANE))
    return limit, blocks, max(1, min(window_bytes, share) // block_bytes)


def there(source: Source, wants: frozenset[str]) -> frozenset[str]:
    """What the source has of what is wanted."""
    if not wants <= BOTH:
        raise ValueError(f"of a sample {sorted(wants)} are wanted, there are {sorted(BOTH)}")
    return wants if source.targets_name is not None else wants - {"targets"}


def pinned_windows(lanes: int) -> int:
    """Used-up windows that the tensors of this batch and the one before may still look at, when lanes take turns."""
    return 1 + -(-2 * lanes // PINS)


def mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def batches(
    source: Source,
    split: AnySplit,
    part: str,
    transform: Transform,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    microbatch_size: int,
    replica: int,
    replicas: int,
    start_step: int = 0,
    shuffle: bool = True,
    memory_bytes: int,
    pin: bool = False,
    wants: frozenset[str] = BOTH,
) -> Iterator[Batch]:
    """The batches of one epoch from `start_step` on, with this replica's microbatches, within `memory_bytes`.

    `part` is of split.PARTS, or "all". shuffle=False: file order. Every replica gets the same number of batches.
    `wants`: what is read of the samples, a subset of BOTH; their order does not depend on it. With nothing wanted no
    file is opened. Collective over: none. Raises DataError for a damaged file, or chunks too large for `memory_bytes`.
    """
    plan = reading(
        source, batch_size=batch_size, microbatch_size=microbatch_size, replica=replica, replicas=replicas,
        shuffle=shuffle, memory_bytes=memory_bytes, wants=wants,
    )  # fmt: skip
    count, wants = split.count(part), there(source, wants)
    owned = order.lanes(count, batch_size, microbatch_size)[replica::replicas]
    steps = range(start_step, steps_per_epoch(count, batch_size))
    if not wants:
        yield from each_step(steps, owned, count, batch_size, unread)
        return
    before = members_before(plan.blocks, split, part)
    run = order.epoch_order(plan.blocks, split, part, before, seed, epoch, shuffle)
    if shuffle:
        streams = [
            lane_windows(run, lane, start_step, plan.window_blocks, batch_size, microbatch_size, seed, epoch)
            for lane in owned
        ]
    else:
        streams = [order.ordered_windows(run, owned, batch_size, microbatch_size, start_step, plan.window_blocks)]
    with Reader(
        source, order.by_need(streams), wants, ahead=plan.windows - plan.pinned, pinned=plan.pinned,
        rows=plan.window_blocks * plan.blocks.most_rows, block_rows=plan.blocks.most_rows,
    ) as reader:  # fmt: skip
        samples = Samples(reader, source, transform, shuffle, pin)
        yield from each_step(steps, owned, count, batch_size, samples.take)


def each_step(
    steps: range, owned: tuple[Lane, ...], count: int, batch_size: int, take: Callable[[int, int], Microbatch]
) -> Iterator[Batch]:
    """The batches of `count` samples, with the microbatches that `take` makes of a number and a size."""
    for step in steps:
        sizes = [(lane.number, order.microbatch_size_at(lane, step)) for lane in owned]
        made = tuple(take(number, size) for number, size in sizes if size)
        yield Batch(step, min(batch_size, count - step * batch_size), made)


def unread(number: int, size: int) -> Microbatch:
    return Microbatch(number, size, None, None, None)


def lane_windows(
    run: order.Epoch,
    lane: Lane,
    start_step: int,
    size: int,
    batch_size: int,
    microbatch_size: int,
    seed: int,
    epoch: int,
) -> Iterator[Window]:
    """The lane's windows; first windows grow from lane to lane, so that lanes need their next at different steps."""
    total = -(-batch_size // microbatch_size)
    lead = max(1, size * (lane.number + 1) // (total + 1))
    return order.shuffled_windows(run, lane, start_step, size, lead, seed, epoch)


@lru_cache(maxsize=6)
def members_before(blocks: Blocks, split: AnySplit, part: str) -> np.ndarray:
    """Members of the part before the edge of each block; kept, because every epoch asks for the same."""
    return split.before(part, blocks.edges())


class Samples:
    """Takes microbatches out of the windows that a reader delivers in the order in which they are needed."""

    def __init__(self, reader: Reader, source: Source, transform: Transform, shuffle: bool, pin: bool) -> None:
        self._reader, self._transform, self._pin = reader, transform, pin
        self._stream_a_number = shuffle  # else all microbatches come from stream 0
        self._keeps = transform.keeps(source.dtype)  # the stored rows themselves become the tensor
        self._current: dict[
            int, tuple[Filled, int]
        ] = {}  # by stream: the window in use, how many of its samples are used

    def take(self, number: int, size: int) -> Microbatch:
        """The next `size` samples of a stream as microbatch `number`."""
        stream = number if self._stream_a_number else 0
        (window, buffers), used = self._current.get(stream) or self._open(stream)
        end = used + size
        if end > len(window.samples):
            return self._made(number, *self._across(stream, size))
        inputs, samples = buffers.inputs, window.samples[used:end]
        if inputs is not None:
            inputs = inputs[used:end]
            # A tensor that looks at a window keeps all its memory from being used again: only where not for long.
            if self._keeps and (window.place.last or size * PINS > len(window.samples)):
                inputs = inputs.copy()
        targets = copy_of(buffers.targets, slice(used, end))
        self._advance(stream, end)
        return self._made(number, inputs, targets, samples)

    def _across(self, stream: int, size: int) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
        """Inputs, targets and numbers of the next `size` samples, from more than one window, in memory of their own."""
        taken: list[tuple[np.ndarray | None, np.ndarray | None]] = []
        numbers: list[np.ndarray] = []
        while size:
            (window, buffers), used = self._current.get(stream) or self._open(stream)
            part = slice(used, min(used + size, len(window.samples)))
            taken.append((copy_of(buffers.inputs, part), copy_of(buffers.targets, part)))
            numbers.append(window.samples[part])
            size -= part.stop - part.start
            self._advance(stream, part.stop)
        inputs, targets = zip(*taken, strict=True)
        return one_of(inputs), one_of(targets), np.concatenate(numbers)

    def _open(self, stream: int) -> tuple[Filled, int]:
        """Wait for the stream's next window."""
        filled = self._reader.next()
        if filled.window.place.stream != stream:
            raise RuntimeError(f"window of stream {filled.window.place.stream} came when stream {stream} needed one")
        self._current[stream] = (filled, filled.window.place.skip)
        return self._current[stream]

    def _advance(self, stream: int, used: int) -> None:
        """Remember how far the stream is; a window that is used up makes room for another."""
        filled = self._current[stream][0]
        if used < len(filled.window.samples):
            self._current[stream] = (filled, used)
        else:
            del self._current[stream]
            self._reader.release()

    def _made(
        self, number: int, inputs: np.ndarray | None, targets: np.ndarray | None, samples: np.ndarray
    ) -> Microbatch:
        made = None if inputs is None else self._transform.inputs_(inputs)
        wanted = None if targets is None else self._transform.targets_(targets)
        if self._pin:
            made, wanted = (None if tensor is None else tensor.pin_memory() for tensor in (made, wanted))
        return Microbatch(number, len(samples), made, wanted, samples)


def copy_of(buffer: np.ndarray | None, part: slice) -> np.ndarray | None:
    return None if buffer is None else buffer[part].copy()


def one_of(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Parts one after the other; None when they are None."""
    arrays = [part for part in parts if part is not None]
    return np.concatenate(arrays) if arrays else None
