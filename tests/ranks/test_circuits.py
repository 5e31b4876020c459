"""A state spread over ranks has the amplitudes of one rank: every rank compares with plain numpy and with Aer."""

import numpy as np
import pytest

from app.circuits.simulate import apply_
from app.circuits.state import amplitudes, zero_state
from app.plan.circuits.circuit import Circuit
from tests.parts.circuits import drawn, plain

pytestmark = pytest.mark.mpi

TOLERANCE = 1e-10
# 40 circuits: their qubits and seeds; 5 qubits on 4 ranks leave 3 in each
CASES = [(5 + seed % 8, seed) for seed in range(40)]


@pytest.fixture(scope="module")
def holders(group):
    """As many of the ranks as hold a state together: 1, 2 or 4; those left over hold states alone."""
    together = 1 << (group.size.bit_length() - 1)
    return group.split(0 if group.rank < together else group.rank, group.rank)


@pytest.fixture(scope="module")
def aer():
    pytest.importorskip("qiskit_aer", reason="Qiskit Aer, the simulator compared with, is not installed")
    from tests.parts.circuits import with_aer

    return with_aer


def ours(circuit, group, dtype="complex128", threads=1):
    state = zero_state(circuit.qubits, dtype, group, threads)
    apply_(state, circuit)
    return amplitudes(state)


@pytest.mark.parametrize(("qubits", "seed"), CASES)
def test_random_circuits_have_the_amplitudes_of_plain_numpy(holders, qubits, seed):
    circuit = drawn.random_circuit(qubits, 50, 100 + seed)
    np.testing.assert_allclose(ours(circuit, holders), plain.run(circuit), rtol=0, atol=TOLERANCE)


def test_random_circuits_have_aers_amplitudes(holders, aer):
    for qubits, seed in CASES:
        circuit = drawn.random_circuit(qubits, 50, 100 + seed)
        found, expected = ours(circuit, holders), aer.run(circuit)
        error = np.abs(found - plain.turned(expected, found)).max()
        assert error < TOLERANCE, f"{circuit.name}: amplitudes differ by {error}"


@pytest.mark.parametrize("qubits", [6, 12, 15])
def test_single_precision(holders, qubits):
    circuit = drawn.random_circuit(qubits, 60, 7)
    np.testing.assert_allclose(ours(circuit, holders, "complex64"), plain.run(circuit), rtol=0, atol=2e-5)


@pytest.mark.parametrize("qubits", [6, 12])
def test_a_circuit_in_two_parts_is_the_whole(holders, qubits):
    """The second part starts where the first one left the qubits, some of them on other ranks."""
    circuit = drawn.random_circuit(qubits, 60, 4)
    state = zero_state(qubits, "complex128", holders)
    middle = len(circuit.operations) // 2
    for part in (circuit.operations[:middle], circuit.operations[middle:]):
        apply_(state, Circuit(qubits, part))
    np.testing.assert_allclose(amplitudes(state), plain.run(circuit), rtol=0, atol=1e-12)


def test_the_same_circuit_gives_the_same_bits(holders):
    circuit = drawn.random_circuit(10, 60, 5)
    np.testing.assert_array_equal(ours(circuit, holders), ours(circuit, holders))
