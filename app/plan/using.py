"""Which earlier phases a phase needs beside those whose networks it takes, and what is wrong with how it names them."""

from collections.abc import Sequence
from typing import NamedTuple

from app.inputfile.models import Input
from app.inputfile.phases import AnyPhase, Evaluate, Export, Predict, Preprocess, Trains
from app.inputfile.sentences import nearest
from app.plan.grid import Grid
from app.plan.quantum import needs as parameters_of

INT8 = ".int8"  # behind the name of an export phase: its quantised file


class Used(NamedTuple):
    """source: a phase, "NAME.int8" of one, or a file; "" where it is not known. networks: source, where that is an
    earlier phase that made a network. needs: source's phase, where that is an export phase. problems: sentences.
    """

    source: str
    networks: tuple[str, ...]
    needs: tuple[str, ...]
    problems: tuple[str, ...]


def is_network_file(word: str) -> bool:
    """Whether it names the file of a network, not a phase."""
    return word.endswith((".h5", ".onnx"))


def uses_data(phase: AnyPhase) -> bool:
    """Whether it reads the samples of [data]."""
    if isinstance(phase, Predict):
        return phase.file is None and phase.data is None
    return isinstance(phase, Trains | Evaluate)


def needs(phase: AnyPhase, given: Input) -> tuple[str, ...]:
    """The earlier phases that make what it reads, beside networks: sets of samples, parameters of circuits."""
    sets = [given.data.phase] if uses_data(phase) else []
    if isinstance(phase, Predict | Export):  # drift and accuracy are measured against the samples of [data]
        sets = [given.data.phase, phase.data if isinstance(phase, Predict) else None]
    return (*parameters_of(phase), *(name for name in dict.fromkeys(sets) if name is not None))


def data_problems(given: Input) -> list[str]:
    """What is wrong with the phase that [data] names."""
    wanted, names = given.data.phase, [phase.name for phase in given.phase]
    if wanted is None:
        return []
    known = [phase.name for phase in given.phase if isinstance(phase, Preprocess)]
    if wanted not in known:
        reason = "that phase makes no set" if wanted in names else "no phase has that name"
        return [f"[data] phase = {wanted!r}: {reason}{nearest(wanted, known)}"]
    early = [phase.name for phase in given.phase[: names.index(wanted)] if uses_data(phase)]
    if early:
        return [f"[data] phase = {wanted!r}: it comes after {early[0]!r}, which reads its set; put it before."]
    made = next(phase for phase in given.phase if isinstance(phase, Preprocess) and phase.name == wanted)
    if made.splits and (made.validation, made.test) != (given.data.validation, given.data.test):
        return [f"[data] validation and test are not to be given: the set of {wanted!r} is divided by that phase."]
    return []


def used(phase: Export | Predict, given: Input, networks: Sequence[str], before: Sequence[AnyPhase]) -> Used:
    """What an export or predict phase takes: `networks` are the phases so far that made one, `before` all of them."""
    problems = _set_problems(phase, given, before)
    exports = [one.name for one in before if isinstance(one, Export)] if isinstance(phase, Predict) else []
    wanted = phase.network
    if wanted is None:
        makers = [one.name for one in before if one.name in (*networks, *exports)]
        if not makers:
            advice = 'put a train phase before it, or name a file: network = "other/run/networks/NAME.h5"'
            problems.append(f"{phase.kind} needs a network, and no phase before it makes one; {advice}.")
            return Used("", (), (), tuple(problems))
        wanted = makers[-1]
    if is_network_file(wanted):
        if isinstance(phase, Export) and wanted.endswith(".onnx"):
            problems.append(f"network = {wanted!r}: it is exported already; name a phase or a .h5 file.")
        return Used(wanted, (), (), tuple(problems))
    if wanted in networks:
        return Used(wanted, (wanted,), (), tuple(problems))
    export = wanted.removesuffix(INT8)
    if export in exports:
        found = next(one for one in before if one.name == export)
        if isinstance(found, Export) and "onnx" not in found.formats:
            problems.append(f'network = {wanted!r}: that phase writes no ONNX file; add formats = ["onnx"] to it.')
        elif wanted != export and isinstance(found, Export) and not found.int8:
            problems.append(f"network = {wanted!r}: the phase {export!r} quantises nothing; give it int8 = true.")
        return Used(wanted, (), (export,), tuple(problems))
    reason = nearest(wanted, [*networks, *exports])
    return Used("", (), (), (*problems, f"network = {wanted!r}: no earlier phase of that name makes one{reason}"))


def _set_problems(phase: Export | Predict, given: Input, before: Sequence[AnyPhase]) -> list[str]:
    if isinstance(phase, Export) or phase.file is not None:
        return []
    if phase.data is None:
        return [] if given.has_data else ["there is no [data]; say by file or data what the new samples are."]
    known = [one.name for one in before if isinstance(one, Preprocess)]
    if phase.data in known:
        return []
    return [f"data = {phase.data!r}: no earlier preprocess phase has that name{nearest(phase.data, known)}"]


def played(phase: AnyPhase, networks: Sequence[str]) -> Trains | Evaluate | None:
    """The phase as a pipeline plays it: forward only where nothing is trained; None: not on this run's networks."""
    if isinstance(phase, Predict) and networks:
        return Evaluate(
            kind="evaluate", name=phase.name, batch_size=phase.batch_size, microbatch_size=phase.microbatch_size
        )
    return phase if isinstance(phase, Trains | Evaluate) else None


def replica_notes(phase: AnyPhase, networks: Sequence[str], grid: Grid) -> list[str]:
    """What is unlucky about a phase that takes whole networks on a grid of several stages."""
    if isinstance(phase, Predict) and grid.stages > 1 and not networks and not (phase.network or "").endswith(".h5"):
        return [f"an ONNX file is not cut into stages: each of the {grid.ranks} ranks holds all of it."]
    return []
