"""Input + number of ranks -> who does what; every reason why that cannot work, at once."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from app.errors import InputError
from app.inputfile.evaluation import ALL
from app.inputfile.models import Input
from app.inputfile.networks import NetworkTable, Parts
from app.inputfile.phases import (
    NEW,
    WITHOUT_NETWORK,
    AnyPhase,
    Distill,
    Evaluate,
    Export,
    Predict,
    Preprocess,
    Prune,
    Quantum,
    Train,
    Trains,
)
from app.plan.circuits.circuit import Circuit
from app.plan.compression import prune_problems
from app.plan.distillation import architecture_problems, distill_notes, distill_problems, is_phase
from app.plan.grid import Grid, grid_problems
from app.plan.microbatches import load, microbatch_sizes
from app.plan.pipelines.problems import pipeline_notes, pipeline_problems, unused_keys
from app.plan.pipelines.stages import recomputes, schedule_of
from app.plan.quantum import minimising, quantum_notes, quantum_problems
from app.plan.using import data_problems, needs, played, replica_notes, used

LOSSES_OF = {"classification": ("cross_entropy",), "regression": ("mse", "l1", "huber", "bce")}


@dataclass(frozen=True)
class PhasePlan:
    """One phase, the earlier phases whose networks it needs, and whether it is done.

    networks: those it starts from or evaluates; none: starting weights, or a file. teachers: earlier phases that it
    learns from. needs: earlier phases that make what else it reads. source: in one word what network it takes: an
    earlier phase, "NAME.int8" of an export phase, a file; "": none.
    table: the [network] table, or that of a student, from which its network comes; pruning makes it smaller.
    """

    phase: AnyPhase
    networks: tuple[str, ...]
    teachers: tuple[str, ...]
    needs: tuple[str, ...]
    source: str
    table: NetworkTable
    done: bool

    @property
    def name(self) -> str:
        """The phase's name."""
        return self.phase.name

    @property
    def network(self) -> str | None:
        """The phase whose network it starts from; None: starting weights."""
        return self.networks[0] if self.networks else None

    @property
    def makes_network(self) -> bool:
        """Whether it leaves a network."""
        return isinstance(self.phase, Trains)

    @property
    def makes(self) -> str:
        """The artifact it leaves, in words."""
        if isinstance(self.phase, Quantum) and self.phase.save_state:
            return f"states/{self.name}"
        if isinstance(self.phase, Preprocess):
            return f"data/{self.name}.h5"
        if isinstance(self.phase, Export):
            return f"exports/{self.name}.*"
        if isinstance(self.phase, Predict):
            return f"predictions/{self.name}.h5"
        return f"networks/{self.name}.h5" if self.makes_network else f"tables of {self.name} in run.h5"

    def of(self, given: Input) -> Input:
        """The input with this phase's own network table."""
        return given.model_copy(update={"network": self.table})


@dataclass(frozen=True)
class Plan:
    """The resolved input, the grid and the phases. circuits: those known before the run, by the quantum phase."""

    input: Input
    grid: Grid
    phases: tuple[PhasePlan, ...]
    notes: tuple[str, ...]
    circuits: Mapping[str, Circuit] = field(default_factory=dict)

    @property
    def schedule(self) -> str:
        """The schedule of the pipelines."""
        return schedule_of(self.input, self.grid)

    @property
    def recompute(self) -> bool:
        """Whether activations are computed again for backward."""
        return recomputes(self.input, self.grid)


def make_plan(
    given: Input, ranks: int, done: Collection[str] = (), circuits: Mapping[str, Circuit] = MappingProxyType({})
) -> Plan:
    """Arrange `given` on `ranks` ranks; `done` are names of finished phases, `circuits` those of quantum phases.

    Raises InputError with all problems.
    """
    problems = grid_problems(ranks, given.grid.stages) + data_problems(given)
    grid = Grid(ranks) if problems else Grid(ranks, given.grid.stages, given.grid.chunks_per_stage)
    phases: list[PhasePlan] = []
    notes = unused_keys(given)
    tables: dict[str, NetworkTable] = {}  # of the networks made so far
    finished: set[str] = set()
    for phase in given.phase:
        title = f'[[phase]] "{phase.name}"'
        required, before = needs(phase, given), [step.phase for step in phases]
        if isinstance(phase, Export | Predict):
            source, networks, exports, unfit = used(phase, given, list(tables), before)
            required, found = (*required, *exports), list(unfit)
        else:
            networks, found = _networks(phase, list(tables), [p.name for p in given.phase])
            source = networks[0] if networks else ""
        teachers, unknown = _teachers(phase, list(tables), [p.name for p in given.phase])
        found += unknown + _phase_problems(phase, given, grid)
        if isinstance(phase, Quantum):
            minimised = minimising(before)
            found += quantum_problems(phase, circuits.get(phase.name), given, ranks, minimised)
            notes += [f"{title}: {note}" for note in quantum_notes(phase, circuits.get(phase.name), ranks)]
        problems += [f"{title}: {problem}" for problem in found]
        own = _phase_notes(phase, given, grid) + replica_notes(phase, networks, grid)
        notes += [f"{title}: {note}" for note in own]
        if phase.name in done and finished.issuperset((*networks, *teachers, *required)):
            finished.add(phase.name)  # what was made from a network that is made anew is made anew too
        table = _table(phase, networks, given, tables)
        if isinstance(phase, Distill):
            found = distill_problems(phase, table, tables.get(phase.teacher[0]), given)
            problems += [f"{title}: {problem}" for problem in found]
        if isinstance(phase, Train) and phase.architecture is not None:
            problems += [f"{title}: {problem}" for problem in architecture_problems(phase.architecture, given)]
        if isinstance(phase, Prune):
            problems += [f"{title}: {problem}" for problem in prune_problems(phase, table, given)]
        phases.append(PhasePlan(phase, networks, teachers, required, source, table, phase.name in finished))
        if phases[-1].makes_network:
            tables[phase.name] = table
    pipelines = [(one, step) for step in phases if (one := played(step.phase, step.networks)) is not None]
    problems += pipeline_problems([(one, step.of(given)) for one, step in pipelines if not step.done], grid)
    if problems:
        raise InputError(*problems)
    for one, step in pipelines:
        notes += [f'[[phase]] "{step.name}": {note}' for note in pipeline_notes(step.of(given), grid, one)]
    return Plan(given, grid, tuple(phases), tuple(notes), dict(circuits))


