"""A state vector, on one rank or spread over 2^p of them.

Real and imaginary parts lie in arrays of their own. An amplitude's index has a bit per physical position: the lower
`local_bits` positions count inside this rank's arrays, the others are the bits of the rank's number. `positions` says
where each qubit is; it changes as gates are applied, because a swap of labels costs nothing.
"""

from dataclasses import dataclass

import numpy as np

from app.parallel.group import Group
from app.parallel.memory import aligned

APART = 128  # elements between arrays used together: a multiple of 4 KiB apart they slow each other down
REALS = {"complex64": np.float32, "complex128": np.float64}


@dataclass
class StateVector:
    """This rank's part of the state.

    re, im: (2^local_bits,) float32 or float64, contiguous. positions: qubit -> physical position.
    group: the 2^p ranks that hold it together, rank bit k of a rank's number being position local_bits + k; None: one.
    """

    qubits: int
    re: np.ndarray
    im: np.ndarray
    positions: list[int]
    group: Group | None = None
    threads: int = 1

    @property
    def local_bits(self) -> int:
        """Positions inside this rank's arrays."""
        return self.re.size.bit_length() - 1

    @property
    def rank(self) -> int:
        """This rank's number among those that hold the state."""
        return self.group.rank if self.group else 0

    @property
    def dtype(self) -> str:
        """complex64 or complex128."""
        return "complex64" if self.re.dtype == np.float32 else "complex128"

    def physical(self, mask: int) -> int:
        """A mask of qubits as a mask of physical positions."""
        return sum(1 << self.positions[qubit] for qubit in range(self.qubits) if mask >> qubit & 1)

    def qubit_at(self, position: int) -> int:
        """The qubit at a physical position."""
        return self.positions.index(position)

    def copy(self) -> "StateVector":
        """The same state in arrays of its own. Collective over: none."""
        return StateVector(self.qubits, self.re.copy(), self.im.copy(), list(self.positions), self.group, self.threads)


def zero_state(qubits: int, dtype: str, group: Group | None = None, threads: int = 1) -> StateVector:
    """|0...0>. Raises ValueError when the ranks of the group are no power of two, or more than there are amplitudes.

    Collective over: none.
    """
    ranks = group.size if group else 1
    if ranks & (ranks - 1):
        raise ValueError(f"a state is held by 1, 2, 4, ... ranks, not by {ranks}")
    rank_bits = ranks.bit_length() - 1
    if rank_bits >= qubits:
        raise ValueError(f"a state of {qubits} qubits on {ranks} ranks; at most {1 << max(0, qubits - 1)}")
    real = REALS[dtype]
    re = aligned(1 << (qubits - rank_bits), real, zeros=True)
    im = aligned(re.size + APART, real, zeros=True)[APART:]
    state = StateVector(qubits, re, im, list(range(qubits)), group, threads)
    if state.rank == 0:
        state.re[0] = 1
    return state


def restart_(state: StateVector) -> None:
    """Make it |0...0> again, in the layout it began with. Collective over: none."""
    state.positions[:] = range(state.qubits)
    state.re.fill(0)
    state.im.fill(0)
    if state.rank == 0:
        state.re[0] = 1


def amplitudes(state: StateVector) -> np.ndarray:
    """All 2^n amplitudes by index, on every rank: for small states and tests. Collective over: the state's group."""
    local = state.re + 1j * state.im
    parts = state.group.allgather(local) if state.group else [local]
    everything = np.concatenate(parts).reshape((2,) * state.qubits)
    # axis k of the array is physical position n-1-k; the result's axis k is qubit n-1-k
    order = [state.qubits - 1 - state.positions[state.qubits - 1 - axis] for axis in range(state.qubits)]
    return np.ascontiguousarray(everything.transpose(order)).reshape(-1)
