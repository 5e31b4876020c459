"""Quantum phases: who holds the state, what it takes, and what is wrong with them."""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from app.errors import InputError
from app.inputfile.models import Input
from app.inputfile.phases import AnyPhase, Quantum
from app.plan.circuits.chosen import observable_of
from app.plan.circuits.circuit import Circuit, Gate, Measure
from app.plan.circuits.lowering import lower
from app.plan.circuits.passes import AMPLITUDE_BYTES, layout, schedule

LONGEST_PLANNED = 5000  # gates whose exchanges are counted before the run
LARGEST_EXACT = 16  # qubits of which the lowest value is found by iteration


class Holding(NamedTuple):
    """How a state is held: by the first `ranks`, `bytes` each for one copy, of which `copies` are needed at once."""

    ranks: int
    bytes: int
    copies: int


def holding(phase: Quantum, circuit: Circuit, ranks: int) -> Holding:
    """Who holds the state of a phase on so many ranks. Pure function of numbers."""
    copies = 3 if phase.task == "minimise" and phase.gradient_by == "adjoint" else 1
    holders = 1 if is_shared_out(phase, circuit) else holders_of(circuit, ranks)
    return Holding(holders, AMPLITUDE_BYTES[phase.precision] << circuit.qubits >> (holders.bit_length() - 1), copies)


class Traffic(NamedTuple):
    """Of one pass over a circuit: exchanges, and the bytes that a rank sends in them."""

    exchanges: int
    bytes: int


def expected_traffic(phase: Quantum, circuit: Circuit, ranks: int) -> Traffic | None:
    """What the ranks that hold the state will exchange; None for a circuit too long to plan here."""
    body, held = unitary_part(circuit), holding(phase, circuit, ranks)
    if body is None or sum(1 for _ in body.gates) > LONGEST_PLANNED:
        return None
    local_bits = body.qubits - (held.ranks.bit_length() - 1)
    steps = lower(body.bound((0.5,) * body.parameters)).steps
    amplitude = AMPLITUDE_BYTES[phase.precision]
    planned = schedule(steps, list(range(body.qubits)), layout(local_bits, phase.precision))
    return Traffic(planned.exchanges, planned.exchanged_bytes(local_bits, amplitude))


def is_shared_out(phase: Quantum, circuit: Circuit) -> bool:
    """Whether every rank runs whole circuits by itself, as many as come to it: no state is spread."""
    by_shift = phase.task == "minimise" and phase.gradient_by == "shift"
    return phase.backend == "qiskit" or phase.noise is not None or by_shift or unitary_part(circuit) is None


def unitary_part(circuit: Circuit) -> Circuit | None:
    """Its gates, without measurements at the end; None where it goes on after a measurement."""
    measured: set[int] = set()
    for operation in circuit.operations:
        if isinstance(operation, Measure):
            measured.add(operation.qubit)
        elif not isinstance(operation, Gate) or measured.intersection(operation.qubits):
            return None
    return replace(circuit, operations=tuple(circuit.gates), bits=0) if measured else circuit


def holders_of(circuit: Circuit, ranks: int) -> int:
    """The largest power of two of ranks that can hold a state: each has the targets of any gate in its own part."""
    largest = max((len(gate.targets) for gate in circuit.operations if isinstance(gate, Gate)), default=1)
    return 1 << min(ranks.bit_length() - 1, max(0, circuit.qubits - max(2, largest)))


def quantum_problems(
    phase: Quantum, circuit: Circuit | None, given: Input, ranks: int, minimised: Collection[str]
) -> list[str]:
    """Why a phase cannot run, as sentences. `minimised`: earlier phases that found parameters."""
    problems: list[str] = []
    observable = None
    try:
        observable = observable_of(phase)
    except InputError as error:
        problems += error.problems
    if isinstance(phase.values, str) and phase.values not in minimised:
        problems.append(
            f'values = "{phase.values}": no earlier quantum phase of that name minimises; so far:'
            f" {', '.join(minimised) or 'none'}."
        )
    if circuit is None:
        return problems
    return problems + circuit_problems(phase, circuit, observable.qubits if observable else 0, given, ranks)


