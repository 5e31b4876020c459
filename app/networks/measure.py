"""How long each layer takes on this machine, for cutting a network by measured times."""

from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from app.networks.layers import Layer, one_by_one
from app.networks.shapes import Boundary
from app.plan.pipelines.times import LayerTime

SECONDS = 0.3  # for one layer, unless two repetitions take longer
FEWEST, MOST = 2, 20  # repetitions of a microbatch size


class _Seconds(NamedTuple):
    """Of one microbatch."""

    forward: float
    backward: float
    weights: float


def measure(
    layers: Sequence[Layer],
    numbers: Sequence[int],
    boundaries: Sequence[Boundary],
    sizes: tuple[int, int],
    device: torch.device,
    seconds: float = SECONDS,
) -> list[LayerTime]:
    """Times of the layers of the given numbers in training, as seconds t(M) = a + b M of a microbatch of M samples.

    Each line goes through the medians at the two sizes of microbatches; neither a nor b is negative. The time of the
    weights' gradients is what a backward pass with them takes longer than one towards the inputs alone. The first
    layer of a network needs no gradients towards its inputs, and one without parameters none of weights.
    `boundaries`: what goes into each layer of the network. One layer is held at a time, for at most `seconds` where
    that is enough for two repetitions. Inputs are normal random numbers, or zeros where they are integers.
    Torch's global random generators are left as they were. Collective over: none. Raises InputError, and ValueError
    when the sizes are equal.
    """
    if sizes[0] == sizes[1]:
        raise ValueError(f"sizes = {sizes}: two different numbers of samples are needed")
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        make = one_by_one(layers)
        return [
            # No name for the module here: it would be held while the next one is made.
            _time(make(number).to(device).train(), boundaries[number], sizes, device, seconds, first=number == 0)
            for number in numbers
        ]


def _time(
    module: nn.Module, given: Boundary, sizes: tuple[int, int], device: torch.device, seconds: float, *, first: bool
) -> LayerTime:
    small, large = (
        _median(module, _samples(given, size, device, first=first), seconds / len(sizes)) for size in sorted(sizes)
    )
    forward, backward, weights = (_line(sorted(sizes), times) for times in zip(small, large, strict=True))
    return LayerTime(forward, backward, weights)


def _samples(given: Boundary, size: int, device: torch.device, *, first: bool) -> Tensor:
    """Inputs; they want gradients where a layer before them would."""
    if not given.dtype.is_floating_point:
        return torch.zeros((size, *given.shape), dtype=given.dtype, device=device)
    return torch.randn((size, *given.shape), dtype=given.dtype, device=device, requires_grad=not first)


def _median(module: nn.Module, inputs: Tensor, seconds: float) -> _Seconds:
    rounds: list[_Seconds] = []
    end = perf_counter() + seconds
    while len(rounds) < FEWEST or (len(rounds) < MOST and perf_counter() < end):
        rounds.append(_round(module, inputs))
    # The first allocates memory and chooses kernels.
    return _Seconds(*map(median, zip(*rounds[1 if len(rounds) > FEWEST else 0 :], strict=True)))


def _round(module: nn.Module, inputs: Tensor) -> _Seconds:
    # A layer may work in place, which torch forbids on a leaf.
    given = inputs.clone()
    begin = _now(inputs.device)
    outputs = module(given)
    forward = _now(inputs.device) - begin
    towards = [inputs] if inputs.requires_grad else []
    backward = _walk(outputs, towards)
    both = _walk(outputs, [*towards, *(parameter for parameter in module.parameters() if parameter.requires_grad)])
    return _Seconds(forward, backward, max(0.0, both - backward))


def _walk(outputs: Tensor, wanted: Sequence[Tensor]) -> float:
    """Seconds of a backward pass towards what is wanted."""
    if not wanted or not outputs.requires_grad:
        return 0.0
    gradient = torch.ones_like(outputs)
    begin = _now(outputs.device)
    torch.autograd.grad(outputs, wanted, gradient, retain_graph=True, allow_unused=True)
    return _now(outputs.device) - begin


def _line(sizes: Sequence[int], times: Sequence[float]) -> tuple[float, float]:
    """(a, b) of t(M) = a + b M through both, but for numbers below zero: the larger microbatch counts then."""
    slope = max(0.0, (times[1] - times[0]) / (sizes[1] - sizes[0]))
    offset = times[1] - slope * sizes[1]
    return (offset, slope) if offset >= 0 else (0.0, times[1] / sizes[1])


def _now(device: torch.device) -> float:
    """Seconds, after all that the device was told to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()
