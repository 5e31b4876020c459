"""Loss, metrics and learning rate of a phase over its epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.report.page import canvas
from app.report.page.html import Picture, file_name
from app.report.page.leaves import Table, columns, number, numbers, table, tables

_DEEPEST = 4
_STEPS_DRAWN = 1500
_LOGARITHMIC_FROM = 30.0  # times the least
_SHARES = ("accuracy", "r2")  # metrics of one scale: 1 is perfect
_STYLES = ((canvas.VERMILION, "o"), (canvas.GREEN, "s"), (canvas.PINK, "^"), (canvas.ORANGE, "D"))


class Fit(NamedTuple):
    """One training: `title` is "" for a phase that is nothing else, `begin` the epochs of the phase before it."""

    title: str
    begin: int
    epochs: dict[str, np.ndarray]
    steps: np.ndarray
    best_epoch: int | None

    @property
    def length(self) -> int:
        return len(self.epochs["loss"])

    def x(self) -> np.ndarray:
        return self.begin + 1 + np.arange(self.length)


def fits(phase: Table) -> list[Fit]:
    """The trainings of a phase in their order: one, or those of the rounds of pruning."""
    made: list[Fit] = []
    for title, found in _trainings(phase, ()):
        begin = made[-1].begin + made[-1].length if made else 0
        best = number(found, "best_epoch")
        steps = numbers(table(found, "steps"), "loss")
        made.append(Fit(title, begin, columns(table(found, "epochs")), steps, int(best) if best else None))
    return made


def _trainings(tree: Table, place: tuple[str, ...]) -> Iterator[tuple[str, Table]]:
    if "loss" in columns(table(tree, "epochs")):
        yield " ".join(place), tree
    elif len(place) < _DEEPEST:
        for name, inner in tables(tree).items():
            yield from _trainings(inner, (*place, name))


def picture(name: str, phase: Table) -> Picture | None:
    """None where the phase trains nothing."""
    found = fits(phase)
    if not found:
        return None
    metrics = _metrics(found)
    rows = ["loss", *(["metrics"] if metrics else []), "rate"]
    figure = canvas.figure(2.2 + 2.2 * (len(rows) - 1))
    heights = [1.0 if row != "rate" else 0.5 for row in rows]
    axes = dict(zip(rows, figure.subplots(len(rows), sharex=True, height_ratios=heights), strict=True))
    _draw_loss(axes["loss"], found)
    if metrics:
        _draw_metrics(axes["metrics"], found, metrics)
    _draw_rate(axes["rate"], found)
    _mark(axes, found)
    return Picture(file_name("curves", name), canvas.png(figure), _caption(name, found), _words(name, found, metrics))


def _draw_loss(axes: Any, found: Sequence[Fit]) -> None:
    for fit in found:
        every = max(1, len(fit.steps) // _STEPS_DRAWN)
        x = fit.begin + fit.length * (1 + np.arange(len(fit.steps))[::every]) / max(1, len(fit.steps))
        axes.plot(x, fit.steps[::every], color=canvas.SKY, linewidth=0.7, alpha=0.55, label="training, each step")
    _lines(axes, found, "loss", "training", canvas.BLUE, "-", ".")
    _lines(axes, found, "validation_loss", "validation", canvas.VERMILION, "--", "o")
    values = np.concatenate(
        [fit.epochs.get(name, fit.steps[:0]) for fit in found for name in ("loss", "validation_loss")]
    )
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > _LOGARITHMIC_FROM * values.min():
        canvas.logarithmic_y(axes)
    axes.set_ylabel("loss")
    _legend(axes)


def _draw_metrics(axes: Any, found: Sequence[Fit], metrics: Sequence[str]) -> None:
    for name, (colour, mark) in zip(metrics, _STYLES, strict=False):
        _lines(axes, found, name, name.replace("_", " "), colour, "--", mark)
    axes.set_ylabel(_short(metrics[0]) if len(metrics) == 1 else "validation metrics")
    _legend(axes)


def _draw_rate(axes: Any, found: Sequence[Fit]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    _lines(axes, found, "rate", "learning rate", "#444444", "-", ".")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("learning\nrate")
    axes.set_xlabel("epoch" if len(found) == 1 else "epoch, all rounds of the phase")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    last = found[-1].begin + found[-1].length
    axes.set_xlim(0, last + max(0.25, 0.02 * last))


def _lines(axes: Any, found: Sequence[Fit], column: str, label: str, colour: str, line: str, mark: str) -> None:
    many = sum(fit.length for fit in found) > 60
    for fit in found:
        if column in fit.epochs:
            style = {"color": colour, "linestyle": line, "marker": "" if many else mark}
            axes.plot(fit.x(), fit.epochs[column], label=label, **style)


def _legend(axes: Any) -> None:
    """One entry for each kind of line, however many rounds drew it."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(once.values(), once.keys(), loc="best", ncols=1 if len(once) < 4 else 2)


def _mark(axes: dict[str, Any], found: Sequence[Fit]) -> None:
    """The epoch whose weights were kept, and where one round ends and the next begins."""
    for fit in found:
        for one in axes.values():
            if fit.begin:
                one.axvline(fit.begin, color="#999999", linewidth=0.8)
            if fit.best_epoch and fit.best_epoch <= fit.length:
                one.axvline(fit.begin + fit.best_epoch, color="#555555", linewidth=1.0, linestyle=":", zorder=1)
    if len(found) > 1:
        top = axes["loss"]
        for fit in found:
            words = canvas.shortened(fit.title, 22)
            top.annotate(
                words, (fit.begin, 1.01), xycoords=("data", "axes fraction"), fontsize=7.5, rotation=12, va="bottom"
            )


def _metrics(found: Sequence[Fit]) -> list[str]:
    """Of the validation part: the shares, else the first metric there is."""
    names = dict.fromkeys(name for fit in found for name in fit.epochs if name.startswith("validation_"))
    others = [name for name in names if name != "validation_loss"]
    return [name for name in others if name.endswith(_SHARES)][: len(_STYLES)] or others[:1]


def _short(metric: str) -> str:
    return metric.removeprefix("validation_").replace("_", " ")


def _caption(name: str, found: Sequence[Fit]) -> str:
    best = [str(fit.best_epoch + fit.begin) for fit in found if fit.best_epoch]
    kept = f"; dotted: the weights kept, of epoch {', '.join(best[:12])}" if best else ""
    return f"{name}: loss, validation and learning rate over the epochs{kept}."


def _words(name: str, found: Sequence[Fit], metrics: Sequence[str]) -> str:
    first, last = found[0].epochs, found[-1].epochs
    said = [f"training loss from {first['loss'][0]:.4g} to {last['loss'][-1]:.4g}"]
    for column in ("validation_loss", *metrics):
        value = last[column][-1] if column in last else math.nan
        if math.isfinite(value):
            said.append(f"{column.replace('_', ' ')} {value:.4g} at the end")
    epochs = found[-1].begin + found[-1].length
    return f"Curves of phase {name} over {epochs} epoch{'s' if epochs > 1 else ''}: {', '.join(said)}."
