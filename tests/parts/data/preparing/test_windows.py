"""Windows of a series that is read in pieces are those of the series read at once."""

import numpy as np
import pytest

from app.data.preparing.records import block_of, kept
from app.data.preparing.windows import carried, ends_of, windows
from app.inputfile.preparing import Window

ROWS = 60


def whole(missing=()):
    """Numbered rows of series of 25, without those missing."""
    columns = {"t": np.arange(ROWS), "y": np.arange(ROWS) * 10, "series": np.arange(ROWS) // 25}
    return kept(block_of("f", columns, np.arange(ROWS), []), ~np.isin(np.arange(ROWS), missing))


def by_hand(step, block):
    """Beginnings of windows, counted from where a run of rows begins."""
    there = dict(zip(block.rows.tolist(), block.columns["series"].tolist(), strict=True))
    found, place = [], 0
    for row in sorted(there):
        place = place + 1 if row - 1 in there and there[row - 1] == there[row] else 0
        span = range(row, row + step.length + step.ahead)
        if place % step.stride == 0 and all(there.get(one) == there[row] for one in span):
            found.append(row)
    return found


@pytest.mark.parametrize("missing", [(), (7, 30, 31)])
@pytest.mark.parametrize(("length", "stride", "ahead"), [(4, 1, 0), (5, 3, 2), (25, 25, 0), (1, 2, 3)])
@pytest.mark.parametrize("size", [60, 13, 5])
def test_windows(size, length, stride, ahead, missing):
    step = Window(kind="window", length=length, stride=stride, ahead=ahead, columns=["t"], series="series")
    block = whole(missing)
    ends, found, targets, begun = [], [], [], []
    for start in range(0, ROWS, size):
        piece = kept(block, block.rows >= start)  # with all rows behind it
        piece = block_of("f", piece.columns, piece.rows - start, [])
        before = (ends[-1], carried(ends)) if ends else (None, 0)
        made = windows(step, piece, min(size, ROWS - start), *before)
        found += made.columns["t"].tolist()
        targets += made.columns["y"].tolist()
        begun += (made.rows + start).tolist()
        ends.append(ends_of(step, kept(piece, piece.rows < size), min(size, ROWS - start)))
    expected = by_hand(step, block)
    assert begun == expected
    assert found == [list(range(row, row + length)) for row in expected]
    assert targets == [(row + length - 1 + ahead) * 10 for row in expected]
