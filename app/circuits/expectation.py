"""Sums of Pauli strings on a state: their expectation, and the vector they make of it.

Strings of the same x mask go together: each distinct x mask costs one pass over the state, and one exchange with a
partner when it names a qubit that is a bit of the rank's number. Ranks exchange pieces, never whole states.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from app.circuits.pauli_kernels import BLOCK_BITS, add_products, pair_sums
from app.circuits.state import StateVector
from app.circuits.threads import share
from app.parallel.exchange import swap_with
from app.plan.circuits.paulis import PauliSum

PIECE_BITS = 18
_BLOCKS_A_THREAD = 16


class _Flip(NamedTuple):
    """The strings of one x mask, in physical positions. zs (T,) int64; even, odd (T,): real and imaginary weights."""

    x: int
    zs: np.ndarray
    even: np.ndarray
    odd: np.ndarray


def expectation(state: StateVector, observable: PauliSum) -> float:
    """<psi|H|psi>, in float64 and the same bits on every rank. Collective over: the state's group.

    Raises ValueError for an observable of more qubits than the state has.
    """
    total = np.zeros(1)
    for flip in _flips(state, observable):
        if flip.x >> state.local_bits:
            total += _over_ranks(state, flip)
        else:
            total += _local(state, flip)
    if state.group:
        state.group.sum_(total)
    return float(total[0])


def apply_sum(state: StateVector, observable: PauliSum) -> StateVector:
    """H|psi> in arrays of its own, in the state's layout; not normalised. Collective over: the state's group.

    Raises ValueError for an observable of more qubits than the state has.
    """
    result = StateVector(
        state.qubits,
        np.zeros_like(state.re),
        np.zeros_like(state.im),
        list(state.positions),
        state.group,
        state.threads,
    )
    for flip in _flips(state, observable):
        if flip.x >> state.local_bits:
            _add_over_ranks(state, flip, result)
        else:
            base = state.rank << state.local_bits
            _add(state.re, state.im, result.re, result.im, flip, base, state.threads)
    return result


def piece_bits(local_bits: int) -> int:
    """Ranks exchange pieces of 2^this amplitudes: at least two pieces, and small beside the state."""
    return min(PIECE_BITS, max(local_bits - 5, min(BLOCK_BITS, local_bits - 1)))


def _flips(state: StateVector, observable: PauliSum) -> Iterator[_Flip]:
    if observable.qubits > state.qubits:
        raise ValueError(f"an observable of {observable.qubits} qubits on a state of {state.qubits}")
    groups: dict[int, list[tuple[int, float, float]]] = {}
    for coefficient, x, z in observable.terms:
        turns = (x & z).bit_count() % 4  # a factor of i for every Y
        signed = -coefficient if turns >= 2 else coefficient
        weights = (0.0, signed) if turns % 2 else (signed, 0.0)
        groups.setdefault(x, []).append((state.physical(z), *weights))
    for x, terms in groups.items():
        zs, even, odd = zip(*terms, strict=True)
        yield _Flip(state.physical(x), np.array(zs, np.int64), np.array(even), np.array(odd))


def _local(state: StateVector, flip: _Flip) -> float:
    """An x mask inside this rank's arrays."""
    base, bits = state.rank << state.local_bits, min(BLOCK_BITS, state.local_bits)
    high = flip.x >> bits << bits
    pivot = 1 << high.bit_length() >> 1  # of two blocks that meet, one is enough: the other gives the same
    value = _sum(state.re, state.im, state.re, state.im, flip, base, pivot, state.threads)
    return 2 * value if high else value


def _over_ranks(state: StateVector, flip: _Flip) -> float:
    """An x mask with bits of the rank's number: of the pairs with the partner, each of the two computes half."""
    assert state.group
    local, bits = state.local_bits, piece_bits(state.local_bits)
    inside, half = flip.x & ((1 << local) - 1), 1 << (local - bits - 1)
    partner, shift = state.rank ^ (flip.x >> local), inside >> bits
    there = _Flip(inside & ((1 << bits) - 1), flip.zs, flip.even, flip.odd)
    buffers = np.empty((2, 1 << bits), state.re.dtype)
    total = 0.0
    for step in range(half):
        # the lower rank's first half of pieces is its own to compute, its second half the partner's
        mine, sent = (step, half + step) if state.rank < partner else ((half + step) ^ shift, step ^ shift)
        for array, buffer in zip((state.re, state.im), buffers, strict=True):
            swap_with(state.group, partner, _piece(array, sent, bits), buffer)
        base = (state.rank << local) + (mine << bits)
        re, im = _piece(state.re, mine, bits), _piece(state.im, mine, bits)
        total += _sum(re, im, buffers[0], buffers[1], there, base, 0, state.threads)
    return 2 * total


def _add_over_ranks(state: StateVector, flip: _Flip, result: StateVector) -> None:
    assert state.group
    local, bits = state.local_bits, piece_bits(state.local_bits)
    inside = flip.x & ((1 << local) - 1)
    partner, shift = state.rank ^ (flip.x >> local), inside >> bits
    there = _Flip(inside & ((1 << bits) - 1), flip.zs, flip.even, flip.odd)
    buffers = np.empty((2, 1 << bits), state.re.dtype)
    for piece in range(1 << (local - bits)):
        for array, buffer in zip((state.re, state.im), buffers, strict=True):
            swap_with(state.group, partner, _piece(array, piece, bits), buffer)
        base = (partner << local) + (piece << bits)
        out_re, out_im = _piece(result.re, piece ^ shift, bits), _piece(result.im, piece ^ shift, bits)
        _add(buffers[0], buffers[1], out_re, out_im, there, base, state.threads)


def _piece(array: np.ndarray, number: int, bits: int) -> np.ndarray:
    return array[number << bits : (number + 1) << bits]


def _sum(
    re: np.ndarray,
    im: np.ndarray,
    other_re: np.ndarray,
    other_im: np.ndarray,
    flip: _Flip,
    base: int,
    pivot: int,
    threads: int,
) -> float:
    bits = min(BLOCK_BITS, re.size.bit_length() - 1)
    sums = np.zeros(re.size >> bits)  # by block, so that the threads do not matter

    def work(_: int, first: int, last: int) -> None:
        x, zs, even, odd = flip
        pair_sums(re, im, other_re, other_im, x, base, pivot, zs, even, odd, bits, first, last, sums)

    share(work, sums.size, max(1, min(threads, sums.size // _BLOCKS_A_THREAD)))
    return float(sums.sum())


def _add(
    re: np.ndarray, im: np.ndarray, out_re: np.ndarray, out_im: np.ndarray, flip: _Flip, base: int, threads: int
) -> None:
    bits = min(BLOCK_BITS, re.size.bit_length() - 1)

    def work(_: int, first: int, last: int) -> None:
        x, zs, even, odd = flip
        add_products(re, im, out_re, out_im, x, base, zs, even, odd, bits, first, last)

    share(work, re.size >> bits, max(1, min(threads, (re.size >> bits) // _BLOCKS_A_THREAD)))
