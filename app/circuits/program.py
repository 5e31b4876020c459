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

    def bit_of(self) -> dict[int, int]:
        """The bit of the block that each active position is."""
        return {position: bit for bit, position in enumerate(self.active)}


class Condition(NamedTuple):
    """Where a step acts: bits inside the block and outside of it."""

    inside_mask: int
    inside_value: int
    outside_mask: int
    outside_value: int


def program(steps: Sequence[tuple[int, Step]], place: Place, real: type) -> Program:
    """Tables for numbered steps whose mixed qubits are active; steps that do not concern this rank are left out."""
    lanes = LANES[np.dtype(real).name]
    size = 1 << len(place.active)
    bit_of = place.bit_of()
    rows: list[list[int]] = []
    coefficients: list[float] = []
    dense_bits: list[list[int]] = []
    of: list[int] = []
    for number, step in steps:
        condition = condition_of(step, place, bit_of)
        if condition is None:
            continue
        if step.targets:
            row, values = _dense(step, condition, place, bit_of)
            dense_bits.append([1 << bit_of[place.positions[q]] for q in step.targets])
        else:
            bit = 1 << bit_of[place.positions[step.target]] if step.target >= 0 else 0
            row, values = _vector(step, condition, bit, lanes, size)
            dense_bits.append([])
        row[k.OFFSET] = len(coefficients)
        rows.append(row)
        coefficients += values
        of.append(number)
    table: np.ndarray = np.array(coefficients, real)
    operations = np.array(rows, np.int64).reshape(-1, k.COLUMNS)
    return Program(operations, _padded(dense_bits), table, tuple(of))


def _padded(bits: list[list[int]]) -> np.ndarray:
    """One row an operation; the compiled loop looks at as many as the matrix has targets."""
    width = max((len(row) for row in bits), default=0)
    found = np.zeros((len(bits), width), np.int64)
    for number, row in enumerate(bits):
        found[number, : len(row)] = row
    return found


def condition_of(step: Step, place: Place, bit_of: dict[int, int]) -> Condition | None:
    """Where on this rank a step acts; None: nowhere. bit_of: the place's."""
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
    return Condition(inside, inside_value, outside, outside_value)


def _row(kind: int, bit: int, fixed: int, value: int, condition: Condition, vectors: int) -> list[int]:
    return [kind, bit, fixed, value, condition.outside_mask, condition.outside_value, 0, vectors]


def _vector(step: Step, condition: Condition, bit: int, lanes: int, size: int) -> tuple[list[int], list[float]]:
    """A 2x2 matrix or a phase, its coefficients lane by lane. In plain numbers: there are many short ones."""
    low = lanes - 1
    mask, value = condition.inside_mask & low, condition.inside_value & low
    chosen = [lane & mask == value for lane in range(lanes)]
    mixed = 0
    if step.target < 0:
        kind, factors = k.SCALE, [_by_lane(step.matrix[0][0], 1, chosen)]
    elif bit < lanes:
        m = step.matrix
        high = [int(lane & bit > 0) for lane in range(lanes)]
        same = [complex(m[h][h]) if here else 1 + 0j for h, here in zip(high, chosen, strict=True)]
        other = [complex(m[h][1 - h]) if here else 0j for h, here in zip(high, chosen, strict=True)]
        kind, factors = k.LANE, [same, other]
    else:
        entries = [complex(x) for row in step.matrix for x in row]
        factors = [_by_lane(entries[n], int(n in (0, 3)), chosen) for n in range(4)]
        kind, mixed = k.PAIR, bit
        if not any(x.imag for x in entries):
            kind = k.EXCHANGE if all(chosen) and entries == [0, 1, 1, 0] else k.REAL_PAIR
    fixed = (condition.inside_mask & ~low) | mixed
    vectors = (size // lanes) >> fixed.bit_count()
    row = _row(kind, bit, fixed, condition.inside_value & ~low, condition, vectors)
    return row, [x for factor in factors for part in ([z.real for z in factor], [z.imag for z in factor]) for x in part]


def _by_lane(factor: complex, otherwise: complex, chosen: list[bool]) -> list[complex]:
    return [complex(factor) if here else complex(otherwise) for here in chosen]


def _dense(step: Step, condition: Condition, place: Place, bit_of: dict[int, int]) -> tuple[list[int], list[float]]:
    values = [complex(x) for row in step.matrix for x in row]
    targets = sum(1 << bit_of[place.positions[q]] for q in step.targets)
    row = _row(k.DENSE, 0, condition.inside_mask | targets, condition.inside_value, condition, len(step.targets))
    return row, [x.real for x in values] + [x.imag for x in values]
