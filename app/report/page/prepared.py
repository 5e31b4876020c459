"""Phases without pictures: what they counted, and tables of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from app.report.page import html
from app.report.page.canvas import shortened
from app.report.page.leaves import Table, number, scalars, tables, words

# In the order in which records go through a preprocess phase.
_COUNTS = ("records", "bad", "filtered", "repeated", "samples")
_ROWS = 30
_OPEN = 8  # rows of a table that is shown at once
_COLUMNS = 8
_LETTERS = 160
_DEEPEST = 4


def body(phase: Table) -> str:
    """Counts as tiles, all other numbers and texts, and tables with columns."""
    counts = [(name, f"{value:,.0f}") for name in _COUNTS if (value := number(phase, name)) is not None]
    return html.tiles(counts) + _others(phase, (*_COUNTS, "kind")) + "".join(_tables(phase, ()))


def rest(phase: Table, without: tuple[str, ...]) -> str:
    """Numbers and texts of a phase but those of these names."""
    return _others(phase, (*without, "kind"))


def _others(phase: Table, without: tuple[str, ...]) -> str:
    """Each table with numbers a line, and a line for each number beside them."""
    left = {name: value for name, value in phase.items() if name not in without}
    lines = []
    for name, inner in left.items():
        found = list(scalars(inner if isinstance(inner, Mapping) else {name: inner}))
        told = " · ".join(
            f"{key} {_told(value)}" if isinstance(inner, Mapping) else _told(value) for key, value in found
        )
        lines += [(name.replace("_", " "), told)] if found else []
    return html.pairs(lines)


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else shortened(str(value), _LETTERS)


def _tables(tree: Table, place: tuple[str, ...]) -> Iterator[str]:
    """Those of one length of columns, however deep."""
    found = {name: cells for name in tree if len(cells := words(tree, name))}
    lengths = {len(cells) for cells in found.values()}
    if place and len(lengths) == 1 and len(found) <= _COLUMNS:
        yield _titled(
            " ".join(place).replace("_", " "), lengths.pop(), html.table(*_cells(tree, found), left=len(found))
        )
    if len(place) < _DEEPEST:
        for name, inner in tables(tree).items():
            yield from _tables(inner, (*place, name))


def _titled(title: str, rows: int, table: str) -> str:
    """A long table behind a line that opens it."""
    if rows <= _OPEN:
        return html.paragraph(title, "soft") + table
    return html.folded(f"{title}: {rows:,}{f', the first {_ROWS}' if rows > _ROWS else ''}", table)


def _cells(tree: Table, found: Mapping[str, list[str]]) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the first rows; numbers with four digits."""
    columns = []
    for name, cells in found.items():
        column = tree[name]
        kind = column.dtype.kind if isinstance(column, np.ndarray) else ""
        shown = column[:_ROWS].tolist() if kind and kind in "iuf" else cells[:_ROWS]
        columns.append([_told(cell) for cell in shown])
    return list(found), [list(row) for row in zip(*columns, strict=True)]
