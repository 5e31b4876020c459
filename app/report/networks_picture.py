"""The networks of a run as a picture: how well each does against how long it takes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from app.report.log import escaped
from app.report.networks import NetworkRow

_SIZE_IN, _DPI = (9.0, 6.0), 130
_COLOURS = {
    "train": "#0072B2",
    "prune": "#D55E00",
    "distill": "#009E73",
    "export": "#CC79A7",
}  # Okabe and Ito: told apart by all eyes
_OTHER = "#7F7F7F"
_LABEL_PT, _MARKER_PT2 = 9, 60.0
_LOGARITHMIC_FROM = 3.0  # times the least
_AROUND = [(1, 1), (1, 0), (1, -1), (-1, 1), (-1, 0), (-1, -1), (0, 1.5), (0, -1.5)]  # where a label may go
_FAR = (0.08, 0.15, 0.25, 0.36, 0.5, 0.7, 0.95)  # from the point, inches


class _Axis(NamedTuple):
    """What is drawn along x: a name and the number of a network."""

    title: str
    of: Callable[[NetworkRow], float]


class _Point(NamedTuple):
    """A network that has both numbers."""

    row: NetworkRow
    x: float
    y: float


def picture(rows: Sequence[NetworkRow]) -> bytes | None:
    """Accuracy (of regression r2) against latency at batch N as a PNG file; None where no network has both numbers.

    On the test part where all are known there, else on the validation part. Where nothing was timed, operations take
    the place of the latency. Collective over: none.
    """
    axis = _along_x(rows)
    part, quality = _along_y(rows)
    points = [_Point(row, axis.of(row), quality(row)) for row in rows]
    points = [point for point in points if math.isfinite(point.x) and point.x > 0 and math.isfinite(point.y)]
    if not points:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second and much memory that few commands need
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw(axes, points)
    _scale(axes, [point.x for point in points], [point.y for point in points])
    axes.set_xlabel(axis.title)
    axes.set_ylabel(f"{points[0].row.quality} on the {part} part")
    axes.set_title("networks of the run: better is up, faster is left", loc="left", fontsize=11)
    axes.grid(color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _legend(axes, points)
    _label(canvas.get_renderer(), axes, points)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": "phalanx"})
    return file.getvalue()


def _along_x(rows: Sequence[NetworkRow]) -> _Axis:
    timed = {row.appraisal.batch_n for row in rows if row.appraisal and math.isfinite(row.appraisal.latency_n_s)}
    if timed:
        count = str(timed.pop()) if len(timed) == 1 else "a batch of"
        return _Axis(
            f"ms for {count} samples", lambda row: 1000 * row.appraisal.latency_n_s if row.appraisal else math.nan
        )
    return _Axis(
        "million operations of a sample", lambda row: row.appraisal.operations / 1e6 if row.appraisal else math.nan
    )


def _along_y(rows: Sequence[NetworkRow]) -> tuple[str, Callable[[NetworkRow], float]]:
    """The part of the data, and a network's number there."""
    if all(row.quality in row.metrics for row in rows if row.appraisal):
        return "test", lambda row: row.metrics.get(row.quality, math.nan)
    return "validation", lambda row: row.appraisal.accuracy if row.appraisal else math.nan


def _draw(axes: Any, points: Sequence[_Point]) -> None:
    front = sorted(_front(points), key=lambda point: point.x)
    if len(front) > 1:
        axes.step(
            [point.x for point in front], [point.y for point in front], where="post", color="#BBBBBB", linewidth=1.2,
            linestyle="--", zorder=1,
        )  # fmt: skip
    for point in points:
        axes.scatter(
            point.x, point.y, s=_MARKER_PT2, color=_COLOURS.get(point.row.kind, _OTHER), edgecolor="white", zorder=3
        )


def _front(points: Sequence[_Point]) -> Iterator[_Point]:
    """Those that no other network beats in one number without being worse in the other."""
    for point in points:
        if not any(
            other.x <= point.x and other.y >= point.y and (other.x, other.y) != (point.x, point.y) for other in points
        ):
            yield point


