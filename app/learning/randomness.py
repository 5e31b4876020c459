"""Dropout and the like, keyed by (seed, epoch, step, microbatch, layer), so that the grid does not matter."""

import zlib
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

_MASK = (1 << 64) - 1
_DRAWING = (_DropoutNd, nn.RReLU, nn.MultiheadAttention)


def key(*parts: int | str) -> int:
    """Numbers and names mixed to 63 bits.

    Source: splitmix64, Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    state = 0
    for part in parts:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


class LayerRandomness:
    """Seeds torch's generator before each layer that may draw, for every microbatch anew."""

    def __init__(self, network: nn.Sequential, seed: int, phase: str, numbers: Iterable[int] | None = None) -> None:
        """numbers: those of the layers in the whole network; None: all of them, from 0."""
        self._phase_key = key(seed, phase)
        self._microbatch_key = 0
        for number, layer in zip(range(len(network)) if numbers is None else numbers, network, strict=True):
            if _may_draw(layer):
                layer.register_forward_pre_hook(lambda module, _, number=number: self._seed(module, number))

    def place(self, epoch: int, step: int, microbatch: int) -> None:
        """The microbatch whose forward pass comes next."""
        self._microbatch_key = key(self._phase_key, epoch, step, microbatch)

    def _seed(self, module: nn.Module, number: int) -> None:
        if module.training:
            torch.manual_seed(key(self._microbatch_key, number))


def _may_draw(layer: nn.Module) -> bool:
    """A layer of torch's own modules without dropout draws nothing; one with code of its own might."""
    return any(isinstance(m, _DRAWING) or not type(m).__module__.startswith("torch.nn.") for m in layer.modules())
