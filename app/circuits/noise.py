"""Noise by trajectories: of each Kraus operator's alternatives one is chosen at random, by (seed, trajectory).

After each gate: depolarising noise on its qubits together, then amplitude and phase damping of each of them. The mean
over trajectories is that of the density matrix (Dalibard, Castin and Moelmer 1992; Nielsen and Chuang, section 8.3).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from app.circuits.draws import TRAJECTORIES, Draws
from app.circuits.expectation import expectation
from app.circuits.measurement import holds, measure_, project_, reset_
from app.circuits.probabilities import marginal
from app.circuits.sampling import counts
from app.circuits.simulate import apply_
from app.circuits.state import StateVector, restart_, zero_state
from app.parallel.group import Group
from app.plan.circuits.circuit import Circuit, Gate, If, Measure, Operation, Reset
from app.plan.circuits.paulis import PauliSum


@dataclass(frozen=True)
class NoiseModel:
    """Probabilities, each from 0 to 1.

    one_qubit, two_qubit: that after a gate on one qubit, or on more, one of the other 4^k - 1 Pauli strings acts.
    amplitude_damping: gamma, that a 1 decays; phase_damping: lambda. read_1_for_0, read_0_for_1: of a measurement.
    """

    one_qubit: float = 0.0
    two_qubit: float = 0.0
    amplitude_damping: float = 0.0
    phase_damping: float = 0.0
    read_1_for_0: float = 0.0
    read_0_for_1: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(f"{field.name} = {getattr(self, field.name)}; a probability, from 0 to 1")


@dataclass(frozen=True)
class Sharing:
    """Which trajectories are this rank's: those t with t mod groups = number, on states held by `group`.

    world: all ranks, which sum up together; None: this one. A rank that holds no state has number -1.
    """

    world: Group | None = None
    group: Group | None = None
    number: int = 0
    groups: int = 1


class Estimate(NamedTuple):
    """mean, and its standard error; values (T,) float64 by trajectory. Same for any number of ranks."""

    mean: float
    error: float
    values: np.ndarray


def sharing(world: Group, ranks: int) -> Sharing:
    """Groups of 1, 2, 4, ... ranks that hold a state each; what is left over holds none. Collective over: world.

    Raises ValueError when there are not so many ranks, or they are no power of two.
    """
    if ranks < 1 or ranks & (ranks - 1) or ranks > world.size:
        raise ValueError(f"states held by {ranks} ranks each, of {world.size}; expected 1, 2, 4, ...")
    groups = world.size // ranks
    number = world.rank // ranks
    group = world.split(number if number < groups else groups, world.rank)
    return Sharing(world, group if ranks > 1 else None, number if number < groups else -1, groups)


def trajectories(
    circuit: Circuit,
    noise: NoiseModel,
    observable: PauliSum,
    count: int,
    seed: int,
    shared: Sharing,
    *,
    dtype: str = "complex128",
    threads: int = 1,
) -> Estimate:
    """The expectation of an observable after a bound circuit with noise. Collective over: shared.world."""
    if count < 2:
        raise ValueError(f"{count} trajectories; at least 2, for a standard error")
    values = np.zeros(count)

    def keep(trajectory: int, state: StateVector, bits: list[int]) -> None:
        values[trajectory] = expectation(state, observable)

    _each(circuit, noise, count, seed, shared, dtype, threads, keep)
    _sum_(values, shared)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(count)), values)


def noisy_shots(
    circuit: Circuit,
    noise: NoiseModel,
    count: int,
    seed: int,
    shared: Sharing,
    *,
    dtype: str = "complex128",
    threads: int = 1,
) -> dict[str, int]:
    """Counts of the bits of a bound circuit with noise, a trajectory a shot. Collective over: shared.world."""
    if circuit.bits > 62:
        raise ValueError(f"{circuit.bits} classical bits; at most 62")
    values = np.zeros(count, np.int64)

    def keep(trajectory: int, state: StateVector, bits: list[int]) -> None:
        values[trajectory] = sum(bit << number for number, bit in enumerate(bits))

    _each(circuit, noise, count, seed, shared, dtype, threads, keep)
    _sum_(values, shared)
    return counts(values, circuit.bits)


def _each(
    circuit: Circuit,
    noise: NoiseModel,
    count: int,
    seed: int,
    shared: Sharing,
    dtype: str,
    threads: int,
    keep: Callable[[int, StateVector, list[int]], None],
) -> None:
    if shared.number < 0:
        return
    state = zero_state(circuit.qubits, dtype, shared.group, threads)
    for trajectory in range(shared.number, count, shared.groups):
        restart_(state)
        bits = Trajectory(state, noise, Draws(seed, TRAJECTORIES, trajectory)).run(circuit)
        keep(trajectory, state, bits)


def _sum_(values: np.ndarray, shared: Sharing) -> None:
    """Put together what each group has found; one rank a group gives a number, the others zero, so nothing rounds."""
    if shared.number < 0 or (shared.group and shared.group.rank):
        values[:] = 0
    if shared.world:
        shared.world.sum_(values)


class Trajectory:
    """One run of a circuit with noise. Gates and what noise makes of them wait until somebody needs the state."""

    def __init__(self, state: StateVector, noise: NoiseModel, random: Draws) -> None:
        self.state, self.noise, self.random = state, noise, random
        self._waiting: list[Operation] = []
        root = math.sqrt(1 - noise.amplitude_damping)
        self._no_decay = ((1 + 0j, 0j), (0j, root + 0j))
        self._flip = (1 - math.sqrt(1 - noise.phase_damping)) / 2  # phase damping is a Z so often

    def run(self, circuit: Circuit) -> list[int]:
        """The classical bits; the state is then normalised. Collective over: the state's group."""
        bits = [0] * circuit.bits
        for operation in circuit.operations:
            self._do(operation, bits)
        self._flush()
        self._normalise()
        return bits

    def _do(self, operation: Operation, bits: list[int]) -> None:
        if isinstance(operation, If):
            if holds(operation, bits):
                self._do(operation.operation, bits)
        elif isinstance(operation, Gate):
            self._waiting.append(operation)
            self._disturb(operation.qubits)
        elif isinstance(operation, Reset):
            self._flush()
            reset_(self.state, operation.qubit, self.random.next())
        elif isinstance(operation, Measure):
            self._flush()
            outcome = measure_(self.state, operation.qubit, self.random.next())
            wrong = self.noise.read_0_for_1 if outcome else self.noise.read_1_for_0
            bits[operation.bit] = outcome ^ (self.random.next() < wrong)

    def _disturb(self, qubits: tuple[int, ...]) -> None:
        """Draws as many numbers whatever they are, unless a probability is zero."""
        depolarising = self.noise.one_qubit if len(qubits) == 1 else self.noise.two_qubit
        if qubits and depolarising:
            error, which = self.random.next(), self.random.below(4 ** len(qubits) - 1) + 1
            if error < depolarising:
                names = [(which >> 2 * k & 3, qubit) for k, qubit in enumerate(qubits)]
                self._waiting += [Gate("xyz"[name - 1], (qubit,)) for name, qubit in names if name]
        for qubit in qubits:
            if self.noise.amplitude_damping:
                self._damp(qubit)
            if self.noise.phase_damping and self.random.next() < self._flip:
                self._waiting.append(Gate("z", (qubit,)))

    def _damp(self, qubit: int) -> None:
        """A decay has probability gamma times that of a 1, so most numbers rule it out before the state is looked at.

        Without one the state is multiplied by diag(1, sqrt(1 - gamma)), and loses norm until somebody measures.
        """
        random = self.random.next()
        if random < self.noise.amplitude_damping:
            self._flush()
            zero, one = marginal(self.state, (qubit,))
            if one > 0 and random * (zero + one) < self.noise.amplitude_damping * one:
                project_(self.state, qubit, 1, 1 / math.sqrt(one))
                self._waiting.append(Gate("x", (qubit,)))
                return
        self._waiting.append(Gate("unitary", (qubit,), matrix=self._no_decay))

    def _flush(self) -> None:
        if self._waiting:
            apply_(self.state, Circuit(self.state.qubits, tuple(self._waiting)))
            self._waiting = []

    def _normalise(self) -> None:
        if self.noise.amplitude_damping:
            scale = self.state.re.dtype.type(1 / math.sqrt(float(marginal(self.state, ())[0])))
            self.state.re *= scale
            self.state.im *= scale
