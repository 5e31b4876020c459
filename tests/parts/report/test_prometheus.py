"""The text for Prometheus, read by its own client."""

import time

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from app.report.prometheus import text


def tree(features: int) -> dict:
    numbers = np.linspace(0, 1, features)
    compared = {
        "feature": [f"number {n}" for n in range(features)],
        "psi": 3 * numbers,
        "ks": numbers,
        "drifted": np.array(numbers > 0.5, np.int64),
    }
    return {
        "latency_ms": {"p50": 2.0, "p90": 3.0, "p99": 4.0, "max": 5.0},
        "samples_per_s": 812.5,
        "new_samples": 4000,
        "confidence": {"mean": 0.875},
        "drift": {"inputs": compared},
    }


def gauges(content: bytes) -> dict[str, list]:
    return {family.name: family.samples for family in text_string_to_metric_families(content.decode())}


def test_every_number_is_there_under_its_run_and_phase():
    found = gauges(text(tree(4), "digits", "new"))
    values = {name: samples[0].value for name, samples in found.items() if len(samples) == 1}
    assert abs(values.pop("phalanx_predict_last_run_timestamp_seconds") - time.time()) < 60
    assert values == {
        "phalanx_predict_samples": 4000,
        "phalanx_predict_samples_per_second": 812.5,
        "phalanx_predict_confidence_mean": 0.875,
        "phalanx_predict_drifted_features": 2,
    }
    latency = {s.labels["quantile"]: s.value for s in found["phalanx_predict_latency_seconds"]}
    assert latency == {"0.5": 0.002, "0.9": 0.003, "0.99": 0.004, "1": 0.005}
    drift = {s.labels["feature"]: s.value for s in found["phalanx_predict_drift_psi"]}
    assert drift == {"input number 3": 3, "input number 2": 2, "input number 1": 1, "input number 0": 0}
    labels = {(s.labels["run"], s.labels["phase"]) for samples in found.values() for s in samples}
    assert labels == {("digits", "new")}


def test_of_many_features_the_worst_have_gauges():
    found = gauges(text(tree(500), "digits", "new"))
    names = {sample.labels["feature"] for sample in found["phalanx_predict_drift_ks"]}
    assert names == {f"input number {number}" for number in range(400, 500)}
    assert found["phalanx_predict_drifted_features"][0].value == 250


def test_names_are_escaped_and_what_is_not_there_is_left_out():
    bare = {name: value for name, value in tree(1).items() if name not in ("confidence", "drift")}
    found = gauges(text(bare, 'a "run"\\\n', "new"))
    assert found["phalanx_predict_samples"][0].labels["run"] == 'a "run"\\\n'
    assert not [name for name in found if "drift" in name or "confidence" in name]
