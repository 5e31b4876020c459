"""The plan as text: who does what, what it costs, what is done."""

from collections.abc import Sequence
from dataclasses import replace

from app.inputfile.models import Input
from app.inputfile.phases import Distill, Export, Predict, Preprocess, Prune, Quantum, Trains
from app.plan.circuits.circuit import Gate
from app.plan.costs import FLOAT, LayerCost
from app.plan.microbatches import microbatch_sizes, owned
from app.plan.pipelines import schedules
from app.plan.pipelines.advice import advice
from app.plan.pipelines.stages import Division, Layout, alike, costs_of, own_sizes, sample_shape_of
from app.plan.pipelines.times import estimated, transfer_s
from app.plan.plan import PhasePlan, Plan, loss_of
from app.plan.quantum import expected_traffic, holding, is_shared_out, needs

SHOWN_MICROBATCHES, SHOWN_STAGES = 12, 4  # a schedule of at most so many is printed


def show_plan(plan: Plan) -> list[str]:
    """Lines for a terminal. Raises InputError when the network does not go with the sample's shape."""
    given, grid = plan.input, plan.grid
    layers = costs_of(given)
    lines = [
        f"run      {given.run.name} -> {folder_of(given)}",
        f"grid     {grid.ranks} ranks = {grid.replicas} replicas x {grid.stages} stages",
        *_data_lines(given),
        *(_network_lines(plan, layers) if given.network.kind != "none" else []),
        "phases",
        *_phase_lines(plan),
    ]
    for step in plan.phases:
        if isinstance(step.phase, Quantum):
            lines += ["", *_quantum_lines(plan, step.phase)]
        if isinstance(step.phase, Trains):
            lines += ["", *_rank_lines(replace(plan, input=step.of(given)), step.phase, costs_of(step.of(given)))]
    return lines + ([""] if plan.notes else []) + [f"note     {note}" for note in plan.notes]


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


def _data_lines(given: Input) -> list[str]:
    data = given.data
    limit = bytes_text(data.memory)
    where = ", ".join(data.file) if data.file else f"the set of {data.phase}"
    what = f"{where}: {data.inputs} -> {data.targets} (at most {limit} of it in memory a rank)"
    return [f"data     {what}"] if given.has_data else []


def _quantum_lines(plan: Plan, phase: Quantum) -> list[str]:
    """What a quantum phase runs, and which ranks hold how much of its state."""
    circuit = plan.circuits.get(phase.name)
    by = f", {phase.optimizer} by {phase.gradient_by}, at most {phase.steps} steps" if phase.task == "minimise" else ""
    first = f"{phase.name}: {phase.task} {phase.circuit.source} on {phase.backend}{by}"
    if circuit is None:
        return [f"{first}; its circuit is known once the function is called"]
    gates = sum(isinstance(one, Gate) for one in circuit.operations)
    lines = [f"{first}: {circuit.qubits} qubits, {gates} gates, {circuit.parameters} parameters"]
    if is_shared_out(phase, circuit):
        return [*lines, "  every rank runs whole circuits, shared out evenly"]
    held = holding(phase, circuit, plan.grid.ranks)
    who = "rank 0 holds" if held.ranks == 1 else f"ranks 0 to {held.ranks - 1} each hold"
    part = "the state" if held.ranks == 1 else f"1/{held.ranks} of the state"
    copies = f" x {held.copies} copies" if held.copies > 1 else ""
    lines.append(f"  {who} {part}, {bytes_text(held.bytes)}{copies}")
    traffic = expected_traffic(phase, circuit, plan.grid.ranks)
    if traffic is not None and held.ranks > 1:
        often = " a pass over the circuit" if phase.task == "minimise" else ""
        lines.append(f"  {traffic.exchanges} exchanges, {bytes_text(traffic.bytes)} sent by each rank{often}")
    return lines


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
        start = _start(step)
        state = "done" if step.done else "to do"
        lines.append(f"  {number}. {step.name:<{width}}  {step.phase.kind:<8}  {start} -> {step.makes}  [{state}]")
    return lines


def _start(step: PhasePlan) -> str:
    """What a phase begins with, and who teaches it."""
    if isinstance(step.phase, Quantum):
        found = needs(step.phase)
        return f"parameters of {found[0]}" if found else f"circuit {step.phase.circuit.source}"
    if isinstance(step.phase, Preprocess):
        return f"raw files {', '.join(step.phase.file)}"
    if isinstance(step.phase, Export | Predict) and not step.networks:
        return f"network {step.source}"
    several = f"networks of {', '.join(step.networks)}" if len(step.networks) > 1 else f"network of {step.network}"
    start = several if step.networks else "starting weights"
    if not isinstance(step.phase, Distill):
        return start
    start = f"layers of {step.phase.teacher[0]}" if step.phase.layers else start
    return f"{start}, taught by {', '.join(step.phase.teacher)}"


