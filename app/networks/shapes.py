"""What passes between the layers of a network, found by sending two samples through it on the CPU.

For the built-in kinds `app.plan.costs` knows the same without torch; this is for the user's own networks, and finds
their mistakes before training starts. (Torch's meta device would not compute, but takes a second to import.)
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from app.errors import InputError
from app.networks.counting import counting
from app.networks.layers import Layer, one_by_one

SAMPLES = 2  # one would hide a layer that mixes up samples and features


class LayerShape(NamedTuple):
    """One layer: its parameters' number, and what it hands on, without the batch dim.

    Parameters tied to those of an earlier layer count there alone; `tied_parameters` is how many it uses.
    """

    name: str
    parameters: int
    output_shape: tuple[int, ...]
    output_dtype: torch.dtype
    tied_parameters: int = 0
    operations: int = 0  # multiply-adds of a sample's forward pass, as networks.counting sees them
    activation_bytes: int = 0  # of a sample, kept for the backward pass


class Boundary(NamedTuple):
    """One sample on its way into a layer, or out of the last: its shape without the batch dim."""

    shape: tuple[int, ...]
    dtype: torch.dtype


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
        make = one_by_one(layers)
        for number, layer in enumerate(layers):
            # No name for the module here: it would be held while the next one is made.
            values, shape = _traced(layer, make(number), values)
            shapes.append(shape)
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


def boundaries(
    layers: Sequence[Layer], sample_shape: Sequence[int], outputs: int, dtype: torch.dtype = torch.float32
) -> tuple[Boundary, ...]:
    """What goes into each layer, by layer number, and last what comes out of the network; found by `trace`.

    For samples of the given shape and dtype (tokens: int64). Collective over: none. Raises InputError.
    """
    shapes = trace(layers, sample_shape, outputs, dtype)
    return (
        Boundary(tuple(sample_shape), dtype),
        *(Boundary(shape.output_shape, shape.output_dtype) for shape in shapes),
    )


@torch.inference_mode()
def operations_of_sample(module: nn.Module, entering: Boundary, device: torch.device) -> int:
    """Of one sample's forward pass through a module as it is, pruned perhaps; a multiply-add counts as two.

    Collective over: none.
    """
    # What enters is bf16 under autocast alone, which counting does without.
    dtype = torch.float32 if entering.dtype == torch.bfloat16 else entering.dtype
    samples = torch.zeros((SAMPLES, *entering.shape), dtype=dtype, device=device)
    with torch.random.fork_rng([]), in_evaluation([module]), counting(module) as counts:
        module(samples)
    return 2 * counts.operations // SAMPLES


@contextmanager
def in_evaluation(modules: Iterable[nn.Module]) -> Iterator[None]:
    """The modules in evaluation inside, and as they were afterwards. Collective over: none."""
    modules = list(modules)
    training = [part for module in modules for part in module.modules() if part.training]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _traced(layer: Layer, module: nn.Module, values: Tensor) -> tuple[Tensor, LayerShape]:
    with counting(module) as counts:
        result = _pass(layer.name, module, values)
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    tied = sum(size for name, size in sizes.items() if name in layer.ties)
    passes = 2 * SAMPLES  # as in training, and as in evaluation
    return result, LayerShape(
        layer.name,
        sum(sizes.values()) - tied,
        tuple(result.shape[1:]),
        result.dtype,
        tied,
        counts.operations // passes,
        counts.activation_bytes // passes,
    )


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
