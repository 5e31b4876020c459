"""An observable's expectation from samples, as a machine would measure it."""

import math
from collections.abc import Sequence

import numpy as np

from app.circuits.sampling import sample
from app.circuits.simulate import apply_
from app.circuits.state import zero_state
from app.plan.circuits.circuit import Circuit, Gate
from app.plan.circuits.paulis import PauliString, PauliSum


def estimated(circuit: Circuit, observable: PauliSum, shots: int, seed: int, dtype: str, threads: int = 1) -> float:
    """The mean over `shots` samples of each group of strings that are measured together. Collective over: none."""
    total = 0.0
    state = zero_state(circuit.qubits, dtype, threads=threads)
    apply_(state, circuit)
    for number, group in enumerate(measured_together(observable)):
        x, z = _basis(group)
        turned = state.copy()
        apply_(turned, Circuit(circuit.qubits, tuple(turns(x, z, circuit.qubits))))
        outcomes = sample(turned, shots, seed + number)
        for term in group:
            signs = 1 - 2 * (np.bitwise_count(outcomes & np.uint64(term.x | term.z)) & 1).astype(np.float64)
            total += term.coefficient * float(signs.mean())
    return total + sum(term.coefficient for term in observable.terms if not term.x | term.z)


def measured_together(observable: PauliSum) -> list[list[PauliString]]:
    """Strings with the same Pauli wherever both have one, largest coefficients first; those without any are left out.

    Source: Kandala et al., Nature 549, 242 (2017), tensor product basis sets.
    """
    groups: list[list[PauliString]] = []
    for term in sorted(observable.terms, key=lambda one: -abs(one.coefficient)):
        if not term.x | term.z:
            continue
        home = next((group for group in groups if _fits(term, group)), None)
        if home is None:
            groups.append([term])
        else:
            home.append(term)
    return groups


def turns(x: int, z: int, qubits: int) -> list[Gate]:
    """Gates after which a measurement of Z is one of the Paulis of these masks."""
    gates: list[Gate] = []
    for qubit in range(qubits):
        if x >> qubit & 1:
            gates += [Gate("rx", (qubit,), (math.pi / 2,))] if z >> qubit & 1 else [Gate("h", (qubit,))]
    return gates


def _fits(term: PauliString, group: Sequence[PauliString]) -> bool:
    x, z = _basis(group)
    both = (x | z) & (term.x | term.z)
    return not ((x ^ term.x) & both or (z ^ term.z) & both)


def _basis(group: Sequence[PauliString]) -> tuple[int, int]:
    x = z = 0
    for term in group:
        x, z = x | term.x, z | term.z
    return x, z
