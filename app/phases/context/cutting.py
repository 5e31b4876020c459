"""Which layers each stage holds: estimated from their costs, or from times measured on this machine."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from app.inputfile.phases import Evaluate, Train
from app.networks.layers import Layer
from app.networks.measure import measure
from app.networks.shapes import boundaries, trace
from app.networks.user import is_user_kind
from app.phases.context import Context
from app.plan.costs import LayerCost, layer_costs
from app.plan.stages import Division
from app.plan.times import LayerTime


def cut_of(
    context: Context,
    phase: Train | Evaluate,
    tree: dict[str, Any],
    layers: Sequence[Layer],
    check: Callable[[Sequence[LayerCost]], None],
) -> tuple[range, ...]:
    """The layers of each chunk, the same on every rank. check: of the network's costs, before anything is measured.

    Collective over: world. Raises InputError: the network does not go with the data, cannot be cut so, or is too large.
    """
    costs = context.together(lambda: _costs(context, tree, layers))
    context.together(lambda: check(costs))
    shape = context.data.sample_shape
    division = Division(context.plan.input, context.plan.grid, phase, costs, shape)
    measured = context.plan.grid.stages > 1 and context.plan.input.grid.cut == "measured"
    times = _measured(context, phase, costs, layers) if measured else None
    return context.together(lambda: division.cut(times))


def _costs(context: Context, tree: dict[str, Any], layers: Sequence[Layer]) -> Sequence[LayerCost]:
    """Of a built-in kind by its numbers, of the user's by sending two samples through it layer by layer."""
    kind, options, data = tree["kind"], tree["options"], context.data
    if not is_user_kind(kind):
        return layer_costs(kind, options, data.sample_shape, data.outputs)
    shapes = trace(layers, data.sample_shape, data.outputs, _dtype(context))
    return [
        LayerCost(s.name, s.parameters, s.output_shape, s.operations, s.activation_bytes, s.tied_parameters)
        for s in shapes
    ]


def _measured(
    context: Context, phase: Train | Evaluate, costs: Sequence[LayerCost], layers: Sequence[Layer]
) -> list[LayerTime]:
    """The times of all layers; each rank measures a share of them. Collective over: world."""
    world = context.world
    entering = boundaries(layers, context.data.sample_shape, context.data.outputs, _dtype(context))
    sizes = (phase.microbatch, 4 * phase.microbatch)
    own = context.together(
        lambda: measure(layers, range(world.rank, len(layers), world.size), entering, sizes, context.device)
    )
    with context.watchdog.operation("measuring of the layers"):
        everyone = world.allgather(own)
    return [LayerTime(*everyone[number % world.size][number // world.size]) for number in range(len(layers))]


def _dtype(context: Context) -> torch.dtype:
    """Of the network's inputs."""
    return torch.int64 if context.data.transform.tokens else torch.float32
