"""Many circuits at once: states against the gates one by one, and in both types of numbers."""

import numpy as np
import pytest
import torch

from app.circuits.batched import finish, product_states, run_layers, weighted_probabilities
from app.circuits.layered import Layered, chains, rings, signs
from app.plan.circuits.circuit import Gate
from app.plan.circuits.gates import matrix_of

CIRCUITS = [rings(1, 2), rings(3, 4), chains(4, 2), Layered(2, (((1, 0), (0, 1)), ()))]


def after(state, gate, qubits):
    """A state (N,) after a gate, by reshaping it to one axis a qubit."""
    if gate.name == "cx":
        control, target = gate.targets
        index = np.arange(1 << qubits)
        return state[index ^ ((index >> control & 1) << target)]
    axis = qubits - 1 - gate.targets[0]
    moved = np.tensordot(np.array(matrix_of(gate.name, gate.angles)), state.reshape((2,) * qubits), ([1], [axis]))
    return np.moveaxis(moved, 0, axis).reshape(-1)


def gates(circuit, weights):
    for layer, pairs in enumerate(circuit.cnots):
        for qubit in range(circuit.qubits):
            for number, name in enumerate(("rz", "ry", "rz")):
                yield Gate(name, (qubit,), (float(weights[layer, qubit, number]),))
        for pair in pairs:
            yield Gate("cx", pair)


@pytest.mark.parametrize("circuit", CIRCUITS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_states_are_those_of_the_gates(circuit, dtype, tolerance):
    torch.manual_seed(1)
    weights = torch.randn(circuit.layers, circuit.qubits, 3, dtype=dtype)
    states = torch.randn(1 << circuit.qubits, 3, dtype=dtype) + 0j
    found = finish(run_layers(states, weights, circuit), weights, circuit)
    for number in range(3):
        expected = states[:, number].numpy()
        for gate in gates(circuit, weights):
            expected = after(expected, gate, circuit.qubits)
        np.testing.assert_allclose(found[:, number], expected, atol=tolerance * 10)
    assert found.dtype == dtype.to_complex()


def test_product_states_are_rotations_of_zero():
    angles = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    for sample in range(2):
        expected = np.ones(1)
        for qubit in range(3):
            expected = np.kron(np.array(matrix_of("ry", (float(angles.detach()[qubit, sample]),)))[:, 0].real, expected)
        np.testing.assert_allclose(product_states(angles)[:, sample].detach(), expected, atol=1e-14)
    assert torch.autograd.gradcheck(product_states, angles)


@pytest.mark.parametrize("real", [True, False])
def test_gradients_of_states_weights_and_means(real):
    torch.manual_seed(2)
    circuit = rings(3, 3)
    states = torch.randn(8, 2, dtype=torch.float64 if real else torch.complex128, requires_grad=True)
    weights = torch.randn(3, 3, 3, dtype=torch.float64, requires_grad=True)
    offset, rows = torch.randn(8, dtype=torch.float64), signs(3, torch.float64, torch.device("cpu"))

    def means(states, weights):
        return weighted_probabilities(finish(run_layers(states, weights, circuit, offset), weights, circuit), rows)

    assert torch.autograd.gradcheck(means, (states, weights))
