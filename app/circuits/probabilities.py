"""Probabilities of outcomes and density matrices of some qubits, wherever these lie; the state is never gathered."""

from collections.abc import Sequence

import numpy as np

from app.circuits.expectation import piece_bits
from app.circuits.kernels import deposit
from app.circuits.marginal_kernels import add_marginals, add_products_of_rows, gather
from app.circuits.state import StateVector
from app.circuits.threads import share
from app.parallel.exchange import swap_with

_BLOCK_BITS = 10
_GATHERED_BITS = 16  # amplitudes of a density matrix's environment at a time
MOST_MARGINAL, MOST_DENSITY = 26, 10


def norm(state: StateVector) -> float:
    """The sum of all probabilities, 1 when normalised; same on every rank. Collective over: the state's group."""
    return float(marginal(state, ())[0])


def marginal(state: StateVector, qubits: Sequence[int]) -> np.ndarray:
    """(2^k,) float64: of each outcome of k qubits, qubits[0] its least significant bit, the probability.

    Collective over: the state's group. Raises ValueError for a qubit that is not there or comes twice, and many.
    """
    _refuse(state, qubits, MOST_MARGINAL)
    local = state.local_bits
    bits = min(_BLOCK_BITS, local)
    low, places, values, base = np.zeros(1 << bits, np.int64), [], [], 0
    step = 1 << bits
    for number, qubit in enumerate(qubits):
        place = state.positions[qubit]
        if place >= local:
            base |= (state.rank >> (place - local) & 1) << number
        elif place >= bits:
            places.append(place)
            values.append(1 << number)
        else:
            low |= (np.arange(1 << bits) >> place & 1) << number
            step = min(step, 1 << place)
    blocks = 1 << (local - bits)
    threads = max(1, min(state.threads, blocks // 16, (1 << 22) >> len(qubits)))
    sums = np.zeros((threads, 1 << len(qubits)))
    where, adds = np.array(places, np.int64), np.array(values, np.int64)

    def work(thread: int, first: int, last: int) -> None:
        add_marginals(state.re, state.im, where, adds, low + base, step, first, last, sums[thread])

    share(work, blocks, threads)
    total = sums[0]
    for other in sums[1:]:
        total += other
    if state.group:
        state.group.sum_(total)
    return total


def reduced_density(state: StateVector, qubits: Sequence[int]) -> np.ndarray:
    """(2^k, 2^k) complex128: the density matrix of k qubits, qubits[0] the least significant bit.

    Of k qubits, r on bits of the rank's number: each rank exchanges its part, in pieces, with 2^r - 1 partners.
    Collective over: the state's group. Raises ValueError for a qubit that is not there or comes twice, and many.
    """
    _refuse(state, qubits, MOST_DENSITY)
    local = state.local_bits
    here = [(number, state.positions[q]) for number, q in enumerate(qubits) if state.positions[q] < local]
    there = [(number, state.positions[q] - local) for number, q in enumerate(qubits) if state.positions[q] >= local]
    rows, outcomes = np.zeros(1, np.int64), np.zeros(1, np.int64)
    for number, place in here:
        rows, outcomes = np.concatenate([rows, rows | 1 << place]), np.concatenate([outcomes, outcomes | 1 << number])
    rho = np.zeros((1 << len(qubits),) * 2, np.complex128)
    for flips in range(1 << len(there)):
        flip = sum(1 << bit for k, (_, bit) in enumerate(there) if flips >> k & 1)
        mine = sum((state.rank >> bit & 1) << number for number, bit in there)
        theirs = sum(((state.rank ^ flip) >> bit & 1) << number for number, bit in there)
        rho[np.ix_(outcomes | mine, outcomes | theirs)] += _products(state, rows, flip)
    if state.group:
        state.group.sum_(rho.view(np.float64))
    return rho


def _products(state: StateVector, rows: np.ndarray, flip: int) -> np.ndarray:
    """Sum over the environment of psi[row, e] conj(psi'[column, e]), psi' of the rank whose number differs by flip."""
    local, kept = state.local_bits, rows.size.bit_length() - 1
    mask = ((1 << local) - 1) & ~int(np.bitwise_or.reduce(rows))
    bits = min(local - kept, max(0, min(_GATHERED_BITS, max(piece_bits(local), 10)) - kept))
    free = np.array([place for place in range(local) if mask >> place & 1], np.int64)
    own = np.empty((2, rows.size, 1 << bits))
    other = np.empty_like(own) if flip else own
    total = np.zeros((rows.size,) * 2, np.complex128)

    def work(_: int, low: int, high: int) -> None:
        add_products_of_rows(own, other, low, high, total)

    for number in range(1 << (local - kept - bits)):
        gather(state.re, state.im, rows, deposit(number << bits, free), mask, own)
        if flip and state.group:
            swap_with(state.group, state.rank ^ flip, own, other)
        share(work, rows.size, max(1, min(state.threads, rows.size)) if own.size >= 1 << 12 else 1)
    return total


def _refuse(state: StateVector, qubits: Sequence[int], most: int) -> None:
    if len(set(qubits)) < len(qubits) or not all(0 <= qubit < state.qubits for qubit in qubits):
        raise ValueError(f"qubits {tuple(qubits)} of a state of {state.qubits}; each once, from 0 on")
    if len(qubits) > most:
        raise ValueError(f"an array over {len(qubits)} qubits; at most {most}")
