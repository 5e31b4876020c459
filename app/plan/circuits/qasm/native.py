"""Definitions that say what a gate of gates.py does, such as a text's own rzz: the gate takes their place."""

from app.plan.circuits.circuit import Gate, Matrix
from app.plan.circuits.gates import matrix
from app.plan.circuits.qasm.calls import Budget, Definition, expand
from app.plan.circuits.qasm.known import LIBRARY, Native

_ANGLES = (0.7345, -1.2811, 2.0547)
_LONGEST = 64


def same_as_native(made: Definition, version: int) -> Native | Definition:
    """The gate of the library by this name, if the definition has its matrix; else the definition.

    Compared at one place of general angles, in version 2 but for a global phase, which no text of it can observe.
    """
    native = LIBRARY.get(made.name)
    if native is None or (native.angles, native.qubits) != (made.angles, made.qubits) or made.qubits > 3:
        return made
    places = list(range(made.qubits))
    try:
        own = expand(made, _ANGLES[: made.angles], places, Budget(_LONGEST))
    except ValueError:
        return made
    ours = _unitary(expand(native, _ANGLES[: made.angles], places, Budget()), made.qubits)
    return native if _equal(ours, _unitary(own, made.qubits), version == 2) else made


def _unitary(gates: list[Gate], qubits: int) -> Matrix:
    """Columns are the images of the basis states."""
    columns = []
    for column in range(1 << qubits):
        state = [0j] * (1 << qubits)
        state[column] = 1 + 0j
        for gate in gates:
            _apply_(state, gate)
        columns.append(tuple(state))
    return tuple(columns)


def _apply_(state: list[complex], gate: Gate) -> None:
    rows = matrix(gate)
    controls = sum(1 << qubit for qubit in gate.controls)
    targets = sum(1 << qubit for qubit in gate.targets)
    for start in range(len(state)):
        if start & targets or start & controls != controls:
            continue
        places = [
            start + sum(1 << qubit for bit, qubit in enumerate(gate.targets) if row >> bit & 1)
            for row in range(len(rows))
        ]
        before = [state[place] for place in places]
        for place, row in zip(places, rows, strict=True):
            state[place] = sum(a * b for a, b in zip(row, before, strict=True))


def _equal(ours: Matrix, theirs: Matrix, but_for_phase: bool) -> bool:
    pairs = [pair for one, two in zip(ours, theirs, strict=True) for pair in zip(one, two, strict=True)]
    phase: complex = 1.0
    if but_for_phase:
        largest = max(pairs, key=lambda pair: abs(pair[0]))
        phase = largest[1] / largest[0]
    return all(abs(phase * one - two) < 1e-9 for one, two in pairs)
