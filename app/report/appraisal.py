"""What a network costs and is worth, and how that is told beside what it was before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from app.plan.show import bytes_text, operations_text
from app.report.progress import number

_SPARSE = 0.9  # below this share of its parameters, those that are not 0 have a line


class Appraisal(NamedTuple):
    """A finished network. Times, samples/s and joules are nan where they were not measured.

    parameters: tied ones once; nonzero: those that are not 0. bytes: of the weights as stored. operations: of one
    sample's forward pass, a multiply-add counting as two. latency: median seconds of a forward pass in evaluation of
    one sample, and of `batch_n`; through a pipeline the sum over its stages. joules: of a sample at `batch_n`. loss and
    accuracy: on the validation part, nan without one; the loss is the task's usual one; of regression r2.
    """

    parameters: int
    nonzero: int
    bytes: int
    operations: int
    latency_1_s: float
    latency_n_s: float
    batch_n: int
    samples_per_s: float
    joules: float
    loss: float
    accuracy: float


class _Line(NamedTuple):
    """A line of the table: how a number is told, and its change."""

    title: str
    values: tuple[float, ...]  # before and after, or after alone
    text: Callable[[float], str]
    change: Callable[[float, float], str]


def lines(before: Appraisal | None, after: Appraisal, quality: str = "accuracy") -> list[str]:
    """Aligned lines: `parameters  123,456 -> 30,000  (x4.1 fewer)`; what is not known on either side is left out.

    quality: what `accuracy` is called.
    """
    rows = [row for row in _rows(before, after, quality) if all(map(math.isfinite, row.values))]
    cells = [[row.title, *map(row.text, row.values)] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    told = []
    for row, line in zip(rows, cells, strict=True):
        numbers = " -> ".join(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        change = f"  ({row.change(*row.values)})" if before else ""
        told.append(f"{line[0]:<{widths[0]}}  {numbers}{change}")
    return told


def milliseconds(seconds: float) -> str:
    """Three digits: `0.0120`, `12.3`, `1,230`."""
    value = 1000 * seconds
    return number(value) if value >= 100 else f"{value:#.3g}".rstrip(".")


def _rows(before: Appraisal | None, after: Appraisal, quality: str) -> list[_Line]:
    def row(name: str, title: str, text: Callable[[float], str], change: Callable[[float, float], str]) -> _Line:
        sides = [side for side in (before, after) if side is not None]
        return _Line(title, tuple(getattr(side, name) for side in sides), text, change)

    zeros = any(side.nonzero < _SPARSE * side.parameters for side in (before, after) if side)
    same_batch = before is None or before.batch_n == after.batch_n
    several = [
        row("latency_n_s", f"ms for {after.batch_n} samples", milliseconds, _ratio("faster", "slower")),
        row("samples_per_s", "samples/s", number, _ratio("less", "more")),
        row("joules", "joules a sample", lambda value: f"{value:.3g}", _ratio("less", "more")),
    ]
    return [
        row("parameters", "parameters", "{:,}".format, _ratio("fewer", "more")),
        *([row("nonzero", "of them not 0", "{:,}".format, _ratio("fewer", "more"))] if zeros else []),
        row("bytes", "stored", bytes_text, _ratio("smaller", "larger")),
        row("operations", "operations a sample", operations_text, _ratio("fewer", "more")),
        row("latency_1_s", "ms for 1 sample", milliseconds, _ratio("faster", "slower")),
        *(several if same_batch else []),
        row("loss", "validation loss", "{:.4f}".format, _difference),
        row("accuracy", f"validation {quality}", "{:.4f}".format, _difference),
    ]


def _ratio(smaller: str, larger: str) -> Callable[[float, float], str]:
    """Words for a number that got smaller, and for one that got larger."""

    def change(before: float, after: float) -> str:
        if not before or not after:
            return "as before" if before == after else "-"
        factor, word = (before / after, smaller) if after < before else (after / before, larger)
        text = f"{factor:.3g}" if factor < 100 else f"{factor:,.0f}"
        return "as before" if text == "1" else f"x{text} {word}"

    return change


def _difference(before: float, after: float) -> str:
    text = f"{after - before:+.4f}"
    return "as before" if float(text) == 0 else text
