"""What was watched while predicting: speed, confidence, classes, and how far the samples have drifted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from app.report.page import canvas
from app.report.page.html import Picture, file_name
from app.report.page.leaves import Table, number, numbers, table, tables, words
from app.report.progress import number as plain

_BARS = 30
_DEEPEST = 3
_LATENCIES = ("p50", "p90", "p99", "max")


class Drift(NamedTuple):
    """By feature (F,) each: names, population stability index, Kolmogorov-Smirnov distance, whether it counts."""

    title: str
    features: list[str]
    psi: np.ndarray
    ks: np.ndarray
    drifted: np.ndarray


def figures(phase: Table) -> list[tuple[str, str]]:
    """For tiles: samples, samples/s, latencies, confidence, how many features have drifted."""
    watched = table(phase, "monitor")
    made = []
    samples = number(phase, "samples")
    if samples is not None:
        made.append(("samples", f"{samples:,.0f}"))
    speed = number(watched, "samples_per_s")
    speed = number(phase, "samples_per_s") if speed is None else speed
    if speed is not None:
        made.append(("samples/s", plain(speed)))
    latency = table(watched, "latency_ms")
    for name in _LATENCIES:
        value = number(latency, name)
        if value is not None:
            percent = "longest" if name == "max" else f"at most, {name.removeprefix('p')} % of batches"
            made.append((f"ms {percent}", f"{value:.3g}"))
    mean = number(table(watched, "confidence"), "mean")
    if mean is not None:
        made.append(("mean confidence", f"{mean:.1%}"))
    for found in drifts(watched):
        made.append((found.title + " drifted", f"{int(found.drifted.sum())} of {len(found.features)}"))
    return made


def drifts(watched: Table) -> list[Drift]:
    """Those of the inputs, and of the outputs where they are there."""
    return [found for title, place in _places(table(watched, "drift"), ()) if (found := _drift(title, place))]


def _places(tree: Table, place: tuple[str, ...]) -> Iterator[tuple[str, Table]]:
    if len(numbers(tree, "psi")):
        yield " ".join(place) or "features", tree
    if len(place) < _DEEPEST:
        for name, inner in tables(tree).items():
            yield from _places(inner, (*place, name))


def _drift(title: str, place: Table) -> Drift | None:
    psi, ks = numbers(place, "psi"), numbers(place, "ks")
    names = words(place, "feature") or words(place, "features")
    if len(names) != len(psi):
        names = [str(count) for count in range(len(psi))]
    ks = ks if len(ks) == len(psi) else np.full(len(psi), np.nan)
    drifted = numbers(place, "drifted")
    return Drift(title, names, psi, ks, drifted > 0 if len(drifted) == len(psi) else np.zeros(len(psi), bool))


def pictures(name: str, phase: Table, limits: Table) -> list[Picture]:
    """Drift of inputs and outputs, confidence, classes; `limits`: the phase's [monitor] of the input."""
    watched = table(phase, "monitor")
    made = [_drift_picture(name, found, limits) for found in drifts(watched)]
    for one in (_confidence(name, table(watched, "confidence")), _classes(name, table(watched, "classes"))):
        if one is not None:
            made.append(one)
    return made


