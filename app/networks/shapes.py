"""What passes between the layers of a network, found by sending two samples through it on the CPU.

For the built-in kinds `app.plan.costs` knows the same without torch; this is for the user's own networks, and finds
their mistakes before training starts. (Torch's meta device would not compute, but takes a second to import.)
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from app.errors import InputError
from app.networks.layers import Layer

SAMPLES = 2  # one would hide a layer that mixes up samples and features


class LayerShape(NamedTuple):
    """One layer: its parameters' number, and what it hands on, without the batch dim."""

    name: str
    parameters: int
    output_shape: tuple[int, ...]
    output_dtype: torch.dtype


@torch.no_grad()
def trace(
    layers: Sequence[Layer], sample_shape: Sequence[int], outputs: int, dtype: torch.dtype = torch.float32
) -> tuple[LayerShape, ...]:
    """Shapes between the layers for samples of zeros of the given shape and dtype; one layer is held at a time.

    Every layer runs once as in training and once as in evaluation. Torch's global random generator is left as it was.
    Collective over: none. Raises InputError when a layer fails or changes the number of samples, the last dim of the
    network's outputs is not `outputs`, they are not floating-point numbers, or there is no parameter to train.
    """
    values, shapes = torch.zeros((SAMPLES, *sample_shape), dtype=dtype), []
    with torch.random.fork_rng(devices=[]):
        whole = layers[0].whole() if layers and layers[0].whole is not None else {}
        for layer in layers:
            module = whole[layer.name] if whole else layer.build()
            values = _pass(layer.name, module, values)
            parameters = sum(parameter.numel() for parameter in module.parameters())
            shapes.append(LayerShape(layer.name, parameters, tuple(values.shape[1:]), values.dtype))
    if values.dim() < 2 or values.shape[-1] != outputs:
        raise InputError(
            f"network: its outputs for one sample have shape {tuple(values.shape[1:])}, but the last dim must be "
            f"{outputs}: one value per class, or per target value in regression"
        )
    if not values.is_floating_point():
        raise InputError(f"network: its outputs are {values.dtype}, but floating-point numbers are expected")
    if not any(shape.parameters for shape in shapes):
        raise InputError("network: it has no parameters, so there is nothing to train")
    return tuple(shapes)


def _pass(name: str, module: nn.Module, values: Tensor) -> Tensor:
    given = f"layer {name!r} of the network, given a batch of {SAMPLES} samples of shape {tuple(values.shape[1:])},"
    try:
        module.train()(values)
        result = module.eval()(values)
    except (Exception, SystemExit) as error:
        raise InputError(f"{given} failed: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(result, Tensor):
        raise InputError(f"{given} returned {type(result).__name__}, but one tensor is expected")
    if result.dim() == 0 or result.shape[0] != SAMPLES:
        raise InputError(f"{given} returned shape {tuple(result.shape)}; the first dim must stay the samples")
    return result
