"""Which layers each stage holds: estimated from their costs, or from times measured on this machine."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from app.inputfile.phases import Evaluate, Trains
from app.networks.layers import Layer
from app.networks.measure import measure
from app.networks.shapes import boundaries, trace
from app.networks.user import is_user_kind
from app.phases.context import Context
from app.plan.costs import LayerCost, layer_costs
from app.plan.pipelines.advice import advice, predict
from app.plan.pipelines.stages import Division, own_sizes
from app.plan.pipelines.times import LayerTime, estimated, transfer_s

MEASURING_S = 0.1  # for one layer


class Cut(NamedTuple):
    """The layers of each chunk; costs and times of all layers of the network, the times measured or estimated."""

    pieces: tuple[range, ...]
    costs: Sequence[LayerCost]
    times: Sequence[LayerTime]


def cut_of(
    context: Context,
    phase: Trains | Evaluate,
    tree: dict[str, Any],
    layers: Sequence[Layer],
    check: Callable[[Sequence[LayerCost]], None],
) -> Cut:
    """How the network is cut, the same on every rank. check: of the network's costs, before anything is measured.

    Collective over: world. Raises InputError: the network does not go with the data, cannot be cut so, or is too large.
    """
    costs = context.together(lambda: _costs(context, tree, layers))
    context.together(lambda: check(costs))
    division = Division(context.plan.input, context.plan.grid, phase, costs, context.data.sample_shape)
    measures = context.plan.grid.stages > 1 and context.plan.input.grid.cut == "measured"
    times = _measured(context, phase, layers) if measures else None
    pieces = context.together(lambda: division.cut(times))
    return Cut(pieces, costs, times or [estimated(cost) for cost in costs])


def expected_bubble(context: Context, phase: Trains, cut: Cut) -> float:
    """Say what is expected of a pipeline, and what would be faster; the share of the ranks' time spent waiting.

    Collective over: none.
    """
    plan, grid = context.plan, context.plan.grid
    if grid.stages == 1:
        return 0.0
    holds = "; ".join(
        f"stage {stage}: {', '.join(_span(cut, cut.pieces[number]) for number in grid.chunks_of(stage))}"
        for stage in range(grid.stages)
    )
    transfer = transfer_s(cut.costs, cut.pieces, phase.microbatch)
    lines = advice(
        cut.times,
        cut.pieces,
        plan.schedule,
        grid.stages,
        batch_size=phase.batch_size,
        microbatch_size=phase.microbatch,
        replicas=grid.replicas,
        transfer=transfer,
        recompute=plan.recompute,
    )
    chosen = plan.input.grid.cut
    how = f"by {chosen} times of its layers" if isinstance(chosen, str) else "as [grid] cut says"
    context.log.info("\n".join([f"{phase.name}: the network is cut {how}; {holds}", *lines]))
    sizes = own_sizes(phase, grid.replicas)
    return predict(
        cut.times, cut.pieces, plan.schedule, grid.stages, sizes, transfer=transfer, recompute=plan.recompute
    ).bubble


def _span(cut: Cut, piece: range) -> str:
    first, last = cut.costs[piece.start].name, cut.costs[piece.stop - 1].name
    return first if first == last else f"{first}..{last}"


def _costs(context: Context, tree: dict[str, Any], layers: Sequence[Layer]) -> Sequence[LayerCost]:
    """Of a built-in kind by its numbers; of the user's, and of one made smaller, by sending two samples through it."""
    kind, options, data = tree["kind"], tree["options"], context.data
    if not (is_user_kind(kind) or tree.keys() & {"layers", "shapes"}):
        return layer_costs(kind, options, data.sample_shape, data.outputs)
    shapes = trace(layers, data.sample_shape, data.outputs, _dtype(context))
    return [
        LayerCost(s.name, s.parameters, s.output_shape, s.operations, s.activation_bytes, s.tied_parameters)
        for s in shapes
    ]


def _measured(context: Context, phase: Trains | Evaluate, layers: Sequence[Layer]) -> list[LayerTime]:
    """The times of all layers; each rank measures a share of them. Collective over: world."""
    world = context.world
    entering = boundaries(layers, context.data.sample_shape, context.data.outputs, _dtype(context))
    sizes = (phase.microbatch, 4 * phase.microbatch)
    own = context.together(
        lambda: measure(
            layers, range(world.rank, len(layers), world.size), entering, sizes, context.device, MEASURING_S
        )
    )
    with context.watchdog.operation("measuring of the layers"):
        everyone = world.allgather(own)
    return [LayerTime(*everyone[number % world.size][number // world.size]) for number in range(len(layers))]


def _dtype(context: Context) -> torch.dtype:
    """Of the network's inputs."""
    return torch.int64 if context.data.transform.tokens else torch.float32
