"""The batches of an epoch as tensors: the same microbatches on any number of replicas, read ahead in bounded memory."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from app.data import order
from app.data.blocks import Blocks
from app.data.order import Lane, Window
from app.data.reader import Filled, Reader
from app.data.source import Source
from app.data.split import Split
from app.data.transform import Transform
from app.errors import DataError
from app.plan.microbatches import steps_per_epoch

__all__ = ["Batch", "Microbatch", "Reading", "batches", "reading"]

PLAN_BYTES = 64  # numbers kept for each sample of a window: its number, row and place, for this window and the next
WINDOWS_OF_LANE = 8  # at least, unless they would be small
SMALL_WINDOW_BYTES = 4 * 2**20
PINS = 4  # microbatches of a window, at least, for its memory to be handed out without copying
SHARED_WINDOWS = order.SPARE_WINDOWS + 1  # the spare ones, and one for the block on its way


class Microbatch(NamedTuple):
    """Microbatch `number` (from 0, within its batch, over all replicas) and the numbers of its samples in the source.

    inputs (M, ...) float32 or int64, targets (M,) int64 or (M, ...) float32 (None without targets), samples (M,) int64.
    """

    number: int
    inputs: torch.Tensor
    targets: torch.Tensor | None
    samples: np.ndarray


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
) -> Reading:
    """How batches of this size would be read within `memory_bytes`.

    Collective over: none. Raises DataError when a single chunk is too large for that.
    """
    lanes = -(-batch_size // microbatch_size) if shuffle else 1
    owned = len(range(replica, lanes, replicas)) if shuffle else 1
    window_bytes = memory_bytes // (lanes + pinned_windows(lanes) + SHARED_WINDOWS)
    bytes_each = source.sample_bytes + PLAN_BYTES
    limit = max(1, window_bytes - window_bytes * PLAN_BYTES // bytes_each)
    blocks = source.blocks(limit)
    block_bytes = blocks.most_rows * bytes_each
    # Several windows a lane, so that the first batch need not wait long and reading goes on beside computing.
    share = max(SMALL_WINDOW_BYTES, blocks.count * block_bytes // (lanes * WINDOWS_OF_LANE))
    window_blocks = max(1, min(window_bytes, share) // block_bytes)
    pinned = pinned_windows(owned)
    room = memory_bytes // (window_blocks * block_bytes) - owned - pinned - 1
    windows = owned + pinned + max(order.SPARE_WINDOWS, min(owned, room))
    peak = windows * window_blocks * block_bytes + block_bytes
    if owned and peak > memory_bytes:
        raise DataError(
            f"{source.files[0]}: '{source.inputs_name}' is read in blocks of {mib(block_bytes)} "
            f"(one chunk, {blocks.most_rows} samples), of which {windows + 1} must be in memory at a time "
            f"for batches of {lanes} microbatches: {mib(peak)}, but {mib(memory_bytes)} are allowed; "
            "allow more memory, choose a larger microbatch, or write the file with smaller chunks."
        )
    return Reading(blocks, window_blocks, windows, pinned, peak, source.block_notes(limit))


def pinned_windows(lanes: int) -> int:
    """Used-up windows that the tensors of this batch and the one before may still look at, when lanes take turns."""
    return 1 + -(-2 * lanes // PINS)


def mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def batches(
    source: Source,
    split: Split,
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
) -> Iterator[Batch]:
    """The batches of one epoch from `start_step` on, with this replica's microbatches, within `memory_bytes`.

    `part` is of split.PARTS, or "all". shuffle=False: file order. Every replica gets the same number of batches.
    Collective over: none. Raises DataError for a damaged file, or chunks too large for `memory_bytes`.
    """
    plan = reading(
        source, batch_size=batch_size, microbatch_size=microbatch_size, replica=replica, replicas=replicas,
        shuffle=shuffle, memory_bytes=memory_bytes,
    )  # fmt: skip
    count = split.count(part)
    owned = order.lanes(count, batch_size, microbatch_size)[replica::replicas]
    before = members_before(plan.blocks, split, part)
    run = order.epoch_order(plan.blocks, split, part, before, seed, epoch, shuffle)
    if shuffle:
        streams = [
            lane_windows(run, lane, start_step, plan.window_blocks, batch_size, microbatch_size, seed, epoch)
            for lane in owned
        ]
        stream_of = {lane.number: lane.number for lane in owned}
    else:
        streams = (
            [order.ordered_windows(run, owned, batch_size, microbatch_size, start_step, plan.window_blocks)]
            if owned
            else []
        )
        stream_of = dict.fromkeys((lane.number for lane in owned), 0)
    with Reader(
        source, order.by_need(streams), ahead=plan.windows - plan.pinned, pinned=plan.pinned,
        rows=plan.window_blocks * plan.blocks.most_rows, block_rows=plan.blocks.most_rows,
    ) as reader:  # fmt: skip
        samples = Samples(reader, source, transform, pin)
        for step in range(start_step, steps_per_epoch(count, batch_size)):
            sizes = [(lane.number, order.microbatch_size_at(lane, step)) for lane in owned]
            made = tuple(samples.take(number, stream_of[number], size) for number, size in sizes if size)
            yield Batch(step, min(batch_size, count - step * batch_size), made)


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
def members_before(blocks: Blocks, split: Split, part: str) -> np.ndarray:
    """Members of the part before the edge of each block; kept, because every epoch asks for the same."""
    return split.before(part, blocks.edges())


class Samples:
    """Takes microbatches out of the windows that a reader delivers in the order in which they are needed."""

    def __init__(self, reader: Reader, source: Source, transform: Transform, pin: bool) -> None:
        self._reader, self._transform, self._pin = reader, transform, pin
        self._keeps = transform.keeps(source.dtype)  # the stored rows themselves become the tensor
        self._current: dict[
            int, tuple[Filled, int]
        ] = {}  # by stream: the window in use, how many of its samples are used

    def take(self, number: int, stream: int, size: int) -> Microbatch:
        """The next `size` samples of a stream as microbatch `number`."""
        (window, buffers), used = self._current.get(stream) or self._open(stream)
        end = used + size
        if end > len(window.samples):
            return self._made(number, *self._across(stream, size))
        inputs, samples = buffers.inputs[used:end], window.samples[used:end]
        # A tensor that looks at a window keeps all its memory from being used again: only where that is not for long.
        if self._keeps and (window.place.last or size * PINS > len(window.samples)):
            inputs = inputs.copy()
        targets = None if buffers.targets is None else buffers.targets[used:end].copy()
        self._advance(stream, end)
        return self._made(number, inputs, targets, samples)

    def _across(self, stream: int, size: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Inputs, targets and numbers of the next `size` samples, from more than one window, in memory of their own."""
        taken: list[tuple[np.ndarray, np.ndarray | None, np.ndarray]] = []
        while size:
            (window, buffers), used = self._current.get(stream) or self._open(stream)
            part = slice(used, min(used + size, len(window.samples)))
            targets = None if buffers.targets is None else buffers.targets[part].copy()
            taken.append((buffers.inputs[part].copy(), targets, window.samples[part]))
            size -= part.stop - part.start
            self._advance(stream, part.stop)
        inputs, wanted, samples = zip(*taken, strict=True)
        return np.concatenate(inputs), None if wanted[0] is None else np.concatenate(wanted), np.concatenate(samples)

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

    def _made(self, number: int, inputs: np.ndarray, targets: np.ndarray | None, samples: np.ndarray) -> Microbatch:
        made = self._transform.inputs_(inputs)
        wanted = None if targets is None else self._transform.targets_(targets)
        if self._pin:
            made, wanted = made.pin_memory(), None if wanted is None else wanted.pin_memory()
        return Microbatch(number, made, wanted, samples)
