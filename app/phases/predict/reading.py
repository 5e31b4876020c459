"""The samples of a rank's pieces as microbatches, read ahead in bounded memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from app.data.batches import Microbatch, Reading, Samples
from app.data.reader import Reader
from app.data.source import Source
from app.data.transform import Transform
from app.phases.predict.pieces import Pieces, windows
from app.report.timers import Timers

INPUTS = frozenset({"inputs"})
STORED = Transform(stored=True)


class Microbatches:
    """The microbatches of pieces, which are asked for in the order in which they were announced."""

    def __init__(self, pieces: Pieces, taken: Samples | None, timers: Timers) -> None:
        """taken: None on a rank that reads nothing."""
        self._pieces, self._taken, self._timers = pieces, taken, timers

    def groups(self, piece: int, size: int) -> Iterator[list[Microbatch]]:
        """`size` at a time; inputs are as stored, on a rank that reads them. Raises DataError."""
        numbers = list(enumerate(self._pieces.sizes(piece)))
        for start in range(0, len(numbers), size):
            with self._timers("read"):
                group = [self._take(number, rows) for number, rows in numbers[start : start + size]]
            yield group

    def _take(self, number: int, rows: int) -> Microbatch:
        if self._taken is None:
            return Microbatch(number, rows, None, None, None)
        return self._taken.take(number, rows)


@contextmanager
def reading_ahead(
    source: Source, pieces: Pieces, plan: Reading, own: Sequence[int], reads: bool, timers: Timers
) -> Iterator[Microbatches]:
    """The microbatches of the pieces `own`; reads: whether this rank needs their inputs. Collective over: none."""
    if not reads or not own:
        yield Microbatches(pieces, None, timers)
        return
    with Reader(
        source, windows(pieces, own, plan.window_blocks), INPUTS, ahead=plan.windows - plan.pinned,
        pinned=plan.pinned, rows=min(plan.window_blocks * plan.blocks.most_rows, pieces.rows),
        block_rows=plan.blocks.most_rows,
    ) as reader:  # fmt: skip
        yield Microbatches(pieces, Samples(reader, source, STORED, shuffle=False, pin=False), timers)
