"""Memory of the windows: kept from epoch to epoch, and a window's not used again while a tensor still looks at it."""

import sys
import threading

import numpy as np


class Memory:
    """One run of bytes, lent to one borrower at a time. Collective over: none.

    It is kept because the first touch of fresh memory costs more than reading into it.
    """

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


class Pieces:
    """Lent memory in `count` pieces of `size` bytes, each free as long as no array or tensor made of it exists."""

    def __init__(self, memory: Memory, count: int, size: int) -> None:
        self._memory, self._size = memory, size
        self._lent = memory.lend(count * size)
        # numpy's views of an array over a memoryview refer to that array, not to the whole.
        whole = self._lent.data
        self._pieces = [np.frombuffer(whole[n * size : (n + 1) * size], np.uint8) for n in range(count)]
        self._unused = references([np.empty(0, np.uint8)], 0)

    def take(self) -> np.ndarray:
        """A free piece (size,) uint8. Fresh memory when all are looked at: someone keeps old tensors."""
        for number in range(len(self._pieces)):
            if references(self._pieces, number) == self._unused:
                return self._pieces[number]
        return np.empty(self._size, np.uint8)

    def give_back(self) -> None:
        """Let the next borrower have the memory, unless something still looks at it."""
        if all(references(self._pieces, number) == self._unused for number in range(len(self._pieces))):
            self._memory.take_back(self._lent)


def references(arrays: list[np.ndarray], number: int) -> int:
    """How many refer to an array of a list; only comparable with another call's answer."""
    return sys.getrefcount(arrays[number])
