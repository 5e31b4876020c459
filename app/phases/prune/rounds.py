"""The rounds of a prune phase: penalise, cut, fine-tune; each leaves a file, from which a stopped run goes on."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from app.errors import InputError
from app.inputfile.phases import Prune
from app.inputfile.sentences import nearest
from app.learning.training import columns, rows
from app.phases.context import Context
from app.phases.context.appraising import Appraisal, appraise, record
from app.phases.context.fitting import Fit, How, nested, plainly
from app.phases.context.networks import BuiltNetwork, stored_network
from app.phases.context.reading import announce_reading
from app.phases.context.storing import store_network
from app.phases.prune import channels, connections
from app.phases.prune.recalibrating import recalibrate
from app.phases.prune.result import CutResult, Place
from app.plan.plan import PhasePlan
from app.plan.pruning import share_after
from app.storage.networks import read_architecture
from app.storage.stages import drop_stages, newest_stage, stage_file
from app.storage.tree import Tree

PENALISE, CUT, TUNE = "penalise", "cut", "fine-tune"


class Stage(NamedTuple):
    """One piece of a prune phase; number and round count from 1."""

    number: int
    kind: str
    round: int


class State(NamedTuple):
    """Between two stages: the network, the file it is in, a row a cut of what was found out, the dense network."""

    built: BuiltNetwork
    path: Path
    rows: list[dict[str, float]]
    dense: Appraisal


def stages(phase: Prune) -> list[Stage]:
    """What the phase does, in order."""
    kinds = [PENALISE] * (phase.method == "sparsity") + [CUT] + [TUNE] * (phase.epochs > 0)
    pairs = [(kind, round_) for round_ in range(1, phase.rounds + 1) for kind in kinds]
    return [Stage(number, kind, round_) for number, (kind, round_) in enumerate(pairs, 1)]


def run(context: Context, plan: PhasePlan) -> dict[str, Any]:
    """Prune and fine-tune, from the last stage that was finished; the metrics of the network handed on.

    Collective over: world. Raises InputError when so much cannot be removed, NumbersError when training diverges or
    ranks decide differently.
    """
    phase: Prune = plan.phase  # type: ignore[assignment]
    announce_reading(context, phase)
    done, state, good = _begin(context, phase, str(plan.network))
    for stage in stages(phase)[max(0, done - 1) :]:
        if stage.number > done:
            state = _STAGES[stage.kind](context, phase, stage, state)
        if stage.kind == (TUNE if phase.epochs else CUT):
            if _lost_too_much(context, phase, stage, state):
                state = good
                break
            good = state
    return _finish(context, phase, state)


def _begin(context: Context, phase: Prune, source: str) -> tuple[int, State, State]:
    """The number of stages done, the state after them, and the one before the round of the last of them."""
    folder, all_of_them = context.folder.checkpoints(phase.name), stages(phase)
    done = context.world.bcast(context.together(lambda: newest_stage(folder) if context.speaks else 0))
    if not done:
        state = _dense(context, phase, source, None)
        return 0, state, state
    context.log.info(f"{phase.name}: goes on after stage {done} of {len(all_of_them)}")
    last = all_of_them[done - 1]
    state = _restored(context, phase, last)
    if phase.accuracy_loss is None:
        return done, state, state
    before = [stage for stage in all_of_them if stage.round < last.round]
    return done, state, _restored(context, phase, before[-1]) if before else _dense(context, phase, source, state.dense)


def _dense(context: Context, phase: Prune, source: str, known: Appraisal | None) -> State:
    """The network before the first stage, and what is known of it."""
    path = context.folder.network(source)
    built = stored_network(context, phase, path)
    _refuse_unknown_layers(phase, built)
    return State(built, path, [], known or appraise(context, phase, built))


def _restored(context: Context, phase: Prune, stage: Stage) -> State:
    """What a stage left in its file."""
    path = stage_file(context.folder.checkpoints(phase.name), stage.number)
    extras: Any = context.together(lambda: read_architecture(path)).extras
    state = State(stored_network(context, phase, path), path, rows(extras["rounds"]), Appraisal(**extras["dense"]))
    return _after_cut(context, phase, state) if stage.kind == CUT else state


def _refuse_unknown_layers(phase: Prune, built: BuiltNetwork) -> None:
    """Also of networks whose layers the plan does not know. Raises InputError on every rank."""
    unknown = [name for name in dict.fromkeys(phase.keep_layers) if name not in built.names]
    if unknown:
        where = f'[[phase]] "{phase.name}": keep_layers: the network has no layer'
        raise InputError(*(f"{where} {name!r}{nearest(name, built.names)}" for name in unknown)).on_every_rank()


def _penalise(context: Context, phase: Prune, stage: Stage, state: State) -> State:
    """Train with a penalty that drives weights to zero."""
    room = connections if phase.units != "channels" else channels
    place = _place(context, phase, stage)
    how = _how(context, phase, stage, phase.penalty_epochs)
    penalty = room.penalty(context, phase, place, state.built, _dense_totals(state))
    return _train(context, phase, stage, state, how._replace(after_step=penalty, last=True))


def _cut(context: Context, phase: Prune, stage: Stage, state: State) -> State:
    """Remove units or connections; the network right after it is validated."""
    room = connections if phase.units != "channels" else channels
    place = _place(context, phase, stage)
    found: CutResult = room.cut(context, phase, place, state.built, _dense_totals(state))
    context.log.info(f"{place.title}: {found.sentence}")
    cut = state._replace(rows=[*state.rows, {"round": stage.round, **found.row}])
    cut = _store(context, phase, stage, cut, found.weights, state.built._replace(architecture=found.architecture))
    return _after_cut(context, phase, cut)


def _after_cut(context: Context, phase: Prune, state: State) -> State:
    """Batch norm's statistics taken anew, and the network validated; both again where a run goes on from here."""
    recalibrate(context, phase, state.built)
    found = appraise(context, phase, state.built, seconds=0)
    row = {**state.rows[-1], "loss_cut": found.loss, "accuracy_cut": found.accuracy}
    return state._replace(rows=[*state.rows[:-1], row])


