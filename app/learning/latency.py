"""How long a network takes to answer: the forward pass in evaluation, and the energy it needs."""

import math
import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from app.learning.energy import meter
from app.learning.pipeline import precision
from app.networks.shapes import Boundary, in_evaluation

FEWEST = 3  # timed passes, however long they take
WARM = 2  # passes before: the first allocates memory and chooses kernels


class Timing(NamedTuple):
    """Median seconds of a forward pass, joules of each of its samples; nan, with the reason, where there is none."""

    seconds: float
    joules: float
    problem: str = ""


NOTHING = Timing(math.nan, math.nan)


def time_forward(
    chunks: Sequence[tuple[nn.Module, Boundary]], samples: int, device: torch.device, *, bf16: bool, seconds: float
) -> Timing:
    """Of so many samples through chunks, each given what enters it, in about `seconds`; 3 passes at least.

    Inputs are normal random numbers, or zeros where they are integers; the device has finished before the clock is
    read. The modules are afterwards as they were, as are torch's global random generators. Collective over: none.
    """
    modules = [chunk for chunk, _ in chunks]
    generators = torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type)
    try:
        with generators, in_evaluation(modules):
            inputs = [_samples(boundary, samples, device) for _, boundary in chunks]
            return _timed(modules, inputs, device, bf16, seconds)
    # What a finished network costs is not worth losing it: a user's layer may not like a batch of one sample.
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        return NOTHING._replace(problem=" ".join(f"{type(error).__name__}: {error}".split()))


def _samples(boundary: Boundary, samples: int, device: torch.device) -> Tensor:
    shape = (samples, *boundary.shape)
    if boundary.dtype.is_floating_point or boundary.dtype.is_complex:
        return torch.randn(shape, dtype=boundary.dtype, device=device)
    return torch.zeros(shape, dtype=boundary.dtype, device=device)


@torch.inference_mode()
def _timed(
    chunks: Sequence[nn.Module], inputs: Sequence[Tensor], device: torch.device, bf16: bool, seconds: float
) -> Timing:
    times: list[float] = []
    energy = meter(device)
    with precision(device, bf16):
        for _ in range(WARM):
            _pass(chunks, inputs, device)
        energy.start()
        end = perf_counter() + seconds
        while len(times) < FEWEST or perf_counter() < end:
            times.append(_pass(chunks, inputs, device))
        joules = energy.joules()
    return Timing(statistics.median(times), joules / (len(times) * len(inputs[0])))


def _pass(chunks: Sequence[nn.Module], inputs: Sequence[Tensor], device: torch.device) -> float:
    begin = _now(device)
    for chunk, given in zip(chunks, inputs, strict=True):
        chunk(given)
    return _now(device) - begin


def _now(device: torch.device) -> float:
    """Seconds, after all that the device was told to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()
