"""Where the time of the ranks goes: reading, computing, communicating, waiting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from app.report.page import canvas
from app.report.page.html import Picture, file_name
from app.report.page.leaves import Table, columns, number, tables

_DEEPEST = 4
_AT_ONCE = 6  # phases in a picture
_COLOURS = {
    "read": canvas.GREEN,
    "compute": canvas.BLUE,
    "communicate": canvas.ORANGE,
    "wait": canvas.VERMILION,
}  # fmt: skip


class Part(NamedTuple):
    """Seconds of the ranks in one kind of work, over all epochs of a phase."""

    min: float
    median: float
    max: float


def parts(phase: Table) -> dict[str, Part]:
    """By what the ranks did; {} of a phase without timings. Sums over epochs of what each epoch's ranks had."""
    found: dict[str, Part] = {}
    for timings in _timings(phase, 0):
        for name, part in (*_of_epochs(timings), *_of_spreads(timings)):
            found[name] = Part(*map(sum, zip(found.get(name, Part(0.0, 0.0, 0.0)), part, strict=True)))
    return found


def _timings(tree: Table, depth: int) -> Iterator[Table]:
    for name, inner in tables(tree).items():
        if name == "timings":
            yield inner
        elif depth < _DEEPEST:
            yield from _timings(inner, depth + 1)


def _of_epochs(timings: Table) -> Iterator[tuple[str, Part]]:
    """Columns read_min, read_median, read_max."""
    found = columns(timings)
    for name in [column.removesuffix("_median") for column in found if column.endswith("_median")]:
        kinds = [found.get(f"{name}_{kind}") for kind in Part._fields]
        if all(kind is not None for kind in kinds):
            yield name, Part(*(float(np.nansum(kind)) for kind in kinds if kind is not None))


def _of_spreads(timings: Table) -> Iterator[tuple[str, Part]]:
    """Tables read, compute, ... with min, median and max."""
    for name, inner in tables(timings).items():
        kinds = [number(inner, kind) for kind in Part._fields]
        if None not in kinds:
            yield name, Part(*(float(kind) for kind in kinds if kind is not None))


def pictures(phases: Mapping[str, Table]) -> list[Picture]:
    """A few phases in each."""
    found = {name: timed for name, phase in phases.items() if (timed := parts(phase))}
    names = list(found)
    groups = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
    return [_picture(number, {name: found[name] for name in group}) for number, group in enumerate(groups, 1)]


def _picture(count: int, found: Mapping[str, dict[str, Part]]) -> Picture:
    rows = [(phase, name, part) for phase, timed in found.items() for name, part in timed.items()]
    places, centres, place = [], {}, 0.0
    for phase, timed in found.items():
        own = [place + number for number in range(len(timed))]
        places += own
        centres[phase] = own[0] - 0.95
        place = own[-1] + 2.3
    figure = canvas.figure(0.75 + 0.235 * place)
    axes = figure.subplots()
    longest = max(part.max for _, _, part in rows) or 1.0
    for (_, name, part), at in zip(rows, places, strict=True):
        _bar(axes, name, part, at, longest)
    for phase, at in centres.items():
        axes.text(0, at, canvas.shortened(phase, 60), fontsize=10, fontweight="bold", va="center")
    axes.set_yticks(places, [canvas.shortened(name, 24) for _, name, _ in rows])
    axes.set_ylim(place - 1.4, -1.6)
    axes.set_xlim(0, 1.45 * longest)
    axes.set_xlabel("seconds: bar median over ranks, line from least to most")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    return Picture(
        file_name("time", str(count)),
        canvas.png(figure),
        "Time of the ranks by what they did, all epochs of a phase together.",
        "Time per rank. " + " ".join(f"{phase}: {_words(timed)}." for phase, timed in found.items()),
    )


def _bar(axes: Any, name: str, part: Part, at: float, longest: float) -> None:
    axes.barh(at, part.median, height=0.72, color=_COLOURS.get(name, canvas.GREY))
    axes.plot([part.min, part.max], [at, at], color="#222222", linewidth=1.2, marker="|", markersize=7)
    spread = f"  ({part.min:.3g} to {part.max:.3g})" if part.max > part.min else ""
    axes.text(
        max(part.median, part.max) + 0.015 * longest, at, f"{part.median:.3g} s{spread}", va="center", fontsize=8.5
    )


def _words(timed: Mapping[str, Part]) -> str:
    return ", ".join(f"{name} {part.median:.3g} s ({part.min:.3g} to {part.max:.3g})" for name, part in timed.items())
