"""Apply a circuit to a state vector, on one rank or over ranks."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from app.circuits import kernels
from app.circuits.exchange import exchange_
from app.circuits.memory import aligned
from app.circuits.program import Place, program
from app.circuits.state import StateVector
from app.circuits.threads import share
from app.circuits.vector_code import LANES
from app.plan.circuits.circuit import Circuit
from app.plan.circuits.lowering import Lowered, Step, lower
from app.plan.circuits.passes import Pass, Schedule, layout, schedule


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
    lowered = lower(circuit)
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
    lanes = LANES[state.re.dtype.name]
    if state.re.size < 2 * lanes:
        _small_pass_(state, steps, lanes)
        return
    place = Place(state.positions, active, state.local_bits, state.rank)
    made = program(steps, place, state.re.dtype.type)
    if not len(made.operations):
        return
    places, rows, length = blocks_of(active, state.local_bits)
    count = 1 << places.size
    size = len(rows) * length + kernels.APART if len(rows) > 1 else 0
    memory = aligned((min(state.threads, count), 2 * size), state.re.dtype)

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


def blocks_of(active: Sequence[int], local_bits: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Inactive positions; starts of the rows of a block; length of a row."""
    inactive = sorted(set(range(local_bits)) - set(active))
    together = next((k for k, place in enumerate(active) if place != k), len(active))
    rows = np.zeros(1, np.int64)
    for place in active[together:]:
        rows = np.concatenate([rows, rows + (1 << place)])
    return np.array(inactive, np.int64), rows, 1 << together


def _small_pass_(state: StateVector, steps: Sequence[tuple[int, Step]], lanes: int) -> None:
    """A state of fewer amplitudes than two vectors: computed in the first of them, with zeros behind."""
    size = state.re.size
    re, im = (np.concatenate([part, np.zeros(2 * lanes - size, part.dtype)]) for part in (state.re, state.im))
    active = range((2 * lanes).bit_length() - 1)
    made = program(steps, Place(state.positions, active, state.local_bits, state.rank), re.dtype.type)
    kernels.block(re, im, 0, re.size, 0, made.operations, made.bits, made.table)
    state.re[:], state.im[:] = re[:size], im[:size]


def _with_factor(lowered: Lowered) -> tuple[Step, ...]:
    """The steps, one of them multiplied by the factor common to all amplitudes."""
    if lowered.factor == 1:
        return lowered.steps
    for number, step in enumerate(lowered.steps):
        if step.target >= 0 and not step.mask and any(complex(v).imag for row in step.matrix for v in row):
            matrix = tuple(tuple(lowered.factor * value for value in row) for row in step.matrix)
            return (*lowered.steps[:number], step._replace(matrix=matrix), *lowered.steps[number + 1 :])
    return (*lowered.steps, Step(-1, ((lowered.factor,),)))
