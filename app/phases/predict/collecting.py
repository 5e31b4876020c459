"""From the outputs of a piece to the columns that are stored: labels, probabilities, values, and what was counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from app.data.signature import Signature
from app.errors import DataError, InputError, NumbersError
from app.inputfile.phases import Predict
from app.learning.losses import loss
from app.learning.metrics import Classification, Regression
from app.phases.predict.samples import NewSamples, rows_of
from app.plan.plan import LOSSES_OF
from app.storage.predictions import SAMPLE
from app.storage.tree import Tree

if TYPE_CHECKING:
    from app.inference.references import Reference

FEW_SUMS = 4096  # of metrics, which are all kept
KINDS = {True: ("labels", "probabilities", "logits"), False: ("values",)}  # of outputs, by whether they are classes


@dataclass(frozen=True)
class Asked:
    """What is wanted of the outputs. reference: what inputs and outputs are compared with, None: nothing."""

    phase: Predict
    signature: Signature
    samples: NewSamples
    reference: "Reference | None"
    shape: tuple[int, ...]  # of the outputs for a sample

    @property
    def classification(self) -> bool:
        """Whether the outputs are logits of classes."""
        return self.signature.transform.classification

    @property
    def wanted(self) -> tuple[str, ...]:
        """Columns made of the outputs."""
        return self.phase.outputs or (("labels", "probabilities") if self.classification else ("values",))

    @property
    def task(self) -> str:
        """In the words of [data]."""
        return "classification" if self.classification else "regression"

    def watch(self) -> Any:
        """Counts for the monitor; None where none is asked for."""
        if self.phase.monitor is None:
            return None
        from app.inference.monitoring import Watch

        return Watch(self.phase.monitor, self.reference, self.classification, self.samples.count)

    def metrics(self) -> Classification | Regression:
        """Empty sums."""
        if self.classification:
            return Classification(self.signature.outputs, ())
        statistics = self.signature.transform.statistics
        mean = None if statistics is None else statistics.target_mean
        return Regression(self.signature.outputs, 0.0 if mean is None else mean.reshape(-1))


def check_asked(asked: Asked) -> None:
    """Whether the network gives what is asked of it, and the targets are such. Raises InputError, DataError."""
    fitting = KINDS[asked.classification]
    wrong = [name for name in asked.wanted if name not in fitting]
    if wrong:
        raise InputError(
            f'outputs = "{wrong[0]}", but the network is one of {asked.task}; it gives {", ".join(fitting)}.'
        )
    targets = asked.samples.targets
    if targets is None:
        return
    shape = targets.sample_shape
    if asked.classification:
        fits = targets.dtype.kind in "biu" and (() if shape == (1,) else shape) == asked.shape[:-1]
        expected = f"integers of shape {asked.shape[:-1]}, the class labels of a sample"
    else:
        fits = np.prod(shape, dtype=np.int64) == np.prod(asked.shape, dtype=np.int64)
        expected = f"{np.prod(asked.shape, dtype=np.int64)} values a sample, as the network gives"
    if not fits:
        raise DataError(
            f"{targets.files[0]}: targets = '{targets.inputs_name}' has type {targets.dtype} and samples of shape"
            f" {shape}; expected {expected}."
        )


class Collector:
    """Takes the outputs of one piece, microbatch by microbatch."""

    def __init__(self, asked: Asked, samples: np.ndarray) -> None:
        """samples: the numbers (m,) of the samples of the piece."""
        self._asked, self._samples = asked, samples
        self._outputs: list[np.ndarray] = []
        self._watch = asked.watch()

    def add(self, outputs: np.ndarray, rows: np.ndarray | None, seconds: float) -> None:
        """A forward pass: outputs (M, ...) float32, inputs as stored where they are watched, how long it took."""
        self._outputs.append(outputs)
        if self._watch is not None and rows is not None and np.isfinite(outputs).all():
            self._watch.batch(rows, outputs, seconds)

    def finished(self) -> tuple[dict[str, np.ndarray], Tree]:
        """The rows of each column, and sums. Raises NumbersError, DataError."""
        outputs = torch.from_numpy(np.concatenate(self._outputs))
        self._refuse_infinite(outputs)
        rows = {SAMPLE: self._samples, **_columns(outputs, self._asked.wanted)}
        sums: Tree = {}
        targets = self._asked.samples.targets
        if targets is not None:
            rows["targets"] = rows_of(targets, self._samples)
            sums["metrics"] = self._compared(outputs, rows["targets"])
        rows |= {name: rows_of(source, self._samples) for name, source in self._asked.samples.columns.items()}
        if self._watch is not None:
            sums["watch"] = self._watch.sums()
        return rows, sums

    def _refuse_infinite(self, outputs: Tensor) -> None:
        finite = torch.isfinite(outputs).reshape(len(outputs), -1).all(1)
        if finite.all():
            return
        source, sample = self._asked.samples.source, int(self._samples[int((~finite).int().argmax())])
        file, row = source.where(sample)
        inputs = rows_of(source, np.array([sample]))
        known = inputs.dtype.kind != "f" or np.isfinite(inputs).all()
        why = "its inputs are; the network has diverged in training" if known else "its inputs are not either"
        raise NumbersError(
            f"{file}: the outputs for sample {row} of '{source.inputs_name}' are not finite numbers ({why}). What to"
            ' try: a preprocess phase with bad = "leave_out"' + (", or another network." if known else ".")
        )

    def _compared(self, outputs: Tensor, stored: np.ndarray) -> Tree:
        """The sums of the loss and of the metrics; where there are many, only those that are not 0."""
        targets = self._asked.signature.transform.targets_(stored.copy())
        metrics = self._asked.metrics()
        metrics.add_(outputs, targets)
        total = loss(LOSSES_OF[self._asked.task][0])(outputs.double(), targets)
        sums = metrics.sums()
        places = np.arange(len(sums)) if len(sums) <= FEW_SUMS else np.flatnonzero(sums)
        return {"loss": float(total), "places": places, "sums": sums[places]}


class Totals:
    """What all pieces have counted together, added in their order, so that it is the same on any grid."""

    def __init__(self, asked: Asked) -> None:
        self._asked, self._metrics = asked, asked.metrics()
        self._sums, self._loss = self._metrics.sums(), 0.0
        self._watched: dict[str, np.ndarray] = {}

    def add(self, sums: Tree) -> None:
        """Of a piece."""
        compared: Any = sums.get("metrics")
        if compared is not None:
            self._sums[compared["places"]] += compared["sums"]
            self._loss += compared["loss"]
        if "watch" in sums:
            from app.inference.monitoring import added

            before = [self._watched] if self._watched else []
            self._watched = added([*before, sums["watch"]])  # type: ignore[list-item]

    def metrics(self) -> dict[str, Any]:
        """Loss and metrics as an evaluate phase says them; {} where there were no targets."""
        if self._asked.samples.targets is None:
            return {}
        self._metrics.load_(self._sums)
        return {"loss": self._loss / self._asked.samples.count, **self._metrics.result()}

    @property
    def seconds(self) -> float:
        """That forward passes took, on all ranks together; of a monitored phase."""
        return float(self._watched["seconds"][0]) if self._watched else 0.0

    def findings(self, seconds: float) -> Any:
        """What the monitor says of all; None where none is asked for. seconds: that the whole took."""
        asked = self._asked
        if asked.phase.monitor is None:
            return None
        from app.inference.monitoring import Watch

        names = asked.signature.class_names
        return Watch.merged([self._watched], seconds, asked.phase.monitor, asked.reference, names)


def _columns(outputs: Tensor, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns (m, ...) of outputs (m, ..., K)."""
    ways = {
        "labels": lambda: outputs.argmax(-1),
        "probabilities": lambda: outputs.softmax(-1),
        "logits": lambda: outputs,
        "values": lambda: outputs,
    }
    return {name: ways[name]().numpy() for name in wanted}
