"""Dense matrices of circuits, by nothing but the gates' matrices."""

import numpy as np

from app.plan.circuits.circuit import Circuit, Gate
from app.plan.circuits.gates import matrix


def applied(gate: Gate, state: np.ndarray, qubits: int) -> np.ndarray:
    """The gate on columns: (2^qubits, B) complex."""
    changed = state.copy()
    small = np.array(matrix(gate), dtype=complex)
    for index in range(2**qubits):
        if not all(index >> control & 1 for control in gate.controls):
            continue
        row = sum((index >> target & 1) << place for place, target in enumerate(gate.targets))
        rest = index & ~sum(1 << target for target in gate.targets)
        columns = [rest | sum((c >> p & 1) << t for p, t in enumerate(gate.targets)) for c in range(len(small))]
        changed[index] = sum(small[row, c] * state[column] for c, column in enumerate(columns))
    return changed


def unitary(circuit: Circuit) -> np.ndarray:
    """(2^qubits, 2^qubits) complex, of the gates that stand under no condition."""
    state = np.eye(2**circuit.qubits, dtype=complex)
    for gate in circuit.gates:
        state = applied(gate, state, circuit.qubits)
    return state


def amplitudes(circuit: Circuit) -> np.ndarray:
    """(2^qubits,) complex: the first column."""
    state = np.zeros((2**circuit.qubits, 1), dtype=complex)
    state[0] = 1
    for gate in circuit.gates:
        state = applied(gate, state, circuit.qubits)
    return state[:, 0]
