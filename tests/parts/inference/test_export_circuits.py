"""Quantum layers as they are exported: in real numbers, and as OpenQASM 3."""

import re
from itertools import product

import numpy as np
import pytest
import torch

from app.circuits.expectation import expectation
from app.circuits.simulate import apply_
from app.circuits.state import zero_state
from app.inference.qasm_export import layer_qasm
from app.inference.real_circuits import RealCircuit
from app.networks.quantum import QuantumLayer
from app.plan.circuits.paulis import pauli_sum
from app.plan.circuits.qasm.reader import read_qasm

MEASURED = ("Z0", "X1", "Y0", "Y0 Y1", "Z0 X1", "X0 Z2")
EMBEDDINGS = [("amplitude", "x", False), *(("angle", *pair) for pair in product("xyz", (False, True)))]


def layer(ansatz, embedding, rotation, reupload, measure=MEASURED, qubits=3, layers=3):
    made = QuantumLayer(
        qubits,
        layers,
        ansatz=ansatz,
        embedding=embedding,
        rotation=rotation,
        reupload=reupload,
        scale=1.3,
        measure=measure,
    )
    torch.nn.init.normal_(made.angles, generator=torch.Generator().manual_seed(3))
    return made.requires_grad_(False)


def inputs_of(made, samples=4):
    given = torch.randn(samples, made.in_features, generator=torch.Generator().manual_seed(1))
    given[1] = 0
    return given


@pytest.mark.parametrize("ansatz", ["strongly_entangling", "hardware_efficient"])
@pytest.mark.parametrize(("embedding", "rotation", "reupload"), EMBEDDINGS)
def test_real_numbers_give_the_same_means(ansatz, embedding, rotation, reupload):
    for measure in ((), MEASURED):
        made = layer(ansatz, embedding, rotation, reupload, measure)
        given = inputs_of(made)
        for whole in (3, 2):  # as one matrix, and layer by layer
            found = RealCircuit(made, whole)(given)
            assert found.shape == (4, made.out_features)
            assert (found - made(given)).abs().max() < 2e-6


def test_many_qubits_are_computed_layer_by_layer():
    made = layer("strongly_entangling", "angle", "x", True, ("Z0", "X10 Y3"), qubits=11, layers=2)
    real, given = RealCircuit(made), inputs_of(made, 2)
    assert max(one.numel() for one in real.buffers()) <= 11 << 11
    assert (real(given) - made(given)).abs().max() < 2e-6


def test_other_layers_are_not_touched():
    """What is exported first must not change what is exported next."""
    first, second = (layer("strongly_entangling", "angle", "x", False, ("Y0", "Y1 Y0")) for _ in range(2))
    before = first(inputs_of(first))
    RealCircuit(first)
    assert torch.equal(second(inputs_of(second)), before)
    assert torch.equal(RealCircuit(second)(inputs_of(second)), RealCircuit(first)(inputs_of(first)))


@pytest.mark.parametrize("ansatz", ["strongly_entangling", "hardware_efficient"])
@pytest.mark.parametrize(("rotation", "reupload"), list(product("xyz", (False, True))))
def test_the_circuit_gives_the_layers_outputs(ansatz, rotation, reupload):
    made = layer(ansatz, "angle", rotation, reupload)
    text = layer_qasm(made)
    circuit = read_qasm(text, "layer.qasm")
    assert re.search(r"// Outputs: <Z0>, <X1>, <Y0>, <Y0 Y1>, <Z0 X1>, <X0 Z2>", text)
    for sample, wanted in zip(inputs_of(made), made(inputs_of(made)), strict=True):
        state = zero_state(3, "complex128")
        apply_(state, circuit.bound(sample.tolist()))
        found = [expectation(state, pauli_sum({text: 1.0})) for text in MEASURED]
        assert np.abs(np.array(found) - wanted.numpy()).max() < 5e-6


def test_amplitudes_are_no_part_of_the_circuit():
    text = layer_qasm(layer("hardware_efficient", "amplitude", "x", False))
    assert "input float" not in text
    assert "amplitudes are a sample's inputs" in text
    assert read_qasm(text, "layer.qasm").parameters == 0
