"""One dataset of several files as one run of rows; a file is opened when a row of it is first read."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.errors import DataError
from app.storage.rows import Rows, open_rows

OPEN_FILES = 16  # files of a dataset kept open at a time; a set may have more of them than a process may open


class Opened(NamedTuple):
    """The dataset in one open file; `kept` are all its rows, when they stay in memory."""

    rows: Rows
    kept: np.ndarray | None


class Joined:
    """The dataset `name` of all files, with as many rows in each as `lengths` says. Not safe between threads.

    `cache_bytes` bounds HDF5's cache of undone chunks over all open files; `keeps`: all rows of a file stay in memory
    once one is read. Collective over: none.
    """

    def __init__(
        self, name: str, files: Sequence[Path], lengths: Sequence[int], *, cache_bytes: int, keeps: bool
    ) -> None:
        self._name, self._files, self._keeps = name, files, keeps
        self._cache_bytes = cache_bytes // min(len(files), OPEN_FILES)
        self._starts = [0, *accumulate(lengths)]
        self._open: OrderedDict[int, Opened] = OrderedDict()

    def place(self, row: int) -> tuple[int, int]:
        """The number of the file that holds a row, and the row's number there. Raises DataError behind the end."""
        file = bisect_right(self._starts, row) - 1
        if file >= len(self._files):
            raise DataError(f"{self._files[-1]}: sample {row} was asked for, all files have {self._starts[-1]}.")
        return file, row - self._starts[file]

    def read_into(self, start: int, out: np.ndarray) -> None:
        """Fill `out` (n, ...) with the rows start:start+n. Raises DataError."""
        done = 0
        while done < len(out):
            file, row = self.place(start + done)
            end = min(len(out), self._starts[file + 1] - start)
            rows, kept = self._opened(file)
            if kept is None:
                rows.read_into(row, out[done:end])
            else:
                out[done:end] = kept[row : row + end - done]
            done = end

    def close(self) -> None:
        """Close all files; reading opens them again."""
        while self._open:
            self._open.popitem()[1].rows.close()

    def _opened(self, file: int) -> Opened:
        """The dataset in a file; the file used longest ago is closed when too many are open."""
        if file in self._open:
            self._open.move_to_end(file)
            return self._open[file]
        while len(self._open) >= OPEN_FILES:
            self._open.popitem(last=False)[1].rows.close()
        rows = open_rows(self._files[file], self._name, cache_bytes=self._cache_bytes)
        length = self._starts[file + 1] - self._starts[file]
        if rows.length != length:
            rows.close()
            raise DataError(f"{rows.file}: '{self._name}' now has {rows.length} samples, it had {length}; start again.")
        self._open[file] = Opened(rows, all_of(rows) if self._keeps else None)
        return self._open[file]


def all_of(rows: Rows) -> np.ndarray:
    """All rows of a dataset (n, ...), read now."""
    kept = np.empty((rows.length, *rows.shape), rows.dtype)
    rows.read_into(0, kept)
    return kept
