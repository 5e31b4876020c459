"""Memory that readers borrow and give back, because the first touch of fresh memory costs more than reading into it."""

import threading

import numpy as np


class Memory:
    """One run of bytes, kept from epoch to epoch and lent to one borrower at a time. Collective over: none."""

    def __init__(self) -> None:
        self._kept: np.ndarray | None = None
        self._lock = threading.Lock()

    def lend(self, size: int) -> np.ndarray:
        """At least `size` bytes (n,) uint8: the kept ones when they are free and enough, else fresh ones."""
        with self._lock:
            kept, self._kept = self._kept, None
        return kept if kept is not None and len(kept) >= size else np.empty(size, np.uint8)

    def take_back(self, lent: np.ndarray) -> None:
        """Keep bytes for the next borrower."""
        with self._lock:
            if self._kept is None or len(self._kept) < len(lent):
                self._kept = lent


class Carver:
    """Cuts arrays out of a run of bytes, each at a multiple of 64 bytes."""

    def __init__(self, memory: np.ndarray) -> None:
        self._memory, self._used = memory, 0

    def cut(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The next array of this shape and type."""
        size = carved_bytes(shape, dtype)
        self._used += size
        exact = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self._memory[self._used - size :][:exact].view(dtype).reshape(shape)


def carved_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes that Carver.cut uses for an array."""
    return -(-int(np.prod(shape, dtype=np.int64)) * dtype.itemsize // 64) * 64
