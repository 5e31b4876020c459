"""Amplitudes are those of plain numpy and of Qiskit Aer, for every gate, random circuits, and circuits from files."""

from itertools import permutations, product

import numpy as np
import pytest

from app.circuits.simulate import apply_
from app.circuits.state import amplitudes, zero_state
from app.plan.circuits.circuit import Circuit, Gate
from app.plan.circuits.gates import GATES
from app.plan.circuits.qasm import read_qasm
from tests.parts.circuits import drawn, plain
from tests.parts.circuits.cases import FILES, SIZES, TOLERANCE

ANGLES = (0.7, -1.9, 2.6)


@pytest.fixture(scope="module")
def aer():
    pytest.importorskip("qiskit_aer", reason="Qiskit Aer, the simulator compared with, is not installed")
    from tests.parts.circuits import with_aer

    return with_aer


def ours(circuit, dtype="complex128", threads=1):
    state = zero_state(circuit.qubits, dtype, threads=threads)
    apply_(state, circuit)
    return amplitudes(state)


def arrangements(qubits, gate, controls):
    """Every choice of targets in order, and of controls, among so many qubits."""
    targets = GATES[gate].targets
    found = {(p[:targets], tuple(sorted(p[targets:]))) for p in permutations(range(qubits), targets + controls)}
    return sorted(found)


@pytest.mark.parametrize("controls", [0, 1, 2])
@pytest.mark.parametrize("name", GATES)
def test_every_gate_on_every_arrangement_is_its_dense_matrix(name, controls):
    for qubits in range(max(1, GATES[name].targets + controls), 5):
        rng = np.random.default_rng([qubits, controls])
        layer = tuple(Gate("u", (q,), tuple(map(float, rng.uniform(0.3, 2.8, 3)))) for q in range(qubits))
        chain = tuple(Gate("rzx", (q, q + 1), (0.4 + q,)) for q in range(qubits - 1))
        start = plain.run(Circuit(qubits, (*layer, *chain)))  # no two amplitudes are equal
        for targets, held in arrangements(qubits, name, controls):
            gate = Gate(name, targets, ANGLES[: GATES[name].angles], held)
            found = ours(Circuit(qubits, (*layer, *chain, gate)))
            expected = plain.unitary(Circuit(qubits, (gate,))) @ start
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13, err_msg=str(gate))


@pytest.mark.parametrize(("name", "controls"), [pair for pair in product(GATES, (0, 1, 2)) if pair != ("gphase", 0)])
def test_every_gate_has_the_matrix_that_qiskit_gives_it(aer, name, controls):
    qubits = GATES[name].targets + controls
    order = tuple(range(qubits))[::-1]
    gate = Gate(name, order[: GATES[name].targets], ANGLES[: GATES[name].angles], order[GATES[name].targets :])
    from qiskit.quantum_info import Operator

    expected = Operator(aer.translated(Circuit(qubits, (gate,)))).data
    np.testing.assert_allclose(plain.unitary(Circuit(qubits, (gate,))), expected, rtol=0, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize(("qubits", "count", "gates"), SIZES, ids=[f"{n}qubits" for n, _, _ in SIZES])
def test_random_circuits_have_aers_amplitudes(aer, qubits, count, gates):
    for seed in range(count):
        circuit = drawn.random_circuit(qubits, gates, seed)
        found, expected = ours(circuit), aer.run(circuit)
        error = np.abs(found - plain.turned(expected, found)).max()
        assert error < TOLERANCE, f"{circuit.name}: amplitudes differ by {error}"


@pytest.mark.parametrize("qubits", [2, 5, 9, 14])
def test_two_threads_and_single_precision(qubits):
    circuit = drawn.random_circuit(qubits, 60, 3)
    expected = plain.run(circuit)
    np.testing.assert_allclose(ours(circuit, threads=2), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours(circuit, "complex64"), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("qubits", [3, 8, 13])
def test_a_circuit_in_two_parts_is_the_whole(qubits):
    """The second part starts on whatever layout the first one left."""
    circuit = drawn.random_circuit(qubits, 50, 4)
    state = zero_state(qubits, "complex128")
    middle = len(circuit.operations) // 2
    for part in (circuit.operations[:middle], circuit.operations[middle:]):
        apply_(state, Circuit(qubits, part))
    np.testing.assert_allclose(amplitudes(state), plain.run(circuit), rtol=0, atol=1e-12)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_circuits_from_files_have_aers_amplitudes(aer, file):
    circuit = read_qasm(file.read_text(), file.stem)
    expected = aer.of_file(file)
    found = ours(Circuit(circuit.qubits, tuple(circuit.gates)))
    error = np.abs(found - plain.turned(expected, found)).max()
    assert error < TOLERANCE, f"{file.name}: amplitudes differ by {error}"
