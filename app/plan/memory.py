"""Bytes that a stage holds of the network in a phase: weights, gradients, optimizer state, activations."""

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import NamedTuple

from app.inputfile.phases import Evaluate, Train
from app.plan.costs import FLOAT, LayerCost

# tensors of a parameter's size that each optimizer keeps from step to step
OPTIMIZER_STATE = {"sgd": 1, "lars": 1, "adam": 2, "adamw": 2, "lamb": 2}


class Held(NamedTuple):
    """Bytes by what they are for."""

    weights: float
    gradients: float  # with the optimizer's state
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.activations

    def __add__(self, other: "Held") -> "Held":  # type: ignore[override] # not the joining of tuples
        return Held(*(a + b for a, b in zip(self, other, strict=True)))


class Counts(NamedTuple):
    """By chunk: microbatches at most between forward and backward, and between backward and the weights' gradients."""

    in_flight: Sequence[int]
    pending: Sequence[int]


class Memory:
    """What chunks of a network hold in a phase.

    Activations are what autograd keeps of every microbatch in flight, and for each microbatch whose weights' gradients
    are pending that again with the gradients of the outputs. With `recompute` only a chunk's inputs are kept, and all
    of one microbatch. Evaluation keeps the inputs and outputs of one layer at a time. `kept`: copies of the weights
    of the best epoch.
    """

    def __init__(
        self,
        layers: Sequence[LayerCost],
        sample_shape: Sequence[int],
        phase: Train | Evaluate,
        counts: Counts,
        *,
        recompute: bool = False,
        kept: int = 0,
    ) -> None:
        self._between = [FLOAT * prod(shape) for shape in (sample_shape, *(layer.output_shape for layer in layers))]
        self._owned = [0, *accumulate(layer.parameters for layer in layers)]
        self._tied = [0, *accumulate(layer.tied_parameters for layer in layers)]
        self._activations = [0, *accumulate(layer.activation_bytes for layer in layers)]
        self._outputs = [0, *accumulate(self._between[1:])]
        self._phase, self._counts, self._recompute, self._kept = phase, counts, recompute, kept

    def parameters(self, piece: range) -> int:
        """Parameters of a chunk with these layers; tied ones are owned by the first layer, in the first chunk."""
        tied = self._tied[piece.stop] - self._tied[piece.start] if piece.start else 0
        return self._owned[piece.stop] - self._owned[piece.start] + tied

    def held(self, piece: range, chunk: int) -> Held:
        """Bytes of one chunk with these layers."""
        weights = FLOAT * self.parameters(piece)
        if isinstance(self._phase, Evaluate):
            passing = max(self._between[i] + self._between[i + 1] for i in piece)
            return Held(weights, 0.0, passing * self._phase.microbatch)
        state = OPTIMIZER_STATE[self._phase.optimizer]
        if self._phase.optimizer == "sgd" and not self._phase.momentum:
            state = 0
        samples = self._samples(piece, chunk)
        return Held(weights * (1 + self._kept), weights * (1 + state), samples * self._phase.microbatch)

    def _samples(self, piece: range, chunk: int) -> float:
        """Bytes of activations for microbatches of one sample."""
        whole = self._activations[piece.stop] - self._activations[piece.start]
        in_flight, pending = self._counts.in_flight[chunk], self._counts.pending[chunk]
        forward = in_flight * self._between[piece.start] + whole if self._recompute else in_flight * whole
        return forward + pending * (whole + self._outputs[piece.stop] - self._outputs[piece.start])