def circuit_problems(phase: Quantum, circuit: Circuit, observed: int, given: Input, ranks: int) -> list[str]:
    """Why a phase cannot run its circuit. `observed`: qubits of the observable."""
    problems: list[str] = []
    if observed > circuit.qubits:
        problems.append(f"observable: it has {observed} qubits, but the circuit has {circuit.qubits}.")
    outside = [qubit for qubit in phase.probabilities if qubit >= circuit.qubits]
    if outside or len(set(phase.probabilities)) < len(phase.probabilities):
        problems.append(
            f"probabilities = {list(phase.probabilities)}: expected different qubits of 0 to {circuit.qubits - 1}."
        )
    if phase.exact == "diagonalise" and observed > LARGEST_EXACT:
        problems.append(
            f'exact = "diagonalise" is for up to {LARGEST_EXACT} qubits, and the observable has {observed}.'
        )
    problems += _parameter_problems(phase, circuit)
    if phase.task == "minimise" and not circuit.is_unitary:
        problems.append('task = "minimise" wants a circuit of gates alone; this one measures.')
    if unitary_part(circuit) is None and phase.noise is None and phase.backend == "statevector":
        problems += _measured_problems(phase)
    return problems + _memory_problems(phase, circuit, given, ranks)


def _measured_problems(phase: Quantum) -> list[str]:
    """Of a circuit that goes on after a measurement."""
    keys = {"observable": phase.observable, "probabilities": phase.probabilities, "save_state": phase.save_state}
    found = [key for key, value in keys.items() if value]
    problems = [f"{key}: a circuit that goes on after a measurement ends in no single state." for key in found]
    return problems if phase.shots else [*problems, "a circuit that goes on after a measurement wants shots."]


def _parameter_problems(phase: Quantum, circuit: Circuit) -> list[str]:
    count = circuit.parameters
    if phase.task == "minimise" and not count:
        return ['task = "minimise" wants a circuit with parameters, and this one has none.']
    if isinstance(phase.values, tuple) and len(phase.values) != count:
        return [f"values: {len(phase.values)} numbers, but the circuit has {count} parameters."]
    if phase.task == "simulate" and phase.values is None and count:
        return [f"the circuit has {count} parameters; give values = [...], or the name of a phase that found them."]
    return []


def _memory_problems(phase: Quantum, circuit: Circuit, given: Input, ranks: int) -> list[str]:
    limit, held = given.grid.memory, holding(phase, circuit, ranks)
    if not limit or held.bytes * held.copies <= limit:
        return []
    return [
        f"{circuit.qubits} qubits in {phase.precision} take {held.bytes * held.copies:,} bytes on each of {held.ranks}"
        f" ranks, but [grid] memory = {limit:,}; start more ranks, or take precision complex64."
    ]


def quantum_notes(phase: Quantum, circuit: Circuit | None, ranks: int) -> list[str]:
    """What a user should know before the phase begins."""
    if circuit is None or is_shared_out(phase, circuit):
        return []
    held = holding(phase, circuit, ranks)
    spare = ranks - held.ranks
    if not spare:
        return []
    why = "a state is held by 1, 2, 4, ... ranks" if 2 * held.ranks > ranks else f"{circuit.qubits} qubits are few"
    return [f"{held.ranks} of {ranks} ranks hold the state, {spare} stay{'s' if spare == 1 else ''} out: {why}."]


def minimising(phases: Collection[AnyPhase]) -> list[str]:
    """Names of those that find parameters."""
    return [one.name for one in phases if isinstance(one, Quantum) and one.task == "minimise"]


def needs(phase: AnyPhase) -> tuple[str, ...]:
    """The earlier phase whose parameters a quantum phase takes."""
    return (phase.values,) if isinstance(phase, Quantum) and isinstance(phase.values, str) else ()
