"""Circuits by name do what their names say: against formulas, and against Qiskit's library where it has them."""

import numpy as np
import pytest

from app.plan.circuits.circuit import Circuit
from app.plan.circuits.templates import (
    TEMPLATES,
    amplitude_embedding,
    angle_embedding,
    excitations,
    ghz,
    hardware_efficient,
    iqp_embedding,
    qaoa,
    qft,
    random,
    strongly_entangling,
)
from tests.parts.circuits.plain import run as amplitudes
from tests.parts.circuits.plain import unitary

NUMBERS = {
    "ghz": {"qubits": 3},
    "angle_embedding": {"qubits": 3, "rotation": "Z"},
    "amplitude_embedding": {"amplitudes": [1, [0, 1], 0.5]},
    "iqp_embedding": {"values": [0.1, 0.2, 0.3], "repeats": 2},
    "strongly_entangling": {"qubits": 4, "layers": 3},
    "hardware_efficient": {"qubits": 3, "layers": 2, "pattern": "ring"},
    "qaoa": {"edges": [[0, 1], [1, 2]], "layers": 2},
    "excitations": {"qubits": 6, "electrons": 3},
    "qft": {"qubits": 3},
    "random": {"qubits": 5, "depth": 3},
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_uses_each_of_its_parameters(name):
    circuit = TEMPLATES[name](**NUMBERS[name])
    assert isinstance(circuit, Circuit)
    assert circuit.name == name
    used = {angle.index for gate in circuit.gates for angle in gate.angles if not isinstance(angle, float)}
    assert used == set(range(circuit.parameters))


@pytest.mark.parametrize("qubits", [1, 2, 3, 4])
def test_qft_is_the_fourier_matrix(qubits):
    size = 2**qubits
    powers = np.outer(np.arange(size), np.arange(size))
    np.testing.assert_allclose(unitary(qft(qubits)), np.exp(2j * np.pi * powers / size) / np.sqrt(size), atol=1e-12)


def test_qft_of_many_qubits_has_angles_that_are_too_small_for_a_double():
    assert qft(1100).qubits == 1100


def test_ghz():
    expected = np.zeros(16)
    expected[[0, 15]] = np.sqrt(0.5)
    np.testing.assert_allclose(amplitudes(ghz(4)), expected, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 16, 21])
@pytest.mark.parametrize("kind", ["positive", "real", "complex", "sparse"])
def test_amplitude_embedding_has_the_amplitudes(length, kind):
    draw = np.random.default_rng(length)
    state = draw.normal(size=length) + (1j * draw.normal(size=length) if kind in ("complex", "sparse") else 0)
    if kind == "positive":
        state = abs(state)
    if kind == "sparse":
        state[1::2] = 0
    circuit = amplitude_embedding([complex(value) for value in state])
    expected = np.zeros(2**circuit.qubits, dtype=complex)
    expected[:length] = state / np.linalg.norm(state)
    np.testing.assert_allclose(amplitudes(circuit), expected, atol=1e-12)


def test_amplitude_embedding_needs_2_to_the_n_minus_2_cx_for_positive_numbers():
    circuit = amplitude_embedding([1.0 + k for k in range(16)])
    assert sum(gate.name == "x" for gate in circuit.gates) == 14


@pytest.mark.parametrize("wrong", [[], [0, 0], [float("nan")], ["a"], "abc", [[1, 2, 3]]])
def test_amplitude_embedding_refuses(wrong):
    with pytest.raises(ValueError, match="amplitudes"):
        amplitude_embedding(wrong)


def test_strongly_entangling_is_pennylanes():
    circuit = strongly_entangling(4, 4)
    rings = [(g.controls[0], g.targets[0]) for g in circuit.gates if g.controls]
    reaches = [(target - control) % 4 for control, target in rings]
    assert reaches == [1] * 4 + [2] * 4 + [3] * 4 + [1] * 4
    values = [0.3, 0.5, 0.7]
    phi, theta, omega = values
    c, s = np.cos(theta / 2), np.sin(theta / 2)
    # qml.Rot.compute_matrix
    rot = np.array(
        [
            [np.exp(-0.5j * (phi + omega)) * c, -np.exp(0.5j * (phi - omega)) * s],
            [np.exp(-0.5j * (phi - omega)) * s, np.exp(0.5j * (phi + omega)) * c],
        ]
    )
    np.testing.assert_allclose(unitary(strongly_entangling(1, 1).bound(values)), rot, atol=1e-12)


def test_hardware_efficient_counts():
    circuit = hardware_efficient(4, 3, "ry rz", "cx", "ring")
    assert circuit.parameters == 4 * 2 * 4
    assert sum(gate.name == "x" for gate in circuit.gates) == 12
    assert sum(gate.name == "z" for gate in hardware_efficient(2, 1, "ry", "cz", "ring").gates) == 1


