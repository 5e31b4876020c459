"""What is wrong with a distill phase, as far as the input file tells."""

from collections.abc import Sequence

from app.errors import InputError
from app.inputfile.models import Input
from app.inputfile.networks import NetworkTable, Transformer
from app.inputfile.phases import Distill
from app.inputfile.sentences import nearest
from app.plan.pipelines.stages import costs_of


def is_file(teacher: str) -> bool:
    """Whether a teacher is a network file of another run."""
    return teacher.endswith(".h5")


def is_function(teacher: str) -> bool:
    """Whether a teacher is a function of the user's: "file.py:function"."""
    return ".py:" in teacher


def is_phase(teacher: str) -> bool:
    """Whether a teacher is an earlier phase."""
    return not (is_file(teacher) or is_function(teacher))


def distill_problems(phase: Distill, student: NetworkTable, teacher: NetworkTable | None, given: Input) -> list[str]:
    """student: its [network] table. teacher: that of the first teacher, None where only the run will tell."""
    try:
        names = layer_names(student, given)
    except InputError as error:
        return [f"student: {problem}" for problem in error.problems]
    other = [] if phase.student is None else _other_inputs("student", phase.student, given)
    return [*other, *_unknown_layers(phase, names, _names_of_teacher(teacher, given))]


def architecture_problems(table: NetworkTable, given: Input) -> list[str]:
    """Of a train phase's own network."""
    try:
        layer_names(table, given)
    except InputError as error:
        return [f"architecture: {problem}" for problem in error.problems]
    return _other_inputs("architecture", table, given)


def distill_notes(phase: Distill, given: Input) -> list[str]:
    """Keys that change nothing as the others stand."""
    notes = []
    if phase.soft == 0 and not phase.used_hints:
        notes.append("soft = 0 without hints: the student learns from the targets alone, and no teacher is played.")
    if phase.hints and not phase.used_hints:
        notes.append("hint_weight = 0: the hints have no effect.")
    if given.data.task == "regression" and phase.temperature != Distill.model_fields["temperature"].default:
        notes.append(f"temperature = {phase.temperature:g} has no effect on values; it softens classes.")
    return notes


def layer_names(table: NetworkTable, given: Input) -> Sequence[str] | None:
    """Of a built-in network's layers; None where they are not known yet. Raises InputError: impossible numbers."""
    costs = costs_of(given.model_copy(update={"network": table}))
    return None if costs is None else [cost.name for cost in costs]


def _names_of_teacher(table: NetworkTable | None, given: Input) -> Sequence[str] | None:
    try:
        return None if table is None else layer_names(table, given)
    except InputError:  # told elsewhere, where it is made
        return None


def _other_inputs(key: str, table: NetworkTable, given: Input) -> list[str]:
    """[network] decides what becomes of the samples, so a new network has to take the same."""
    if ".py:" in table.kind or ".py:" in given.network.kind:
        return []
    own, ours = _vocabulary(table), _vocabulary(given.network)
    if own == ours:
        return []
    words = [f"tokens (vocabulary = {number})" if number else "features" for number in (own, ours)]
    return [f"{key} takes {words[0]}, but [network] takes {words[1]}; both are given the same inputs."]


def _vocabulary(table: NetworkTable) -> int:
    return table.vocabulary if isinstance(table, Transformer) else 0


def _unknown_layers(phase: Distill, student: Sequence[str] | None, teacher: Sequence[str] | None) -> list[str]:
    student = phase.layers or student
    problems = []
    if teacher is not None:
        for key, names in (("layers", phase.layers or ()), ("hints", phase.hints.values())):
            problems += [
                f"{key}: teacher {phase.teacher[0]!r} has no layer {name!r}{nearest(name, teacher)}"
                for name in dict.fromkeys(names)
                if name not in teacher
            ]
    if student is not None:
        problems += [
            f"hints: the student has no layer {name!r}{nearest(name, student)}"
            for name in phase.hints
            if name not in student
        ]
    return problems
