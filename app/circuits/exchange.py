"""A qubit on the bits of the ranks' numbers changes places with a local one."""

import numpy as np

from app.circuits.state import StateVector
from app.parallel.exchange import Swap
from app.parallel.memory import aligned
from app.plan.circuits.passes import Exchange

PIECE_BYTES = 1 << 20  # sent at once: what is under way stays in the cache


def exchange_(state: StateVector, exchange: Exchange) -> int:
    """Give half of the amplitudes to the partner and take its half; returns the bytes sent.

    In pieces, two under way at a time. Collective over: the state's group.
    """
    group = state.group
    if group is None:
        raise ValueError("an exchange between ranks of a state on one rank")
    bit = exchange.rank_position - state.local_bits
    partner = group.rank ^ 1 << bit
    mine = group.rank >> bit & 1
    row = 1 << exchange.local_position
    halves = [part.reshape(-1, 2, row)[:, 1 - mine] for part in (state.re, state.im)]
    pieces = [piece for half in halves for piece in _pieces(half, max(1, PIECE_BYTES // state.re.itemsize))]
    slots = [aligned((2, max(piece.size for piece in pieces)), state.re.dtype) for _ in range(2)]
    under_way: list[tuple[Swap, np.ndarray, np.ndarray]] = []
    for number, piece in enumerate(pieces):
        if len(under_way) == 2:
            _finish_(under_way)
        send, spare = (slot[: piece.size] for slot in slots[number % 2])
        send.reshape(piece.shape)[...] = piece
        # the place of a piece that lies together is free: what was there is in the slot
        receive = piece.reshape(-1) if piece.flags.c_contiguous else spare
        under_way.append((Swap(group, partner, send, receive), receive, piece))
    while under_way:
        _finish_(under_way)
    _exchange_positions_(state, exchange)
    return sum(half.nbytes for half in halves)


def _pieces(half: np.ndarray, elements: int) -> list[np.ndarray]:
    """Views of (rows, row) that hold at most `elements`, but one at least."""
    rows, row = half.shape
    if row >= elements:
        return [half[r : r + 1, c : c + elements] for r in range(rows) for c in range(0, row, elements)]
    together = max(1, elements // row)
    return [half[r : r + together] for r in range(0, rows, together)]


def _finish_(under_way: list[tuple[Swap, np.ndarray, np.ndarray]]) -> None:
    swap, receive, piece = under_way.pop(0)
    swap.wait()
    if not piece.flags.c_contiguous:
        piece[...] = receive.reshape(piece.shape)


def _exchange_positions_(state: StateVector, exchange: Exchange) -> None:
    here, there = state.qubit_at(exchange.rank_position), state.qubit_at(exchange.local_position)
    state.positions[here], state.positions[there] = exchange.local_position, exchange.rank_position
