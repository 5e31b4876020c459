"""Hints: layers of a student that learn to give what layers of a teacher give.

Source: Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015. Here hints and outputs are learned together.
The loss of a hint enters the backward pass where the layer's outputs do, so that it works on any stage of a pipeline
(as the auxiliary losses of Megatron-LM's experts).
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from app.learning.pipeline import Pipeline
from app.learning.randomness import key

PROJECTION, OFFSET = "hint_projection", "hint_offset"  # parameters of a layer, while it is in training
POOLINGS: dict[int, Callable[..., Tensor]] = {
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}

Shape = tuple[int, ...]


class Hint(NamedTuple):
    """Shapes, without the batch dim, of a layer's outputs and of the teacher's; rows of the latter by sample number."""

    own: Shape
    teachers: Shape
    take: Callable[[np.ndarray], np.ndarray]


def mismatch(own: Shape, teachers: Shape) -> str | None:
    """Why outputs of these shapes cannot be compared, None where they can.

    (F,): features. (T, F): positions and features. (C, ...) with two or three dims of space: channels first. Numbers of
    features or channels may differ, and sizes in space.
    """
    if len(own) != len(teachers):
        return "as many dims are expected of both"
    if not 1 <= len(own) <= 4:
        return "one to four dims are expected"
    if len(own) == 2 and own[0] != teachers[0]:
        return "as many positions are expected of both"
    return None


class Hints:
    """Adds the hints' loss to what flows back through a network's layers while it trains; made before its optimizer.

    `begin` says where the network is played and `batch_size` how many samples the batch at work has, over all replicas.
    """

    def __init__(
        self, network: nn.Sequential, hints: Mapping[str, Hint], weight: float, seed: int, device: torch.device
    ) -> None:
        """hints: of this rank's layers, by name. A layer with another number of features or channels than the teacher's
        gets the weights of a linear projection, which depend on the seed and the layer's name.
        """
        self.batch_size = 1
        self._weight = weight
        self._pipeline: Pipeline | None = None
        self._layers = [network.get_submodule(name) for name in hints]
        self._handles = []
        for (name, hint), layer in zip(hints.items(), self._layers, strict=True):
            _add_projection_(layer, hint, key(seed, "hint", name), device)
            self._handles.append(layer.register_forward_hook(partial(self._hook, hint)))

    def begin(self, pipeline: Pipeline) -> None:
        """The pipeline that plays the network."""
        self._pipeline = pipeline

    def remove_(self) -> None:
        """Make the layers what they were."""
        for handle in self._handles:
            handle.remove()
        for layer in self._layers:
            for name in (PROJECTION, OFFSET):
                layer._parameters.pop(name, None)

    def _hook(self, hint: Hint, layer: nn.Module, _: Any, outputs: Tensor) -> Tensor | None:
        if self._pipeline is None or not (layer.training and torch.is_grad_enabled()):
            return None  # in evaluation, or a forward pass that will be computed again
        microbatch = self._pipeline.playing
        assert microbatch is not None  # a forward pass is at work
        assert microbatch.samples is not None  # stages with hints read targets
        wanted = torch.from_numpy(hint.take(microbatch.samples)).to(outputs.device)
        with torch.autocast(outputs.device.type, enabled=False):
            loss = distance(outputs.float(), wanted, layer._parameters.get(PROJECTION), layer._parameters.get(OFFSET))
        return _Also.apply(outputs, self._weight / self.batch_size * loss)


def is_hint(parameter: str) -> bool:
    """Whether a parameter, by its full name, belongs to a hint and not to the network."""
    return parameter.rpartition(".")[2] in (PROJECTION, OFFSET)


def distance(own: Tensor, teachers: Tensor, projection: Tensor | None, offset: Tensor | None) -> Tensor:
    """Squared error, mean over the elements of a sample, summed over samples: outputs (M, ...) of both, as `mismatch`.

    Sizes in space are made equal by averaging, channels or features by the projection (C', C) of the student's.
    Collective over: none.
    """
    if own.dim() > 3:
        size = [min(sizes) for sizes in zip(own.shape[2:], teachers.shape[2:], strict=True)]
        own, teachers = _pooled(own, size), _pooled(teachers, size)
    if projection is not None:
        axis = 1 if own.dim() > 3 else -1
        own = functional.linear(own.movedim(axis, -1), projection, offset).movedim(-1, axis)
    return functional.mse_loss(own, teachers, reduction="sum") / math.prod(teachers.shape[1:])


def _pooled(tensor: Tensor, size: list[int]) -> Tensor:
    return tensor if list(tensor.shape[2:]) == size else POOLINGS[len(size)](tensor, size)


def _add_projection_(layer: nn.Module, hint: Hint, seed: int, device: torch.device) -> None:
    """As parameters of the layer itself: a child of an nn.Sequential would be one more layer of it."""
    axis = 0 if len(hint.own) > 2 else -1
    features, wanted = hint.own[axis], hint.teachers[axis]
    if features == wanted:
        return
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(wanted, features, generator=generator) / math.sqrt(features)
    layer.register_parameter(PROJECTION, nn.Parameter(weights.to(device)))
    layer.register_parameter(OFFSET, nn.Parameter(torch.zeros(wanted, device=device)))


class _Also(torch.autograd.Function):
    """Hands outputs on, and lets a loss take part in their backward pass."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, loss: Tensor) -> Tensor:
        return outputs.clone()  # the next layer may overwrite them, and the loss needs them as they were

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients, gradients.new_ones((), dtype=torch.float32)
