"""Expectations of Pauli sums against dense matrices."""

import numpy as np
import pytest

from app.circuits.expectation import apply_sum, expectation
from app.circuits.state import amplitudes, zero_state
from app.plan.circuits.paulis import pauli_sum
from tests.parts.circuits import random_states


@pytest.mark.parametrize("qubits", [1, 2, 5, 6])
def test_any_sum_in_any_layout(qubits):
    for seed in range(4):
        state, psi = random_states.random_state(qubits, seed)
        observable = random_states.random_sum(qubits, 30, seed)
        m = random_states.matrix_of(observable, qubits)
        assert expectation(state, observable) == pytest.approx((psi.conj() @ m @ psi).real, abs=1e-12)
        np.testing.assert_allclose(amplitudes(apply_sum(state, observable)), m @ psi, atol=1e-12)


@pytest.mark.parametrize("text", ["Y0", "Y1 Y3", "Y0 Y1 Y2", "X0 Y2", "Z0 Z3", "Y0 Y1 Y2 Y3 Z4", "I"])
def test_one_string(text):
    state, psi = random_states.random_state(5, 3)
    m = random_states.matrix_of(pauli_sum({text: -1.5}), 5)
    assert expectation(state, pauli_sum({text: -1.5})) == pytest.approx((psi.conj() @ m @ psi).real, abs=1e-13)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_blocks_and_threads(threads):
    """More amplitudes than a block has, so that the high bits of masks count; threads change no bit."""
    qubits = 14
    state, psi = random_states.random_state(qubits, 5, threads=threads)
    one = random_states.laid_out(psi, state.positions)
    for observable in (random_states.random_sum(qubits, 9, 1), pauli_sum({f"Z{q}": q + 1.0 for q in range(qubits)})):
        index, expected, vector = np.arange(1 << qubits), 0.0, np.zeros(1 << qubits, complex)
        for coefficient, x, z in observable.terms:
            signs = np.array([(int(j) & z).bit_count() & 1 for j in index])
            image = np.zeros_like(psi)
            image[index ^ x] = 1j ** ((x & z).bit_count()) * (1 - 2 * signs) * psi
            expected += coefficient * (psi.conj() @ image).real
            vector += coefficient * image
        assert expectation(state, observable) == pytest.approx(expected, abs=1e-12)
        assert expectation(state, observable) == expectation(one, observable)
        np.testing.assert_allclose(amplitudes(apply_sum(state, observable)), vector, atol=1e-12)


def test_single_precision_adds_in_double():
    state, psi = random_states.random_state(12, 7, dtype="complex64")
    observable = random_states.random_sum(12, 5, 2)
    double = random_states.laid_out(psi, state.positions)
    assert expectation(state, observable) == pytest.approx(expectation(double, observable), abs=1e-6)
    assert apply_sum(state, observable).re.dtype == np.float32


def test_an_observable_of_more_qubits_is_refused():
    with pytest.raises(ValueError, match="4 qubits on a state of 2"):
        expectation(zero_state(2, "complex128"), pauli_sum({"Z3": 1.0}))
