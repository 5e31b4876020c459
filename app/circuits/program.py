"""The steps of a pass as tables for the compiled loops."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from app.circuits import kernels as k
from app.circuits.fusing import Item, fused
from app.circuits.vector_code import LANES
from app.plan.circuits.circuit import Matrix
from app.plan.circuits.lowering import Step
from app.plan.circuits.unit_kinds import SWAPPED, unit_kind


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


NONE = Condition(0, 0, 0, 0)


class _Writer:
    """Writes the rows of a program."""

    def __init__(self, place: Place, real: type) -> None:
        self.place, self.bit_of = place, place.bit_of()
        self.lanes, self.size = LANES[np.dtype(real).name], 1 << len(place.active)
        self.rows: list[list[int]] = []
        self.coefficients: list[float] = []
        self.dense_bits: list[list[int]] = []
        self.of: list[int] = []

    def write_(self, number: int, row: list[int], values: list[float], dense_bits: Sequence[int] = ()) -> None:
        row[k.OFFSET] = len(self.coefficients)
        self.rows.append(row)
        self.coefficients += values
        self.dense_bits.append(list(dense_bits))
        self.of.append(number)

    def bit(self, qubit: int) -> int:
        """Of the block."""
        return 1 << self.bit_of[self.place.positions[qubit]]

    def step_(self, number: int, step: Step, condition: Condition) -> None:
        """A step of its own."""
        if step.targets:
            bits = [self.bit(q) for q in step.targets]
            self.write_(number, *_dense(step, condition, bits), bits)
        else:
            bit = self.bit(step.target) if step.target >= 0 else 0
            self.write_(number, *_vector(step, condition, bit, self.lanes, self.size))

    def two_(self, number: int, steps: Sequence[Step], phase: Step | None) -> None:
        """Two matrices, and perhaps a phase, in one."""
        matrices = {self.bit(step.target): step.matrix for step in steps}
        bits, low = sorted(matrices), self.lanes - 1
        mixed = sum(bits) & ~low
        kind, swapped = (k.TWO_LANES, k.LANE_AND_PAIR, k.TWO_PAIRS)[mixed.bit_count()], 0
        if kind == k.TWO_PAIRS and all(unit_kind(matrices[bit]) for bit in bits):
            kind, swapped = k.TWO_UNIT_PAIRS, sum(bit for bit in bits if unit_kind(matrices[bit]) == SWAPPED)
            factors = [each for bit in bits for each in _unit_by_lane(matrices[bit], self.lanes)]
        else:
            factors = [each for bit in bits for each in _matrix_by_lane(matrices[bit], bit, self.lanes)]
        chosen = [lane & sum(bits) & low == sum(bits) & low for lane in range(self.lanes)]
        last = _by_lane(phase.matrix[0][0] if phase else 1, 1, chosen)
        if kind in (k.TWO_PAIRS, k.TWO_UNIT_PAIRS):
            factors.append(last)
        else:  # a factor for each lane is put into the matrix whose results it multiplies
            factors[-2:] = [[x * y for x, y in zip(each, last, strict=True)] for each in factors[-2:]]
        vectors = (self.size // self.lanes) >> mixed.bit_count()
        self.write_(number, _row(kind, bits[0], mixed, 0, NONE, vectors, bits[1], swapped), _parts(factors))


def program(steps: Sequence[tuple[int, Step]], place: Place, real: type, *, fuse: bool = True) -> Program:
    """Tables for numbered steps whose mixed qubits are active; steps that do not concern this rank are left out.

    fuse: let one operation do several of them.
    """
    writer = _Writer(place, real)
    here = [(n, step, found) for n, step in steps if (found := condition_of(step, place, writer.bit_of))]
    if not fuse:
        for number, step, condition in here:
            writer.step_(number, step, condition)
    for group in fused([_item(n, *each[1:], writer) for n, each in enumerate(here)]) if fuse else ():
        if isinstance(group, int):
            writer.step_(*here[group])
        else:
            phase = here[group.phase][1] if group.phase >= 0 else None
            writer.two_(here[group.first][0], [here[n][1] for n in group[:2]], phase)
    table: np.ndarray = np.array(writer.coefficients, real)
    operations = np.array(writer.rows, np.int64).reshape(-1, k.COLUMNS)
    return Program(operations, _padded(writer.dense_bits), table, tuple(writer.of))


def _item(number: int, step: Step, condition: Condition, writer: _Writer) -> Item:
    targets = step.targets or ((step.target,) if step.target >= 0 else ())
    target = sum(writer.bit(q) for q in targets)
    inside = condition.inside_mask
    if condition.outside_mask or step.targets:
        return Item(number, target | inside)
    both = inside if not target and inside.bit_count() == 2 and inside == condition.inside_value else 0
    return Item(number, target | inside, 0 if inside else target, both)


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


def _row(
    kind: int, bit: int, fixed: int, value: int, condition: Condition, vectors: int, other: int = 0, swapped: int = 0
) -> list[int]:
    return [
        kind,
        bit,
        other,
        swapped,
        fixed,
        value,
        condition.outside_mask,
        condition.outside_value,
        0,
        vectors,
    ]


def _vector(step: Step, condition: Condition, bit: int, lanes: int, size: int) -> tuple[list[int], list[float]]:
    """A 2x2 matrix or a phase, its coefficients lane by lane. In plain numbers: there are many short ones."""
    low = lanes - 1
    mask, value = condition.inside_mask & low, condition.inside_value & low
    chosen = [lane & mask == value for lane in range(lanes)]
    mixed = 0
    if step.target < 0:
        kind, values = k.SCALE, _parts([_by_lane(step.matrix[0][0], 1, chosen)])
    else:
        values = _parts(_matrix_by_lane(step.matrix, bit, lanes, chosen))
        kind = k.LANE
        if bit >= lanes:
            kind, mixed = k.PAIR, bit
            entries = [complex(x) for row in step.matrix for x in row]
            if not any(x.imag for x in entries):
                kind = k.EXCHANGE if all(chosen) and entries == [0, 1, 1, 0] else k.REAL_PAIR
    fixed = (condition.inside_mask & ~low) | mixed
    vectors = (size // lanes) >> fixed.bit_count()
    return _row(kind, bit, fixed, condition.inside_value & ~low, condition, vectors), values


def _matrix_by_lane(m: Matrix, bit: int, lanes: int, chosen: Sequence[bool] = ()) -> list[list[complex]]:
    """Coefficient vectors of a 2x2 matrix: of a bit among the lanes those of a lane itself and of the other."""
    chosen = chosen or [True] * lanes
    if bit >= lanes:
        return [_by_lane(m[n >> 1][n & 1], int(n in (0, 3)), chosen) for n in range(4)]
    high = [int(lane & bit > 0) for lane in range(lanes)]
    same = [complex(m[h][h]) if here else 1 + 0j for h, here in zip(high, chosen, strict=True)]
    other = [complex(m[h][1 - h]) if here else 0j for h, here in zip(high, chosen, strict=True)]
    return [same, other]


def _unit_by_lane(m: Matrix, lanes: int) -> list[list[complex]]:
    """Coefficient vectors of a matrix of a unit kind: of the other amplitude in the first row, in the second."""
    swapped = unit_kind(m) == SWAPPED
    return [[complex(m[0][1 - swapped])] * lanes, [complex(m[1][int(swapped)])] * lanes]


def _parts(factors: Sequence[Sequence[complex]]) -> list[float]:
    """Real parts and imaginary parts of each vector."""
    return [x for factor in factors for part in ([z.real for z in factor], [z.imag for z in factor]) for x in part]


def _by_lane(factor: complex, otherwise: complex, chosen: Sequence[bool]) -> list[complex]:
    return [complex(factor) if here else complex(otherwise) for here in chosen]


def _dense(step: Step, condition: Condition, bits: Sequence[int]) -> tuple[list[int], list[float]]:
    values = [complex(x) for row in step.matrix for x in row]
    row = _row(k.DENSE, 0, condition.inside_mask | sum(bits), condition.inside_value, condition, len(bits))
    return row, [x.real for x in values] + [x.imag for x in values]
