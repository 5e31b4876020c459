"""Measurement in the middle of circuits, and counts of many runs."""

import numpy as np
import pytest

from app.circuits.draws import Draws
from app.circuits.measurement import measure_, reset_, run, shots
from app.circuits.probabilities import norm
from app.circuits.state import amplitudes, zero_state
from app.plan.circuits.circuit import Circuit, Gate, If, Measure, Reset
from tests.parts.circuits import random_states


@pytest.mark.parametrize("random", [0.0, 0.3, 0.7, 0.999999])
def test_the_state_collapses(random):
    for qubit in range(4):
        state, psi = random_states.random_state(4, qubit)
        ones = (np.arange(16) >> qubit & 1).astype(bool)
        outcome = measure_(state, qubit, random)
        assert outcome == int(random >= (abs(psi[~ones]) ** 2).sum())
        expected = np.where(ones == outcome, psi, 0)
        np.testing.assert_allclose(amplitudes(state), expected / np.linalg.norm(expected), atol=1e-14)


def test_a_sure_outcome_is_never_missed():
    for random in (0.0, 1 - 2**-53):
        assert measure_(zero_state(2, "complex64"), 1, random) == 0


@pytest.mark.parametrize("random", [0.01, 0.99])
def test_reset_leaves_zero(random):
    state, psi = random_states.random_state(4, 3)
    reset_(state, 2, random)
    found = amplitudes(state).reshape(2, 2, 4)
    assert not found[:, 1].any()
    kept = psi.reshape(2, 2, 4)[:, 0 if random < 0.5 else 1]
    np.testing.assert_allclose(found[:, 0], kept / np.linalg.norm(kept), atol=1e-14)
    assert norm(state) == pytest.approx(1)


def teleported(angle):
    """The state of qubit 0 to qubit 2, through a pair and two classical bits; measured in the end."""
    return Circuit(
        3,
        (
            Gate("ry", (0,), (angle,)),
            Gate("h", (1,)),
            Gate("x", (2,), controls=(1,)),
            Gate("x", (1,), controls=(0,)),
            Gate("h", (0,)),
            Measure(0, 0),
            Measure(1, 1),
            If((1,), 1, Gate("x", (2,))),
            If((0,), 1, Gate("z", (2,))),
            Gate("ry", (2,), (-angle,)),
            Measure(2, 2),
        ),
        bits=3,
    )


def test_teleportation():
    """Every shot takes the state back to 0; without the corrections half of them would not."""
    found = shots(teleported(1.1), 200, 5)
    assert set(found) == {"000", "001", "010", "011"}
    assert min(found.values()) > 25
    assert shots(teleported(1.1), 200, 5) == found


def test_final_measurements_are_sampled_and_agree_with_single_runs():
    gates = (Gate("ry", (0,), (1.0,)), Gate("x", (1,), controls=(0,)), Measure(1, 0), Gate("h", (0,)), Measure(0, 2))
    sampled = shots(Circuit(2, gates, bits=3), 4000, 1)
    singly = shots(Circuit(2, (*gates, Reset(1)), bits=3), 4000, 2)
    assert set(sampled) == set(singly) == {"000", "001", "100", "101"}
    for outcome, probability in {"000": np.cos(0.5) ** 2 / 2, "101": np.sin(0.5) ** 2 / 2}.items():
        for found in (sampled, singly):
            assert found[outcome] / 4000 == pytest.approx(probability, abs=0.03)


def test_a_run_leaves_its_state():
    state = zero_state(2, "complex128")
    circuit = Circuit(2, (Gate("x", (0,)), Measure(0, 1), If((0, 1), 2, Gate("x", (1,))), Reset(0)), bits=2)
    assert run(circuit, state, Draws(1)) == [0, 1]
    assert abs(amplitudes(state)[2]) == pytest.approx(1)
