"""Adjoint gradients are PennyLane's and those of finite differences."""

import math

import numpy as np
import pytest

from app.circuits.adjoint import gradient
from app.plan.circuits.circuit import Circuit, Gate, Parameter
from app.plan.circuits.gates import GATES
from app.plan.circuits.paulis import pauli_sum
from tests.parts.circuits import drawn, plain

TOLERANCE = 1e-8
STEP = 1e-5
TURNING = [name for name, kind in GATES.items() if kind.angles]


@pytest.fixture(scope="module")
def pennylane():
    pytest.importorskip("pennylane", reason="PennyLane, the simulator compared with, is not installed")
    from tests.parts.circuits import with_pennylane

    return with_pennylane


def energy(circuit, values, observable):
    return plain.expectation(plain.run(circuit.bound(list(values))), observable)


def differences(circuit, values, observable):
    """Central ones, of plain numpy's energies."""
    found = []
    for number in range(len(values)):
        up, down = values.copy(), values.copy()
        up[number] += STEP
        down[number] -= STEP
        found.append((energy(circuit, up, observable) - energy(circuit, down, observable)) / (2 * STEP))
    return np.array(found)


@pytest.mark.parametrize("controls", [0, 1, 2])
@pytest.mark.parametrize("name", TURNING)
def test_every_gate_with_an_angle_has_the_gradient_of_differences(name, controls):
    kind, qubits = GATES[name], 4
    start = drawn.random_circuit(qubits, 6, 8).operations
    places = (2, 0, 3, 1)
    held = places[kind.targets : kind.targets + controls]
    angles = tuple(Parameter(k, (-1) ** k * (1 + 0.5 * k), 0.3) for k in range(kind.angles))
    after = drawn.random_circuit(qubits, 6, 9).operations
    gate = Gate(name, places[: kind.targets], angles, held)
    circuit = Circuit(qubits, (*start, gate, *after), parameters=kind.angles)
    values = np.array([0.7, -1.2, 2.1][: kind.angles])
    observable = drawn.random_observable(qubits, 6, 1)
    found_energy, found = gradient(circuit, values, observable)
    assert math.isclose(found_energy, energy(circuit, values, observable), abs_tol=1e-12)
    np.testing.assert_allclose(found, differences(circuit, values, observable), rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(12))
def test_random_circuits_with_shared_parameters_have_the_gradient_of_differences(seed):
    qubits = 2 + seed % 6
    circuit, values = drawn.random_ansatz(qubits, 30, 8, seed)
    observable = drawn.random_observable(qubits, 8, seed)
    found_energy, found = gradient(circuit, values, observable)
    assert math.isclose(found_energy, energy(circuit, values, observable), abs_tol=1e-12)
    np.testing.assert_allclose(found, differences(circuit, values, observable), rtol=0, atol=1e-7)


@pytest.mark.parametrize("seed", range(12))
def test_random_circuits_have_pennylanes_gradient(pennylane, seed):
    qubits = 2 + seed % 7
    circuit, values = drawn.random_ansatz(qubits, 40, 10, seed)
    observable = drawn.random_observable(qubits, 8, seed)
    expected_energy, expected = pennylane.gradient(circuit, values, observable, "default.qubit", "backprop")
    found_energy, found = gradient(circuit, values, observable)
    assert math.isclose(found_energy, expected_energy, abs_tol=TOLERANCE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("qubits", "layers"), [(5, 3), (10, 3), (14, 2)])
def test_a_layered_ansatz_has_lightnings_adjoint_gradient(pennylane, qubits, layers, threads):
    circuit, observable = drawn.layered(qubits, layers), drawn.ising(qubits)
    values = np.random.default_rng(qubits).uniform(-np.pi, np.pi, circuit.parameters)
    expected_energy, expected = pennylane.gradient(circuit, values, observable, "lightning.qubit", "adjoint")
    found_energy, found = gradient(circuit, values, observable, threads=threads)
    assert math.isclose(found_energy, expected_energy, abs_tol=TOLERANCE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_single_precision_has_its_own_digits():
    circuit, observable = drawn.layered(8, 3), drawn.ising(8)
    values = np.random.default_rng(1).uniform(-np.pi, np.pi, circuit.parameters)
    expected_energy, expected = gradient(circuit, values, observable)
    found_energy, found = gradient(circuit, values, observable, dtype="complex64")
    assert math.isclose(found_energy, expected_energy, abs_tol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_parameter_that_no_gate_uses_has_derivative_zero():
    circuit = Circuit(2, (Gate("ry", (0,), (Parameter(2),)),), parameters=3)
    found_energy, found = gradient(circuit, np.array([1.0, 2.0, 0.4]), pauli_sum({"Z0": 1.0, "I": 3.0}))
    assert math.isclose(found_energy, math.cos(0.4) + 3)
    np.testing.assert_allclose(found, [0, 0, -math.sin(0.4)], rtol=0, atol=1e-15)


def test_a_circuit_without_parameters_has_an_energy_alone():
    found_energy, found = gradient(Circuit(3, (Gate("x", (1,)),)), np.array([]), pauli_sum({"Z1": 2.0}))
    assert math.isclose(found_energy, -2.0)
    assert np.asarray(found).shape == (0,)
