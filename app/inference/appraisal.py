"""From the counts of all batches to what a user reads: numbers for the files, sentences for the log."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from app.data.profile import Profile
from app.inference.drift import Drift, drift
from app.inference.latencies import percentile_s
from app.inputfile.using import Monitor

WORST = 3  # drifted features that a warning names
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class Found(NamedTuple):
    """sums: of app.inference.monitoring.Watch, added up. inputs, outputs: what they were counted into. part: of which
    the reference's outputs are.
    """

    sums: Mapping[str, np.ndarray]
    seconds: float
    inputs: Profile | None
    outputs: Mapping[str, Profile]
    part: str
    class_names: tuple[str, ...]


class Compared(NamedTuple):
    """Features with what was found out about each."""

    names: tuple[str, ...]
    drift: Drift

    def to_tree(self) -> dict[str, Any]:
        return {
            "feature": list(self.names),
            "psi": self.drift.psi,
            "ks": self.drift.ks,
            "drifted": self.drift.drifted.astype(np.int64),
        }


NOTHING = Compared((), Drift(np.zeros(0), np.zeros(0), np.zeros(0, bool)))


def appraised(found: Found, table: Monitor) -> tuple[dict[str, Any], tuple[str, ...], int]:
    """The tree, the warnings, and how many inputs and outputs have drifted."""
    sums = found.sums
    samples = int(sums["samples"][0]) if sums else 0
    longest_s = float(sums["latency_max"][0]) if sums else 0.0
    counts = sums.get("latency", np.zeros(1, np.int64))
    latency = {name: 1e3 * percentile_s(counts, share, longest_s) for name, share in PERCENTILES.items()}
    tree: dict[str, Any] = {
        "latency_ms": latency | {"max": 1e3 * longest_s},
        "samples_per_s": samples / found.seconds if found.seconds > 0 else 0.0,
        "new_samples": samples,
    }
    tree |= _classes(found)
    inputs, outputs = _inputs(found, table), _outputs(found, table)
    compared = {name: one for name, one in (("inputs", inputs), ("outputs", outputs)) if one.names}
    if compared:
        tree["drift"] = {name: one.to_tree() for name, one in compared.items()}
        tree["reference_samples"] = 0 if found.inputs is None else found.inputs.samples
    warnings = [*_drift_warning(inputs, outputs), *_other_warnings(tree, table)]
    return tree, tuple(warnings), sum(int(one.drift.drifted.sum()) for one in compared.values())


def _classes(found: Found) -> dict[str, Any]:
    """How sure the network was, and of what."""
    sums = found.sums
    if "confidence" not in sums:
        return {}
    total, number = sums["confidence_sum"].tolist()
    edges = np.linspace(0, 1, len(sums["confidence"]) + 1)
    mean = total / number if number else 0.0
    tree: dict[str, Any] = {"confidence": {"mean": mean, "counts": sums["confidence"], "edges": edges}}
    if "classes" in sums:
        classes = len(sums["classes"])
        names = found.class_names if len(found.class_names) == classes else tuple(map(str, range(classes)))
        tree["classes"] = {"names": list(names), "counts": sums["classes"]}
    return tree


def _inputs(found: Found, table: Monitor) -> Compared:
    profile = found.inputs
    if profile is None or "inputs" not in found.sums:
        return NOTHING
    new = int(found.sums["inputs_samples"][0])
    return Compared(profile.features.names, drift(profile.counts, found.sums["inputs"], (profile.samples, new), table))


def _outputs(found: Found, table: Monitor) -> Compared:
    """Outputs that are known of training samples alone are compared, but do not count: a network knows those better.

    Nor does it count when the network is surer than it was.
    """
    compared = [
        (profile, _drift_of(name, profile, found.sums, table))
        for name, profile in found.outputs.items()
        if f"outputs {name}" in found.sums
    ]
    if not compared:
        return NOTHING
    names = tuple(name for profile, _ in compared for name in profile.features.names)
    psi, ks, drifted = (np.concatenate(columns) for columns in zip(*(one for _, one in compared), strict=True))
    return Compared(names, Drift(psi, ks, drifted & (found.part != "train")))


def _drift_of(name: str, profile: Profile, sums: Mapping[str, np.ndarray], table: Monitor) -> Drift:
    before, after = profile.counts, sums[f"outputs {name}"]
    samples = profile.samples, int(sums["samples"][0])
    found = drift(before, after, samples, table, categories=name == "class")
    return found._replace(drifted=found.drifted & lower(before, after)) if name == "confidence" else found


def lower(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Whether values are smaller than they were, on the whole, (F,) bool of counts (F, B)."""
    place = np.arange(before.shape[1])
    means = [(counts * place).sum(axis=1) / np.maximum(counts.sum(axis=1), 1) for counts in (before, after)]
    return means[1] < means[0]


def _drift_warning(inputs: Compared, outputs: Compared) -> list[str]:
    """One sentence about all that has drifted."""
    counts = [(int(one.drift.drifted.sum()), len(one.names), noun) for one, noun in _both(inputs, outputs)]
    if not any(number for number, _, _ in counts):
        return []
    worst = sorted(
        ((float(one.drift.ks[at]), float(one.drift.psi[at]), f"{noun} {one.names[at]!r}")
         for one, noun in _both(inputs, outputs) for at in np.flatnonzero(one.drift.drifted)),
        reverse=True,
    )[:WORST]  # fmt: skip
    how_many = " and ".join(f"{number} of {all_} {noun}s" for number, all_, noun in counts if number)
    numbers = "; ".join(f"{name}: psi {psi:.2f}, ks {ks:.2f}" for ks, psi, name in worst)
    return [
        f"drift: {how_many} differ from what the network was trained on ({numbers}). What to try: see whether units,"
        " preparation or the source of the samples have changed; else train on newer samples, or raise psi and ks of"
        " the monitor table."
    ]


def _both(inputs: Compared, outputs: Compared) -> tuple[tuple[Compared, str], ...]:
    return (inputs, "input"), (outputs, "output")


def _other_warnings(tree: Mapping[str, Any], table: Monitor) -> list[str]:
    warnings = []
    mean = tree["confidence"]["mean"] if "confidence" in tree and tree["new_samples"] else 1.0
    if mean < table.confidence:
        warnings.append(
            f"confidence: the mean probability of the likeliest class is {mean:.3f}, and the monitor table wants at"
            f" least {table.confidence:g}. What to try: look at the samples with the lowest one; train on such samples."
        )
    p99 = tree["latency_ms"]["p99"]
    if table.latency is not None and p99 > table.latency:
        warnings.append(
            f"latency: 99 % of the batches took up to {p99:.3g} ms, and the monitor table allows {table.latency:g} ms."
            " What to try: a smaller microbatch_size, more threads, a pruned or an int8 network."
        )
    return warnings
