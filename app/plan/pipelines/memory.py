"""Bytes that a stage holds of the network in a phase: weights, gradients, optimizer state, activations."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import NamedTuple

from app.inputfile.phases import Evaluate, Trains
from app.plan.costs import FLOAT, LayerCost
from app.plan.pipelines.schedules import BACKWARD, FORWARD, WEIGHTS, Action

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


class Kept(NamedTuple):
    """Microbatches of a chunk between forward and backward, and between backward and the weights' gradients."""

    in_flight: int
    pending: int


def kept_by(actions: Iterable[Action], chunk: int) -> set[Kept]:
    """The most a chunk keeps while its stage plays these actions: neither count is larger at another time."""
    now, found = Kept(0, 0), set()
    for action in actions:
        if action.chunk == chunk and action.kind in CHANGES:
            change = CHANGES[action.kind]
            now = Kept(now.in_flight + change.in_flight, now.pending + change.pending)
            found.add(now)
    return {one for one in found if not any(_less(one, other) for other in found)}


def _less(one: Kept, other: Kept) -> bool:
    return one != other and one.in_flight <= other.in_flight and one.pending <= other.pending


CHANGES = {FORWARD: Kept(1, 0), BACKWARD: Kept(-1, 1), WEIGHTS: Kept(0, -1)}


class Memory:
    """What chunks of a network hold in a phase.

    Activations are what autograd keeps of every microbatch in flight, and of one whose weights' gradients are pending
    the inputs of its layers and the gradients of their outputs, taken to be no more than autograd kept of a layer's
    inside. With `recompute` only a chunk's inputs are kept, and all of one microbatch. Evaluation keeps the inputs and
    outputs of one layer at a time. `copies`: of the weights, beside those in training.
    """

    def __init__(
        self,
        layers: Sequence[LayerCost],
        sample_shape: Sequence[int],
        phase: Trains | Evaluate,
        counts: Sequence[set[Kept]],
        *,
        recompute: bool = False,
        copies: int = 0,
    ) -> None:
        self._between = [FLOAT * prod(shape) for shape in (sample_shape, *(layer.output_shape for layer in layers))]
        self._owned = [0, *accumulate(layer.parameters for layer in layers)]
        self._tied = [0, *accumulate(layer.tied_parameters for layer in layers)]
        self._activations = [0, *accumulate(layer.activation_bytes for layer in layers)]
        pending = (max(x.activation_bytes, a + b) for x, (a, b) in zip(layers, pairwise(self._between), strict=True))
        self._pending = [0, *accumulate(pending)]
        self._phase, self._counts, self._recompute, self._copies = phase, counts, recompute, copies

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
        return Held(weights * (1 + self._copies), weights * (1 + state), samples * self._phase.microbatch)

    def _samples(self, piece: range, chunk: int) -> float:
        """Bytes of activations for microbatches of one sample."""
        whole = self._activations[piece.stop] - self._activations[piece.start]
        later = self._pending[piece.stop] - self._pending[piece.start]
        flying, again = (self._between[piece.start], whole) if self._recompute else (whole, 0)
        return max(
            in_flight * flying + (again if in_flight else 0) + pending * later
            for in_flight, pending in self._counts[chunk]
        )
