"""A step of a timeline as a picture: one row a rank, a bar an event."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from app.report.log import escaped
from app.report.timeline import Timeline, bubble_words, median_step
from app.report.trace import COMPUTE, KINDS, Event

_WIDTH_IN, _ROW_IN, _DPI = 15.0, 0.42, 130
_NUMBER_PT = 7.5
_BETWEEN_REPLICAS = 0.5  # rows
_BAR = 0.82  # of a row's height


def picture(timeline: Timeline) -> bytes:
    """The step of median length as a PNG file; the numbers in the bars are those of the replica's own microbatches.

    Collective over: none. Raises ValueError when the timeline has no events.
    """
    from matplotlib.figure import Figure  # half a second and much memory that no other command needs

    step = median_step(timeline)
    rows = [[event for event in events if event.step == step] for events in timeline.events]
    begin = min(event.begin for events in rows for event in events)
    ms = 1000 * (max(event.end for events in rows for event in events) - begin)
    positions = [rank + _BETWEEN_REPLICAS * timeline.grid.replica(rank) for rank in range(timeline.grid.ranks)]
    figure = Figure(figsize=(_WIDTH_IN, 1.7 + _ROW_IN * (positions[-1] + 1)), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(0, ms)
    axes.set_ylim(positions[-1] + 0.6, -0.6)
    for events, position in zip(rows, positions, strict=True):
        _draw_rank(axes, events, position, begin, timeline.grid.stages)
    _label(axes, timeline, step, positions)
    _legend(figure, [event.name for events in rows for event in events], _levels(rows, timeline.grid.stages))
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": "phalanx"})
    return file.getvalue()


def _draw_rank(axes: Any, events: Sequence[Event], position: float, zero: float, stages: int) -> None:
    """Bars in the order of their begins, so that an inner event lies on the one around it."""
    ms_per_pt = axes.get_xlim()[1] / (_WIDTH_IN * 0.92 * 72)
    for event in events:
        left, width = 1000 * (event.begin - zero), 1000 * (event.end - event.begin)
        level = event.chunk // stages if event.chunk >= 0 and KINDS[event.name].category == COMPUTE else 0
        axes.broken_barh(
            [(left, width)],
            (position - _BAR / 2, _BAR),
            facecolor=_lighter(KINDS[event.name].colour, level),
            edgecolor="white",
            linewidth=min(0.5, 0.1 * width / ms_per_pt),
        )
        number = str(event.microbatch)
        if event.microbatch >= 0 and width > (0.65 * _NUMBER_PT * len(number) + 2) * ms_per_pt:
            axes.text(
                left + width / 2,
                position,
                number,
                ha="center",
                va="center_baseline",
                fontsize=_NUMBER_PT,
                color="white" if event.name in ("forward", "weights", "all-reduce") and not level else "black",
            )


def _label(axes: Any, timeline: Timeline, step: int, positions: Sequence[float]) -> None:
    grid = timeline.grid
    axes.set_yticks(
        positions,
        [f"rank {rank}: replica {grid.replica(rank)}, stage {grid.stage(rank)}" for rank in range(grid.ranks)],
    )
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"ms since the begin of step {step}, the one of median length")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    title = f"{escaped(timeline.phase)}: {escaped(timeline.schedule)} on {grid} (replicas x stages)"
    axes.set_title(f"{title}   {bubble_words(timeline)}", loc="left", fontsize=11, parse_math=False)


def _levels(rows: Sequence[Sequence[Event]], stages: int) -> int:
    """The chunks that a stage holds."""
    return 1 + max((event.chunk for events in rows for event in events), default=0) // stages


def _legend(figure: Any, names: Sequence[str], levels: int) -> None:
    from matplotlib.patches import Patch

    shown = [
        Patch(color=kind.colour, label="waiting for a message" if name == "receive" else name)
        for name, kind in KINDS.items()
        if name in names
    ]
    if levels > 1:
        shown.append(Patch(color="none", label="(lighter: a stage's later chunks)"))
    figure.legend(
        handles=shown, loc="outside lower left", ncols=len(shown), frameon=False, fontsize=9, handlelength=1.2,
        columnspacing=1.4,
    )  # fmt: skip


def _lighter(colour: str, level: int) -> str:
    """The colour of a stage's chunk number `level`: halfway to white, and less far from it with each further one."""
    keep = 0.62**level
    parts = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 - keep * (255 - part)):02X}" for part in parts)
