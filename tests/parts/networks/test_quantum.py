"""The quantum layer against dense matrices, finite differences and PennyLane."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from app.errors import InputError
from app.networks.build import build, layers
from app.networks.counting import counting
from app.networks.quantum import QuantumLayer
from app.plan.circuits.gates import matrix_of
from app.plan.costs import layer_costs

SAMPLES = 3
TIES = {"x": "rx", "y": "ry", "z": "rz"}
ENTRY = {
    "kind": "quantum",
    "qubits": 4,
    "layers": 2,
    "ansatz": "strongly_entangling",
    "embedding": "angle",
    "rotation": "x",
    "reupload": False,
    "scale": 1.0,
}


def on(qubit, matrix, qubits):
    """The matrix of all qubits of one that acts on one."""
    return np.kron(np.kron(np.eye(1 << (qubits - 1 - qubit)), np.array(matrix)), np.eye(1 << qubit))


def cnot(control, target, qubits):
    whole = np.zeros((1 << qubits, 1 << qubits))
    for index in range(1 << qubits):
        whole[index ^ ((index >> control & 1) << target), index] = 1
    return whole


def pauli(text, qubits):
    whole = np.eye(1 << qubits, dtype=complex)
    for factor in text.split():
        whole = whole @ on(int(factor[1:]), matrix_of(factor[0].lower(), ()), qubits)
    return whole


def pairs_of(layer, number):
    qubits = layer.circuit.qubits
    if layer.angles.shape[2] == 2:
        return [(q, q + 1) for q in range(qubits - 1)]
    return [(q, (q + number % (qubits - 1) + 1) % qubits) for q in range(qubits if qubits > 1 else 0)]


def dense(layer, sample):
    """The outputs for one sample, gate by gate."""
    qubits = layer.circuit.qubits
    state = np.zeros(1 << qubits, complex)
    state[0] = 1
    if layer.embedding == "amplitude":
        state = sample / np.linalg.norm(sample)
    elif layer.rotation == "z":
        for qubit in range(qubits):
            state = on(qubit, matrix_of("h", ()), qubits) @ state
    for number, angles in enumerate(layer.angles.detach().numpy()):
        if layer.embedding == "angle" and (layer.reupload or number == 0):
            for qubit in range(qubits):
                state = on(qubit, matrix_of(TIES[layer.rotation], (layer.scale * sample[qubit],)), qubits) @ state
        for qubit, own in enumerate(angles):
            for name, angle in zip(("rz", "ry", "rz")[-len(own) :], own, strict=True):
                state = on(qubit, matrix_of(name, (angle,)), qubits) @ state
        for pair in pairs_of(layer, number):
            state = cnot(*pair, qubits) @ state
    return [(state.conj() @ pauli(text, qubits) @ state).real for text in layer.measure]


def made(qubits, depth=3, **options):
    torch.manual_seed(qubits)
    layer = QuantumLayer(qubits, depth, **options).double()
    nn.init.uniform_(layer.angles, -4, 4)
    return layer, torch.randn(SAMPLES, layer.in_features, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("qubits", "ansatz", "rotation", "reupload"),
    list(product([1, 2, 3, 4], ["strongly_entangling", "hardware_efficient"], ["x", "y", "z"], [False, True])),
)
def test_outputs_are_those_of_the_gates_one_by_one(qubits, ansatz, rotation, reupload):
    layer, inputs = made(qubits, ansatz=ansatz, rotation=rotation, reupload=reupload, scale=1.3)
    expected = [dense(layer, sample) for sample in inputs.detach().numpy()]
    np.testing.assert_allclose(layer(inputs).detach(), expected, atol=1e-12)


@pytest.mark.parametrize("measure", [("X0",), ("Y1", "Z2"), ("X0 Y1", "Y0 Y2", "Z0 Z1 Z2", "Y0 Y1 Y2", "X1 Z2")])
@pytest.mark.parametrize("embedding", ["angle", "amplitude"])
def test_means_of_pauli_strings(measure, embedding):
    layer, inputs = made(3, embedding=embedding, measure=measure)
    expected = [dense(layer, sample) for sample in inputs.detach().numpy()]
    np.testing.assert_allclose(layer(inputs).detach(), expected, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ansatz": "hardware_efficient", "rotation": "y", "reupload": True},
        {"rotation": "z", "reupload": True, "measure": ["X0 Y1", "Z2"]},
        {"rotation": "x", "reupload": True},
        {"embedding": "amplitude", "measure": ["Y0 Z1", "Z2"]},
    ],
)
def test_gradients_are_the_differences(options):
    layer, inputs = made(3, 2, **options)

    def outputs(angles, samples):
        return torch.func.functional_call(layer, {"angles": angles}, (samples,))

    assert torch.autograd.gradcheck(outputs, (layer.angles, inputs))


def test_gradients_where_angles_are_zero():
    layer, inputs = made(5, 3)
    with torch.no_grad():
        layer.angles[1] = 0
        layer.angles[:, :2] = 0
    function = lambda angles, samples: torch.func.functional_call(layer, {"angles": angles}, (samples,))  # noqa: E731
    assert torch.autograd.gradcheck(function, (layer.angles, inputs))


@pytest.mark.parametrize(("qubits", "reupload"), [(2, False), (5, False), (9, False), (4, True)])
def test_equal_to_pennylane(qubits, reupload):
    pennylane = pytest.importorskip("pennylane", reason="PennyLane is not installed")
    layer, inputs = made(qubits, reupload=reupload)
    device = pennylane.device("default.qubit", wires=qubits)

    @pennylane.qnode(device, interface="torch", diff_method="backprop")
    def circuit(samples, angles):
        for number in range(len(angles)):
            if reupload or number == 0:
                pennylane.AngleEmbedding(samples, wires=range(qubits), rotation="X")
            pennylane.StronglyEntanglingLayers(
                angles[number : number + 1], wires=range(qubits), ranges=[number % (qubits - 1) + 1]
            )
        return [pennylane.expval(pennylane.PauliZ(qubit)) for qubit in range(qubits)]

    ours, theirs = layer(inputs), torch.stack(circuit(inputs, layer.angles), 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    weights = torch.randn_like(ours)
    for own, other in zip(
        torch.autograd.grad((ours * weights).sum(), [inputs, layer.angles]),
        torch.autograd.grad((theirs * weights).sum(), [inputs, layer.angles]),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-8)


def test_samples_do_not_know_of_each_other():
    layer, inputs = made(6)
    torch.testing.assert_close(layer(inputs), torch.cat([layer(one) for one in inputs.split(1)]), rtol=0, atol=1e-13)


def test_an_angle_turned_once_round_gives_the_same_means():
    layer, inputs = made(4)
    before = layer(inputs)
    with torch.no_grad():
        layer.angles[0, 1, 1] += 2 * math.pi
        layer.angles[1, 2, 0] -= 2 * math.pi
    torch.testing.assert_close(layer(inputs), before)


def test_a_sample_of_zeros_is_the_first_state():
    layer, _ = made(2, embedding="amplitude")
    zeros, one = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([[2.0, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(layer(zeros), layer(one))
    zeros.requires_grad_()
    assert torch.autograd.grad(layer(zeros).sum(), zeros)[0].isfinite().all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"qubits": 0}, "0 qubits; 1 to 20"),
        ({"qubits": 21}, "21 qubits; 1 to 20"),
        ({"layers": 0}, "0 layers; at least 1"),
        ({"ansatz": "any"}, "ansatz = 'any'; one of strongly_entangling, hardware_efficient"),
        ({"embedding": "any"}, "embedding = 'any'; one of angle, amplitude"),
        ({"rotation": "w"}, "rotation = 'w'; one of x, y, z"),
        ({"embedding": "amplitude", "reupload": True}, "reupload embeds angles again"),
        ({"measure": ["Z3"]}, "measure = 'Z3': the qubits are 0 to 2"),
        ({"measure": ["I"]}, "measure = 'I': its mean is 1"),
        ({"measure": ["Q1"]}, "'Q1' is not a Pauli"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        QuantumLayer(**{"qubits": 3, "layers": 2, **options})


def test_inputs_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"wants inputs \(samples, 4\) for its angle embedding, not \(2, 5\)"):
        QuantumLayer(4, 1)(torch.zeros(2, 5))


LIST = {
    "layers": [
        {"kind": "convolution", "channels": 3, "kernel": 3, "stride": 2, "activation": "gelu"},
        {"kind": "pooling", "function": "max", "size": 2},
        {"kind": "dropout", "share": 0.1},
        {"kind": "dense", "width": 4, "activation": "tanh"},
        ENTRY,
    ]
}


@pytest.mark.parametrize("shape", [(8, 9), (2, 8, 9)])
def test_a_list_of_layers(shape):
    network = build(layers("layers", LIST, shape, 5), 3)
    inputs = torch.randn(6, *shape)
    values = inputs
    costs = layer_costs("layers", LIST, shape, 5)
    assert [name for name, _ in network.named_children()] == [cost.name for cost in costs]
    assert costs[-1].name == "output"
    for module, cost in zip(network, costs, strict=True):
        with counting(module) as counts:
            values = module(values)
        assert tuple(values.shape[1:]) == cost.output_shape
        assert sum(p.numel() for p in module.parameters()) == cost.parameters
        assert counts.operations == 6 * cost.operations


def test_starting_angles_are_those_of_their_layer():
    every = layers("layers", LIST, (8, 9), 5)
    whole, part = build(every, 3), build(every, 3, [range(4, 6)])
    assert torch.equal(whole.quantum5.circuit.angles, part.quantum5.circuit.angles)
    assert 0.05 < float(whole.quantum5.circuit.angles.detach().std()) < 0.6


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([ENTRY], r"layer 1, quantum: 4 qubits with angle embedding take 4 inputs, but 72 come from before; put"),
        ([{"kind": "dense", "width": 9, "activation": "relu"}, LIST["layers"][1]], "layer 2, pooling: a sample has"),
        ([{"kind": "pooling", "function": "max", "size": 9}], "size = 9 is larger than the image of 8x9"),
        ([], "the list is empty"),
    ],
)
def test_lists_that_cannot_be(entries, sentence):
    with pytest.raises(InputError, match=sentence):
        layers("layers", {"layers": entries}, (8, 9), 5)
