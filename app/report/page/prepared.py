"""Phases without pictures: what they counted, and tables of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from app.report.page import html
from app.report.page.canvas import shortened
from app.report.page.leaves import Table, number, scalars, tables, words

# In the order in which records go through a preprocess phase.
_COUNTS = ("files", "records", "windows", "bad", "left_out", "filtered", "duplicates", "samples")
_ROWS = 30
_COLUMNS = 8
_LETTERS = 160
_DEEPEST = 4


def body(phase: Table) -> str:
    """Counts as tiles, all other numbers and texts, and tables with columns."""
    counts = [
        (name.replace("_", " "), f"{value:,.0f}") for name in _COUNTS if (value := number(phase, name)) is not None
    ]
    return html.tiles(counts) + _others(phase, (*_COUNTS, "kind")) + "".join(_tables(phase, ()))


def rest(phase: Table, without: tuple[str, ...]) -> str:
    """Numbers and texts of a phase but those of these names."""
    return _others(phase, (*without, "kind"))


def _others(phase: Table, without: tuple[str, ...]) -> str:
    left = {name: value for name, value in phase.items() if name not in without}
    return html.pairs((name, _told(value)) for name, value in scalars(left))


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else shortened(str(value), _LETTERS)


def _tables(tree: Table, place: tuple[str, ...]) -> Iterator[str]:
    """Those of one length of columns, however deep."""
    found = {name: cells for name in tree if len(cells := words(tree, name))}
    lengths = {len(cells) for cells in found.values()}
    if place and len(lengths) == 1 and len(found) <= _COLUMNS:
        rows = lengths.pop()
        left = f"; the first {_ROWS} of {rows:,}" if rows > _ROWS else ""
        title = html.paragraph(f"{' '.join(place).replace('_', ' ')}{left}", "soft")
        yield title + html.table(list(found), _rows(tree, found), left=len(found))
    if len(place) < _DEEPEST:
        for name, inner in tables(tree).items():
            yield from _tables(inner, (*place, name))


def _rows(tree: Table, found: Mapping[str, list[str]]) -> list[list[str]]:
    """The first ones; numbers with six digits."""
    columns = []
    for name, cells in found.items():
        column = tree[name]
        real = isinstance(column, np.ndarray) and column.dtype.kind == "f"
        columns.append([f"{float(cell):.6g}" if real else shortened(cell, _LETTERS) for cell in cells[:_ROWS]])
    return [list(row) for row in zip(*columns, strict=True)]
