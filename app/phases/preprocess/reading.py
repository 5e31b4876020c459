"""The records of a piece, read and put through the steps; and what must be known of all pieces before that."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from app.data.preparing.records import Block, block_of
from app.data.preparing.steps import MANY, Categories, apply, categories_of, finite, needed
from app.data.preparing.windows import Ends, carried, ends_of, windows
from app.errors import DataError
from app.inputfile.preparing import Encode, OneHot, Step, Window
from app.phases.preprocess.work import Work, in_turn
from app.storage import raw

SLICED = ("hdf5", "netcdf", "numpy")  # formats of which any run of rows can be read


class Known(NamedTuple):
    """What ranks agreed on. categories: by the number of the step. ends: of each piece, () where they do not matter."""

    categories: Mapping[int, Categories]
    ends: Sequence[Ends]


def find_out(work: Work) -> Known:
    """Categories that the input does not name, and where runs of rows begin. Collective over: world."""
    known = Known({}, ())
    for number, step in enumerate(work.steps):
        if isinstance(step, OneHot | Encode) and step.categories is None:
            known = known._replace(categories={**known.categories, number: _all_categories(work, known, number, step)})
        if isinstance(step, Window) and step.stride > 1:
            known = known._replace(ends=_all_ends(work, known, number, step))
    return known


def made(work: Work, number: int, known: Known) -> tuple[Block, int]:
    """The samples of a piece, all of its steps done, and how many records it has. Raises DataError."""
    block, count = _through(work, number, known, len(work.steps))
    return finite(block), count


def _through(work: Work, number: int, known: Known, upto: int) -> tuple[Block, int]:
    """A piece's records after the first so many steps; only the columns that matter are read."""
    wanted = needed(work.steps[:upto], _asked(work, upto))
    if wanted is not None:
        try:
            return _steps_done(work, number, known, upto, wanted)
        except DataError:
            pass  # said again with the names of all columns at hand
    return _steps_done(work, number, known, upto, None)


def _asked(work: Work, upto: int) -> set[str] | None:
    """Columns that are wanted of the records once so many steps are done; None: all."""
    step = work.steps[upto] if upto < len(work.steps) else None
    return {step.column} if isinstance(step, OneHot | Encode) else None


def _steps_done(work: Work, number: int, known: Known, upto: int, wanted: set[str] | None) -> tuple[Block, int]:
    block, count = _read(work, number, wanted, None)
    for place, step in enumerate(work.steps[:upto]):
        if isinstance(step, Window):
            block = _windowed(work, number, known, place, step, (finite(block), count), wanted)
        else:
            block = apply(step, block, known.categories.get(place))
    return block, count


def _read(work: Work, number: int, wanted: set[str] | None, rows: int | None) -> tuple[Block, int]:
    """The records of a piece, or of about its first rows."""
    piece = work.pieces[number]
    if rows is not None and piece.format in SLICED:
        piece = piece._replace(stop=min(piece.stop, piece.start + rows))
    found = raw.read(piece, wanted)
    return block_of(work.titles[number], found.columns, found.rows, found.bad), found.count


def _windowed(
    work: Work, number: int, known: Known, place: int, step: Window, own: tuple[Block, int], wanted: set[str] | None
) -> Block:
    """The windows that begin in a piece, with the rows behind it that they reach into."""
    block, count = own
    reach, seen, following = step.length - 1 + step.ahead, 0, number + 1
    parts = [block]
    while seen < reach and following < len(work.pieces) and work.pieces[following].file == work.pieces[number].file:
        more, records = _read(work, following, wanted, reach - seen)
        for before, one in enumerate(work.steps[:place]):
            more = apply(one, more, known.categories.get(before))
        more = finite(more)
        parts.append(replace(more, rows=more.rows + count + seen))
        seen, following = seen + records, following + 1
    joined = _joined(parts)
    file = work.pieces[number].file
    earlier = [other for other in range(number) if work.pieces[other].file == file] if known.ends else []
    if not earlier:
        return windows(step, joined, count)
    before_it = [known.ends[other] for other in earlier]
    return windows(step, joined, count, before_it[-1], carried(before_it))


def _joined(parts: Sequence[Block]) -> Block:
    """The first block with the rows of the others behind its own."""
    rows = np.concatenate([part.rows for part in parts])
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    return replace(parts[0], rows=rows, columns=columns)


def _all_categories(work: Work, known: Known, number: int, step: OneHot | Encode) -> Categories:
    """All that occur in the column once the steps before are done."""
    found: set[str | int] = set()

    def look(piece: int) -> int:
        block, count = _through(work, piece, known, number)
        found.update(categories_of(step, block))
        _check_number(step, len(found))
        return count

    in_turn(
        work, f"{work.phase.name}: categories of {step.column}", len(work.pieces), look, "its categories are not known"
    )
    everywhere: set[str | int] = set().union(*work.context.world.allgather(found))

    def agreed() -> Categories:
        _check_number(step, len(everywhere))
        if len({type(one) for one in everywhere}) > 1:
            raise DataError(f"{step.kind}: the column {step.column!r} holds text in one file and numbers in another.")
        return tuple(sorted(everywhere))

    return work.context.together(agreed)


def _check_number(step: OneHot | Encode, count: int) -> None:
    if count > MANY:
        raise DataError(f"{step.kind}: the column {step.column!r} has more than {MANY:,} different values.")


def _all_ends(work: Work, known: Known, number: int, step: Window) -> list[Ends]:
    """Of all pieces; only where a window's place in its run matters."""
    found: dict[int, Ends] = {}

    def look(piece: int) -> int:
        block, count = _through(work, piece, known, number)
        found[piece] = ends_of(step, finite(block), count)
        return count

    in_turn(work, f"{work.phase.name}: runs of rows", len(work.pieces), look, "its windows are not known")
    everywhere: dict[int, Ends] = {}
    for share in work.context.world.allgather(found):
        everywhere |= share
    return [everywhere[piece] for piece in range(len(work.pieces))]


def described(known: Known, steps: Sequence[Step]) -> list[object]:
    """What a piece is made by, for its fingerprint."""
    return [[step.model_dump() for step in steps], sorted(known.categories.items()), list(known.ends)]
