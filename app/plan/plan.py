"""Input + number of ranks -> who does what; every reason why that cannot work, at once."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass

from app.errors import InputError
from app.inputfile.models import Input
from app.inputfile.phases import NEW, Evaluate, Train
from app.plan.grid import Grid, grid_problems
from app.plan.microbatches import load, microbatch_sizes
from app.plan.pipelines.problems import pipeline_notes, pipeline_problems, unused_keys
from app.plan.pipelines.stages import recomputes, schedule_of

LOSSES_OF = {"classification": ("cross_entropy",), "regression": ("mse", "l1", "huber", "bce")}


@dataclass(frozen=True)
class PhasePlan:
    """One phase: the phase whose network it starts from (None: starting weights), and whether it is done."""

    phase: Train | Evaluate
    network: str | None
    done: bool

    @property
    def name(self) -> str:
        """The phase's name."""
        return self.phase.name

    @property
    def makes(self) -> str:
        """The artifact it leaves, in words."""
        return f"networks/{self.name}.h5" if isinstance(self.phase, Train) else f"tables of {self.name} in run.h5"


@dataclass(frozen=True)
class Plan:
    """The resolved input, the grid and the phases."""

    input: Input
    grid: Grid
    phases: tuple[PhasePlan, ...]
    notes: tuple[str, ...]

    @property
    def schedule(self) -> str:
        """The schedule of the pipelines."""
        return schedule_of(self.input, self.grid)

    @property
    def recompute(self) -> bool:
        """Whether activations are computed again for backward."""
        return recomputes(self.input, self.grid)


def make_plan(given: Input, ranks: int, done: Collection[str] = ()) -> Plan:
    """Arrange `given` on `ranks` ranks; `done` are names of finished phases. Raises InputError with all problems."""
    problems = grid_problems(ranks, given.grid.stages)
    grid = Grid(ranks) if problems else Grid(ranks, given.grid.stages, given.grid.chunks_per_stage)
    phases, notes = [], unused_keys(given)
    networks: list[str] = []
    finished: set[str | None] = {None}
    for phase in given.phase:
        title = f'[[phase]] "{phase.name}"'
        source, found = _source(phase, networks, [p.name for p in given.phase])
        found += _phase_problems(phase, given, grid)
        problems += [f"{title}: {problem}" for problem in found]
        notes += [f"{title}: {note}" for note in _phase_notes(phase, given, grid)]
        if phase.name in done and source in finished:  # what was made from a network that is made anew is made anew too
            finished.add(phase.name)
        phases.append(PhasePlan(phase, source, phase.name in finished))
        if isinstance(phase, Train):
            networks.append(phase.name)
    problems += pipeline_problems(given, grid, [step.phase for step in phases if not step.done])
    if problems:
        raise InputError(*problems)
    for step in phases:
        notes += [f'[[phase]] "{step.name}": {note}' for note in pipeline_notes(given, grid, step.phase)]
    return Plan(given, grid, tuple(phases), tuple(notes))


def _source(phase: Train | Evaluate, networks: list[str], names: list[str]) -> tuple[str | None, list[str]]:
    """The earlier phase whose network `phase` starts from."""
    wanted = phase.network
    if wanted in networks or (isinstance(phase, Train) and wanted == NEW):
        return (None if wanted == NEW else wanted), []
    if wanted is None:
        if networks:
            return networks[-1], []
        if isinstance(phase, Train):
            return None, []
        return None, [f"{phase.kind} needs a network, and no phase before it makes one; put a train phase before it."]
    if wanted in names:
        reason = "comes later" if names.index(wanted) >= names.index(phase.name) else "makes no network"
        return None, [f"network = {wanted!r}: that phase {reason}; networks so far: {', '.join(networks) or 'none'}."]
    near = difflib.get_close_matches(wanted, networks, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"networks so far: {', '.join(networks) or 'none'}."
    return None, [f"network = {wanted!r}: no earlier phase has that name; {hint}"]


def _phase_problems(phase: Train | Evaluate, given: Input, grid: Grid) -> list[str]:
    data = given.data
    if isinstance(phase, Evaluate):
        share = {"train": 1.0, "validation": data.validation, "test": data.test}[phase.part]
        return [] if share else [f'part = "{phase.part}", but [data] {phase.part} = 0: nothing is held out for it.']
    problems = []
    count = len(microbatch_sizes(phase.batch_size, phase.microbatch))
    if count < grid.replicas:
        problems.append(
            f"batch_size = {phase.batch_size} in microbatches of {phase.microbatch} gives {count} pieces for"
            f" {grid.replicas} replicas; give batch_size of at least {grid.replicas * phase.microbatch},"
            f" microbatch_size of at most {max(1, phase.batch_size // grid.replicas)}, or start fewer ranks."
        )
    if phase.loss and phase.loss not in LOSSES_OF[data.task]:
        problems.append(
            f'loss = "{phase.loss}" does not go with [data] task = "{data.task}";'
            f" one of {', '.join(LOSSES_OF[data.task])}."
        )
    if phase.monitor == "accuracy" and data.task == "regression":
        problems.append('monitor = "accuracy" wants [data] task = "classification".')
    if phase.patience and not data.validation:
        problems.append(f"patience = {phase.patience}, but [data] validation = 0: nothing to watch.")
    return problems


def _phase_notes(phase: Train | Evaluate, given: Input, grid: Grid) -> list[str]:
    if not isinstance(phase, Train):
        return []
    notes = []
    count = len(microbatch_sizes(phase.batch_size, phase.microbatch))
    if count >= grid.replicas and load(count, grid.replicas) > 1:
        notes.append(
            f"{count} microbatches on {grid.replicas} replicas: the busiest has {load(count, grid.replicas):.2f} x"
            " the mean work; a number of microbatches that the replicas divide is faster."
        )
    if phase.keep == "best" and not given.data.validation:
        notes.append("[data] validation = 0: the last network is kept, as there is nothing to choose the best by.")
    return notes


def loss_of(phase: Train, task: str) -> str:
    """The loss a train phase uses: its own or the task's usual one."""
    return phase.loss or LOSSES_OF[task][0]
