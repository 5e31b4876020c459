"""Which classes a network takes for which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.report.page import canvas
from app.report.page.facts import Facts
from app.report.page.html import Picture, file_name
from app.report.page.leaves import Table, matrix, table, tables, words

_NUMBERED = 20  # classes up to which every count is written
_TICKS = 30
_NETWORKS = 3  # of a comparison; of more, the best and the worst
_MOST_CONFUSED = 5


class Confusion(NamedTuple):
    """`counts` (true class, predicted class) int64; `title`: the phase, and the network where there are several."""

    title: str
    counts: np.ndarray
    classes: list[str]

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.counts) / max(1, self.counts.sum()))


def confusions(facts: Facts) -> tuple[list[Confusion], int]:
    """Those of all phases, and how many of comparisons were left out."""
    found, left = [], 0
    for name, phase in facts.phases.items():
        own = [one for one in _of_phase(name, phase, facts.results) if one.counts.any()]
        if len(own) > _NETWORKS:
            ordered = sorted(own, key=lambda one: one.accuracy)
            left += len(own) - 2
            own = [ordered[-1], ordered[0]]
        found += own
    return found, left


def _of_phase(name: str, phase: Table, results: Table) -> Iterator[Confusion]:
    networks = {f"{name}, {network}": one for network, one in tables(table(phase, "networks")).items()}
    for title, place in {name: phase, **networks}.items():
        for inner in (place, table(place, "metrics")):
            counts = matrix(inner, "confusion")
            if counts is not None:
                yield Confusion(title, counts, _classes(phase, results, len(counts)))
                break


def _classes(phase: Table, results: Table, count: int) -> list[str]:
    """Of the phase, else those that another phase of the run knows, else numbers."""
    for place in (phase, table(results, "data"), *tables(table(results, "phases")).values()):
        names = words(place, "class_names")
        if len(names) == count:
            return names
    return [str(number) for number in range(count)]


def picture(found: Confusion) -> Picture:
    """Rows are shares of a true class, so that rare classes are as visible as common ones."""
    count = len(found.counts)
    figure = canvas.figure(5.6)
    axes = figure.subplots()
    shares = found.counts / np.maximum(1, found.counts.sum(1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.grid(visible=False)
    every = -(-count // _TICKS)
    labels = [canvas.shortened(name, 14) for name in found.classes[::every]]
    wordy = max(map(len, labels)) > 3
    axes.set_xticks(range(0, count, every), labels, rotation=45 if wordy else 0, ha="right" if wordy else "center")
    axes.set_yticks(range(0, count, every), labels)
    if count <= _NUMBERED:
        _write_counts(axes, found.counts, shares)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(canvas.shortened(found.title, 60))
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02, format=lambda value, _: f"{100 * value:.0f} %")
    bar.outline.set_visible(False)
    bar.set_label("of the true class")
    samples = int(found.counts.sum())
    return Picture(
        file_name("confusion", *found.title.split(", ")),
        canvas.png(figure),
        f"{found.title}: {found.accuracy:.2%} of {samples:,} right. {_confused(found)}",
        f"Confusion matrix of {found.title}, {count} classes, {found.accuracy:.2%} of {samples:,} samples right."
        f" {_confused(found)}",
    )


def _write_counts(axes: Any, counts: np.ndarray, shares: np.ndarray) -> None:
    size = 9 if len(counts) <= 12 else 6.5
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.55 else "#222222"
        number = f"{counts[row, column]:,}"
        axes.text(column, row, number, ha="center", va="center", fontsize=size, color=colour)


def _confused(found: Confusion) -> str:
    """The commonest mistakes in words."""
    wrong = found.counts - np.diag(np.diagonal(found.counts))
    order: Sequence[int] = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSED].tolist()
    pairs = [divmod(place, len(wrong)) for place in order]
    said = [
        f"{canvas.shortened(found.classes[true], 30)} for {canvas.shortened(found.classes[taken], 30)}"
        f" ({wrong[true, taken]:,})"
        for true, taken in pairs
        if wrong[true, taken]
    ]
    return f"Most often confused (true for predicted): {', '.join(said)}." if said else "None confused."
