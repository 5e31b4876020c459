"""Gradients of linear and convolutional weights formed apart from those of the inputs, and later.

In a pipeline the stage before waits for the gradients of our inputs, and nobody for those of our weights. Formed for
several microbatches at once they also read and write a large matrix once instead of once a microbatch.
Source: Qi et al., Zero Bubble Pipeline Parallelism, ICLR 2024: the split of the backward pass into B and W.
"""

import math
from collections.abc import Container, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Samples (positions of a convolution) whose weight gradients are formed in one product. With fewer, reading and writing
# the gradient costs more than the arithmetic; more only hold activations for longer.
ROWS = 256


class WeightGradients:
    """The layers of one chunk whose weights get their gradients by `form`, not by autograd.

    These are torch's own linear and convolutional layers, not what is derived from them. Theirs is then the only
    contribution to the weight's gradient, so that sums are formed in the same order in every run.
    """

    def __init__(
        self, chunk: nn.Module, shared: Container[nn.Parameter] = (), left: Container[type[nn.Module]] = ()
    ) -> None:
        """chunk: its layers are changed to note what they need. Autograd keeps `shared` parameters, `left` layers."""
        self._microbatch: int | None = None  # whose backward pass is at work
        modules = [m for m in chunk.modules() if type(m) in _LAYERS and type(m) not in left]
        self._layers = [_LAYERS[type(m)](m, self) for m in modules if _alone(m, shared)]
        for layer in self._layers:
            layer.module.forward = layer.forward

    @contextmanager
    def backward(self, microbatch: int) -> Iterator[None]:
        """A microbatch's backward pass: inside, what `form` needs is kept. Collective over: none."""
        self._microbatch = microbatch
        try:
            yield
        finally:
            self._microbatch = None

    def keep_(self, layer: "_Layer", inputs: Tensor, gradients: Tensor) -> None:
        """Note what a backward pass brought to a layer; one that the user's layer asks for itself is no concern."""
        if self._microbatch is not None:
            layer.pieces.append(Piece(self._microbatch, inputs, gradients))

    def form(self, microbatch: int, *, last: bool) -> None:
        """Add the weights' gradients of the microbatches up to this one; `last`: also where they are few.

        Call in ascending order of microbatches. Collective over: none.
        """
        for layer in self._layers:
            layer.form_(microbatch, last)


class Piece(NamedTuple):
    """What a microbatch leaves for one layer: its inputs and the gradients towards its outputs."""

    microbatch: int
    inputs: Tensor
    gradients: Tensor


class _Layer:
    """A layer, and what its microbatches have left."""

    def __init__(self, module: Any, owner: WeightGradients) -> None:
        self.module, self.owner = module, owner
        self.pieces: list[Piece] = []

    def forward(self, inputs: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self.outputs(inputs)
        return _Apply.apply(inputs, self.module.weight, self.module.bias, self)

    @torch.no_grad()
    def form_(self, microbatch: int, last: bool) -> None:
        count = sum(piece.microbatch <= microbatch for piece in self.pieces)
        pieces = self.pieces[:count]
        if not pieces or not (last or sum(map(self.rows, pieces)) >= ROWS):
            return
        del self.pieces[:count]
        # A layer may be applied several times in a microbatch, to inputs of other sizes each time.
        for _, alike in groupby(pieces, lambda piece: piece.inputs.shape[1:]):
            same = list(alike)
            self.add_(self.joined([p.inputs for p in same]), self.joined([p.gradients for p in same]))

    def outputs(self, inputs: Tensor) -> Tensor:
        raise NotImplementedError

    def towards_inputs(self, gradients: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def rows(self, piece: Piece) -> int:
        raise NotImplementedError

    def joined(self, tensors: list[Tensor]) -> Tensor:
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    def add_(self, inputs: Tensor, gradients: Tensor) -> None:
        raise NotImplementedError


class _Linear(_Layer):
    """inputs (..., F), outputs (..., F')."""

    def outputs(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear(inputs, self.module.weight, self.module.bias)

    def towards_inputs(self, gradients: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        return gradients @ weight

    def rows(self, piece: Piece) -> int:
        return piece.inputs.numel() // piece.inputs.shape[-1]

    def joined(self, tensors: list[Tensor]) -> Tensor:
        return super().joined([tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors])

    def add_(self, inputs: Tensor, gradients: Tensor) -> None:
        weight, bias = self.module.weight, self.module.bias
        if weight.grad is None:
            weight.grad = gradients.t() @ inputs
        else:
            weight.grad.addmm_(gradients.t(), inputs)
        if bias is not None:
            _add_(bias, gradients.sum(0))


class _Convolution(_Layer):
    """inputs (M, C, ...), outputs (M, C', ...), with padding by zeros."""

    def outputs(self, inputs: Tensor) -> Tensor:
        return torch.convolution(inputs, self.module.weight, self.module.bias, *self._numbers())

    def towards_inputs(self, gradients: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        mask = (True, False, False)
        return torch.ops.aten.convolution_backward(gradients, inputs, weight, None, *self._numbers(), mask)[0]

    def rows(self, piece: Piece) -> int:
        return len(piece.gradients) * math.prod(piece.gradients.shape[2:])

    def add_(self, inputs: Tensor, gradients: Tensor) -> None:
        weight, bias = self.module.weight, self.module.bias
        sizes = None if bias is None else list(bias.shape)
        mask = (False, True, bias is not None)
        _, to_weight, to_bias = torch.ops.aten.convolution_backward(
            gradients, inputs, weight, sizes, *self._numbers(), mask
        )
        _add_(weight, to_weight)
        if bias is not None:
            _add_(bias, to_bias)

    def _numbers(self) -> tuple[Any, ...]:
        m = self.module
        return m.stride, m.padding, m.dilation, False, (0,) * len(m.stride), m.groups


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, layer: _Layer) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(inputs, weight)
        outputs = layer.outputs(inputs)
        # Of sequences they are a view of what was computed, and autograd would not let the next layer overwrite it.
        return torch.ops.aten._unsafe_view(outputs, outputs.shape) if outputs._is_view() else outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        inputs, weight = ctx.saved_tensors
        layer: _Layer = ctx.layer
        layer.owner.keep_(layer, inputs, gradients)
        wanted = ctx.needs_input_grad[0]
        return layer.towards_inputs(gradients, inputs, weight) if wanted else None, None, None, None


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LAYERS: dict[type, type[_Layer]] = {nn.Linear: _Linear, **dict.fromkeys(CONVOLUTIONS, _Convolution)}


def _alone(module: Any, shared: Container[nn.Parameter]) -> bool:
    """Whether all of the layer's gradients can be formed here."""
    if getattr(module, "padding_mode", "zeros") != "zeros" or isinstance(getattr(module, "padding", None), str):
        return False
    if module._forward_hooks or module._forward_pre_hooks:  # of the user's: they may change inputs or weights
        return False
    return all(p.requires_grad and p not in shared and not _hooked(p) for p in module.parameters())


def _hooked(parameter: nn.Parameter) -> bool:
    """Whether the user wants to see or change the gradient that autograd brings."""
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


def _add_(parameter: nn.Parameter, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad += gradient
