"""Quantum layers and circuits, and pruned networks, on the accelerator."""

import numpy as np
import pytest
import torch

from app.circuits.adjoint import gradient
from app.circuits.on_device import KINDS, SMALLEST, evolved, gradient_on
from app.circuits.simulate import apply_
from app.circuits.state import amplitudes, zero_state
from tests.launch import ALONE, completed
from tests.parts.circuits import drawn
from tests.runs import made, outcome

QUANTUM = {"kind": "quantum", "qubits": 4, "layers": 2, "measure": ["Z0", "X1", "Z1 Z2"]}
HYBRID = {"kind": "layers", "layers": [{"kind": "dense", "width": 4, "activation": "tanh"}, QUANTUM]}
WIDE = {"kind": "mlp", "widths": [256, 256]}
SHORT = {"epochs": 1, "batch_size": 20, "microbatch_size": 6}


def trained(folder, network, kind, after=(), precision="float32"):
    """The run folder of a small network trained on a device."""
    inputs = made.features(4, 8)
    if not (folder / "data.h5").exists():
        made.write_data(folder / "data.h5", inputs, made.labels(inputs))
    file = made.write_input(folder / "input.toml", network, {"rate": 0.05}, {"file": "data.h5"}, (), after)
    place = folder / f"on-{kind}-{precision}"
    settings = (f"run.folder={place}", f"run.device={kind}", f"run.precision={precision}", "run.threads=1")
    return place, completed(file, ALONE, *settings)


def complex128(kind):
    if kind not in KINDS:
        pytest.skip(f"{kind} has no complex128")


def test_a_quantum_layer_learns_as_on_the_cpu(tmp_path, kind):
    complex128(kind)
    there, here = (outcome.losses(trained(tmp_path, HYBRID, one)[0]) for one in (kind, "cpu"))
    np.testing.assert_allclose(there, here, atol=1e-3)


@pytest.mark.parametrize(("dtype", "near"), [("complex64", 3e-6), ("complex128", 1e-13)])
def test_a_state_is_that_of_the_cpu(kind, dtype, near):
    complex128(kind)
    circuit = drawn.random_circuit(SMALLEST, 60, 3)
    state = zero_state(SMALLEST, dtype)
    apply_(state, circuit)
    found = amplitudes(evolved(circuit, dtype, torch.device(kind)))
    np.testing.assert_allclose(found, amplitudes(state), rtol=0, atol=near)


def test_a_gradient_is_that_of_the_cpu(kind):
    complex128(kind)
    circuit, values = drawn.random_ansatz(10, 40, 7, 3)
    observable = drawn.random_observable(10, 6, 3)
    found = gradient_on(circuit, values, observable, "complex128", torch.device(kind))
    np.testing.assert_allclose(found.gradient, gradient(circuit, values, observable).gradient, rtol=0, atol=1e-10)


def test_channels_pruned_there(tmp_path, kind):
    after = [{"kind": "prune", "name": "pruned", "network": "net", "remove": 0.5, **SHORT}]
    place, _ = trained(tmp_path, WIDE, kind, after)
    before, left = (outcome.weights(place, name) for name in ("net", "pruned"))
    assert sum(one.size for one in left.values()) < sum(one.size for one in before.values())


def test_two_of_four_pruned_there(tmp_path, kind):
    """Every four weights keep two; what runs faster so is said, where the GPU has such products."""
    after = [{"kind": "prune", "name": "pruned", "network": "net", "units": "2:4", **SHORT}]
    place, _ = trained(tmp_path, WIDE, kind, after, precision="bf16")
    matrices = [one for name, one in outcome.weights(place, "pruned").items() if one.shape == (256, 256)]
    assert matrices
    for matrix in matrices:
        assert ((matrix.reshape(-1, 4) != 0).sum(1) <= 2).all()
