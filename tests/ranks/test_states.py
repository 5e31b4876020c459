"""State vectors over ranks: measured, sampled, damped and stored as on one rank; at 3 ranks by two of them."""

import numpy as np
import pytest

from app.circuits.draws import Draws
from app.circuits.expectation import apply_sum, expectation
from app.circuits.measurement import measure_, reset_, run, shots
from app.circuits.noise import NoiseModel, Sharing, noisy_shots, sharing, trajectories
from app.circuits.probabilities import marginal, norm, reduced_density
from app.circuits.sampling import sample
from app.circuits.state import amplitudes, zero_state
from app.errors import ArtifactError, MachineError
from app.plan.circuits.circuit import Circuit, Gate, If, Measure, Reset
from app.plan.circuits.paulis import pauli_sum
from app.storage.artifact_file import Provenance
from app.storage.quantum_states import read_state, write_state
from tests.parts.circuits import random_states

pytestmark = pytest.mark.mpi
PROVENANCE = Provenance("phalanx", "0.1.0", "", "run", "ground")


@pytest.fixture(scope="module")
def holders(group):
    """The ranks that hold a state: 1, 2 or 4; None where a rank is left over."""
    ranks = 1 << (group.size.bit_length() - 1)
    made = group.split(int(group.rank >= ranks), group.rank)
    return made if group.rank < ranks else None


@pytest.fixture
def held(holders):
    """This rank's state group; a rank that is left over has nothing to do."""
    if holders is None:
        pytest.skip("a rank more than the state needs")
    return holders


@pytest.mark.parametrize("qubits", [3, 5, 14])
def test_expectations_and_what_a_sum_makes_of_a_state(held, qubits):
    for seed in range(4):
        state, psi = random_states.random_state(qubits, seed, group=held)
        alone = random_states.laid_out(psi, list(range(qubits)))
        observable = random_states.random_sum(qubits, 12, seed)
        value = expectation(state, observable)
        assert value == pytest.approx(expectation(alone, observable), abs=1e-12)
        assert len(set(held.allgather(value))) == 1
        image = apply_sum(state, observable)
        assert image.positions == state.positions
        np.testing.assert_allclose(amplitudes(image), amplitudes(apply_sum(alone, observable)), atol=1e-12)


def test_marginals_and_density_matrices(held):
    for seed in range(6):
        state, psi = random_states.random_state(5, seed, group=held)
        assert norm(state) == pytest.approx(1)
        for kept in [(0,), (4, 1), (2, 3, 0), (4, 3, 2, 1, 0)]:
            expected = random_states.reduced(psi, kept)
            np.testing.assert_allclose(marginal(state, kept), np.diag(expected).real, atol=1e-14)
            np.testing.assert_allclose(reduced_density(state, kept), expected, atol=1e-13)


def test_a_density_matrix_in_pieces(held):
    state, psi = random_states.random_state(17, 2, group=held)
    kept = [state.qubit_at(16), state.qubit_at(15), state.qubit_at(3)]
    np.testing.assert_allclose(reduced_density(state, kept), random_states.reduced(psi, kept), atol=1e-13)


def test_samples_are_those_of_one_rank(held):
    for seed in range(2):
        state, psi = random_states.random_state(15, seed, group=held)
        alone = random_states.laid_out(psi, list(range(15)))
        np.testing.assert_array_equal(sample(state, 500, 5), sample(alone, 500, 5))
        np.testing.assert_array_equal(sample(state, 500, 5, (14, 2)), sample(alone, 500, 5, (14, 2)))


@pytest.mark.parametrize("random", [0.02, 0.97])
def test_measurement_and_reset_wherever_the_qubit_is(held, random):
    for qubit in range(4):
        state, psi = random_states.random_state(4, 20, group=held)
        outcome = measure_(state, qubit, random)
        expected = np.where((np.arange(16) >> qubit & 1) == outcome, psi, 0)
        np.testing.assert_allclose(amplitudes(state), expected / np.linalg.norm(expected), atol=1e-14)
        reset_(state, qubit, 0.5)
        zeros = amplitudes(state)[(np.arange(16) >> qubit & 1) == 1]
        assert not zeros.any()
        assert norm(state) == pytest.approx(1)