def _scale(axes: Any, xs: Sequence[float], ys: Sequence[float]) -> None:
    """A logarithmic x where the networks are far apart, with plain numbers; room for labels around the points."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(xs), max(xs)
    if high >= _LOGARITHMIC_FROM * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=_ticks(high / low)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        room = (high / low) ** 0.15
        axes.set_xlim(low / room, high * room)
    else:
        room = 0.2 * (high - low) or 0.5 * high
        axes.set_xlim(max(0.0, low - room), high + room)
    room = 0.15 * (max(ys) - min(ys)) or 0.01
    axes.set_ylim(min(ys) - room, max(ys) + room)


def _ticks(times: float) -> tuple[float, ...]:
    """Of each decade, where the last number is so many times the first."""
    if times < 10:
        return (1, 1.5, 2, 3, 4, 5, 7)
    return (1, 2, 5) if times < 200 else (1,)


def _legend(axes: Any, points: Sequence[_Point]) -> None:
    from matplotlib.lines import Line2D

    kinds = dict.fromkeys(point.row.kind for point in points)
    marks = [
        Line2D([], [], marker="o", linestyle="", color=_COLOURS.get(kind, _OTHER), label=f"made by {escaped(kind)}")
        for kind in kinds
    ]
    if len(list(_front(points))) > 1:
        marks.append(
            Line2D([], [], color="#BBBBBB", linestyle="--", label="no other network is both better and faster")
        )
    axes.figure.legend(handles=marks, loc="outside lower left", ncols=len(marks), frameon=False, fontsize=9)


def _label(renderer: Any, axes: Any, points: Sequence[_Point]) -> None:
    """The names beside the points, where they cover neither a point nor another name; far ones with a line."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    figure = axes.figure
    figure.draw_without_rendering()  # only now the places on the picture are known
    figure.set_layout_engine("none")  # and here they stay
    places = [axes.transData.transform((point.x, point.y)) for point in points]
    radius = (_MARKER_PT2**0.5 / 2 + 1) / 72 * figure.dpi
    taken = [Bbox.from_bounds(x - radius, y - radius, 2 * radius, 2 * radius) for x, y in places]
    inside = axes.get_window_extent(renderer)
    for point, place in sorted(zip(points, places, strict=True), key=lambda pair: -pair[1][1]):
        text = axes.annotate(
            escaped(point.row.name), (point.x, point.y), xytext=(0, 0), textcoords="offset points",
            fontsize=_LABEL_PT, parse_math=False, zorder=4,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
        size = text.get_window_extent(renderer)
        box, far = _free_place(place, (size.width, size.height), taken, inside, figure.dpi)
        taken.append(box.padded(4, 1))
        text.set_position(((box.x0 - place[0]) * 72 / figure.dpi, (box.y0 - place[1]) * 72 / figure.dpi))
        if far:
            _lead(axes, place, box)


def _free_place(
    place: Sequence[float], size: tuple[float, float], taken: Sequence[Any], inside: Any, dpi: float
) -> tuple[Any, bool]:
    """The first box around a point that covers nothing, or that covers least; whether it wants a line to the point."""
    from matplotlib.transforms import Bbox

    best, least = None, math.inf
    for step, far in enumerate(_FAR):
        for right, up in _AROUND:
            x = place[0] + right * far * dpi - (size[0] if right < 0 else size[0] / 2 if right == 0 else 0)
            y = place[1] + up * far * dpi - size[1] / 2
            box = Bbox.from_bounds(x, y, *size)
            covered = sum(_common(box, other) for other in taken) + size[0] * size[1] - _common(box, inside)
            if covered < 1e-6:
                return box, step > 1
            if covered < least:
                best, least = (box, step > 1), covered
    assert best is not None  # the least of several
    return best


def _common(one: Any, other: Any) -> float:
    """The area that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, width) * max(0.0, height)


def _lead(axes: Any, place: Sequence[float], box: Any) -> None:
    """A thin line from a point to the nearest place of its name."""
    end = (min(max(place[0], box.x0), box.x1), min(max(place[1], box.y0), box.y1))
    (x0, y0), (x1, y1) = axes.transData.inverted().transform([place, end])
    axes.plot([x0, x1], [y0, y1], color="#999999", linewidth=0.6, zorder=2, scalex=False, scaley=False)