def _table(phase: AnyPhase, networks: Sequence[str], given: Input, tables: Mapping[str, NetworkTable]) -> NetworkTable:
    """The table of the network that a phase works on."""
    if isinstance(phase, Distill) and phase.student is not None:
        return phase.student
    if isinstance(phase, Train) and phase.architecture is not None:
        return phase.architecture
    if isinstance(phase, Distill) and phase.layers is not None:
        return Parts(kind=f"layers of {phase.teacher[0]}")
    return tables.get(networks[0], given.network) if networks else given.network


def _networks(phase: AnyPhase, networks: list[str], names: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The earlier phases whose networks `phase` starts from or evaluates."""
    if isinstance(phase, Distill):
        if phase.layers is not None and is_phase(phase.teacher[0]):
            return (phase.teacher[0],) if phase.teacher[0] in networks else (), []
        return _found("network", phase.network, phase, networks, names) if phase.network else ((), [])
    if isinstance(phase, WITHOUT_NETWORK) or (
        isinstance(phase, Train) and (phase.network == NEW or phase.architecture)
    ):
        return (), []
    if isinstance(phase, Evaluate) and phase.network is not None and (networks or phase.network != ALL):
        return _evaluated(phase, phase.network, networks, names)
    if isinstance(phase, Trains) and phase.network is not None:
        return _found("network", phase.network, phase, networks, names)
    if networks:
        return (networks[-1],), []
    if isinstance(phase, Train):
        return (), []
    return (), [f"{phase.kind} needs a network, and no phase before it makes one; put a train phase before it."]


def _evaluated(
    phase: Evaluate, wanted: str | tuple[str, ...], networks: list[str], names: list[str]
) -> tuple[tuple[str, ...], list[str]]:
    """The networks that an evaluate phase names."""
    if wanted == ALL:
        return tuple(networks), []
    several = (wanted,) if isinstance(wanted, str) else wanted
    found = [_found("network", name, phase, networks, names) for name in several]
    return tuple(name for one, _ in found for name in one), [text for _, texts in found for text in texts]


def _teachers(phase: AnyPhase, networks: list[str], names: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The earlier phases that a distill phase learns from; files and functions of the user are not among them."""
    wanted = [name for name in phase.teacher if is_phase(name)] if isinstance(phase, Distill) else []
    found = [_found("teacher", name, phase, networks, names) for name in wanted]
    return tuple(name for one, _ in found for name in one), [text for _, texts in found for text in texts]


def _found(
    key: str, wanted: str, phase: AnyPhase, networks: list[str], names: list[str]
) -> tuple[tuple[str, ...], list[str]]:
    """The earlier phase of that name, or the sentence why there is none."""
    if wanted in networks:
        return (wanted,), []
    so_far = f"networks so far: {', '.join(networks) or 'none'}."
    if wanted in names:
        reason = "comes later" if names.index(wanted) >= names.index(phase.name) else "makes no network"
        return (), [f"{key} = {wanted!r}: that phase {reason}; {so_far}"]
    near = difflib.get_close_matches(wanted, networks, 1)
    hint = f"did you mean {near[0]!r}?" if near else so_far
    return (), [f"{key} = {wanted!r}: no earlier phase has that name; {hint}"]


def _phase_problems(phase: AnyPhase, given: Input, grid: Grid) -> list[str]:
    data = given.data
    if not isinstance(phase, Trains | Evaluate):
        return []
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
    if isinstance(phase, Prune) and not data.validation and (phase.accuracy_loss is not None or _scans(phase)):
        problems.append("[data] validation = 0: there is nothing to measure the effect of a cut on.")
    if phase.patience and not data.validation:
        problems.append(f"patience = {phase.patience}, but [data] validation = 0: nothing to watch.")
    return problems


def _phase_notes(phase: AnyPhase, given: Input, grid: Grid) -> list[str]:
    if not isinstance(phase, Trains):
        return []
    notes = []
    count = len(microbatch_sizes(phase.batch_size, phase.microbatch))
    if count >= grid.replicas and load(count, grid.replicas) > 1:
        notes.append(
            f"{count} microbatches on {grid.replicas} replicas: the busiest has {load(count, grid.replicas):.2f} x"
            " the mean work; a number of microbatches that the replicas divide is faster."
        )
    if isinstance(phase, Distill):
        notes += distill_notes(phase, given)
    if phase.keep == "best" and not given.data.validation:
        notes.append("[data] validation = 0: the last network is kept, as there is nothing to choose the best by.")
    return notes


def _scans(phase: Prune) -> bool:
    return phase.method == "effect" and phase.measure == "scan"


def loss_of(phase: Trains, task: str) -> str:
    """The loss a phase trains with: its own or the task's usual one."""
    return phase.loss or LOSSES_OF[task][0]
