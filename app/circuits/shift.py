"""Gradients by shifted angles: what a machine that only gives energies can do.

The energy is a trigonometric polynomial in each angle; its derivative is a weighted sum of energies at 2R shifted
angles, R the number of its frequencies. Source: Wierichs et al., General parameter-shift rules for quantum gradients,
Quantum 6, 677 (2022), equation (21); with R = 1 it is the rule of Mitarai et al., PRA 98, 032309 (2018).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from app.parallel.group import Group
from app.plan.circuits.circuit import Circuit, Gate, Parameter

Energy = Callable[[Circuit, int], float]  # of a bound circuit; the number of the evaluation keys random numbers


class Evaluation(NamedTuple):
    """One energy of the circuit with one gate's angle shifted, and what it adds to one parameter's derivative."""

    gate: int
    angle: int
    shift: float
    parameter: int
    weight: float


def shift_gradient(
    circuit: Circuit, values: Sequence[float], energy: Energy, group: Group | None = None
) -> tuple[float, np.ndarray]:
    """The energy and its gradient (P,) float64, in the order of the parameters; energies are shared out among ranks.

    `energy` computes on this rank alone; evaluation 0 is the unshifted circuit's. The same bits on every rank and for
    any number of ranks. Collective over: the group. Raises ValueError for a gate without a rule.
    """
    wanted = evaluations(circuit)
    found = np.zeros(len(wanted) + 1)
    rank, size = (group.rank, group.size) if group else (0, 1)
    for number in range(rank, len(found), size):
        changed = shifted(circuit, wanted[number - 1]) if number else circuit
        found[number] = energy(changed.bound(values), number)
    if group:
        group.sum_(found)
    gradient = np.zeros(circuit.parameters)
    for one, value in zip(wanted, found[1:], strict=True):
        gradient[one.parameter] += one.weight * value
    return float(found[0]), gradient


def evaluations(circuit: Circuit) -> list[Evaluation]:
    """The energies that a gradient takes. Raises ValueError."""
    found = []
    for number, gate in enumerate(circuit.operations):
        if not isinstance(gate, Gate):
            raise ValueError(f"{type(gate).__name__} has no derivative")
        for which, angle in enumerate(gate.angles):
            if isinstance(angle, Parameter):
                found += [
                    Evaluation(number, which, shift, angle.index, angle.scale * weight)
                    for shift, weight in rule(gate, which)
                ]
    return found


def rule(gate: Gate, which: int) -> list[tuple[float, float]]:
    """Shifts of an angle in radians and the weights of their energies."""
    step, frequencies = _spectrum(gate, which)
    shifts = [(2 * k - 1) * math.pi / (2 * frequencies) for k in range(1, 2 * frequencies + 1)]
    weights = [(-1) ** k / (4 * frequencies * math.sin(shift / 2) ** 2) for k, shift in enumerate(shifts)]
    return [(shift / step, step * weight) for shift, weight in zip(shifts, weights, strict=True)]


def shifted(circuit: Circuit, one: Evaluation) -> Circuit:
    """The circuit with one angle of one gate shifted."""
    gate = circuit.operations[one.gate]
    assert isinstance(gate, Gate)
    angles = list(gate.angles)
    angle = angles[one.angle]
    assert isinstance(angle, Parameter)
    angles[one.angle] = angle._replace(offset=angle.offset + one.shift)
    changed = gate._replace(angles=tuple(angles))
    return replace(circuit, operations=(*circuit.operations[: one.gate], changed, *circuit.operations[one.gate + 1 :]))


def _spectrum(gate: Gate, which: int) -> tuple[float, int]:
    """The energy's frequencies in this angle are step, 2 step, ..., R step: (step, R)."""
    if gate.name in ("p", "gphase") or (gate.name == "u" and which > 0):
        return 1.0, 1  # a phase on some amplitudes
    if gate.name == "r" and which == 1:
        return 1.0, 2
    if gate.name in ("rx", "ry", "rz", "rxx", "ryy", "rzz", "rzx", "u", "r"):
        return (0.5, 2) if gate.controls else (1.0, 1)
    raise ValueError(f"no rule for angle {which} of gate {gate.name}")
