"""Plain numpy beside our simulator: matrices from textbook formulas, gates applied by index arithmetic."""

import numpy as np

from app.plan.circuits.circuit import Circuit, Gate
from app.plan.circuits.paulis import PauliSum

EYE, X, Y, Z = np.eye(2), np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])
H = (X + Z) / np.sqrt(2)


def turn(generator, angle):
    """exp(-i angle/2 generator) of a generator whose square is one."""
    return np.cos(angle / 2) * np.eye(len(generator)) - 1j * np.sin(angle / 2) * generator


def phase(angle):
    return np.diag([1, np.exp(1j * angle)])


def root_of_x(factor):
    """A square root of X, conjugate or not."""
    return H @ np.diag([1, factor]) @ H


def exchanged(factor):
    """The two qubits change places; 01 and 10 gain a factor."""
    return np.array([[1, 0, 0, 0], [0, 0, factor, 0], [0, factor, 0, 0], [0, 0, 0, 1]])


# targets[0] is the least significant bit: the right-hand factor of a Kronecker product.
MATRICES = {
    "gphase": lambda a: np.array([[np.exp(1j * a)]]),
    "id": lambda: EYE,
    "x": lambda: X,
    "y": lambda: Y,
    "z": lambda: Z,
    "h": lambda: H,
    "s": lambda: phase(np.pi / 2),
    "sdg": lambda: phase(-np.pi / 2),
    "t": lambda: phase(np.pi / 4),
    "tdg": lambda: phase(-np.pi / 4),
    "sx": lambda: root_of_x(1j),
    "sxdg": lambda: root_of_x(-1j),
    "rx": lambda a: turn(X, a),
    "ry": lambda a: turn(Y, a),
    "rz": lambda a: turn(Z, a),
    "p": phase,
    "u": lambda a, b, c: phase(b) @ turn(Y, a) @ phase(c),
    "r": lambda a, b: turn(np.cos(b) * X + np.sin(b) * Y, a),
    "swap": lambda: exchanged(1),
    "iswap": lambda: exchanged(1j),
    "rxx": lambda a: turn(np.kron(X, X), a),
    "ryy": lambda a: turn(np.kron(Y, Y), a),
    "rzz": lambda a: turn(np.kron(Z, Z), a),
    "rzx": lambda a: turn(np.kron(X, Z), a),
}


def matrix(gate: Gate) -> np.ndarray:
    """Of the targets alone; from the table above, not from the program's."""
    return np.array(gate.matrix) if gate.name == "unitary" else MATRICES[gate.name](*gate.angles)


def apply_(psi: np.ndarray, gate: Gate) -> None:
    """To all amplitudes (2^n, ...) complex, in place."""
    index = np.arange(len(psi))
    keep = np.ones(len(psi), bool)
    for qubit in gate.controls:
        keep &= index >> qubit & 1 == 1
    for qubit in gate.targets:
        keep &= index >> qubit & 1 == 0
    offsets = [sum((k >> j & 1) << q for j, q in enumerate(gate.targets)) for k in range(1 << len(gate.targets))]
    where = index[keep] + np.array(offsets)[:, None]
    psi[where] = np.tensordot(matrix(gate), psi[where], 1)


def run(circuit: Circuit) -> np.ndarray:
    """Amplitudes (2^n,) of a bound circuit from |0...0>."""
    psi = np.zeros(1 << circuit.qubits, complex)
    psi[0] = 1
    for gate in circuit.gates:
        apply_(psi, gate)
    return psi


def unitary(circuit: Circuit) -> np.ndarray:
    """The whole matrix (2^n, 2^n)."""
    psi = np.eye(1 << circuit.qubits, dtype=complex)
    for gate in circuit.gates:
        apply_(psi, gate)
    return psi


def expectation(psi: np.ndarray, observable: PauliSum) -> float:
    """<psi| observable |psi>."""
    total = 0.0
    for term in observable.terms:
        other = psi.copy()
        for qubit in range(observable.qubits):
            name = "ixzy"[(term.x >> qubit & 1) + 2 * (term.z >> qubit & 1)]
            if name != "i":
                apply_(other, Gate(name, (qubit,)))
        total += term.coefficient * np.vdot(psi, other).real
    return total


def turned(reference: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The reference with the global phase of what was found."""
    overlap = np.vdot(reference, found)
    return reference * overlap / abs(overlap)
