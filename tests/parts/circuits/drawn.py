"""Circuits, observables and parameters for tests: drawn at random from a seed, or made by rule."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from app.plan.circuits.circuit import Circuit, Gate, Matrix, Parameter
from app.plan.circuits.gates import GATES
from app.plan.circuits.paulis import PauliSum, pauli_sum


def random_unitary(rng: np.random.Generator, targets: int) -> Matrix:
    """As a gate holds it."""
    size = 1 << targets
    q, _ = np.linalg.qr(rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size)))
    return tuple(tuple(complex(value) for value in row) for row in q)


def random_gate(rng: np.random.Generator, qubits: int, names: Sequence[str], controls: int = 2) -> Gate:
    """One of these names on qubits anywhere, with up to that many controls."""
    name = names[rng.integers(len(names))]
    targets = int(rng.integers(1, min(3, qubits) + 1)) if name == "unitary" else GATES[name].targets
    most = min(controls, qubits - targets)
    held = int(rng.integers(0, most + 1)) if rng.random() < 0.5 else 0
    places = tuple(int(q) for q in rng.permutation(qubits)[: targets + held])
    if name == "unitary":
        return Gate(name, places[:targets], (), places[targets:], random_unitary(rng, targets))
    angles = tuple(float(a) for a in rng.uniform(-2 * np.pi, 2 * np.pi, GATES[name].angles))
    return Gate(name, places[:targets], angles, places[targets:])


def random_circuit(qubits: int, gates: int, seed: int, controls: int = 2) -> Circuit:
    """Gates drawn from the whole table and general unitaries of 1 to 3 qubits."""
    rng = np.random.default_rng([seed, qubits])
    # every qubit starts in a superposition: what a gate does to any amplitude shows
    start = [Gate("u", (q,), tuple(map(float, rng.uniform(0.3, 2.8, 3)))) for q in range(qubits)]
    names = [name for name in [*GATES, "unitary"] if name == "unitary" or GATES[name].targets <= qubits]
    drawn = [random_gate(rng, qubits, names, controls) for _ in range(gates)]
    return Circuit(qubits, (*start, *drawn), name=f"random {qubits} {seed}")


def random_ansatz(qubits: int, gates: int, parameters: int, seed: int) -> tuple[Circuit, np.ndarray]:
    """A random circuit, half of whose angles are parameters with scale and offset, several sharing one; and values."""
    rng = np.random.default_rng([seed, qubits, parameters])
    fixed = random_circuit(qubits, gates, seed)

    def angle(number):
        if rng.random() < 0.5:
            return number
        return Parameter(int(rng.integers(parameters)), float(rng.uniform(-2, 2)), float(rng.normal()))

    operations = tuple(gate._replace(angles=tuple(map(angle, gate.angles))) for gate in fixed.gates)
    return Circuit(qubits, operations, parameters=parameters), rng.uniform(-np.pi, np.pi, parameters)


def random_observable(qubits: int, terms: int, seed: int) -> PauliSum:
    """Pauli strings on any qubits, the empty one among them."""
    rng = np.random.default_rng([seed, terms])
    found = {"I": 0.25}
    for _ in range(terms):
        letters = rng.choice(list("IXYZ"), qubits)
        text = " ".join(f"{letter}{q}" for q, letter in enumerate(letters) if letter != "I") or "I"
        found[text] = float(rng.normal())
    return pauli_sum(found)


def ising(qubits: int, field: float = 0.5) -> PauliSum:
    """Neighbours' Z Z, and a field along X."""
    pairs = {f"Z{q} Z{q + 1}": 1.0 for q in range(qubits - 1)}
    return pauli_sum(pairs | {f"X{q}": field for q in range(qubits)})


def layered(qubits: int, layers: int) -> Circuit:
    """Hardware-efficient: ry and rz on every qubit, then a chain of controlled X; 2 * qubits * layers parameters."""
    operations: list[Gate] = []
    count = 0
    for _ in range(layers):
        for qubit, name in product(range(qubits), ("ry", "rz")):
            operations.append(Gate(name, (qubit,), (Parameter(count),)))
            count += 1
        operations += [Gate("x", (q + 1,), (), (q,)) for q in range(qubits - 1)]
    return Circuit(qubits, tuple(operations), parameters=count)
