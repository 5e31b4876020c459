"""Gradients of a state spread over ranks are those that one rank finds alone, the same on every rank."""

import math

import numpy as np
import pytest

from app.circuits.adjoint import gradient
from tests.parts.circuits import drawn

pytestmark = pytest.mark.mpi

TOLERANCE = 1e-10


@pytest.fixture(scope="module")
def holders(group):
    """As many of the ranks as hold a state together: 1, 2 or 4; those left over hold states alone."""
    together = 1 << (group.size.bit_length() - 1)
    return group.split(0 if group.rank < together else group.rank, group.rank)


def assert_distributed_is_local(circuit, values, observable, holders):
    alone_energy, alone = gradient(circuit, values, observable)
    found_energy, found = gradient(circuit, values, observable, group=holders)
    assert math.isclose(found_energy, alone_energy, abs_tol=TOLERANCE)
    np.testing.assert_allclose(found, alone, rtol=0, atol=TOLERANCE)
    everywhere = holders.allgather((found_energy, np.asarray(found).tolist()))
    assert all(one == everywhere[0] for one in everywhere), "ranks disagree"


@pytest.mark.parametrize("seed", range(12))
def test_random_circuits(holders, seed):
    qubits = 5 + seed % 5
    circuit, values = drawn.random_ansatz(qubits, 40, 10, seed)
    assert_distributed_is_local(circuit, values, drawn.random_observable(qubits, 8, seed), holders)


@pytest.mark.parametrize(("qubits", "layers"), [(6, 3), (12, 2)])
def test_a_layered_ansatz(holders, qubits, layers):
    circuit = drawn.layered(qubits, layers)
    values = np.random.default_rng(qubits).uniform(-np.pi, np.pi, circuit.parameters)
    assert_distributed_is_local(circuit, values, drawn.ising(qubits), holders)


def test_single_precision(holders):
    circuit, observable = drawn.layered(8, 2), drawn.ising(8)
    values = np.random.default_rng(3).uniform(-np.pi, np.pi, circuit.parameters)
    alone_energy, alone = gradient(circuit, values, observable)
    found_energy, found = gradient(circuit, values, observable, dtype="complex64", group=holders)
    assert math.isclose(found_energy, alone_energy, abs_tol=1e-4)
    np.testing.assert_allclose(found, alone, rtol=0, atol=1e-4)