CIRCUIT = Circuit(
    4,
    (
        Gate("ry", (3,), (1.1,)),
        Gate("h", (2,)),
        Gate("x", (0,), controls=(3,)),
        Measure(2, 0),
        If((0,), 1, Gate("ry", (1,), (0.8,))),
        Gate("rxx", (1, 3), (0.6,)),
        Reset(0),
        Gate("h", (0,)),
        Measure(3, 1),
        Measure(1, 2),
    ),
    bits=3,
)


def test_runs_and_counts_are_those_of_one_rank(held):
    mine = run(CIRCUIT, zero_state(4, "complex128", held), Draws(3))
    assert mine == run(CIRCUIT, zero_state(4, "complex128"), Draws(3))
    assert shots(CIRCUIT, 40, 9, group=held) == shots(CIRCUIT, 40, 9)
    final = Circuit(4, (*(g for g in CIRCUIT.operations if isinstance(g, Gate)), Measure(3, 0), Measure(0, 1)), bits=2)
    assert shots(final, 500, 9, group=held) == shots(final, 500, 9)


@pytest.mark.parametrize("ranks", [1, 2])
def test_noise_does_not_depend_on_who_computes_what(group, ranks):
    if ranks > group.size:
        pytest.skip("a state on two ranks needs two")
    noise, observable = NoiseModel(0.1, 0.1, 0.2, 0.1, 0.05, 0.1), pauli_sum({"Z0 X3": 1.0, "Y1 Y2": 0.5, "Z2": 0.3})
    unitary = Circuit(4, tuple(one for one in CIRCUIT.operations if isinstance(one, Gate)))
    shared = sharing(group, ranks)
    found = trajectories(unitary, noise, observable, 10, 5, shared)
    alone = trajectories(unitary, noise, observable, 10, 5, Sharing())
    if ranks == 1:
        np.testing.assert_array_equal(found.values, alone.values)
        assert (found.mean, found.error) == (alone.mean, alone.error)
    np.testing.assert_allclose(found.values, alone.values, atol=1e-13)
    assert len({(one.mean, one.error) for one in group.allgather(found)}) == 1
    assert noisy_shots(CIRCUIT, noise, 30, 5, shared) == noisy_shots(CIRCUIT, noise, 30, 5, Sharing())


@pytest.fixture
def folder(held, tmp_path):
    """One for all ranks."""
    return held.bcast(tmp_path)


def test_a_state_is_read_on_another_number_of_ranks(held, folder):
    state, psi = random_states.random_state(6, 4, group=held)
    write_state(folder / "many", state.re, state.im, state.positions, held, PROVENANCE)
    assert len(list((folder / "many").iterdir())) == held.size
    for ranks in (1, 2, 4):
        reader = held.split(held.rank // ranks, held.rank)
        if reader.size == ranks:
            re, im, positions = read_state(folder / "many", reader)
            mine = random_states.laid_out(psi, positions, group=reader)
            np.testing.assert_array_equal(re, mine.re)
            np.testing.assert_array_equal(im, mine.im)
    held.barrier()
    if held.rank == 0:
        write_state(folder / "one", *_whole(psi, state.positions), state.positions, None, PROVENANCE)
    held.barrier()
    re, im, _ = read_state(folder / "one", held)
    np.testing.assert_array_equal(re, state.re)
    np.testing.assert_array_equal(im, state.im)


def _whole(psi, positions):
    alone = random_states.laid_out(psi, positions)
    return alone.re, alone.im


def test_all_ranks_learn_of_a_file_that_one_needs(held, folder):
    state, _ = random_states.random_state(6, 4, group=held)
    write_state(folder, state.re, state.im, state.positions, held, PROVENANCE)
    held.barrier()
    if held.rank == 0:
        path = folder / f"000001.{held.size}of{held.size}.h5"
        path.write_bytes(path.read_bytes()[:-8])
    held.barrier()
    with pytest.raises(ArtifactError, match="truncated"):
        read_state(folder, held)


def test_all_ranks_learn_that_one_cannot_write(held, folder):
    state, _ = random_states.random_state(6, 4, group=held)
    if held.rank == 0:
        (folder / "file").write_text("")
    held.barrier()
    with pytest.raises(MachineError):
        write_state(folder / "file", state.re, state.im, state.positions, held, PROVENANCE)
