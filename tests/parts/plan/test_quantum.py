"""Who holds a state, what crosses between ranks, and Hamiltonians by name against dense matrices."""

from functools import reduce

import numpy as np
import pytest

from app.circuits import simulate
from app.inputfile import read_input
from app.inputfile.resolved import resolved_text
from app.plan import quantum
from app.plan.circuits.circuit import Circuit, Gate, Measure
from app.plan.circuits.models import h2, heisenberg, ising, maxcut
from app.plan.circuits.templates import TEMPLATES

TEXT = """
[run]
name = "job"
[[phase]]
kind = "quantum"
name = "q"
circuit = { template = "qft", qubits = 6 }
observable = { "Z0 Z1" = 1.0, X3 = 2 }
"""
PAULIS = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]]), "Z": np.diag([1, -1])}


def dense(observable, qubits):
    total = np.zeros((1 << qubits, 1 << qubits), complex)
    for term in observable.terms:
        letters = ["IXZY"[(term.x >> q & 1) + 2 * (term.z >> q & 1)] for q in range(qubits)]
        total += term.coefficient * reduce(np.kron, [PAULIS[letter] for letter in reversed(letters)])
    return total


def lowest(observable):
    return np.linalg.eigvalsh(dense(observable, observable.qubits))[0]


def test_hydrogen_has_the_known_energy_and_coefficients():
    """Full configuration interaction in STO-3G: -1.1373 hartree; coefficients as in the tutorials of OpenFermion."""
    assert lowest(h2(0.7414)) == pytest.approx(-1.13727, abs=5e-6)
    assert dense(h2(0.7414), 4)[3, 3].real == pytest.approx(-1.11668, abs=5e-6)  # Hartree-Fock
    terms = {term.text: term.coefficient for term in h2(0.7414).terms}
    assert terms["Z0"] == pytest.approx(0.171197, abs=2e-6)
    assert terms["Z2"] == pytest.approx(-0.222785, abs=2e-6)
    assert terms["Z0 Z1"] == pytest.approx(0.168622, abs=2e-6)
    assert terms["X0 Y1 Y2 X3"] == pytest.approx(0.045322, abs=2e-6)
    assert len(terms) == 15


def test_the_critical_ising_ring_has_its_exact_energy():
    """Pfeuty, Ann. Phys. 57, 79 (1970): minus twice the sum of |cos| of half the momenta."""
    momenta = np.pi * (2 * np.arange(8) + 1) / 8
    assert lowest(ising(8, periodic=True)) == pytest.approx(-2 * np.abs(np.cos(momenta / 2)).sum(), abs=1e-10)


def test_cut_and_heisenberg():
    assert lowest(maxcut([[0, 1], [1, 2], [2, 3], [3, 0], [0, 2]])) == pytest.approx(-4)
    assert lowest(heisenberg(2)) == pytest.approx(-3)
    with pytest.raises(ValueError, match="pair of different qubits"):
        maxcut([[1, 1]])


@pytest.mark.parametrize(("ranks", "holders"), [(1, 1), (2, 2), (3, 2), (7, 4), (16, 16), (64, 16)])
def test_a_power_of_two_of_ranks_holds_the_state(ranks, holders):
    assert quantum.holders_of(TEMPLATES["qft"](6), ranks) == holders


def test_what_check_predicts_is_what_the_simulator_plans():
    phase = read_input(TEXT, "job.toml").phase[0]
    circuit = TEMPLATES["qft"](6)
    expected = quantum.expected_traffic(phase, circuit, 4)
    _, plan = simulate.planned(circuit, range(6), 4, phase.precision)
    assert expected == (plan.exchanges, plan.exchanged_bytes(4, 16))
    assert expected.exchanges > 0


def test_measurements_at_the_end_leave_a_state():
    ends = Circuit(2, (Gate("h", (0,)), Measure(0, 0), Gate("x", (1,))), 1)
    assert [gate.name for gate in quantum.unitary_part(ends).gates] == ["h", "x"]
    assert quantum.unitary_part(Circuit(1, (Measure(0, 0), Gate("x", (0,))), 1)) is None


def test_the_resolved_input_reads_back():
    given = read_input(TEXT, "job.toml")
    assert not given.has_data
    assert read_input(resolved_text(given), "job.toml") == given
