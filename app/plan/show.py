"""The plan as text: who does what, what it costs, what is done."""

from collections.abc import Sequence

from app.inputfile.models import Input
from app.inputfile.phases import Train
from app.plan.costs import LayerCost, layer_costs
from app.plan.microbatches import microbatch_sizes, owned
from app.plan.plan import Plan, loss_of

# tensors of a parameter's size that each optimizer keeps from step to step
OPTIMIZER_STATE = {"sgd": 1, "lars": 1, "adam": 2, "adamw": 2, "lamb": 2}
FLOAT = 4


def show_plan(plan: Plan) -> list[str]:
    """Lines for a terminal. Raises InputError when the network does not go with the sample's shape."""
    given, grid = plan.input, plan.grid
    layers = costs_of(given)
    lines = [
        f"run      {given.run.name} -> {folder_of(given)}",
        f"grid     {grid.ranks} ranks = {grid.replicas} replicas x {grid.stages} stages",
        f"data     {', '.join(given.data.file)}: {given.data.inputs} -> {given.data.targets}"
        f" (at most {bytes_text(given.data.memory)} of it in memory a rank)",
        *_network_lines(plan, layers),
        "phases",
        *_phase_lines(plan),
    ]
    for step in plan.phases:
        if isinstance(step.phase, Train):
            lines += ["", *_rank_lines(plan, step.phase, layers)]
    return lines + ([""] if plan.notes else []) + [f"note     {note}" for note in plan.notes]


def costs_of(given: Input) -> tuple[LayerCost, ...] | None:
    """The layers of a built-in network; None when the sample's shape or the outputs are not in the input file."""
    shape, data = given.data.sample_shape, given.data
    if shape is None or data.classes is None or ".py:" in given.network.kind:
        return None
    if data.layout == "channels_last" and len(shape) == 3:
        shape = (shape[-1], *shape[:-1])
    return layer_costs(given.network.kind, given.network.arguments(), shape, data.classes)


def folder_of(given: Input) -> str:
    """The run folder, as the user names it."""
    return given.run.folder or f"results/{given.run.name}"


def bytes_text(count: float) -> str:
    """1536 -> "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def operations_text(count: float) -> str:
    """2.5e9 -> "2.50 G"."""
    for unit in ("", " k", " M", " G", " T", " P"):
        if count < 1000 or unit == " P":
            return f"{count:.3g}{unit}"
        count /= 1000
    raise AssertionError


def _network_lines(plan: Plan, layers: Sequence[LayerCost] | None) -> list[str]:
    kind = plan.input.network.kind
    if layers is None:
        why = (
            "its layers are known once it is built"
            if ".py:" in kind
            else "give [data] sample_shape and classes to see its size"
        )
        return [f"network  {kind}; {why}"]
    total = sum(layer.parameters for layer in layers)
    lines = [f"network  {kind}: {len(layers)} layers, {total:,} parameters, {bytes_text(total * FLOAT)}"]
    width = max(len(layer.name) for layer in layers)
    lines += [
        f"         {layer.name:<{width}}  {layer.parameters:>12,} parameters"
        f"  {operations_text(2 * layer.operations):>8} operations a sample  -> {tuple(layer.output_shape)}"
        for layer in layers
    ]
    return lines


def _phase_lines(plan: Plan) -> list[str]:
    width = max(len(step.name) for step in plan.phases)
    lines = []
    for number, step in enumerate(plan.phases, 1):
        start = f"network of {step.network}" if step.network else "starting weights"
        state = "done" if step.done else "to do"
        lines.append(f"  {number}. {step.name:<{width}}  {step.phase.kind:<8}  {start} -> {step.makes}  [{state}]")
    return lines


def _rank_lines(plan: Plan, phase: Train, layers: Sequence[LayerCost] | None) -> list[str]:
    count = len(microbatch_sizes(phase.batch_size, phase.microbatch))
    lines = [
        f"{phase.name}: {phase.epochs} epochs, batches of {phase.batch_size} = {count} microbatches of"
        f" {phase.microbatch}, {loss_of(phase, plan.input.data.task)}, {phase.optimizer}",
    ]
    for rank in range(plan.grid.ranks):
        mine = list(owned(count, plan.grid.replica(rank), plan.grid.replicas))
        shown = ", ".join(map(str, mine[:8])) + (", ..." if len(mine) > 8 else "")
        lines.append(f"  rank {rank}: microbatches {shown} of each batch{_rank_costs(phase, layers, len(mine))}")
    return lines


def _rank_costs(phase: Train, layers: Sequence[LayerCost] | None, microbatches: int) -> str:
    if layers is None:
        return ""
    weights = sum(layer.parameters for layer in layers) * FLOAT
    held = weights * (2 + OPTIMIZER_STATE[phase.optimizer])
    activations = sum(layer.activation_bytes for layer in layers) * phase.microbatch
    # forward one pass over the network, backward two: towards the inputs and towards the weights
    operations = 3 * 2 * sum(layer.operations for layer in layers) * phase.microbatch * microbatches
    return (
        f"; {bytes_text(weights)} weights, {bytes_text(held - weights)} gradients + optimizer,"
        f" {bytes_text(activations)} activations; {operations_text(operations)} operations a step"
    )


__all__ = ["bytes_text", "folder_of", "operations_text", "show_plan"]