def _tune(context: Context, phase: Prune, stage: Stage, state: State) -> State:
    """Train what is left."""
    return _train(context, phase, stage, state, _how(context, phase, stage, phase.epochs))


def _train(context: Context, phase: Prune, stage: Stage, state: State, how: How) -> State:
    fit = Fit(context, phase, state.built, how)
    fit.run()
    row = {**fit.row(), "samples_per_s": fit.samples_per_s()}
    noted = [*state.rows[:-1], {**state.rows[-1], **row}] if stage.kind == TUNE else state.rows
    return _store(context, phase, stage, state._replace(rows=noted), fit.weights(), state.built)


_STAGES: dict[str, Callable[[Context, Prune, Stage, State], State]] = {PENALISE: _penalise, CUT: _cut, TUNE: _tune}


def _store(
    context: Context,
    phase: Prune,
    stage: Stage,
    state: State,
    weights: Mapping[str, torch.Tensor],
    built: BuiltNetwork,
) -> State:
    """Write the network after a stage, drop those that nobody can go back to, and go on from the file."""
    folder = context.folder.checkpoints(phase.name)
    path = stage_file(folder, stage.number)
    extras: Tree = {"rounds": dict(columns(state.rows)), "dense": state.dense._asdict()}
    store_network(context, phase.name, weights, built, {}, path, extras)
    # The file that the last good round left may still be wanted: a round has three stages at most.
    context.alone(lambda: drop_stages(folder, stage.number, keep=4))
    return state._replace(built=stored_network(context, phase, path), path=path)


def _finish(context: Context, phase: Prune, state: State) -> dict[str, Any]:
    """Store the network that is handed on, and say what the phase bought. Collective over: world."""
    row = state.rows[-1] if state.rows else {}
    store_network(context, phase.name, state.built.weights(), state.built, row)
    table: Tree = {
        "kind": phase.kind,
        "method": phase.method,
        "units": phase.units,
        "rounds": dict(columns(state.rows)),
    }
    if context.speaks:
        changes = nested(("phases", phase.name), table)
        context.results.update(changes, context.provenance_of(phase.name))
    after = appraise(context, phase, state.built)
    record(context, phase.name, state.dense, after)
    numbers = {"loss": after.loss, "accuracy": after.accuracy, "accuracy_before": state.dense.accuracy}
    speeds = {"samples_per_s": row["samples_per_s"]} if "samples_per_s" in row else {}
    sizes = {"operations": float(after.operations), "parameters": float(after.nonzero)}
    return {name: value for name, value in (numbers | sizes).items() if not math.isnan(value)} | speeds


def _lost_too_much(context: Context, phase: Prune, stage: Stage, state: State) -> bool:
    """Whether the network has become worse than accuracy_loss allows."""
    if phase.accuracy_loss is None:
        return False
    row = state.rows[-1]
    now = row.get("validation_accuracy", row.get("validation_r2", row["accuracy_cut"]))
    lost = state.dense.accuracy - now
    if lost <= phase.accuracy_loss + 1e-12:
        return False
    context.log.info(
        f"{phase.name}: round {stage.round} loses {lost:.4f}, more than accuracy_loss = {phase.accuracy_loss}; the"
        f" network before it is handed on{'' if stage.round > 1 else ', which is the one it began with'}"
    )
    return True


def _place(context: Context, phase: Prune, stage: Stage) -> Place:
    name = f"{phase.name} round {stage.round}" if phase.rounds > 1 else phase.name
    share = phase.share
    if share is not None:
        share = share_after(stage.round, phase.rounds, share, phase.growth)
    return Place(name, ("phases", phase.name, f"round{stage.round}"), share, stage.round)


def _how(context: Context, phase: Prune, stage: Stage, epochs: int) -> How:
    place = _place(context, phase, stage)
    folder = context.folder.checkpoints(phase.name) / str(stage.number)
    return plainly(context, phase)._replace(
        title=f"{place.title} {stage.kind}", epochs=epochs, place=(*place.table, stage.kind), checkpoints=folder
    )


def _dense_totals(state: State) -> dict[str, float]:
    """What the network cost before the first cut, where there was one: shares are of that."""
    return {name: value for name, value in (state.rows[0] if state.rows else {}).items() if name.startswith("dense_")}
