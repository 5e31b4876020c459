"""Windows of time series: runs of rows that follow one another, across the pieces in which a file is read."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from app.data.preparing.records import Block, chosen, column, with_column
from app.errors import DataError
from app.inputfile.preparing import Window


class Ends(NamedTuple):
    """What must be known of a piece to go on behind it.

    records     in the piece, those left out too
    first, last what `series` is in its first and its last row; None: that row is not there, or there is no series
    first_there, last_there   whether these rows are there
    tail        rows of the run that ends with the last row
    """

    records: int
    first: object
    last: object
    first_there: bool
    last_there: bool
    tail: int


def ends_of(step: Window, block: Block, records: int) -> Ends:
    """Of the records of one piece before the window step. Raises DataError: no such column."""
    if not len(block):
        return Ends(records, None, None, False, False, 0)
    first, last = int(block.rows[0]) == 0, int(block.rows[-1]) == records - 1
    series = column(block, step.series, "window") if step.series is not None else None
    begins, ends = (None, None) if series is None else (series[0].item(), series[-1].item())
    tail = len(block) - int(_runs(step, block)[-1])
    return Ends(records, begins, ends, first, last, tail if last else 0)


def carried(pieces: Sequence[Ends]) -> int:
    """Rows of the last run of these pieces of a file, in order, that the piece behind them may go on with."""
    rows = 0
    for before, piece in zip((None, *pieces[:-1]), pieces, strict=True):
        joins = before is not None and before.last_there and piece.first_there and before.last == piece.first
        whole = piece.last_there and piece.tail == piece.records
        rows = piece.tail + (rows if joins and whole else 0)
    return rows


def windows(step: Window, block: Block, own: int, before: Ends | None = None, run: int = 0) -> Block:
    """The windows that begin in the first `own` rows; those behind are the beginning of what follows in the file.

    before, run: the piece before this one in its file and the rows of its last run, if a window's place in a run
    matters. Of the columns not in `columns` a window has the value of the row `ahead` behind its last. Collective over:
    none. Raises DataError: no such column.
    """
    names = chosen(block, step.columns, "window")
    starts = _runs(step, block)
    reach = step.length - 1 + step.ahead
    count = max(0, len(block) - reach)
    begin = np.arange(count)
    place = begin - starts[:count]
    if before is not None and len(block) and _joins(step, before, block):
        place = place + np.where(starts[:count] == 0, run, 0)
    whole = starts[reach : reach + count] <= begin
    begin = begin[whole & (place % step.stride == 0) & (block.rows[:count] < own)]
    columns = {name: values[begin + reach] for name, values in block.columns.items() if name not in names}
    done = {"kind": "window", "length": step.length, "stride": step.stride, "ahead": step.ahead}
    found = replace(block, rows=block.rows[begin], columns=columns)
    for name in block.columns:
        if name in names:
            found = with_column(found, name, _windowed(block.columns[name], step.length, begin), done)
    return replace(found, columns={name: found.columns[name] for name in block.columns})


def _joins(step: Window, before: Ends, block: Block) -> bool:
    there = before.last_there and int(block.rows[0]) == 0
    return there and (step.series is None or before.last == block.columns[step.series][0].item())


def _runs(step: Window, block: Block) -> np.ndarray:
    """Of each record the number of the first record of its run."""
    new = np.ones(len(block), bool)
    new[1:] = np.diff(block.rows) != 1
    if step.series is not None:
        series = column(block, step.series, "window")
        if series.ndim != 1:
            raise DataError(f"{block.where}: window: series = {step.series!r} has several values a row, expected one.")
        new[1:] |= series[1:] != series[:-1]
    return np.maximum.accumulate(np.where(new, np.arange(len(block)), 0)) if len(block) else np.zeros(0, np.int64)


def _windowed(values: np.ndarray, length: int, begin: np.ndarray) -> np.ndarray:
    """(windows, length, ...)"""
    if not len(begin):
        return np.empty((0, length, *values.shape[1:]), values.dtype)
    view = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)
    return np.ascontiguousarray(np.moveaxis(view[begin], -1, 1))
