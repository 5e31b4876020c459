"""A thread that reads the next windows while the current ones are used."""

import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from app.data.order import Piece, Window
from app.data.source import Source


class Buffers(NamedTuple):
    """Memory for one window; `targets` is None without targets."""

    inputs: np.ndarray
    targets: np.ndarray | None


class Filled(NamedTuple):
    """A window whose samples are in its buffers."""

    window: Window
    buffers: Buffers


class Reader:
    """Reads `windows` in their order into `count` buffers of `rows` samples each; `scratch` is the rows of the largest block.

    Use as a context manager: leaving it ends the thread, at the latest after the block being read. Collective over: none.
    """

    def __init__(self, source: Source, windows: Iterator[Window], count: int, rows: int, scratch: int) -> None:
        self._source, self._windows, self._rows, self._scratch_rows = source, windows, rows, scratch
        self._free: queue.SimpleQueue[Buffers | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[Filled | BaseException] = queue.SimpleQueue()
        self._unmade = count
        self._stop = threading.Event()
        # A daemon: an epoch that was left behind must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._free.put(None)
        self._thread.join()

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
            scratch = self._buffers(self._scratch_rows)
            for window in self._windows:
                buffers = self._take()
                if buffers is None:
                    return
                for piece in window.pieces:
                    if self._stop.is_set():
                        return
                    read_piece(self._source, piece, buffers, scratch)
                self._ready.put(Filled(window._replace(pieces=()), buffers))
        except BaseException as error:  # noqa: BLE001  whatever it is, the consumer must not wait for ever
            self._ready.put(error)

    def _take(self) -> Buffers | None:
        """A free buffer, made when fewer than allowed exist; None when reading is over."""
        if self._stop.is_set():
            return None
        if self._unmade:
            self._unmade -= 1
            return self._buffers(self._rows)
        return self._free.get()

    def _buffers(self, rows: int) -> Buffers:
        source = self._source
        targets = None if source.target_dtype is None else np.empty((rows, *(source.target_shape or ())), source.target_dtype)
        return Buffers(np.empty((rows, *source.sample_shape), source.dtype), targets)


def read_piece(source: Source, piece: Piece, buffers: Buffers, scratch: Buffers) -> None:
    """Read one block and put its wanted rows in their places of the window."""
    count = piece.stop - piece.start
    block = Buffers(scratch.inputs[:count], None if scratch.targets is None else scratch.targets[:count])
    source.read(piece.start, block.inputs, block.targets)
    for to, rows in zip(buffers, block, strict=True):
        if to is not None and rows is not None:
            whole(to)[piece.places] = whole(rows) if len(piece.rows) == count else whole(rows)[piece.rows]


def whole(rows: np.ndarray) -> np.ndarray:
    """Rows (n, ...) as n opaque items, which numpy moves by one memcpy each."""
    return rows.reshape(len(rows), -1).view(np.dtype((np.void, rows[:1].nbytes))).reshape(-1)
