"""Compiled loops over the blocks of a pass. They release the GIL; machine code is kept on disk by numba."""

from typing import Any

import numpy as np

from app.circuits import vector_code as code
from app.circuits.state import APART
from app.circuits.vector_code import compiled

# Kinds of operations of a pass; the columns of its table. VECTORS of a dense matrix: how many targets it has.
PAIR, REAL_PAIR, EXCHANGE, SCALE, LANE, DENSE, TWO_PAIRS, TWO_UNIT_PAIRS, LANE_AND_PAIR, TWO_LANES = range(10)
KIND, BIT, OTHER, SWAPPED, FIXED, VALUE, OUTSIDE_MASK, OUTSIDE_VALUE, OFFSET, VECTORS, COLUMNS = range(11)

_pair, _real_pair, _exchange, _scale = code.pair, code.real_pair, code.exchange, code.scale
_lane0, _lane1, _lane2, _lane3 = code.lane_loops
_two_pairs, _two_unit_pairs = code.two_pairs, code.two_unit_pairs
_lane0_pair, _lane1_pair, _lane2_pair, _lane3_pair = code.lane_and_pair
_lanes01, _lanes02, _lanes12, _lanes03, _lanes13, _lanes23 = code.two_lanes.values()
_copy_vectors: Any = code.copy
LANES_OF_FLOATS = code.LANES["float32"]
_pair_moment, _same_moment = code.pair_moment, code.same_moment
_lane_moment0, _lane_moment1, _lane_moment2, _lane_moment3 = code.lane_moments


@compiled
def _dense(re: Any, im: Any, base: int, size: int, row: Any, bits: Any, table: Any) -> None:
    """A matrix on several bits of the block; table: real parts, then imaginary parts, row by row."""
    k = bits.size
    rows = 1 << k
    offsets = np.zeros(rows, np.int64)
    fixed = row[FIXED]
    for bit in range(k):
        for index in range(1 << bit):
            offsets[index | 1 << bit] = offsets[index] + bits[bit]
    x = np.empty(rows, table.dtype)
    y = np.empty(rows, table.dtype)
    start = row[OFFSET]
    for first in range(size):
        if first & fixed:
            continue
        origin = base + first + row[VALUE]
        for r in range(rows):
            x[r] = re[origin + offsets[r]]
            y[r] = im[origin + offsets[r]]
        for r in range(rows):
            real = 0.0
            imaginary = 0.0
            for c in range(rows):
                a = table[start + r * rows + c]
                b = table[start + rows * rows + r * rows + c]
                real += a * x[c] - b * y[c]
                imaginary += a * y[c] + b * x[c]
            re[origin + offsets[r]] = real
            im[origin + offsets[r]] = imaginary


