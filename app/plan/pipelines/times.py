"""How long layers take: estimated from their costs, or measured; and what that makes of chunks and messages."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from app.plan.costs import FLOAT, LayerCost
from app.plan.pipelines.simulation import ChunkTimes

# One core of an AVX-512 server (Xeon, 2.x GHz) in float32, fitted to 83 layers of all built-in kinds, most of them met
# within a third. Only the ratios matter for a cut; `cut = "measured"` takes the machine's own times.
OPERATIONS_PER_S = 85e9  # matrix products and convolutions, two a multiply-add
ACTIVATION_BYTES_PER_S = 6e9  # element-wise work, in bytes of what autograd keeps
WEIGHT_BYTES_PER_S = 13e9  # weights come from memory once a microbatch
START_S = 20e-6  # of a layer's kernels
MESSAGE_BYTES_PER_S = 5e9  # between ranks of one host


class LayerTime(NamedTuple):
    """(seconds a microbatch, seconds a sample) of one layer: t(M) = a + b M."""

    forward: tuple[float, float]
    backward: tuple[float, float]
    weights: tuple[float, float]


def estimated(layer: LayerCost) -> LayerTime:
    """A layer's times from its costs: the gradients of inputs and of weights each take what the forward pass does."""
    sample = 2 * layer.operations / OPERATIONS_PER_S + layer.activation_bytes / ACTIVATION_BYTES_PER_S
    one = (START_S + FLOAT * (layer.parameters + layer.tied_parameters) / WEIGHT_BYTES_PER_S, sample)
    return LayerTime(one, one, one)


def seconds(layer: LayerTime, samples: float, *, training: bool = True, recompute: bool = False) -> float:
    """One layer's whole work on one microbatch."""
    forward = layer[0]
    passes = [*layer, *([forward] if recompute else [])] if training else [forward]
    return sum(a + b * samples for a, b in passes)


def chunk_times(
    layers: Sequence[LayerTime], cut: Sequence[range], samples: float, *, recompute: bool = False
) -> list[ChunkTimes]:
    """Times of each chunk for a microbatch of `samples` samples; recomputing is work of the backward pass."""

    def whole(piece: range) -> ChunkTimes:
        lines = zip(*(layers[number] for number in piece), strict=True)
        forward, backward, weights = (sum(a + b * samples for a, b in line) for line in lines)
        return ChunkTimes(forward, backward + (forward if recompute else 0.0), weights)

    return [whole(piece) for piece in cut]


def transfer_s(layers: Sequence[LayerCost], cut: Sequence[range], samples: float) -> float:
    """Seconds of the largest message between two chunks for a microbatch of `samples` samples."""
    sizes = [FLOAT * prod(layers[piece.stop - 1].output_shape) for piece in cut[:-1]]
    return START_S + max(sizes, default=0) * samples / MESSAGE_BYTES_PER_S