def _drift_picture(name: str, found: Drift, limits: Table) -> Picture:
    order = _order(found)
    figure = canvas.figure(1.3 + 0.24 * max(3, len(order)))
    measures = {"psi": found.psi, "ks": found.ks}
    titles = {"psi": "population stability index", "ks": "Kolmogorov-Smirnov distance"}
    for axes, (measure, values) in zip(figure.subplots(1, 2, sharey=True), measures.items(), strict=True):
        colours = [canvas.VERMILION if found.drifted[place] else canvas.SKY for place in order]
        bars = axes.barh(range(len(order)), np.nan_to_num(values[order]), color=colours, height=0.72)
        for bar, place in zip(bars, order, strict=True):
            if found.drifted[place]:
                bar.set(hatch="///", edgecolor="white", linewidth=0)
        _limit(axes, number(limits, measure), values[order])
        axes.set_xlabel(titles[measure], fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_ylim(len(order) - 0.4, -0.6)
    figure.axes[0].set_yticks(range(len(order)), [canvas.shortened(found.features[place], 26) for place in order])
    figure.axes[0].tick_params(axis="y", labelsize=8.5)
    count = int(found.drifted.sum())
    names = ", ".join(canvas.shortened(found.features[place], 40) for place in order[:6] if found.drifted[place])
    said = f"{count or 'none'} of {len(found.features)} have drifted" + (
        f": {names}{', …' if count > 6 else ''}" if names else ""
    )
    hatched = " (hatched)" if count else ""
    left = f" The {_BARS} farthest are shown." if len(found.features) > _BARS else ""
    return Picture(
        file_name("drift", name, *([] if found.title == "features" else [found.title])),
        canvas.png(figure),
        f"{name}: {found.title} against the training set; {said}{hatched}. The dashed line is the limit.{left}",
        f"Drift of the {found.title} of {name}: {said}. Largest population stability index {_largest(found.psi):.3g}.",
    )


def _order(found: Drift) -> list[int]:
    """The farthest first; those that count as drifted before all others."""
    keys = zip(~found.drifted, -np.nan_to_num(found.psi), range(len(found.psi)), strict=True)
    return [place for *_, place in sorted(keys)][:_BARS]


def _limit(axes: Any, limit: float | None, values: np.ndarray) -> None:
    largest = _largest(values)
    if limit is not None:
        axes.axvline(limit, color="#222222", linestyle="--", linewidth=1.2)
        axes.annotate(
            f" limit {limit:g}", (limit, 1), xycoords=("data", "axes fraction"), fontsize=8, va="bottom", ha="center"
        )
    axes.set_xlim(0, 1.08 * max(largest, limit or 0.0) or 1.0)


def _largest(values: np.ndarray) -> float:
    return float(np.nan_to_num(values).max(initial=0.0))


def _confidence(name: str, found: Table) -> Picture | None:
    counts, edges = numbers(found, "counts"), numbers(found, "edges")
    if not len(counts) or len(edges) != len(counts) + 1:
        return None
    mean = number(found, "mean")
    figure = canvas.figure(3.2)
    axes = figure.subplots()
    axes.bar(
        edges[:-1], counts, width=np.diff(edges), align="edge", color=canvas.BLUE, edgecolor="white", linewidth=0.5
    )
    if mean is not None:
        axes.axvline(mean, color=canvas.VERMILION, linestyle="--", label=f"mean {mean:.3f}")
        axes.legend(loc="upper left")
    axes.set_xlabel("confidence: probability of the predicted class")
    axes.set_ylabel("samples")
    said = f"mean {mean:.3f}, " if mean is not None else ""
    return Picture(
        file_name("confidence", name),
        canvas.png(figure),
        f"{name}: how sure the network was.",
        f"Histogram of confidence of {name}: {said}{counts.sum():,.0f} samples in {len(counts)} bins.",
    )


def _classes(name: str, found: Table) -> Picture | None:
    counts, names = numbers(found, "counts"), words(found, "names")
    if not len(counts):
        return None
    if len(names) != len(counts):
        names = [str(place) for place in range(len(counts))]
    order = np.argsort(-counts, kind="stable")[:_BARS] if len(counts) > _BARS else np.arange(len(counts))
    figure = canvas.figure(max(1.6, 0.8 + 0.27 * len(order)))
    axes = figure.subplots()
    axes.barh(range(len(order)), counts[order], color=canvas.GREEN, height=0.72)
    total = max(1.0, float(counts.sum()))
    for row, place in enumerate(order.tolist()):
        axes.text(counts[place], row, f" {counts[place]:,.0f} ({counts[place] / total:.1%})", va="center", fontsize=8.5)
    axes.set_yticks(range(len(order)), [canvas.shortened(names[place], 30) for place in order.tolist()])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * max(1.0, float(counts.max())))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("samples predicted")
    listed = ", ".join(f"{names[place]} {counts[place]:,.0f}" for place in order[:12].tolist())
    return Picture(
        file_name("classes", name),
        canvas.png(figure),
        f"{name}: the classes predicted.",
        f"Predicted classes of {name}: {listed}.",
    )