def test_qaoa_is_exp_of_cost_and_mixer():
    weights = [0.5, -1.5, 2.0]
    edges = [(0, 1), (1, 2), (0, 2)]
    bits = (np.arange(8)[:, None] >> np.arange(3)) & 1
    signs = 1 - 2 * bits
    cost = sum(w / 2 * signs[:, a] * signs[:, b] for (a, b), w in zip(edges, weights, strict=True))
    x = np.array([[0, 1], [1, 0]])
    state = np.full(8, 8**-0.5, dtype=complex)
    values = [0.3, 0.7, -0.4, 0.2]
    for gamma, beta in zip(values[::2], values[1::2], strict=True):
        state = np.exp(-1j * gamma * cost) * state
        one = np.cos(beta) * np.eye(2) - 1j * np.sin(beta) * x
        state = np.kron(one, np.kron(one, one)) @ state
    np.testing.assert_allclose(amplitudes(qaoa(edges, 2, weights).bound(values)), state, atol=1e-12)


def test_excitations_of_two_electrons_are_these_rotations():
    theta, up, down = 0.7, -0.4, 1.1
    double = {0b0011: np.cos(theta / 2), 0b1100: -np.sin(theta / 2)}
    expected = np.zeros(16)
    for state, amplitude in double.items():
        # singles lift qubit 0 to 2 and then 1 to 3, from wherever the double has left the electrons
        for lifted_up, lifted_down in [(0, 0), (1, 0), (0, 1), (1, 1)]:
            sign = 1 if state == 0b0011 else -1  # on |0...1> the rotation has the other sign
            turned = (sign * -np.sin(up / 2) if lifted_up else np.cos(up / 2)) * (
                sign * -np.sin(down / 2) if lifted_down else np.cos(down / 2)
            )
            expected[state ^ (0b0101 * lifted_up) ^ (0b1010 * lifted_down)] += amplitude * turned
    found = amplitudes(excitations(4, 2).bound([theta, up, down]))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("qubits", "electrons"), [(3, 1), (4, 2), (5, 3), (6, 3), (7, 4)])
def test_excitations_keep_electrons_and_spin(qubits, electrons):
    circuit = excitations(qubits, electrons)
    state = amplitudes(circuit.bound(list(np.linspace(0.3, 2.7, circuit.parameters))))
    up, down = (-(-electrons // 2), electrons // 2)
    where = np.flatnonzero(np.abs(state) > 1e-14)
    counts = {tuple(sum(int(n) >> q & 1 for q in range(spin, qubits, 2)) for spin in (0, 1)) for n in where}
    assert counts == {(up, down)}
    assert len(where) > 1


def test_iqp_embedding_is_diagonal_between_h():
    x = [0.3, -0.8, 1.1]
    signs = 1 - 2 * ((np.arange(8)[:, None] >> np.arange(3)) & 1)
    phase = sum(x[q] * signs[:, q] for q in range(3))
    phase = phase + sum(x[a] * x[b] * signs[:, a] * signs[:, b] for a in range(3) for b in range(a + 1, 3))
    np.testing.assert_allclose(amplitudes(iqp_embedding(x)), np.exp(-0.5j * phase) / np.sqrt(8), atol=1e-12)


def test_angle_embedding():
    state = amplitudes(angle_embedding(2, "Y").bound([0.4, 1.0]))
    low, high = [np.cos(0.2), np.sin(0.2)], [np.cos(0.5), np.sin(0.5)]
    np.testing.assert_allclose(state, np.kron(high, low), atol=1e-12)


def test_random_is_fixed_by_its_seed():
    assert random(4, 5, 3) == random(4, 5, 3)
    assert random(4, 5, 3) != random(4, 5, 4)
    assert len(random(5, 2).operations) == 2 * (5 + 2)


@pytest.mark.parametrize(
    ("name", "numbers", "sentence"),
    [
        ("ghz", {"qubits": 0}, "qubits: found 0; expected an integer from 1"),
        ("random", {"qubits": 3, "depth": 2.5}, "depth: found 2.5; expected an integer"),
        ("random", {"qubits": 65536, "depth": 65536}, "qubits times depth is more than"),
        ("random", {"qubits": 3, "depth": 2, "entangler": "iswap"}, "entangler: found 'iswap'; expected one of cx, cz"),
        ("qaoa", {"edges": []}, "edges: expected at least one pair"),
        ("qaoa", {"edges": [[1, 1]]}, r"edges: \[1, 1\] is not a pair of different qubits"),
        ("qaoa", {"edges": [[0, 1]], "weights": [1, 2]}, "weights: 2 for 1 edges"),
        ("iqp_embedding", {"values": [1, "x"]}, "values: found 'x'; expected finite numbers"),
        ("angle_embedding", {"qubits": 2, "rotation": "x"}, "rotation: found 'x'; expected one of X, Y, Z"),
        ("excitations", {"qubits": 4, "electrons": 4}, "electrons: 4 on 4 qubits; expected fewer"),
        ("excitations", {"qubits": 2, "electrons": 1}, "electrons: none of 1 on 2 qubits can be lifted"),
        ("excitations", {"qubits": 1000, "electrons": 500}, "electrons: 15562562500 ways"),
        ("hardware_efficient", {"qubits": 2, "layers": 1, "rotations": ""}, "rotations: expected some of"),
    ],
)
def test_refusals(name, numbers, sentence):
    with pytest.raises(ValueError, match=sentence):
        TEMPLATES[name](**numbers)
