"""Apply a circuit to a state vector."""

import numpy as np

from app.circuits.state import StateVector
from app.plan.circuits.circuit import Circuit
from app.plan.circuits.gates import matrix


def apply_(state: StateVector, circuit: Circuit) -> None:
    """Apply a bound circuit of gates alone. Collective over: the state's group. Raises ValueError."""
    n = state.qubits
    psi = (state.re + 1j * state.im).reshape((2,) * n)
    for gate in circuit.gates:
        axes = [n - 1 - state.positions[q] for q in gate.targets]
        where: list[object] = [slice(None)] * n
        for q in gate.controls:
            where[n - 1 - state.positions[q]] = slice(1, 2)
        part = psi[tuple(where)]
        k = len(axes)
        m = np.array(matrix(gate)).reshape((2,) * (2 * k))
        order = axes[::-1]
        out = np.tensordot(m, part, (list(range(k, 2 * k)), order))
        psi[tuple(where)] = np.moveaxis(out, list(range(k)), order)
    state.re[:] = psi.reshape(-1).real
    state.im[:] = psi.reshape(-1).imag
