"""States on a device of torch, here the CPU, are those of the compiled loops; so are energies and gradients."""

import numpy as np
import pytest
import torch

from app.circuits.adjoint import gradient
from app.circuits.on_device import evolved, gradient_on
from app.circuits.simulate import apply_
from app.circuits.state import amplitudes, zero_state
from tests.parts.circuits import drawn, plain

CPU = torch.device("cpu")
NEAR = {"complex128": 1e-13, "complex64": 3e-6}


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize(("qubits", "seed"), [(2, 1), (3, 2), (5, 3), (6, 4), (8, 5), (9, 6)])
def test_amplitudes(qubits, seed, dtype):
    circuit = drawn.random_circuit(qubits, 60, seed)
    found = amplitudes(evolved(circuit, dtype, CPU))
    np.testing.assert_allclose(found, plain.run(circuit), rtol=0, atol=NEAR[dtype])


def test_many_qubits():
    circuit = drawn.random_circuit(19, 30, 7)
    state = zero_state(19, "complex128")
    apply_(state, circuit)
    np.testing.assert_allclose(
        amplitudes(evolved(circuit, "complex128", CPU)), amplitudes(state), rtol=0, atol=NEAR["complex128"]
    )


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize(("qubits", "seed"), [(2, 1), (4, 2), (6, 3), (8, 4)])
def test_gradients(qubits, seed, dtype):
    circuit, values = drawn.random_ansatz(qubits, 40, 7, seed)
    observable = drawn.random_observable(qubits, 6, seed)
    found = gradient_on(circuit, values, observable, dtype, CPU)
    expected = gradient(circuit, values, observable)
    near = 100 * NEAR[dtype]
    assert found.energy == pytest.approx(expected.energy, abs=near)
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=0, atol=near)
    assert np.abs(expected.gradient).max() > 0.1
