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
    Raises ValueError when a step mixes more qubits than a block has room for.
    """
    room = layout.local_bits if layout.local_bits <= layout.block_bits else layout.block_bits - layout.row_bits
    widest = max((step.active.bit_count() for step in steps), default=0)
    if widest > room:
        held = layout.local_bits
        raise ValueError(f"a gate on {widest} qubits at once has no room where a rank holds {held} of them")
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
        found = self._grown(active, local)
        if not found.steps and (able := self.executable(local)[0]):
            # matrices on several qubits each, none of which were chosen together
            found = self._grown(active | self.masks[able[0]][0], local)
        return found

    def _grown(self, active: int, local: int) -> _Found:
        steps, wanted = self.executable(active)
        while active.bit_count() < self.layout.block_bits and (wanted := wanted & local & ~active):
            found = max(
                ((self.executable(active | 1 << q), q) for q in range(len(self.positions)) if wanted >> q & 1),
                key=lambda each: (len(each[0][0]), each[0][1].bit_count(), -each[1]),
            )
            active |= 1 << found[1]
            steps, wanted = found[0]
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
        """Of a qubit that is wanted, against the local one without which most can be done, or the highest of these."""
        local = sum(1 << q for q, place in enumerate(self.positions) if place < self.layout.local_bits)
        wanted = self.executable(local)[1] & ~local
        if not wanted:
            return None
        count, choice = self._exchange(local, wanted, local)
        if not count:  # a matrix on several qubits: bring one of them and leave the others where they are
            first = self.masks[self.remaining[0]][0]
            return self._exchange(local, first & ~local, local & ~first)[1] if first & ~local else None
        return choice

    def _exchange(self, local: int, coming: int, going: int) -> tuple[int, Exchange]:
        """Steps executable after the best exchange of one of these qubits for one of those."""
        best = max(
            (len(self.executable(local & ~(1 << b) | 1 << a)[0]), self.positions[b], -a)
            for a in _qubits(coming)
            for b in _qubits(going)
        )
        return best[0], Exchange(self.positions[-best[2]], best[1])

    def exchange_(self, exchange: Exchange) -> None:
        self.positions = _swapped(self.positions, exchange)


def _qubits(mask: int) -> list[int]:
    return [q for q in range(mask.bit_length()) if mask >> q & 1]


def _swapped(positions: Sequence[int], exchange: Exchange) -> list[int]:
    there = {exchange.rank_position: exchange.local_position, exchange.local_position: exchange.rank_position}
    return [there.get(place, place) for place in positions]
