"""What a predict phase was watched for, as text that the node exporter's textfile collector picks up.

A batch job is gone before a server could ask it, so it leaves a file (Prometheus exposition format, version 0.0.4).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MOST_FEATURES = 100  # with numbers of their own: each is a time series, which a server has to keep
PREFIX = "phalanx_predict_"


class Sample(NamedTuple):
    """One number of a gauge, with the labels it has beside run and phase."""

    gauge: str
    text: str
    labels: Mapping[str, str]
    value: float


def text(tree: Mapping[str, Any], run: str, phase: str) -> bytes:
    """The gauges of a phase from what app.inference.monitoring found, labelled with the names of run and phase.

    Of the inputs and outputs that were compared, the MOST_FEATURES with the largest distance have gauges of their own.
    """
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for gauge, words, labels, value in _samples(tree):
        if gauge not in gauges:
            gauges[gauge] = Gauge(f"{PREFIX}{gauge}", words, ["run", "phase", *labels], registry=registry)
        gauges[gauge].labels(run=run, phase=phase, **labels).set(value)
    return generate_latest(registry)


def _samples(tree: Mapping[str, Any]) -> Iterator[Sample]:
    yield Sample("samples", "Samples predicted.", {}, tree["new_samples"])
    yield Sample("samples_per_second", "Samples predicted in a second.", {}, tree["samples_per_s"])
    latency = {"0.5": "p50", "0.9": "p90", "0.99": "p99", "1": "max"}
    for quantile, name in latency.items():
        seconds = tree["latency_ms"][name] / 1e3
        yield Sample("latency_seconds", "Duration of a forward pass of a microbatch.", {"quantile": quantile}, seconds)
    if "confidence" in tree:
        mean = tree["confidence"]["mean"]
        yield Sample("confidence_mean", "Mean probability of the likeliest class.", {}, mean)
    if "drift" in tree:
        yield from _drift(tree["drift"])
    yield Sample("last_run_timestamp_seconds", "When the phase ended, in seconds since 1970.", {}, time.time())


def _drift(tables: Mapping[str, Any]) -> Iterator[Sample]:
    drifted = sum(int(one) for table in tables.values() for one in table["drifted"])
    yield Sample("drifted_features", "Inputs and outputs beyond both limits.", {}, drifted)
    rows = [
        (float(ks), float(psi), f"{side.removesuffix('s')} {name}")
        for side, table in tables.items()
        for name, psi, ks in zip(table["feature"], table["psi"], table["ks"], strict=True)
    ]
    worst = sorted(rows, reverse=True)[:MOST_FEATURES]
    for _, psi, name in worst:
        yield Sample("drift_psi", "Population stability index against the training part.", {"feature": name}, psi)
    for ks, _, name in worst:
        yield Sample("drift_ks", "Kolmogorov-Smirnov distance to the training part.", {"feature": name}, ks)