@compiled
def _two(re: Any, im: Any, base: int, row: Any, table: Any) -> None:
    """Two matrices and a phase."""
    bit, other, swapped, fixed, value = row[BIT], row[OTHER], row[SWAPPED], row[FIXED], row[VALUE]
    offset, vectors = row[OFFSET], row[VECTORS]
    if row[KIND] == TWO_PAIRS:
        _two_pairs(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
    elif row[KIND] == TWO_UNIT_PAIRS:
        _two_unit_pairs(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
    elif row[KIND] == LANE_AND_PAIR:
        if bit == 1:
            _lane0_pair(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
        elif bit == 2:
            _lane1_pair(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
        elif bit == 4:
            _lane2_pair(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
        else:
            _lane3_pair(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
    elif bit | other == 3:
        _lanes01(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
    elif bit | other == 5:
        _lanes02(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
    elif bit | other == 6:
        _lanes12(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
    elif bit | other == 9:
        _lanes03(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
    elif bit | other == 10:
        _lanes13(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)
    else:
        _lanes23(re, im, base, vectors, fixed, value, bit, other, swapped, table, offset)


@compiled
def operation(re: Any, im: Any, base: int, size: int, row: Any, bits: Any, table: Any) -> None:
    """One operation on one block of `size` amplitudes from `base`."""
    kind, bit, fixed, value = row[KIND], row[BIT], row[FIXED], row[VALUE]
    offset, vectors = row[OFFSET], row[VECTORS]
    if kind == PAIR:
        _pair(re, im, base, vectors, fixed, value, bit, table, offset)
    elif kind == REAL_PAIR:
        _real_pair(re, im, base, vectors, fixed, value, bit, table, offset)
    elif kind == EXCHANGE:
        _exchange(re, im, base, vectors, fixed, value, bit, table, offset)
    elif kind == SCALE:
        _scale(re, im, base, vectors, fixed, value, bit, table, offset)
    elif kind == DENSE:
        _dense(re, im, base, size, row, bits[: row[VECTORS]], table)
    elif kind != LANE:
        _two(re, im, base, row, table)
    elif bit == 1:
        _lane0(re, im, base, vectors, fixed, value, bit, table, offset)
    elif bit == 2:
        _lane1(re, im, base, vectors, fixed, value, bit, table, offset)
    elif bit == 4:
        _lane2(re, im, base, vectors, fixed, value, bit, table, offset)
    else:
        _lane3(re, im, base, vectors, fixed, value, bit, table, offset)


@compiled
def block(re: Any, im: Any, base: int, size: int, outside: int, operations: Any, bits: Any, table: Any) -> None:
    """All operations on one block; outside: the positions it has in the state."""
    for number in range(operations.shape[0]):
        row = operations[number]
        if outside & row[OUTSIDE_MASK] == row[OUTSIDE_VALUE]:
            operation(re, im, base, size, row, bits[number], table)


@compiled
def deposit(number: int, places: Any) -> int:
    """The bits of a number put at places, lowest first."""
    found = 0
    for k in range(places.size):
        found |= (number >> k & 1) << places[k]
    return found


@compiled
def _copy(source: Any, start: int, target: Any, first: int, length: int) -> None:
    """`length` elements, a power of two: fewer than a vector where a state is as small."""
    if length % LANES_OF_FLOATS == 0:
        _copy_vectors(source, start, target, first, length)
    else:
        for k in range(length):
            target[first + k] = source[start + k]


@compiled
def copy_rows(source: Any, start: int, rows: Any, length: int, target: Any) -> None:
    """Rows of a block, `length` elements each, into contiguous memory."""
    for r in range(rows.size):
        _copy(source, start + rows[r], target, r * length, length)


@compiled
def copy_rows_back(source: Any, start: int, rows: Any, length: int, target: Any) -> None:
    """Contiguous memory back into the rows of a block."""
    for r in range(rows.size):
        _copy(source, r * length, target, start + rows[r], length)


@compiled
def blocks(
    re: Any,
    im: Any,
    first: int,
    last: int,
    places: Any,
    rows: Any,
    length: int,
    memory: Any,
    operations: Any,
    bits: Any,
    table: Any,
) -> None:
    """Blocks first to last of a pass. places: inactive positions. rows: starts of a block's rows of `length`.

    memory: 2 (block size + APART) elements of this thread's own, the size more than the rows of a state smaller than
    two vectors, zeros behind them; none where a block is one row and computed where it is.
    """
    size = memory.size // 2 - APART if memory.size else length
    x, y = memory[:size], memory[size + APART : size + APART + size]
    for number in range(first, last):
        base = deposit(number, places)
        if memory.size == 0:
            block(re, im, base, size, base, operations, bits, table)
            continue
        copy_rows(re, base, rows, length, x)
        copy_rows(im, base, rows, length, y)
        block(x, y, 0, size, base, operations, bits, table)
        copy_rows_back(x, base, rows, length, re)
        copy_rows_back(y, base, rows, length, im)


@compiled
def _moments(re: Any, im: Any, re2: Any, im2: Any, row: Any, sums: Any) -> None:
    """Sums of conj(first state) * second over the pairs that an operation mixes, lane by lane."""
    bit, fixed, value, vectors = row[BIT], row[FIXED], row[VALUE], row[VECTORS]
    if row[KIND] == SCALE:
        _same_moment(re, im, re2, im2, 0, vectors, fixed, value, bit, sums)
    elif row[KIND] != LANE:
        _pair_moment(re, im, re2, im2, 0, vectors, fixed, value, bit, sums)
    elif bit == 1:
        _lane_moment0(re, im, re2, im2, 0, vectors, fixed, value, bit, sums)
    elif bit == 2:
        _lane_moment1(re, im, re2, im2, 0, vectors, fixed, value, bit, sums)
    elif bit == 4:
        _lane_moment2(re, im, re2, im2, 0, vectors, fixed, value, bit, sums)
    else:
        _lane_moment3(re, im, re2, im2, 0, vectors, fixed, value, bit, sums)


@compiled
def adjoint_blocks(
    first_state: Any,
    second_state: Any,
    first: int,
    last: int,
    places: Any,
    rows: Any,
    length: int,
    memory: Any,
    operations: Any,
    bits: Any,
    table: Any,
    wanted: Any,
    sums: Any,
    total: Any,
) -> None:
    """As `blocks` on two states, adding up their moments before each operation that is wanted.

    first_state, second_state: (re, im). memory: 4 (block size + APART). sums: (8, LANES).
    total: (operations, 8, LANES) float64.
    """
    size = memory.size // 4 - APART
    step = size + APART
    a, b = memory[:size], memory[step : step + size]
    c, d = memory[2 * step : 2 * step + size], memory[3 * step : 3 * step + size]
    blocks_ = (a, b, c, d)
    parts = (first_state[0], first_state[1], second_state[0], second_state[1])
    for number in range(first, last):
        base = deposit(number, places)
        for k in range(4):
            copy_rows(parts[k], base, rows, length, blocks_[k])
        for n in range(operations.shape[0]):
            row = operations[n]
            if base & row[OUTSIDE_MASK] != row[OUTSIDE_VALUE]:
                continue
            if wanted[n]:
                sums[:] = 0
                _moments(a, b, c, d, row, sums)
                for r in range(8):
                    for lane in range(sums.shape[1]):
                        total[n, r, lane] += sums[r, lane]
            operation(a, b, 0, size, row, bits[n], table)
            operation(c, d, 0, size, row, bits[n], table)
        for k in range(4):
            copy_rows_back(blocks_[k], base, rows, length, parts[k])
