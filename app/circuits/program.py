"""The steps of a pass as tables for the compiled loops."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from app.circuits import kernels as k
from app.circuits.vector_code import LANES
from app.plan.circuits.lowering import Step


class Program(NamedTuple):
    """operations: (steps, COLUMNS) int64. bits: (steps, targets of a dense matrix). table: coefficients.

    of: for each operation the number of its step.
    """

    operations: np.ndarray
    bits: np.ndarray
    table: np.ndarray
    of: tuple[int, ...]


class Place(NamedTuple):
    """positions: of qubits. active: positions of the block, ascending. local_bits, rank: as in StateVector."""

    positions: Sequence[int]
    active: Sequence[int]
    local_bits: int
    rank: int


class _Condition(NamedTuple):
    """Where a step acts: bits inside the block and outside of it."""

    inside_mask: int
    inside_value: int
    outside_mask: int
    outside_value: int


def program(steps: Sequence[tuple[int, Step]], place: Place, real: type) -> Program:
    """Tables for numbered steps whose mixed qubits are active; steps that do not concern this rank are left out."""
    lanes = LANES[np.dtype(real).name]
    size = 1 << len(place.active)
    bit_of = {position: bit for bit, position in enumerate(place.active)}
    rows: list[list[int]] = []
    coefficients: list[np.ndarray] = []
    dense_bits: list[list[int]] = []
    of: list[int] = []
    offset = 0
    for number, step in steps:
        condition = _condition(step, place, bit_of)
        if condition is None:
            continue
        if step.targets:
            row, values = _dense(step, condition, place, bit_of)
            dense_bits.append([1 << bit_of[place.positions[q]] for q in step.targets])
        else:
            bit = 1 << bit_of[place.positions[step.target]] if step.target >= 0 else 0
            row, values = _vector(step, condition, bit, lanes, size)
            dense_bits.append([])
        row[k.OFFSET] = offset
        offset += values.size
        rows.append(row)
        coefficients.append(values)
        of.append(number)
    table: np.ndarray = np.concatenate(coefficients).astype(real) if coefficients else np.zeros(0, real)
    operations = np.array(rows, np.int64).reshape(-1, k.COLUMNS)
    return Program(operations, _padded(dense_bits), table, tuple(of))


def _padded(bits: list[list[int]]) -> np.ndarray:
    """One row an operation; the compiled loop looks at as many as the matrix has targets."""
    width = max((len(row) for row in bits), default=0)
    found = np.zeros((len(bits), width), np.int64)
    for number, row in enumerate(bits):
        found[number, : len(row)] = row
    return found


def _condition(step: Step, place: Place, bit_of: dict[int, int]) -> _Condition | None:
    inside = inside_value = outside = outside_value = 0
    for qubit, position in enumerate(place.positions):
        if not step.mask >> qubit & 1:
            continue
        value = step.value >> qubit & 1
        if position >= place.local_bits:
            if place.rank >> (position - place.local_bits) & 1 != value:
                return None
        elif position in bit_of:
            inside |= 1 << bit_of[position]
            inside_value |= value << bit_of[position]
        else:
            outside |= 1 << position
            outside_value |= value << position
    return _Condition(inside, inside_value, outside, outside_value)


def _row(kind: int, bit: int, fixed: int, value: int, condition: _Condition, vectors: int) -> list[int]:
    return [kind, bit, fixed, value, condition.outside_mask, condition.outside_value, 0, vectors]


def _vector(step: Step, condition: _Condition, bit: int, lanes: int, size: int) -> tuple[list[int], np.ndarray]:
    """A 2x2 matrix or a phase, its coefficients lane by lane."""
    lane = np.arange(lanes)
    chosen = (lane & condition.inside_mask) == (condition.inside_value & (lanes - 1))
    if step.target >= 0 and bit < lanes:
        mine = (lane & bit) > 0
        values = np.array(step.matrix)
        same = np.where(chosen, values[mine.astype(int), mine.astype(int)], 1)
        other = np.where(chosen, values[mine.astype(int), 1 - mine.astype(int)], 0)
        kind, factors, mixed = k.LANE, [same, other], 0
    elif step.target >= 0:
        values = np.array(step.matrix)
        identity = np.eye(2)
        factors = [np.where(chosen, values[r, c], identity[r, c]) for r in range(2) for c in range(2)]
        kind, mixed = k.PAIR, bit
        if not values.imag.any():
            kind = k.EXCHANGE if chosen.all() and (values == [[0, 1], [1, 0]]).all() else k.REAL_PAIR
    else:
        kind, factors, mixed = k.SCALE, [np.where(chosen, step.matrix[0][0], 1)], 0
    above = ~(lanes - 1)
    fixed = (condition.inside_mask & above) | mixed
    vectors = (size // lanes) >> fixed.bit_count()
    row = _row(kind, bit, fixed, condition.inside_value & above, condition, vectors)
    return row, np.concatenate([part for factor in factors for part in (factor.real, factor.imag)])


def _dense(step: Step, condition: _Condition, place: Place, bit_of: dict[int, int]) -> tuple[list[int], np.ndarray]:
    values = np.array(step.matrix, complex)
    targets = sum(1 << bit_of[place.positions[q]] for q in step.targets)
    row = _row(k.DENSE, 0, condition.inside_mask | targets, condition.inside_value, condition, len(step.targets))
    return row, np.concatenate([values.real.ravel(), values.imag.ravel()])
