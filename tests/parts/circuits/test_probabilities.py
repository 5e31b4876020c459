"""Marginals, density matrices and samples against dense arrays."""

from itertools import permutations

import numpy as np
import pytest

from app.circuits.probabilities import marginal, norm, reduced_density
from app.circuits.sampling import counts, sample
from app.circuits.state import zero_state
from tests.parts.circuits import random_states


def test_marginals_of_any_qubits():
    for seed in range(3):
        state, psi = random_states.random_state(6, seed)
        for kept in [(), (0,), (5, 2), (1, 4, 3), (5, 4, 3, 2, 1, 0)]:
            expected = np.diag(random_states.reduced(psi, kept)).real
            np.testing.assert_allclose(marginal(state, kept), expected, atol=1e-14)
    assert norm(state) == pytest.approx(1)


@pytest.mark.parametrize("threads", [1, 2])
def test_marginals_over_many_blocks(threads):
    state, psi = random_states.random_state(15, 4, threads=threads)
    for kept in [(), (14, 0, 7), tuple(range(3, 15))]:
        expected = (
            (abs(psi.reshape((2,) * 15)) ** 2)
            .transpose([14 - q for q in reversed(kept)] + [14 - q for q in range(15) if q not in kept])
            .reshape(1 << len(kept), -1)
            .sum(1)
        )
        np.testing.assert_allclose(marginal(state, kept), expected, atol=1e-14)


def test_density_matrices_of_any_qubits():
    for kept in [(0,), (3, 1), *permutations((0, 2, 4)), (0, 1, 2, 3, 4)]:
        state, psi = random_states.random_state(5, 9)
        np.testing.assert_allclose(reduced_density(state, kept), random_states.reduced(psi, kept), atol=1e-13)


def test_a_density_matrix_in_pieces():
    state, psi = random_states.random_state(18, 2)
    np.testing.assert_allclose(reduced_density(state, (17, 3)), random_states.reduced(psi, (17, 3)), atol=1e-13)


@pytest.mark.parametrize("qubits", [(0, 0), (6,), (-1,)])
def test_qubits_that_are_not_there_are_refused(qubits):
    with pytest.raises(ValueError, match="of a state of 6"):
        marginal(zero_state(6, "complex128"), qubits)


def test_samples_follow_the_probabilities():
    """Chi-squared of 64 outcomes, 63 degrees of freedom: 110 is beyond 1 - 2e-4, of shifted bits thousands."""
    state, psi = random_states.random_state(6, 1)
    shots = 50_000
    found = np.bincount(sample(state, shots, 7).astype(int), minlength=64)
    expected = shots * abs(psi) ** 2
    assert ((found - expected) ** 2 / expected).sum() < 110


def test_samples_do_not_depend_on_the_layout_or_the_threads():
    """More qubits than are chosen at once: twelve, then eight at a time."""
    psi = random_states.random_amplitudes(15, 3)
    one = sample(random_states.laid_out(psi, list(range(15))), 3000, 5)
    order = np.random.default_rng(1).permutation(15).tolist()
    np.testing.assert_array_equal(one, sample(random_states.laid_out(psi, order, threads=2), 3000, 5))
    assert (one != sample(random_states.laid_out(psi, order), 3000, 6)).mean() > 0.9
    means = [(one >> np.uint64(q) & np.uint64(1)).mean() for q in range(15)]
    exact = [marginal(random_states.laid_out(psi, order), (q,))[1] for q in range(15)]
    np.testing.assert_allclose(means, exact, atol=4 * 0.5 / np.sqrt(3000))


def test_samples_of_few_amplitudes_among_many():
    """A large state of three outcomes: nothing else comes, each as often as it is probable."""
    psi = np.zeros(1 << 16, complex)
    psi[[5, 40_000, 65_535]] = np.sqrt([0.5, 0.25, 0.25])
    state = random_states.laid_out(psi, np.random.default_rng(2).permutation(16).tolist())
    found = dict(zip(*np.unique(sample(state, 10_000, 3), return_counts=True), strict=True))
    assert set(found) == {5, 40_000, 65_535}
    assert found[5] / 10_000 == pytest.approx(0.5, abs=0.02)
    some = sample(state, 10, 3, (0, 15))
    np.testing.assert_array_equal(np.isin(some, [1, 2, 3]), True)


def test_counts_name_bit_0_last():
    assert counts(np.array([1, 1, 4], np.uint64), 3) == {"001": 2, "100": 1}
