"""Chunks of a network compiled by torch (TorchInductor), and replayed as CUDA graphs; as they are where that fails."""

import os
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

Piece = Callable[[Tensor], Tensor]
RECOMPILE_LIMIT = 64  # torch's own is 8, after which it runs layers as they are


@lru_cache
def trouble(device: torch.device) -> str:
    """Why torch cannot compile for a device here, "" where it can: found out by compiling something small.

    What it takes: a C++ compiler for CPUs, Triton and a C compiler for GPUs. Takes seconds. Collective over: none.
    """
    try:
        _settle()
        from torch import _dynamo

        with _dynamo.config.patch(suppress_errors=False):
            torch.compile(_small, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # each backend and each missing tool fails in its own way
        return f"{type(error).__name__}: {_first_line(error)}"
    return ""


class Compiled:
    """A chunk whose layers are compiled when it is first called, once for each shape of its inputs.

    Hooks of layers run in Python, between what is compiled: those that key random numbers hold another number in every
    microbatch, for which a compiler that looked into them would compile anew. What cannot be compiled runs as it is;
    torch says so once, as a warning. Collective over: none.
    """

    def __init__(self, chunk: nn.Sequential, *, graphs: bool) -> None:
        self._chunk, self._graphs = chunk, graphs
        self._layers: list[tuple[nn.Module, bool]] = []
        self._pieces: list[Piece] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        layers = [(layer, _hooked(layer)) for layer in self._chunk]
        if layers != self._layers:  # the first time, or layers or hooks have been exchanged
            self._layers, self._pieces = layers, self._made()
        for piece in self._pieces:
            inputs = piece(inputs)
        return inputs

    def _made(self) -> list[Piece]:
        """Runs of layers without hooks as one each, and each layer that has hooks by itself."""
        _settle()
        pieces: list[Piece] = []
        for hooked, layers in groupby(self._chunk, _hooked):
            if hooked:
                pieces += [self._apart(layer) for layer in layers]
            else:
                run = list(layers)
                pieces.append(self._compiled(nn.Sequential(*run).train(self._chunk.training)))
        return pieces

    def _apart(self, layer: nn.Module) -> Piece:
        inside = any(_hooked(module) for module in layer.modules() if module is not layer)
        if inside or layer._backward_hooks or layer._backward_pre_hooks or not any(True for _ in layer.parameters()):
            return layer
        forward = self._compiled(layer.forward)

        def piece(inputs: Tensor) -> Tensor:
            for hook in layer._forward_pre_hooks.values():
                changed = hook(layer, (inputs,))
                if changed is not None:
                    inputs = changed[0] if isinstance(changed, tuple) else changed
            outputs = forward(inputs)
            for hook in layer._forward_hooks.values():
                changed = hook(layer, (inputs,), outputs)
                outputs = outputs if changed is None else changed
            return outputs

        return piece

    def _compiled(self, what: Callable[[Tensor], Tensor]) -> Piece:
        return torch.compile(what, dynamic=False, mode="reduce-overhead" if self._graphs else None)


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_pre_hooks or module._forward_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def begin_replay() -> None:
    """Graphs may write over what they gave out before. Collective over: none."""
    torch.compiler.cudagraph_mark_step_begin()


def _settle() -> None:
    """Torch's compiler as it suits a rank."""
    from torch import _dynamo  # imports for more than a second
    from torch._inductor import config

    _dynamo.config.suppress_errors = True
    # Phases, shapes, training and evaluation share the code of nn.Sequential, for which this counts.
    _dynamo.config.recompile_limit = max(_dynamo.config.recompile_limit, RECOMPILE_LIMIT)
    config.fallback_random = True  # dropout as without compiling
    if "TORCHINDUCTOR_COMPILE_THREADS" not in os.environ:
        config.compile_threads = 1  # a pool of processes for each rank would take the cores of the others


def _small(values: Tensor) -> Tensor:
    return (values * 2 + 1).sum()


def _first_line(error: BaseException) -> str:
    lines: list[Any] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no reason given"
