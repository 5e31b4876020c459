"""States and operators as dense arrays, to compare with."""

import numpy as np

from app.circuits.state import StateVector

PAULIS = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


def random_amplitudes(qubits, seed=0):
    make = np.random.default_rng(seed)
    psi = make.normal(size=1 << qubits) + 1j * make.normal(size=1 << qubits)
    return psi / np.linalg.norm(psi)


def laid_out(psi, positions, dtype="complex128", group=None, threads=1):
    """This rank's part of a state given by canonical amplitudes, each qubit at its physical position."""
    qubits = len(positions)
    index = np.arange(1 << qubits)
    physical = sum(((index >> qubit) & 1) << place for qubit, place in enumerate(positions))
    everything = np.empty(1 << qubits, np.complex128)
    everything[physical] = psi
    parts = group.size if group else 1
    mine = everything.reshape(parts, -1)[group.rank if group else 0]
    real = np.float32 if dtype == "complex64" else np.float64
    re, im = (np.ascontiguousarray(part, real) for part in (mine.real, mine.imag))
    return StateVector(qubits, re, im, list(positions), group, threads)


def random_state(qubits, seed=0, **words):
    """A random state in a random layout, and its canonical amplitudes."""
    psi = random_amplitudes(qubits, seed)
    positions = np.random.default_rng(seed + 1000).permutation(qubits).tolist()
    return laid_out(psi, positions, **words), psi


def matrix_of(observable, qubits):
    """The dense matrix of a Pauli sum."""
    total = np.zeros((1 << qubits, 1 << qubits), complex)
    for coefficient, x, z in observable.terms:
        product = np.eye(1)
        for qubit in reversed(range(qubits)):
            letter = "IXZY"[(x >> qubit & 1) + 2 * (z >> qubit & 1)]
            product = np.kron(product, PAULIS[letter])
        total += coefficient * product
    return total


def random_sum(qubits, terms, seed=0):
    """A sum of random strings with random coefficients."""
    from app.plan.circuits.paulis import PauliString, PauliSum

    make = np.random.default_rng(seed)
    masks = {tuple(int(v) for v in make.integers(0, 1 << qubits, 2)) for _ in range(terms)}
    return PauliSum(tuple(PauliString(float(make.normal()), *mask) for mask in sorted(masks)))


def reduced(psi, kept):
    """The density matrix of some qubits; kept[0] the least significant."""
    qubits = psi.size.bit_length() - 1
    axes = [qubits - 1 - qubit for qubit in reversed(kept)]
    rest = [axis for axis in range(qubits) if axis not in axes]
    m = psi.reshape((2,) * qubits).transpose(axes + rest).reshape(1 << len(kept), -1)
    return m @ m.conj().T
