"""Trajectories against the density matrix."""

import numpy as np
import pytest

from app.circuits.measurement import shots
from app.circuits.noise import NoiseModel, Sharing, noisy_shots, trajectories
from app.plan.circuits.circuit import Circuit, Gate, Measure, Reset
from app.plan.circuits.gates import matrix
from app.plan.circuits.paulis import pauli_sum
from tests.parts.circuits import random_states

P = random_states.PAULIS
CIRCUIT = Circuit(
    3,
    (
        Gate("ry", (0,), (1.0,)),
        Gate("x", (1,), controls=(0,)),
        Gate("rx", (2,), (0.7,)),
        Gate("rxx", (1, 2), (0.9,)),
        Gate("h", (0,)),
        Gate("ry", (1,), (2.0,)),
        Gate("x", (2,), controls=(0,)),
    ),
)
OBSERVABLE = pauli_sum({"X0 Y1": -1.0, "Y0 X1 Y2": -0.8, "Z0 Z1": -0.7, "Y2": -0.5, "X0 X2": 0.6})


def on(small, targets, qubits=3):
    """A 2^k matrix on its targets (targets[0] least significant), dense on all qubits."""
    k = len(targets)
    whole = np.zeros((1 << qubits,) * 2, complex)
    for j in range(1 << qubits):
        column = sum((j >> t & 1) << n for n, t in enumerate(targets))
        for row in range(1 << k):
            i = j
            for n, t in enumerate(targets):
                i = i & ~(1 << t) | (row >> n & 1) << t
            whole[i, j] += small[row, column]
    return whole


def channel(rho, kraus, targets):
    return sum(on(k, targets) @ rho @ on(k, targets).conj().T for k in kraus)


def density(noise):
    """The density matrix after the circuit, every channel by its Kraus operators."""
    rho = np.zeros((8, 8), complex)
    rho[0, 0] = 1
    g, lam = noise.amplitude_damping, noise.phase_damping
    decay = [np.diag([1, np.sqrt(1 - g)]), np.sqrt(g) * np.array([[0, 1], [0, 0]])]
    phase = [np.diag([1, np.sqrt(1 - lam)]), np.diag([0, np.sqrt(lam)])]
    for gate in CIRCUIT.gates:
        u = np.array(matrix(gate))
        if gate.controls:  # the control is the more significant bit
            u = np.block([[np.eye(2), np.zeros((2, 2))], [np.zeros((2, 2)), u]])
        rho = channel(rho, [u], gate.qubits)
        p = noise.one_qubit if len(gate.qubits) == 1 else noise.two_qubit
        strings = (
            [P[a] for a in "IXYZ"] if len(gate.qubits) == 1 else [np.kron(P[a], P[b]) for a in "IXYZ" for b in "IXYZ"]
        )
        others = len(strings) - 1
        weights = [np.sqrt(1 - p)] + [np.sqrt(p / others)] * others
        rho = channel(rho, [w * s for w, s in zip(weights, strings, strict=True)], gate.qubits)
        for qubit in gate.qubits:
            rho = channel(rho, decay, (qubit,))
            rho = channel(rho, phase, (qubit,))
    return rho


@pytest.mark.parametrize(
    "noise",
    [
        NoiseModel(one_qubit=0.2),
        NoiseModel(two_qubit=0.3),
        NoiseModel(amplitude_damping=0.25),
        NoiseModel(phase_damping=0.4),
        NoiseModel(0.05, 0.1, 0.1, 0.15),
    ],
    ids=["one qubit", "two qubits", "amplitude damping", "phase damping", "all"],
)
def test_the_mean_is_that_of_the_density_matrix(noise):
    """Within 3.5 standard errors, which are far less than what the noise changes."""
    exact = np.trace(density(noise) @ random_states.matrix_of(OBSERVABLE, 3)).real
    without = np.trace(density(NoiseModel()) @ random_states.matrix_of(OBSERVABLE, 3)).real
    found = trajectories(CIRCUIT, noise, OBSERVABLE, 1500, 11, Sharing())
    assert abs(found.mean - exact) < 3.5 * found.error
    assert abs(without - exact) > 5 * found.error


def test_without_noise_every_trajectory_is_the_same():
    found = trajectories(CIRCUIT, NoiseModel(), OBSERVABLE, 3, 1, Sharing())
    assert found.error == pytest.approx(0, abs=1e-15)


def test_a_trajectory_depends_on_its_number_alone():
    noise = NoiseModel(0.1, 0.1, 0.2, 0.1)
    many = trajectories(CIRCUIT, noise, OBSERVABLE, 12, 4, Sharing()).values
    parts = [trajectories(CIRCUIT, noise, OBSERVABLE, 12, 4, Sharing(number=k, groups=3)).values for k in range(3)]
    np.testing.assert_array_equal(sum(parts), many)
    assert len(set(many.tolist())) > 6


def test_readout_errors():
    circuit = Circuit(2, (Gate("x", (1,)), Measure(0, 0), Measure(1, 1)), bits=2)
    found = noisy_shots(circuit, NoiseModel(read_1_for_0=0.1, read_0_for_1=0.3), 2000, 3, Sharing())
    expected = {"10": 0.9 * 0.7, "11": 0.1 * 0.7, "00": 0.9 * 0.3, "01": 0.1 * 0.3}
    for bits, probability in expected.items():
        assert found[bits] / 2000 == pytest.approx(probability, abs=0.04)


def test_full_damping_and_no_noise_in_shots():
    circuit = Circuit(1, (Gate("x", (0,)), Measure(0, 0), Reset(0)), bits=1)
    assert noisy_shots(circuit, NoiseModel(amplitude_damping=1.0), 20, 1, Sharing()) == {"0": 20}
    assert noisy_shots(circuit, NoiseModel(), 20, 1, Sharing()) == shots(circuit, 20, 1) == {"1": 20}


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"phase_damping = 1.5"):
        NoiseModel(phase_damping=1.5)