def _rank_lines(plan: Plan, phase: Trains, layers: Sequence[LayerCost] | None) -> list[str]:
    count = len(microbatch_sizes(phase.batch_size, phase.microbatch))
    lines = [
        f"{phase.name}: {_before_training(phase)}{phase.epochs} epochs, batches of {phase.batch_size} = {count}"
        f" microbatches of {phase.microbatch}, {loss_of(phase, plan.input.data.task)}, {phase.optimizer}",
    ]
    layout = _layout(plan, phase, layers)
    one = plan.grid.stages == 1
    for replica in range(plan.grid.replicas):
        mine = list(owned(count, replica, plan.grid.replicas))
        shown = ", ".join(map(str, mine[:8])) + (", ..." if len(mine) > 8 else "")
        first, last = plan.grid.rank(replica, 0), plan.grid.rank(replica, plan.grid.stages - 1)
        who = f"rank {first}" if one else f"replica {replica} (ranks {first} to {last})"
        costs = "" if layout is None or layers is None else _replica_costs(phase, layers, layout, len(mine), one)
        lines.append(f"  {who}: microbatches {shown} of each batch{costs}")
    return lines if one else lines + _pipeline_lines(plan, phase, layers, layout)


def _before_training(phase: Trains) -> str:
    """What else the phase does, as the beginning of a sentence."""
    if not isinstance(phase, Prune):
        return ""
    what = phase.target if phase.units == "channels" else "connections"
    share = f"{phase.share:.0%} of the {what} go" if phase.share else "what went to zero goes"
    penalised = f"{phase.penalty_epochs} epochs with a penalty, " if phase.method == "sparsity" else ""
    rounds = f" in {phase.rounds} rounds of {phase.growth} growth" if phase.rounds > 1 else ""
    return f"{penalised}{share} by {phase.method}{rounds}, then "


def _layout(plan: Plan, phase: Trains, layers: Sequence[LayerCost] | None) -> Layout | None:
    shape = sample_shape_of(plan.input)
    return None if layers is None or shape is None else Division(plan.input, plan.grid, phase, layers, shape).layout()


def _replica_costs(phase: Trains, layers: Sequence[LayerCost], layout: Layout, microbatches: int, one: bool) -> str:
    # forward one pass over the network, backward two: towards the inputs and towards the weights
    operations = 3 * 2 * sum(layer.operations for layer in layers) * phase.microbatch * microbatches
    held = f" {_held_text(layout, 0)};" if one else ""
    return f";{held} {operations_text(operations)} operations a step"


def _held_text(layout: Layout, stage: int) -> str:
    held = layout.held[stage]
    return (
        f"{bytes_text(held.weights)} weights, {bytes_text(held.gradients)} gradients + optimizer,"
        f" {bytes_text(held.activations)} activations"
    )


def _pipeline_lines(plan: Plan, phase: Trains, layers: Sequence[LayerCost] | None, layout: Layout | None) -> list[str]:
    """What each stage of a replica holds, and what is expected of the pipeline."""
    given, grid = plan.input, plan.grid
    if layers is None or layout is None:
        return [
            f"  the network is cut into {grid.chunks} chunks when the run starts; were they alike, the ranks would wait"
            f" {alike(given, grid, phase).bubble:.0%} of a step ({plan.schedule})"
        ]
    later = ['  cut = "measured": by measured times when the run starts; this is by estimated ones']
    times, cut = [estimated(layer) for layer in layers], layout.cut
    expected = advice(
        times,
        cut,
        plan.schedule,
        grid.stages,
        batch_size=phase.batch_size,
        microbatch_size=phase.microbatch,
        replicas=grid.replicas,
        transfer=transfer_s(layers, cut, phase.microbatch),
        recompute=plan.recompute,
    )
    return [
        *(later if given.grid.cut == "measured" else []),
        *(_stage_line(plan, layers, layout, stage) for stage in range(grid.stages)),
        *(f"  {line}" for line in expected),
        *_schedule_lines(plan, phase),
    ]


def _stage_line(plan: Plan, layers: Sequence[LayerCost], layout: Layout, stage: int) -> str:
    chunks = plan.grid.chunks_of(stage)
    pieces = [layout.cut[chunk] for chunk in chunks]
    flying = " + ".join(str(layout.in_flight[chunk]) for chunk in chunks)
    return (
        f"  stage {stage}: {', '.join(_span(layers, piece) for piece in pieces)}; {layout.shares[stage]:.0%} of the"
        f" time, {layout.parameters[stage]:,} parameters; {_held_text(layout, stage)} ({flying} in flight)"
    )


def _span(layers: Sequence[LayerCost], piece: range) -> str:
    first, last = layers[piece.start].name, layers[piece.stop - 1].name
    return first if first == last else f"{first}..{last}"


def _schedule_lines(plan: Plan, phase: Trains) -> list[str]:
    grid, count = plan.grid, len(own_sizes(phase, plan.grid.replicas))
    if count > SHOWN_MICROBATCHES or grid.stages > SHOWN_STAGES:
        return []
    actions = schedules.make_schedule(
        plan.schedule, stages=grid.stages, microbatches=count, chunks=grid.chunks_per_stage
    )
    return [f"  {plan.schedule}, in this order:", *(f"    {line}" for line in schedules.show(actions))]


__all__ = ["bytes_text", "costs_of", "folder_of", "operations_text", "show_plan"]
