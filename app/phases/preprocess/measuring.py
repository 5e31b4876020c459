"""The constants of standardise and minmax, over the training samples of all pieces, in the order of the pieces."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.data.preparing.columns import Column
from app.data.preparing.records import missing
from app.data.preparing.scaling import Constants, Measured, check_scaled, constants, measured, merged
from app.errors import DataError
from app.inputfile.preparing import SCALING, MinMax, Standardise
from app.phases.preprocess.dividing import Division, members
from app.phases.preprocess.pieces import OWN
from app.phases.preprocess.work import Work


class Scaling(NamedTuple):
    """What is done to a column, and its constants."""

    step: Standardise | MinMax
    by: Constants


def scaling_of(work: Work, columns: Sequence[Column], division: Division) -> dict[str, Scaling]:
    """By column. Collective over: world. Raises DataError: no such column, text, scaled twice, no training samples."""
    steps = work.context.together(lambda: _steps(work, columns))
    if steps and not division.parts[0]:
        raise DataError(
            f'[[phase]] "{work.phase.name}": the training part is empty, so there is nothing to take constants of'
            " standardise and minmax from. What to try: less for validation and test."
        ).on_every_rank()
    if not steps:
        return {}
    found = {name: Measured() for name in steps}
    ranks, rank = work.context.world.size, work.context.world.rank
    for first in range(0, len(work.pieces), ranks):
        number = first + rank
        own = work.context.apart(lambda one=number: _of_piece(work, one, steps, division))  # type: ignore[misc]
        for share in work.context.world.allgather(own):  # in the order of the pieces
            found = {name: merged(found[name], share[name]) if name in share else found[name] for name in found}
    return {name: Scaling(step, constants(found[name])) for name, step in steps.items()}


def _of_piece(
    work: Work, number: int, steps: Mapping[str, Standardise | MinMax], division: Division
) -> dict[str, Measured]:
    if number >= len(work.pieces):
        return {}
    here = members(work, number, division.cut)
    at = here.at[here.part == 0]
    return {name: measured(work.store[number].take(f"{OWN}{name}", at), step) for name, step in steps.items()}


def _steps(work: Work, columns: Sequence[Column]) -> dict[str, Standardise | MinMax]:
    """By column."""
    types = {column.name: column.dtype for column in columns}
    found: dict[str, Standardise | MinMax] = {}
    for step in work.phase.steps:
        if isinstance(step, SCALING):
            for pattern in step.columns:
                names = [pattern] if pattern in types else fnmatch.filter(types, pattern)
                if not names:
                    raise DataError(missing(f'[[phase]] "{work.phase.name}"', pattern, types, step.kind))
                check_scaled(names, types, step.kind)
                twice = [name for name in names if found.get(name, step) is not step]
                if twice:
                    raise DataError(f'[[phase]] "{work.phase.name}": {step.kind}: {twice[0]!r} is scaled twice.')
                found |= dict.fromkeys(names, step)
    return found
