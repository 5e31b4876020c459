"""What pruning took away, round by round, and how much each group of units matters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from app.report.page import canvas
from app.report.page.html import Picture, file_name
from app.report.page.leaves import Table, columns, numbers, table, tables

_GROUPS = 40  # in a picture
_LETTERS = 34
_NUMBERED = 16  # groups up to which every number is written


def pictures(name: str, phase: Table) -> list[Picture]:
    """The rounds where there are several, and a sensitivity scan for each round that made one."""
    made = [_rounds(name, columns(table(phase, "rounds")))]
    for title, inner in {"": phase, **tables(phase)}.items():
        made.append(_sensitivity(name, title, table(inner, "rise_of_loss")))
    return [one for one in made if one is not None]


def _rounds(name: str, rounds: Mapping[str, np.ndarray]) -> Picture | None:
    kept = {
        what: rounds[what] / rounds[f"dense_{what}"]
        for what in ("operations", "parameters", "units")
        if {what, f"dense_{what}"} <= rounds.keys() and rounds[f"dense_{what}"].all()
    }
    if not kept or len(next(iter(kept.values()))) < 2:
        return None
    quality = next((rounds[key] for key in ("validation_accuracy", "validation_r2") if key in rounds), None)
    figure = canvas.figure(4.6 if quality is not None else 2.8)
    plots = figure.subplots(2, sharex=True) if quality is not None else [figure.subplots()]
    x = 1 + np.arange(len(next(iter(kept.values()))))
    styles = ((canvas.BLUE, "o-"), (canvas.VERMILION, "s--"), (canvas.GREEN, "^:"))
    for (what, shares), (colour, style) in zip(kept.items(), styles, strict=False):
        plots[0].plot(x, 100 * shares, style, color=colour, label=what)
    plots[0].set_ylabel("left, % of the dense network")
    plots[0].set_ylim(0, 108 * max(float(np.nan_to_num(shares).max()) for shares in kept.values()) or 1)
    plots[0].legend()
    if quality is not None:
        plots[1].plot(x, quality, color=canvas.PINK, marker="D", linestyle="--")
        plots[1].set_ylabel("accuracy, validation" if "validation_accuracy" in rounds else "r2, validation")
    plots[-1].set_xlabel("round")
    plots[-1].set_xticks(x if len(x) <= 20 else x[:: -(-len(x) // 20)])
    left = ", ".join(f"{what} {shares[-1]:.1%}" for what, shares in kept.items())
    return Picture(
        file_name("rounds", name),
        canvas.png(figure),
        f"{name}: what is left after each of {len(x)} rounds.",
        f"Pruning by rounds of {name}: left after {len(x)} rounds: {left}.",
    )


def _sensitivity(name: str, title: str, rises: Table) -> Picture | None:
    """Groups are rows, the share of their units that is taken away goes to the right."""
    found = {group: values for group in rises if len(values := numbers(rises, group)) > 1}
    if not found:
        return None
    order = sorted(found, key=lambda group: -float(np.nan_to_num(found[group]).mean()))[:_GROUPS]
    most = max(len(found[group]) for group in order)
    grid = np.full((len(order), most - 1), np.nan)
    for row, group in enumerate(order):
        grid[row] = _levelled(found[group], most)[1:]
    figure = canvas.figure(1.5 + max(0.26 * len(order), 0.6))
    axes = figure.subplots()
    top = float(np.nanmax(grid)) if np.isfinite(grid).any() else 1.0
    image = axes.imshow(np.maximum(grid, 0) ** 0.5, cmap="Oranges", aspect="auto", vmin=0, vmax=max(top, 1e-12) ** 0.5)
    axes.grid(visible=False)
    axes.set_yticks(range(len(order)), [canvas.shortened(group, _LETTERS) for group in order], fontsize=8.5)
    axes.set_xticks(range(most - 1), [f"{100 * level / (most - 1):.0f}" for level in range(1, most)])
    axes.set_xlabel("units taken away, % of the group (the last: all but one)")
    if len(order) <= _NUMBERED and most <= 12:
        for (row, column), value in np.ndenumerate(grid):
            if np.isfinite(value):
                colour = "white" if value > 0.4 * top else "#222222"
                axes.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=7.5, color=colour)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02, format=lambda value, _: f"{value * value:.2g}")
    bar.outline.set_visible(False)
    bar.set_label("rise of the loss")
    label = f"{name}, {title}" if title else name
    left = f" The {_GROUPS} most sensitive of {len(found)} groups." if len(found) > _GROUPS else ""
    return Picture(
        file_name("sensitivity", name, *([title] if title else [])),
        canvas.png(figure),
        f"{label}: what taking units away from one group alone adds to the loss.{left}",
        f"Sensitivity of {label}, {len(order)} groups; the most sensitive is {order[0]}, whose loss rises by up to"
        f" {np.nan_to_num(found[order[0]]).max():.3g}.",
    )


def _levelled(values: np.ndarray, most: int) -> np.ndarray:
    """A small group has fewer levels than the others: stretched to theirs."""
    return np.interp(np.linspace(0, 1, most), np.linspace(0, 1, len(values)), values)
