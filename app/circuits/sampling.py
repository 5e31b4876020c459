"""Samples of measured qubits, drawn without gathering the state.

A sample is chosen qubit group by qubit group, from the last measured qubit to the first: first the outcome of the last
few by their marginal probabilities, then that of the next few given those before, and so on; sample i takes number i
of the stream of (seed, group). Neither the ranks nor the layout come into this order, so the same seed gives the same
samples on any number of ranks. (But for a number that falls within rounding, 1e-16, of an edge.) The first group costs
one pass over the state, each later one reads only what earlier outcomes have left: less than one pass.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from app.circuits.draws import SAMPLES, uniforms
from app.circuits.marginal_kernels import child_sums
from app.circuits.probabilities import marginal
from app.circuits.state import StateVector
from app.circuits.threads import share

FIRST_BITS, LATER_BITS = 12, 8
_SUMS = 1 << 17  # probabilities held at a time


def sample(state: StateVector, shots: int, seed: int, qubits: Sequence[int] | None = None) -> np.ndarray:
    """(shots,) uint64: an outcome a shot, bit k that of qubits[k]; by default of all qubits. At most 63 of them.

    Same on every rank. Collective over: the state's group. Raises ValueError for a qubit that is not there.
    """
    measured = list(range(state.qubits) if qubits is None else qubits)
    if len(measured) > 63:
        raise ValueError(f"a sample of {len(measured)} qubits; at most 63")
    first = max(0, len(measured) - FIRST_BITS)
    sums = marginal(state, measured[first:])[None]
    found = _chosen(sums, np.zeros(shots, np.int64), uniforms(shots, seed, SAMPLES, len(measured)))
    done = first
    while done:
        start = max(0, done - LATER_BITS)
        draws = uniforms(shots, seed, SAMPLES, done)
        prefixes, which = np.unique(found, return_inverse=True)
        order = np.argsort(which, kind="stable")
        edges = np.searchsorted(which[order], np.arange(len(prefixes) + 1))
        found <<= done - start
        batch = max(1, _SUMS >> (done - start))
        for low in range(0, len(prefixes), batch):
            high = min(len(prefixes), low + batch)
            sums = _children(state, prefixes[low:high], measured[done:], measured[start:done])
            mine = order[edges[low] : edges[high]]
            found[mine] |= _chosen(sums, which[mine] - low, draws[mine])
        done = start
    return found.astype(np.uint64)


def counts(samples: np.ndarray, bits: int) -> dict[str, int]:
    """How often each outcome came, by its bits with bit 0 at the right, in order. Collective over: none."""
    found = Counter({int(value): int(n) for value, n in zip(*np.unique(samples, return_counts=True), strict=True)})
    return {format(value, f"0{bits}b") if bits else "": found[value] for value in sorted(found)}


def _chosen(sums: np.ndarray, rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """For each draw a column, chosen by the probabilities (not normalised) in its row of sums (R, K)."""
    edges = np.cumsum(sums, axis=1)
    last = sums.shape[1] - 1 - np.argmax(sums[:, ::-1] > 0, axis=1)  # never one of probability zero
    chosen = np.empty(len(draws), np.int64)
    order = np.argsort(rows, kind="stable")
    at = np.searchsorted(rows[order], np.arange(len(sums) + 1))
    for row in range(len(sums)):
        mine = order[at[row] : at[row + 1]]
        chosen[mine] = np.searchsorted(edges[row], draws[mine] * edges[row, -1], "right")
    return np.minimum(chosen, last[rows])


def _children(state: StateVector, prefixes: np.ndarray, fixed: Sequence[int], group: Sequence[int]) -> np.ndarray:
    """(P, 2^k): the probabilities of each prefix, outcomes of the fixed qubits, together with each outcome of group."""
    starts, spots = _placed(state, prefixes, fixed), _placed(state, np.arange(1 << len(group)), group)
    free = (1 << state.local_bits) - 1
    for qubit in (*fixed, *group):
        free &= ~(1 << state.positions[qubit])
    sums = np.zeros((len(prefixes), len(spots)))

    def work(_: int, first: int, last: int) -> None:
        child_sums(state.re, state.im, starts, spots, free, first, last, sums)

    share(work, len(prefixes), max(1, min(state.threads, len(prefixes) // 4)))
    if state.group:
        state.group.sum_(sums)
    return sums


def _placed(state: StateVector, outcomes: np.ndarray, qubits: Sequence[int]) -> np.ndarray:
    """Outcomes of qubits as local index bits; -1 where the rank's number has other bits."""
    placed, elsewhere = np.zeros(len(outcomes), np.int64), np.zeros(len(outcomes), bool)
    for number, qubit in enumerate(qubits):
        bit, place = outcomes >> number & 1, state.positions[qubit]
        if place < state.local_bits:
            placed |= bit << place
        else:
            elsewhere |= bit != (state.rank >> (place - state.local_bits) & 1)
    placed[elsewhere] = -1
    return placed
