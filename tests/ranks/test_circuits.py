"""A state spread over ranks has the amplitudes of one rank: every rank compares with plain numpy and with Aer."""

import numpy as np
import pytest

from app.circuits.simulate import apply_
from app.circuits.state import amplitudes, zero_state
from app.plan.circuits.circuit import Circuit, Gate
from app.plan.circuits.qasm import read_qasm
from app.plan.quantum import holders_of
from tests.parts.circuits import drawn, plain
from tests.parts.circuits.cases import FILES, SIZES, TOLERANCE

pytestmark = pytest.mark.mpi

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


@pytest.mark.slow
@pytest.mark.parametrize(("qubits", "count", "gates"), SIZES, ids=[f"{n}qubits" for n, _, _ in SIZES])
def test_random_circuits_have_aers_amplitudes(group, aer, qubits, count, gates):
    errors = [difference(drawn.random_circuit(qubits, gates, seed), group, aer.run) for seed in range(count)]
    assert max(errors) < TOLERANCE, f"amplitudes differ by {errors}"


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_circuits_from_files_have_aers_amplitudes(group, aer, file):
    read = read_qasm(file.read_text(), file.stem)
    assert difference(Circuit(read.qubits, tuple(read.gates)), group, lambda _: aer.of_file(file)) < TOLERANCE


def difference(circuit, group, theirs):
    """The largest of an amplitude, global phase aside, of a state on as many ranks as can hold it; known to all."""
    together = holders_of(circuit, group.size)
    holders = group.split(int(group.rank >= together), group.rank)
    error = np.zeros(1)
    if group.rank < together:
        found = ours(circuit, holders)
        if group.rank == 0:
            error[0] = np.abs(found - plain.turned(theirs(circuit), found)).max()
    group.sum_(error)
    return error[0]


def test_a_gate_that_no_rank_has_room_for_is_refused(group):
    circuit = Circuit(2, (Gate("unitary", (0, 1), (), (), drawn.random_unitary(np.random.default_rng(1), 2)),))
    pair = group.split(group.rank // 2, group.rank)
    if pair.size == 2:
        with pytest.raises(ValueError, match="a gate on 2 qubits at once has no room where a rank holds 1 of them"):
            ours(circuit, pair)


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
