"""What the quantum phases found: energies, how minimising went, probabilities, samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.report.page import canvas
from app.report.page.html import Picture, file_name
from app.report.page.leaves import Table, number, numbers, table, words

_BARS = 32
HEAD = ("phase", "task", "qubits", "parameters", "operations", "energy or expectation", "exact", "difference", "time")


def row(name: str, phase: Table) -> list[str]:
    """Of the table of all quantum phases."""
    energy = number(phase, "energy")
    energy = number(phase, "expectation") if energy is None else energy
    exact = number(phase, "exact")
    difference = energy - exact if energy is not None and exact is not None else None
    seconds = number(phase, "seconds")
    if seconds is None and table(phase, "seconds"):
        seconds = sum(number(table(phase, "seconds"), step) or 0.0 for step in table(phase, "seconds"))
    return [
        name,
        str(phase.get("task", "-")),
        *(_text(number(phase, key), ",.0f") for key in ("qubits", "parameters", "operations")),
        *(_text(value, "+.8f") for value in (energy, exact)),
        _text(difference, ".2e"),
        f"{seconds:.3g} s" if seconds is not None else "-",
    ]


def _text(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


def pictures(name: str, phase: Table) -> list[Picture]:
    """How minimising went, probabilities, samples: those that are there."""
    made = (_minimising(name, phase), _probabilities(name, phase), _samples(name, phase))
    return [one for one in made if one is not None]


def _minimising(name: str, phase: Table) -> Picture | None:
    energies = numbers(table(phase, "steps"), "energy")
    sizes = numbers(table(phase, "steps"), "largest_gradient")
    if not len(energies):
        return None
    exact = number(phase, "exact")
    figure = canvas.figure(4.6)
    upper, lower = figure.subplots(2, sharex=True)
    upper.plot(energies, color=canvas.BLUE, label="energy")
    if exact is not None:
        upper.axhline(exact, color=canvas.VERMILION, linestyle="--", label="exact lowest")
        upper.legend()
        lower.plot(_positive(energies - exact), color=canvas.BLUE, label="energy above the exact one")
    upper.set_ylabel("energy (units of the observable)")
    upper.yaxis.label.set_size(9)
    lower.plot(_positive(sizes), color=canvas.GREEN, linestyle="-.", label="largest entry of the gradient")
    if (np.concatenate([energies - exact if exact is not None else sizes, sizes]) > 0).any():
        canvas.logarithmic_y(lower)
    lower.legend()
    lower.set_xlabel("step of the optimiser")
    lower.set_ylabel("distance" if exact is not None else "gradient")
    lowest = number(phase, "energy")
    lowest = float(energies[-1]) if lowest is None else lowest
    reached = f"energy {lowest:.8g} after {len(energies) - 1:,} steps"
    beside = f", exact {exact:.8g}, {lowest - exact:.2g} above" if exact is not None else ""
    return Picture(
        file_name("minimise", name),
        canvas.png(figure),
        f"{name}: {reached}{beside}.",
        f"Energy over the steps of {name}: from {energies[0]:.6g} to {reached}{beside}.",
    )


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)


def _probabilities(name: str, phase: Table) -> Picture | None:
    found = numbers(phase, "probabilities")
    if not len(found):
        return None
    width = max(1, (len(found) - 1).bit_length())
    labels = [f"{state:0{width}b}" for state in range(len(found))]
    return _bars(name, "probabilities", labels, found, "probability")


def _samples(name: str, phase: Table) -> Picture | None:
    found = table(phase, "samples")
    counts, labels = numbers(found, "counts"), words(found, "bits")
    if not len(counts) or len(labels) != len(counts):
        return None
    return _bars(name, "samples", labels, counts, f"of {counts.sum():,.0f} shots")


def _bars(name: str, what: str, labels: Sequence[str], values: np.ndarray, along: str) -> Picture:
    """The largest, largest first where some are left out."""
    order = np.argsort(-values, kind="stable")[:_BARS] if len(values) > _BARS else np.arange(len(values))
    shown = [canvas.shortened(labels[place], 32) for place in order.tolist()]
    figure = canvas.figure(3.4)
    axes = figure.subplots()
    axes.bar(range(len(order)), values[order], color=canvas.BLUE, width=0.8)
    turned = len(shown) * max(map(len, shown)) > 60
    axes.set_xticks(range(len(shown)), shown, rotation=90 if turned else 0, family="DejaVu Sans Mono", fontsize=8)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(along)
    axes.set_xlabel("outcome, one digit a qubit" if len(order) == len(values) else f"the {_BARS} commonest outcomes")
    most = ", ".join(
        f"{labels[place]} {values[place]:.4g}" for place in np.argsort(-values, kind="stable")[:4].tolist()
    )
    left = f", the {_BARS} largest of {len(values):,}" if len(values) > _BARS else ""
    return Picture(
        file_name(what, name),
        canvas.png(figure),
        f"{name}: {what}{left}.",
        f"Bar chart of {what} of {name}, {along}; largest: {most}.",
    )
