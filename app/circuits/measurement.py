"""Circuits with measurements, resets and conditions: one run, or counts of many."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from app.circuits.draws import SHOTS, Draws
from app.circuits.marginal_kernels import collapse_
from app.circuits.probabilities import marginal
from app.circuits.sampling import counts, sample
from app.circuits.simulate import apply_
from app.circuits.state import StateVector, restart_, zero_state
from app.circuits.threads import share
from app.parallel.group import Group
from app.plan.circuits.circuit import Circuit, Gate, If, Measure, Operation, Reset

_KEPT_BITS = 22  # up to so many amplitudes on a rank, the state before the first measurement is kept for the next shot


class Random(Protocol):
    """Numbers in [0, 1), the same on all ranks that hold a state."""

    def next(self) -> float:
        """The next one."""


def measure_(state: StateVector, qubit: int, random: float) -> int:
    """Measure a qubit with a number in [0, 1), the same on every rank; the state collapses and is normalised.

    Collective over: the state's group.
    """
    zero, one = marginal(state, (qubit,))
    outcome = int(random * (zero + one) >= zero)
    if (one if outcome else zero) <= 0:  # rounding at the edge
        outcome = 1 - outcome
    project_(state, qubit, outcome, 1 / np.sqrt(one if outcome else zero))
    return outcome


def project_(state: StateVector, qubit: int, outcome: int, scale: float) -> None:
    """Multiply the amplitudes of an outcome of a qubit with scale and the others with zero. Collective over: none."""
    place, local, size = state.positions[qubit], state.local_bits, state.re.size
    bit = place
    if place >= local:  # all amplitudes here have one outcome
        bit, outcome = 62, 0 if (state.rank >> (place - local) & 1) == outcome else 1

    def work(_: int, first: int, last: int) -> None:
        collapse_(state.re, state.im, bit, outcome, state.re.dtype.type(scale), first, last)

    share(work, size, max(1, min(state.threads, size >> 14)))


def reset_(state: StateVector, qubit: int, random: float) -> None:
    """Measure a qubit with a number in [0, 1), the same on every rank, and make a 1 a 0.

    Collective over: the state's group.
    """
    if measure_(state, qubit, random):
        apply_(state, Circuit(state.qubits, (Gate("x", (qubit,)),)))


def run(circuit: Circuit, state: StateVector, random: Random) -> list[int]:
    """Play a bound circuit on a state: the classical bits. Collective over: the state's group."""
    bits = [0] * circuit.bits
    _play(segments(circuit.qubits, circuit.operations), state, random, bits)
    return bits


def shots(
    circuit: Circuit, count: int, seed: int, *, dtype: str = "complex128", group: Group | None = None, threads: int = 1
) -> dict[str, int]:
    """How often the bits of a bound circuit had each value, bit 0 at the right. Same for any number of ranks.

    A circuit whose measurements are its last operations on their qubits is simulated once and sampled, another one is
    run for every shot, with random numbers of (seed, shot). Collective over: the group.
    """
    state = zero_state(circuit.qubits, dtype, group, threads)
    if sampled := final_measurements(circuit):
        gates = tuple(one for one in circuit.operations if isinstance(one, Gate))
        apply_(state, Circuit(circuit.qubits, gates))
        return sampled_counts(state, sampled, circuit.bits, count, seed)
    parts = list(segments(circuit.qubits, circuit.operations))
    bits = [0] * circuit.bits
    first = isinstance(parts[0], Circuit) if parts else False
    kept = None
    values = np.zeros(count, np.uint64)
    for shot in range(count):
        if kept is not None:
            state.re[:], state.im[:], state.positions[:] = kept.re, kept.im, kept.positions
        else:
            restart_(state)
            _play(parts[:first], state, Draws(seed), bits)
            kept = state.copy() if first and state.local_bits <= _KEPT_BITS else None
        bits = [0] * circuit.bits
        _play(parts[first:], state, Draws(seed, SHOTS, shot), bits)
        values[shot] = sum(bit << number for number, bit in enumerate(bits))
    return counts(values, circuit.bits)


def sampled_counts(state: StateVector, measured: Mapping[int, int], bits: int, count: int, seed: int) -> dict[str, int]:
    """Counts of `bits` classical bits; measured: bit -> qubit. Collective over: the state's group."""
    outcomes = sample(state, count, seed, list(measured.values()))
    return counts(_in_bits(outcomes, list(measured)), bits)


def segments(qubits: int, operations: Sequence[Operation]) -> Iterator[Circuit | Measure | Reset | If]:
    """Runs of gates as circuits, with what is between them."""
    gates: list[Operation] = []
    for operation in operations:
        if isinstance(operation, Gate):
            gates.append(operation)
            continue
        if gates:
            yield Circuit(qubits, tuple(gates))
            gates = []
        yield operation
    if gates:
        yield Circuit(qubits, tuple(gates))


def final_measurements(circuit: Circuit) -> dict[int, int]:
    """bit -> qubit where every measurement is the last thing done to its qubit; empty where one is not, or none is."""
    found: dict[int, int] = {}
    for operation in circuit.operations:
        if isinstance(operation, Measure):
            if operation.qubit in found.values() or operation.bit in found:
                return {}
            found[operation.bit] = operation.qubit
        elif not isinstance(operation, Gate) or set(operation.qubits) & set(found.values()):
            return {}
    return found if len(found) <= 63 else {}


def holds(condition: If, bits: Sequence[int]) -> bool:
    """Whether classical bits have the value of a condition."""
    return sum(bits[bit] << number for number, bit in enumerate(condition.bits)) == condition.value


def _play(parts: Iterable[Circuit | Measure | Reset | If], state: StateVector, random: Random, bits: list[int]) -> None:
    for part in parts:
        operation: Circuit | Operation = part
        while isinstance(operation, If):
            if not holds(operation, bits):
                break
            operation = operation.operation
        if isinstance(operation, Circuit):
            apply_(state, operation)
        elif isinstance(operation, Gate):
            apply_(state, Circuit(state.qubits, (operation,)))
        elif isinstance(operation, Measure):
            bits[operation.bit] = measure_(state, operation.qubit, random.next())
        elif isinstance(operation, Reset):
            reset_(state, operation.qubit, random.next())


def _in_bits(outcomes: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Bit k of an outcome put at bit order[k]."""
    values = np.zeros(len(outcomes), np.uint64)
    for number, bit in enumerate(order):
        values |= (outcomes >> np.uint64(number) & np.uint64(1)) << np.uint64(bit)
    return values
