"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.report.log import escaped
from app.report.progress import clock, number

_METRICS_SHOWN = 4


class SummaryRow(NamedTuple):
    """One phase: `state` such as "done" or "skipped"; seconds and samples/s None where there are none."""

    phase: str
    kind: str
    state: str
    seconds: float | None
    samples_per_s: float | None
    metrics: Mapping[str, float]


def summary_table(rows: Sequence[SummaryRow]) -> list[str]:
    """Aligned lines: a head, a rule, one line per phase; [] for no phases. The first four metrics of each are shown."""
    if not rows:
        return []
    cells = [["phase", "kind", "state", "time", "samples/s", "metrics"], *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [_line(line, widths) for line in cells]
    rule = "  ".join("-" * width for width in widths)
    return [lines[0], rule, *lines[1:]]


def _cells(row: SummaryRow) -> list[str]:
    shown = [f"{name} {_shown(value)}" for name, value in list(row.metrics.items())[:_METRICS_SHOWN]]
    time = "-" if row.seconds is None else duration(row.seconds)
    rate = "-" if row.samples_per_s is None else number(row.samples_per_s)
    return [escaped(row.phase), escaped(row.kind), escaped(row.state), time, rate, ", ".join(shown) or "-"]


def _shown(value: float) -> str:
    """Counts in full, measures in four digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        cell.rjust(width) if column in (3, 4) else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def duration(seconds: float) -> str:
    """`3.2 s` below a minute, else as a clock."""
    return f"{seconds:.1f} s" if seconds < 59.95 else clock(seconds)
