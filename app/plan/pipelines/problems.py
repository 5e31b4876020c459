"""What is wrong with the pipelines that an input file asks for, and what could be better."""

from collections.abc import Sequence
from typing import NamedTuple

from app.errors import InputError
from app.inputfile import models
from app.inputfile.models import Input
from app.inputfile.phases import Evaluate, Trains
from app.plan.costs import LayerCost
from app.plan.grid import Grid
from app.plan.pipelines.stages import Division, alike, costs_of, own_sizes, sample_shape_of

LARGEST_BUBBLE = 0.25  # a share of the ranks' time without work that is worth a note


def pipeline_problems(phases: Sequence[tuple[Trains | Evaluate, Input]], grid: Grid) -> list[str]:
    """Why the network cannot be cut, or does not fit, in these phases; as far as its layers are known by now.

    phases: each with the input that has its own network.
    """
    problems: list[str] = []
    for phase, given in phases:
        layers, shape = _known_layers(given), sample_shape_of(given)
        if layers is None or shape is None or (grid.stages == 1 and not given.grid.memory):
            continue
        try:
            Division(given, grid, phase, layers, shape).cut()
        except InputError as error:
            problems += error.problems
    return list(dict.fromkeys(problems))


def unused_keys(given: Input) -> list[str]:
    """Keys of [grid] that change nothing as the others stand."""
    table = given.grid
    if table.stages > 1:
        if table.schedule == "interleaved" or table.chunks == models.Grid().chunks:
            return []
        return [f'[grid] chunks = {table.chunks} has no effect: schedule = "{table.schedule}" has one chunk a stage.']
    keys = ("schedule", "chunks", "cut", "recompute")
    idle = [key for key in keys if getattr(table, key) != getattr(models.Grid(), key)]
    return [f"[grid] {', '.join(idle)}: no effect with stages = 1."] if idle else []


def pipeline_notes(given: Input, grid: Grid, phase: Trains | Evaluate) -> list[str]:
    """That a train phase's stages will wait for each other for long, and what would help."""
    if grid.stages == 1 or isinstance(phase, Evaluate):
        return []
    now = _outlook(given, grid, phase)
    if now.bubble <= LARGEST_BUBBLE:
        return []
    count = len(own_sizes(phase, grid.replicas))
    idle = (
        f"about {now.bubble:.0%} of the ranks' time will be spent waiting ({count} microbatches on {grid.stages} stages"
    )
    return [f"{idle}{now.uneven}); {_advice(given, grid, phase, now)}."]


class _Outlook(NamedTuple):
    """How a phase is expected to go; `uneven`: the end of a phrase about work that layers do not share evenly."""

    bubble: float
    seconds: float  # of a step; in units of a microbatch's chunk where the layers are not known
    uneven: str = ""


def _outlook(given: Input, grid: Grid, phase: Trains) -> _Outlook:
    layers, shape = _known_layers(given), sample_shape_of(given)
    if layers is None or shape is None:
        played = alike(given, grid, phase)
        return _Outlook(played.bubble, played.seconds * phase.microbatch)
    layout = Division(given, grid, phase, layers, shape).layout()
    most = max(layout.shares) * grid.stages
    uneven = f", the busiest with {most:.2f} x the mean work" if most > 1.1 else ""
    return _Outlook(layout.expected.bubble, layout.expected.seconds, uneven)


def _advice(given: Input, grid: Grid, phase: Trains, now: _Outlook) -> str:
    """The largest of halved microbatches that waits little enough, or else the one that waits least."""
    best, size = now, phase.microbatch
    found = size
    while size > 1 and best.bubble > LARGEST_BUBBLE:
        size //= 2
        outlook = _outlook(given, grid, phase.model_copy(update={"microbatch_size": size}))
        if outlook.bubble < best.bubble and outlook.seconds < best.seconds:
            best, found = outlook, size
    if found == phase.microbatch:
        return "smaller microbatches would not be faster; fewer stages, or a larger batch_size, would waste less"
    return f"microbatch_size = {found} would make it {best.bubble:.0%}"


def _known_layers(given: Input) -> Sequence[LayerCost] | None:
    """None also for a network that does not go with the sample's shape: that is told elsewhere."""
    try:
        return costs_of(given)
    except InputError:
        return None
