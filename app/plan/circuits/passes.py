"""Which steps are computed together: blocks that stay in the cache, and exchanges between ranks.

A pass takes a set of active positions; all amplitudes that differ in these alone make a block that is computed in the
cache, by as many steps as possible. A step needs the qubit of its matrix active; phases and controls work from
anywhere. Steps that share only qubits on which both are diagonal may change places. Positions of `local_bits` and above
are bits of the rank's number; a qubit there is brought in by exchanging halves with a partner, against the local qubit
that is needed latest (Belady).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from app.plan.circuits.lowering import Step

AMPLITUDE_BYTES = {"complex64": 8, "complex128": 16}
BLOCK_BYTES = 1 << 19  # of a block: what stays in a core's second-level cache
ROW_BYTES = 1024  # of neighbouring real parts that are fetched together, at least
EXCHANGE_COST = 0.7  # of a pass
WINDOW = 4000  # steps looked ahead


class Pass(NamedTuple):
    """active: physical positions, ascending, the lowest among them. steps: numbers, in order."""

    active: tuple[int, ...]
    steps: tuple[int, ...]


class Exchange(NamedTuple):
    """The qubits at two positions change places; every rank gives half of its amplitudes to one partner."""

    rank_position: int
    local_position: int


class Schedule(NamedTuple):
    """Passes and exchanges in order; positions: where each qubit is at the end."""

    actions: tuple[Pass | Exchange, ...]
    positions: tuple[int, ...]

    @property
    def exchanges(self) -> int:
        """How many exchanges."""
        return sum(isinstance(action, Exchange) for action in self.actions)

    def exchanged_bytes(self, local_bits: int, amplitude_bytes: int) -> int:
        """Bytes that one rank sends, and as many that it receives."""
        return self.exchanges * (amplitude_bytes << local_bits) // 2


class Layout(NamedTuple):
    """local_bits: positions on one rank. block_bits: of a block. row_bits: lowest positions, always active."""

    local_bits: int
    block_bits: int
    row_bits: int


def layout(local_bits: int, dtype: str) -> Layout:
    """How states are cut into blocks. dtype: complex64 or complex128."""
    amplitude = AMPLITUDE_BYTES[dtype]
    row_bits = (2 * ROW_BYTES // amplitude).bit_length() - 1
    return Layout(local_bits, (BLOCK_BYTES // amplitude).bit_length() - 1, row_bits)


def schedule(steps: Sequence[Step], positions: Sequence[int], layout: Layout) -> Schedule:
    """Passes and exchanges for steps on qubits that are at `positions`. Collective over: none.

    Which they are does not depend on the steps' numbers, so those of circuits of the same shape are made once.
    """
    return _scheduled(tuple((step.active, step.mask) for step in steps), tuple(positions), layout)


@lru_cache(64)
def _scheduled(masks: tuple[tuple[int, int], ...], positions: tuple[int, ...], layout: Layout) -> Schedule:
    plan = _Planner(masks, list(positions), layout)
    actions: list[Pass | Exchange] = []
    while plan.remaining:
        best = plan.best_pass(plan.positions)
        if plan.has_rank_positions and (exchange := plan.exchange_instead(best)):
            actions.append(exchange)
            plan.exchange_(exchange)
            continue
        actions.append(plan.take_(best))
    return Schedule(tuple(actions), tuple(plan.positions))


class _Found(NamedTuple):
    """A pass not yet taken: active qubits as a mask, steps."""

    active: int
    steps: list[int]


class _Planner:
    def __init__(self, masks: Sequence[tuple[int, int]], positions: list[int], layout: Layout) -> None:
        self.masks, self.positions, self.layout = masks, positions, layout
        self.remaining = list(range(len(masks)))
        self.everything = (1 << len(positions)) - 1
        self.has_rank_positions = layout.local_bits < len(positions)

    def best_pass(self, positions: Sequence[int]) -> _Found:
        """The pass that greedy choice of active qubits finds: one qubit more at a time, the one that helps most."""
        local = sum(1 << q for q, place in enumerate(positions) if place < self.layout.local_bits)
        active = sum(1 << q for q, place in enumerate(positions) if place < self.layout.row_bits)
        if self.layout.local_bits <= self.layout.block_bits:
            return _Found(local, self.executable(local)[0])
        room = self.layout.block_bits - self.layout.row_bits
        steps, wanted = self.executable(active)
        while room and (wanted := wanted & local & ~active):
            found = max(
                ((self.executable(active | 1 << q), q) for q in range(len(positions)) if wanted >> q & 1),
                key=lambda each: (len(each[0][0]), each[0][1].bit_count(), -each[1]),
            )
            active |= 1 << found[1]
            steps, wanted = found[0]
            room -= 1
        return _Found(active, steps)

    def executable(self, active: int) -> tuple[list[int], int]:
        """Steps that a pass with these active qubits can do, and the qubits that those next in line would need."""
        found: list[int] = []
        wanted = blocked = blocked_diagonal = 0
        masks, everything = self.masks, self.everything
        for number in self.remaining[:WINDOW]:
            mixed, diagonal = masks[number]
            if (mixed | diagonal) & blocked or mixed & blocked_diagonal:
                pass
            elif mixed & ~active:
                wanted |= mixed
            else:
                found.append(number)
                continue
            blocked |= mixed
            blocked_diagonal |= diagonal
            if blocked == everything:
                break
        return found, wanted

    def take_(self, found: _Found) -> Pass:
        """Take a pass: its steps are done. Unused room is filled with the lowest positions, for longer rows."""
        done = set(found.steps)
        self.remaining = [number for number in self.remaining if number not in done]
        active = {place for q, place in enumerate(self.positions) if found.active >> q & 1}
        bits = min(self.layout.block_bits, self.layout.local_bits)
        for place in range(self.layout.local_bits):
            if len(active) >= bits:
                break
            active.add(place)
        return Pass(tuple(sorted(active)), tuple(found.steps))

    def exchange_instead(self, best: _Found) -> Exchange | None:
        """The exchange after which more gets done for its cost than by the best pass without it."""
        choice = self._best_exchange()
        if choice is None:
            return None
        if not best.steps:
            return choice
        after = self.best_pass(_swapped(self.positions, choice))
        return choice if len(after.steps) > (1 + EXCHANGE_COST) * len(best.steps) else None

    def _best_exchange(self) -> Exchange | None:
        local = sum(1 << q for q, place in enumerate(self.positions) if place < self.layout.local_bits)
        now, wanted = self.executable(local)
        if not (wanted := wanted & ~local):
            return None
        best: tuple[int, int, int] | None = None
        choice = None
        for incoming in range(len(self.positions)):
            if not wanted >> incoming & 1:
                continue
            for outgoing, place in enumerate(self.positions):
                if place >= self.layout.local_bits:
                    continue
                steps, _ = self.executable(local & ~(1 << outgoing) | 1 << incoming)
                score = (len(steps), place, -incoming)
                if best is None or score > best:
                    best, choice = score, Exchange(self.positions[incoming], place)
        return choice

    def exchange_(self, exchange: Exchange) -> None:
        self.positions = _swapped(self.positions, exchange)


def _swapped(positions: Sequence[int], exchange: Exchange) -> list[int]:
    there = {exchange.rank_position: exchange.local_position, exchange.local_position: exchange.rank_position}
    return [there.get(place, place) for place in positions]
