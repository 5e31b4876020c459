"""The lowest value of an observable, by Lanczos iteration on a state vector."""

import numpy as np

from app.circuits.draws import uniforms
from app.circuits.expectation import apply_sum
from app.circuits.state import StateVector, zero_state
from app.plan.circuits.paulis import PauliSum

STEPS = 300  # vectors kept: each is the size of the state
TOLERANCE = 1e-13
START = 7  # what the random numbers of the first vector are for


def lowest(observable: PauliSum, qubits: int, threads: int = 1) -> float:
    """The smallest eigenvalue, on this rank alone. Every new vector is made orthogonal to all before, twice.

    Source: Golub and Van Loan, Matrix Computations (2013), section 10.1 and 10.3.1. Collective over: none.
    """
    start = uniforms(2 << qubits, START).reshape(2, -1) - 0.5
    vector = start[0] + 1j * start[1]
    kept: list[np.ndarray] = []
    diagonal: list[float] = []
    beside: list[float] = []
    value = np.inf
    for step in range(min(STEPS, 1 << qubits)):
        vector /= np.linalg.norm(vector)
        kept.append(vector)
        vector = _applied(observable, vector, qubits, threads)
        diagonal.append(float(np.vdot(kept[-1], vector).real))
        for _ in range(2):
            for older in kept:
                vector = vector - np.vdot(older, vector) * older
        found = _smallest(diagonal, beside)
        beside.append(float(np.linalg.norm(vector)))
        if beside[-1] < 1e-10 or (step > 10 and abs(found - value) < TOLERANCE * max(1.0, abs(found))):
            return found
        value = found
    return value


def _smallest(diagonal: list[float], beside: list[float]) -> float:
    table = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    return float(np.linalg.eigvalsh(table)[0])


def _applied(observable: PauliSum, vector: np.ndarray, qubits: int, threads: int) -> np.ndarray:
    state: StateVector = zero_state(qubits, "complex128", threads=threads)
    state.re[:], state.im[:] = vector.real, vector.imag
    result = apply_sum(state, observable)
    return result.re + 1j * result.im
