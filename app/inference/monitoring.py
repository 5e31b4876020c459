"""What is watched while a network predicts: counted batch by batch, added up over pieces and ranks, then appraised."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.data.features import Features
from app.data.profile import Profile
from app.errors import ArtifactError
from app.inference.appraisal import Found, appraised
from app.inference.latencies import BUCKETS, bucket
from app.inference.references import Reference, confidence, output_values
from app.inputfile.using import Monitor

BATCH_VALUES, SAMPLE_VALUES = 4096, 16  # of a feature, at most, that are looked at in a batch; of those of a sample
ENOUGH_SAMPLES = 16_384  # of which inputs are looked at, about, where it is known how many will come
CONFIDENCE_BINS = 20
HELD_NUMBERS = 2**18  # of inputs and outputs that wait to be counted
MOST_CLASSES = 65_536  # whose predictions are counted


class Findings(NamedTuple):
    """tree: for files. warnings: sentences for the log. drifted: how many inputs and outputs have."""

    tree: dict[str, Any]
    warnings: tuple[str, ...]
    drifted: int


class Watch:
    """Counts batches; a few tens of microseconds each, and some nanoseconds a value. Collective over: none."""

    def __init__(
        self, table: Monitor, reference: Reference | None, classification: bool, samples: int | None = None
    ) -> None:
        """reference: what is compared with; None: no drift is looked for. samples: of the whole phase, if known: of
        very many, the inputs of every n-th are looked at.
        """
        self._classification = classification
        self._inputs, self._outputs = profiles(table, reference, classification)
        self._every = max(1, (samples or 0) // ENOUGH_SAMPLES)
        self._sums: dict[str, np.ndarray] = {
            "samples": np.zeros(1, np.int64),
            "inputs_samples": np.zeros(1, np.int64),
            "seconds": np.zeros(1),
            "latency": np.zeros(BUCKETS, np.int64),
            "latency_max": np.zeros(1),
        }
        if self._inputs is not None:
            self._sums["inputs"] = np.zeros_like(self._inputs.counts)
        for name, profile in self._outputs.items():
            self._sums[f"outputs {name}"] = np.zeros_like(profile.counts)
        if classification:
            self._sums |= {"confidence": np.zeros(CONFIDENCE_BINS, np.int64), "confidence_sum": np.zeros(2)}
        self._held: list[tuple[np.ndarray | None, np.ndarray]] = []  # counted together: half the time
        self._held_numbers = 0

    def batch(self, rows: np.ndarray, outputs: np.ndarray, seconds: float) -> None:
        """Count a forward pass: samples (M, ...) as stored, outputs (M, K) or (M, T, K) float32, how long it took.

        Neither array is looked at after the call. Raises ArtifactError: the reference is one of other samples.
        """
        if not len(rows):
            return
        check_sizes(rows, outputs, self._inputs, self._outputs.get("value"))
        sums = self._sums
        values = None if self._inputs is None else self._values(rows, self._inputs.features)
        sums["samples"] += len(rows)
        sums["seconds"] += seconds
        sums["latency"][bucket(seconds)] += 1
        np.maximum(sums["latency_max"], seconds, out=sums["latency_max"])
        self._held.append((values, outputs.copy()))
        self._held_numbers += outputs.size + (0 if values is None else values.size)
        if self._held_numbers > HELD_NUMBERS:
            self._count()

    def sums(self) -> dict[str, np.ndarray]:
        """All that was counted: arrays that `merged` adds up, and a file can hold."""
        self._count()
        return {name: array.copy() for name, array in self._sums.items()}

    def _values(self, rows: np.ndarray, features: Features) -> np.ndarray:
        """What is looked at of the inputs (F, N)."""
        looked = rows[:: max(self._every, -(-len(rows) // BATCH_VALUES))]
        first = int(self._sums["inputs_samples"][0])
        self._sums["inputs_samples"] += len(looked)
        return features.values(looked, first, min(BATCH_VALUES, SAMPLE_VALUES * len(looked)))

    def _count(self) -> None:
        """Count what is held."""
        held, self._held, self._held_numbers = self._held, [], 0
        if not held:
            return
        values = [one for one, _ in held if one is not None]
        if self._inputs is not None and values:
            self._sums["inputs"] += self._inputs.count(np.concatenate(values, axis=1))
        outputs = np.concatenate([one for _, one in held])
        if self._classification:
            self._count_classes(outputs.reshape(-1, outputs.shape[-1]))
        elif "value" in self._outputs:
            profile = self._outputs["value"]
            self._sums["outputs value"] += profile.count(output_values({"value": profile.features}, outputs)["value"])

    def _count_classes(self, logits: np.ndarray) -> None:
        sums, sure, predicted = self._sums, confidence(logits), logits.argmax(axis=1)
        at = np.minimum((sure * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
        sums["confidence"] += np.bincount(at, minlength=CONFIDENCE_BINS)
        sums["confidence_sum"] += float(sure.sum(dtype=np.float64)), len(sure)
        if logits.shape[1] <= MOST_CLASSES:
            counts = np.bincount(predicted, minlength=logits.shape[1])
            sums["classes"] = sums["classes"] + counts if "classes" in sums else counts
        for name, found in (("class", predicted), ("confidence", sure)):
            if name in self._outputs:
                sums[f"outputs {name}"] += self._outputs[name].count(found[None])

    @staticmethod
    def merged(
        sums: Sequence[Mapping[str, np.ndarray]],
        seconds: float,
        table: Monitor,
        reference: Reference | None,
        class_names: Sequence[str] = (),
    ) -> Findings:
        """What all batches together say; `seconds` that the whole took, `reference` as the watches had it."""
        total = added(sums)
        inputs, outputs = profiles(table, reference, bool(total) and "confidence" in total)
        part = "" if reference is None else reference.part
        return Findings(*appraised(Found(total, seconds, inputs, outputs, part, tuple(class_names)), table))


def profiles(
    table: Monitor, reference: Reference | None, classification: bool
) -> tuple[Profile | None, dict[str, Profile]]:
    """What inputs and outputs are compared with."""
    if reference is None:
        return None, {}
    outputs = {name: one for name, one in reference.outputs.items() if (name != "value") == classification}
    return reference.inputs.limited(table.features), outputs


def check_sizes(rows: np.ndarray, outputs: np.ndarray, inputs: Profile | None, values: Profile | None) -> None:
    """Raise ArtifactError where a reference is one of other samples, which a stranger's file may say."""
    size = 0 if inputs is None else inputs.features.size
    if inputs is not None and rows[0].size != size:
        raise ArtifactError(
            f"the reference for drift is one of samples of {size} numbers, but these have {rows[0].size}. What to try:"
            " leave out monitor, or export the network again."
        )
    if values is not None and outputs[0].size % values.features.size:
        raise ArtifactError(
            f"the reference for drift is one of {values.features.size} outputs, but the network has {outputs[0].size}."
            " What to try: leave out monitor, or export the network again."
        )


def added(sums: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The sums of pieces as one, in the order given; of durations the longest."""
    total: dict[str, np.ndarray] = {}
    for one in sums:
        for name, array in one.items():
            if name not in total:
                total[name] = np.array(array)
            elif name == "latency_max":
                total[name] = np.maximum(total[name], array)
            else:
                total[name] = total[name] + array
    return total
