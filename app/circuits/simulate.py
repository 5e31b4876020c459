"""Apply a circuit to a state vector, on one rank or over ranks."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from app.circuits import kernels
from app.circuits.exchange import exchange_
from app.circuits.program import Place, program
from app.circuits.state import APART, StateVector
from app.circuits.threads import share
from app.circuits.vector_code import LANES
from app.parallel.memory import aligned
from app.plan.circuits.circuit import Circuit
from app.plan.circuits.lowering import Lowered, Step, lower
from app.plan.circuits.passes import Pass, Schedule, layout, schedule
from app.plan.circuits.unit_kinds import with_unit_kinds


class Done(NamedTuple):
    """passes over the state, exchanges between ranks, and the bytes that this rank sent."""

    passes: int
    exchanges: int
    sent_bytes: int


def planned(circuit: Circuit, positions: Sequence[int], local_bits: int, dtype: str) -> tuple[Lowered, Schedule]:
    """Steps and schedule of a circuit; those of the circuits last asked for are kept. Raises ValueError."""
    return _planned(circuit, tuple(positions), local_bits, dtype)


@lru_cache(16)
def _planned(circuit: Circuit, positions: tuple[int, ...], local_bits: int, dtype: str) -> tuple[Lowered, Schedule]:
    lowered = with_unit_kinds(lower(circuit))
    steps = _with_factor(lowered)
    return lowered._replace(steps=steps), schedule(steps, positions, layout(local_bits, dtype))


def apply_(state: StateVector, circuit: Circuit) -> Done:
    """Apply a bound circuit of gates alone. Collective over: the state's group. Raises ValueError."""
    lowered, plan = planned(circuit, state.positions, state.local_bits, state.dtype)
    done = run_(state, lowered.steps, plan)
    state.positions[:] = [plan.positions[lowered.labels[q]] for q in range(state.qubits)]
    return done


def run_(state: StateVector, steps: Sequence[Step], plan: Schedule) -> Done:
    """The passes and exchanges of a schedule; `positions` follow. Collective over: the state's group."""
    sent = passes = 0
    for action in plan.actions:
        if isinstance(action, Pass):
            pass_(state, [(number, steps[number]) for number in action.steps], action.active)
            passes += 1
        else:
            sent += exchange_(state, action)
    return Done(passes, plan.exchanges, sent)


def pass_(state: StateVector, steps: Sequence[tuple[int, Step]], active: Sequence[int]) -> None:
    """Steps whose mixed qubits are at active positions, block by block. Collective over: none."""
    block = block_of(active, state)
    made = program(steps, block.place, state.re.dtype.type)
    if not len(made.operations):
        return
    places, rows, length = block.places, block.rows, block.length
    count = 1 << places.size
    one_row = len(rows) == 1 and length == block.size
    elements = 0 if one_row else 2 * (block.size + APART)
    memory = aligned((min(state.threads, count), elements), state.re.dtype)
    if block.size > state.re.size:
        memory.fill(0)

    def work(thread: int, first: int, last: int) -> None:
        kernels.blocks(
            state.re,
            state.im,
            first,
            last,
            places,
            rows,
            length,
            memory[thread],
            made.operations,
            made.bits,
            made.table,
        )

    share(work, count, state.threads)


class Block(NamedTuple):
    """A block of a pass. places: inactive positions. rows: starts of its rows, `length` amplitudes each.

    size: of the memory it is computed in; a state smaller than two vectors lies at its beginning, with zeros behind.
    """

    places: np.ndarray
    rows: np.ndarray
    length: int
    size: int
    place: Place


def block_of(active: Sequence[int], state: StateVector) -> Block:
    """How a pass with these active positions cuts a state."""
    inactive = sorted(set(range(state.local_bits)) - set(active))
    together = next((k for k, place in enumerate(active) if place != k), len(active))
    rows = np.zeros(1, np.int64)
    for position in active[together:]:
        rows = np.concatenate([rows, rows + (1 << position)])
    size = max(1 << len(active), 2 * LANES[state.re.dtype.name])
    inside = active if size == 1 << len(active) else range(size.bit_length() - 1)
    place = Place(state.positions, inside, state.local_bits, state.rank)
    return Block(np.array(inactive, np.int64), rows, 1 << together, size, place)


def _with_factor(lowered: Lowered) -> tuple[Step, ...]:
    """The steps, one of them multiplied by the factor common to all amplitudes."""
    if lowered.factor == 1:
        return lowered.steps
    for number, step in enumerate(lowered.steps):
        if step.target >= 0 and not step.mask and any(complex(v).imag for row in step.matrix for v in row):
            matrix = tuple(tuple(lowered.factor * value for value in row) for row in step.matrix)
            return (*lowered.steps[:number], step._replace(matrix=matrix), *lowered.steps[number + 1 :])
    return (*lowered.steps, Step(-1, ((lowered.factor,),)))
