"""A thread that reads the next windows while the current ones are used."""

import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from app.data.memory import Carver, carved_bytes
from app.data.order import Window
from app.data.source import Source


class Buffers(NamedTuple):
    """Memory for the blocks of one window; `targets` is None without targets."""

    inputs: np.ndarray
    targets: np.ndarray | None


class Filled(NamedTuple):
    """A window whose samples are in its buffers."""

    window: Window
    buffers: Buffers


class Reader:
    """Reads `windows` in their order into `count` buffers of `rows` samples each.

    Use as a context manager: leaving it ends the thread, at the latest after the block being read. What `next`
    delivered is the source's memory and must not be used after `release` or after leaving. Collective over: none.
    """

    def __init__(self, source: Source, windows: Iterator[Window], count: int, rows: int) -> None:
        self._source, self._windows = source, windows
        self._count, self._rows = count, rows
        self._free: queue.SimpleQueue[Buffers | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[Filled | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        # A daemon: an epoch that was left behind must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)

    def __enter__(self) -> "Reader":
        self._lent = self._source.memory.lend(self._count * buffer_bytes(self._source, self._rows))
        carver = Carver(self._lent)
        for _ in range(self._count):
            self._free.put(cut_buffers(self._source, carver, self._rows))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._free.put(None)
        self._thread.join()
        self._source.memory.take_back(self._lent)

    def next(self) -> Filled:
        """The next window, waiting for it; raises what the thread met (DataError for a damaged file)."""
        found = self._ready.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def release(self, filled: Filled) -> None:
        """Give the buffers of a used window back."""
        self._free.put(filled.buffers)

    def _run(self) -> None:
        try:
            for window in self._windows:
                buffers = self._free.get()
                if buffers is None or not self._fill(window, buffers):
                    return
                self._ready.put(Filled(window, buffers))
        except BaseException as error:  # noqa: BLE001  whatever it is, the consumer must not wait for ever
            self._ready.put(error)

    def _fill(self, window: Window, buffers: Buffers) -> bool:
        """Read all blocks of a window; False when the reader is being left."""
        at = 0
        for start, stop in zip(window.starts.tolist(), window.stops.tolist(), strict=True):
            if self._stop.is_set():
                return False
            end = at + stop - start
            self._source.read(
                start, buffers.inputs[at:end], None if buffers.targets is None else buffers.targets[at:end]
            )
            at = end
        return True


def shapes(source: Source, rows: int) -> list[tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of the buffers for so many samples: inputs, then targets if there are any."""
    found = [((rows, *source.sample_shape), source.dtype)]
    if source.target_dtype is not None and source.target_shape is not None:
        found.append(((rows, *source.target_shape), source.target_dtype))
    return found


def buffer_bytes(source: Source, rows: int) -> int:
    """Bytes of buffers for so many samples."""
    return sum(carved_bytes(shape, dtype) for shape, dtype in shapes(source, rows))


def cut_buffers(source: Source, carver: Carver, rows: int) -> Buffers:
    """Buffers for so many samples."""
    inputs, *targets = (carver.cut(shape, dtype) for shape, dtype in shapes(source, rows))
    return Buffers(inputs, targets[0] if targets else None)
