"""A thread that reads the next windows while the current ones are used."""

import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from app.data.memory import Pieces
from app.data.order import Window
from app.data.source import Source


class Buffers(NamedTuple):
    """Memory for samples; None for what is not wanted. `items` is `inputs` as one opaque item a sample."""

    inputs: np.ndarray | None
    targets: np.ndarray | None
    items: np.ndarray | None


class Filled(NamedTuple):
    """A window whose samples are in its buffers, in their order of use."""

    window: Window
    buffers: Buffers


class Reader:
    """Reads what `wants` names of `windows` in their order, `ahead` of them before the first is released.

    `rows` are the samples of the largest window, `block_rows` of the largest block, `pinned` the windows that tensors
    may still look at after their release. Use as a context manager: leaving it ends the thread, at the latest after the
    block being read. Collective over: none.
    """

    def __init__(
        self,
        source: Source,
        windows: Iterator[Window],
        wants: frozenset[str],
        *,
        ahead: int,
        pinned: int,
        rows: int,
        block_rows: int,
    ) -> None:
        self._source, self._windows, self._wants, self._rows = source, windows, wants, rows
        self._block_rows, self._count, self._ahead = block_rows, ahead + pinned, ahead
        self._turns: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[Filled | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        # A daemon: an epoch that was left behind must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)

    def __enter__(self) -> "Reader":
        self._pieces = Pieces(self._source.memory, self._count, buffer_bytes(self._source, self._wants, self._rows))
        for _ in range(self._ahead):
            self._turns.put(True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._turns.put(False)
        self._thread.join()
        self._ready = queue.SimpleQueue()  # what was read and not used lets go of its memory
        self._pieces.give_back()

    def next(self) -> Filled:
        """The next window, waiting for it; raises what the thread met (DataError for a damaged file)."""
        found = self._ready.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def release(self) -> None:
        """A window is used up: another may be read. Its memory is used again when nothing looks at it any more."""
        self._turns.put(True)

    def _run(self) -> None:
        try:
            size = buffer_bytes(self._source, self._wants, self._block_rows)
            block = cut_buffers(self._source, self._wants, np.empty(size, np.uint8))
            for window in self._windows:
                if not self._turns.get():
                    return
                filled = Filled(window, cut_buffers(self._source, self._wants, self._pieces.take()))
                if not self._fill(filled, block):
                    return
                self._ready.put(filled)
                del filled  # or its memory would look used until the next window
        except BaseException as error:  # noqa: BLE001  whatever it is, the consumer must not wait for ever
            self._ready.put(error)

    def _fill(self, filled: Filled, block: Buffers) -> bool:
        """Read all blocks of a window; False when the reader is being left."""
        window, buffers = filled
        for number, (start, stop) in enumerate(zip(window.starts, window.stops, strict=True)):
            if self._stop.is_set():
                return False
            cut = slice(window.cuts[number], window.cuts[number + 1])
            read_block(self._source, start, stop, window.rows[cut], window.places[cut], block, buffers)
        return True


def read_block(
    source: Source, start: int, stop: int, rows: np.ndarray, places: np.ndarray, block: Buffers, to: Buffers
) -> None:
    """Read the samples start:stop and, while they are in the cache, put those at `rows` in their places."""
    count = stop - start
    inputs, targets, items = (None if array is None else array[:count] for array in block)
    source.read(start, inputs, targets)
    every = len(rows) == count
    for read, wanted in ((items, to.items), (targets, to.targets)):
        if read is not None and wanted is not None:
            wanted[places] = read if every else read[rows]


def buffer_bytes(source: Source, wants: frozenset[str], rows: int) -> int:
    """Bytes of buffers for what is wanted of so many samples, each at a multiple of 64."""
    return sum(-(-rows * size // 64) * 64 for size in source.bytes_of(wants))


def cut_buffers(source: Source, wants: frozenset[str], memory: np.ndarray) -> Buffers:
    """Buffers for what is wanted of as many samples as the memory holds."""
    input_bytes, target_bytes = source.bytes_of(wants)
    rows = len(memory) // (input_bytes + target_bytes)
    while buffer_bytes(source, wants, rows) > len(memory):
        rows -= 1
    size = rows * input_bytes
    inputs = targets = items = None
    if input_bytes:
        inputs = memory[:size].view(source.dtype).reshape(rows, *source.sample_shape)
        items = memory[:size].view(np.dtype((np.void, input_bytes)))
    if target_bytes and source.target_dtype is not None and source.target_shape is not None:
        at = -(-size // 64) * 64
        targets = memory[at : at + rows * target_bytes].view(source.target_dtype).reshape(rows, *source.target_shape)
    return Buffers(inputs, targets, items)
