"""Who runs circuits: our state vector, or Qiskit. Each gives energies on one rank, and the results of a simulation."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Protocol

import numpy as np
import torch

from app.circuits.estimate import estimated
from app.circuits.expectation import expectation
from app.circuits.measurement import sampled_counts, shots
from app.circuits.noise import NoiseModel, noisy_shots, sharing, trajectories
from app.circuits.on_device import evolved
from app.circuits.probabilities import marginal
from app.circuits.sampling import counts, sample
from app.circuits.simulate import Done, apply_, planned
from app.circuits.state import StateVector, zero_state
from app.circuits.with_qiskit import Qiskit
from app.errors import InputError
from app.phases.context import Context
from app.phases.quantum.asked import Asked
from app.phases.quantum.states import store_state
from app.plan.circuits.circuit import Circuit, Measure
from app.plan.circuits.passes import AMPLITUDE_BYTES
from app.plan.circuits.paulis import PauliSum
from app.plan.quantum import unitary_part
from app.storage.tree import Tree


class Backend(Protocol):
    """What a quantum phase needs of who runs its circuits."""

    def energy(self, circuit: Circuit, observable: PauliSum, seed: int) -> float:
        """Of a bound circuit of gates, on this rank alone; from samples where the phase has shots."""

    def simulate(self) -> Tree:
        """What is found of the phase's circuit, on rank 0. Collective over: world."""


class Statevector:
    """Our own simulator."""

    def __init__(self, context: Context, asked: Asked) -> None:
        self.context, self.asked = context, asked
        self.threads = context.plan.input.run.threads or context.world.threads

    def energy(self, circuit: Circuit, observable: PauliSum, seed: int) -> float:
        """Exact, or from shots."""
        phase = self.asked.phase
        if phase.shots:
            return estimated(circuit, observable, phase.shots, seed, phase.precision, self.threads)
        if self.asked.device is not None:
            return expectation(evolved(circuit, phase.precision, self.asked.device, self.threads), observable)
        state = zero_state(circuit.qubits, phase.precision, threads=self.threads)
        apply_(state, circuit)
        return expectation(state, observable)

    def simulate(self) -> Tree:
        """On the ranks that hold the state; with noise, trajectories on all of them."""
        if self.asked.phase.noise is not None:
            return self._noisy()
        return self._held() if self.asked.mine else {}

    def _held(self) -> Tree:
        asked, phase = self.asked, self.asked.phase
        body = unitary_part(asked.bound)
        if body is None:
            found = shots(
                asked.bound, phase.shots, self._seed(), dtype=phase.precision, group=asked.group, threads=self.threads
            )
            return {"samples": _table(found)}
        if asked.device is not None:
            return self._on_device(body, asked.device)
        state = zero_state(body.qubits, phase.precision, asked.group, self.threads)
        begun = perf_counter()
        _, plan = planned(body, state.positions, state.local_bits, state.dtype)
        between = perf_counter()
        done = apply_(state, body)
        seconds: Tree = {"plan": between - begun, "apply": perf_counter() - between}
        expected = plan.exchanged_bytes(state.local_bits, AMPLITUDE_BYTES[phase.precision])
        found_tree: Tree = {"exchanges": _traffic(plan.exchanges, expected, done), "passes": done.passes}
        begun = perf_counter()
        found_tree |= self._measured(state)
        seconds["measure"] = perf_counter() - begun
        return found_tree | {"seconds": seconds}

    def _on_device(self, body: Circuit, device: torch.device) -> Tree:
        begun = perf_counter()
        state = evolved(body, self.asked.phase.precision, device, self.threads)
        between = perf_counter()
        found = self._measured(state)
        return found | {"seconds": {"apply": between - begun, "measure": perf_counter() - between}}

    def _measured(self, state: StateVector) -> Tree:
        asked, phase = self.asked, self.asked.phase
        found: Tree = {}
        if asked.observable is not None:
            found["expectation"] = expectation(state, asked.observable)
        if phase.probabilities:
            found["probabilities"] = marginal(state, list(phase.probabilities))
        if phase.shots:
            found["samples"] = _table(_counted(state, asked.circuit, phase.shots, self._seed()))
        if phase.save_state:
            store_state(self.context, phase.name, state)
        return found

    def _noisy(self) -> Tree:
        asked, phase = self.asked, self.asked.phase
        assert phase.noise is not None
        model = NoiseModel(**phase.noise.model_dump())
        shared = sharing(self.context.everyone, 1)
        found: Tree = {}
        if asked.observable is not None:
            mean, error, _ = trajectories(
                asked.bound,
                model,
                asked.observable,
                phase.trajectories,
                self._seed(),
                shared,
                dtype=phase.precision,
                threads=self.threads,
            )
            found |= {"expectation": mean, "expectation_error": error}
        if phase.shots:
            told = _measuring(asked.bound)
            counted = noisy_shots(
                told, model, phase.shots, self._seed(), shared, dtype=phase.precision, threads=self.threads
            )
            found["samples"] = _table(counted)
        return found

    def _seed(self) -> int:
        return self.context.plan.input.run.seed


class WithQiskit:
    """Qiskit's primitives, on one rank at a time."""

    def __init__(self, context: Context, asked: Asked) -> None:
        self.context, self.asked, phase = context, asked, asked.phase
        self.machine = context.together(lambda: self._machine())
        context.log.info(f"{phase.name}: circuits run by {self.machine.name}")

    def _machine(self) -> Qiskit:
        phase = self.asked.phase
        try:
            return Qiskit(phase.device, phase.shots if phase.task == "minimise" else 0, phase.precision)
        except InputError as error:
            raise InputError(*(f'[[phase]] "{phase.name}": {problem}' for problem in error.problems)) from None

    def energy(self, circuit: Circuit, observable: PauliSum, seed: int) -> float:
        """By the estimator."""
        return self.machine.energy(circuit, observable, seed & 0x7FFFFFFF)

    def simulate(self) -> Tree:
        """On rank 0."""
        asked, phase = self.asked, self.asked.phase
        if not self.context.speaks:
            return {}
        begun, seed = perf_counter(), self.context.plan.input.run.seed & 0x7FFFFFFF
        found: Tree = {}
        body = unitary_part(asked.bound)
        if asked.observable is not None and body is not None:
            found["expectation"] = self.machine.energy(body, asked.observable, seed)
        if phase.shots:
            found["samples"] = _table(self.machine.counts(asked.bound, phase.shots, seed))
        if phase.probabilities and body is not None:
            counted = self.machine.counts(body, phase.shots, seed)
            found["probabilities"] = _shares(counted, phase.probabilities)
        return found | {"seconds": {"all": perf_counter() - begun}}


BACKENDS: dict[str, Callable[[Context, Asked], Backend]] = {"statevector": Statevector, "qiskit": WithQiskit}


def _traffic(exchanges: int, expected: int, done: Done) -> Tree:
    return {
        "expected": exchanges,
        "done": done.exchanges,
        "expected_bytes": expected,
        "bytes": done.sent_bytes,
    }


def _counted(state: StateVector, circuit: Circuit, count: int, seed: int) -> dict[str, int]:
    """Counts of the bits of a circuit that measures at its end, else of all qubits. Collective over: state's group."""
    measured = {one.bit: one.qubit for one in circuit.operations if isinstance(one, Measure)}
    if not measured:
        return counts(sample(state, count, seed), circuit.qubits)
    return sampled_counts(state, measured, circuit.bits, count, seed)


def _measuring(circuit: Circuit) -> Circuit:
    """The circuit, with measurements of all qubits where it has none."""
    if circuit.bits:
        return circuit
    every = tuple(Measure(qubit, qubit) for qubit in range(circuit.qubits))
    return Circuit(circuit.qubits, circuit.operations + every, circuit.qubits, name=circuit.name)


def _table(found: Mapping[str, int]) -> Tree:
    return {"bits": list(found), "counts": np.array(list(found.values()), np.int64)}


def _shares(found: Mapping[str, int], qubits: tuple[int, ...]) -> np.ndarray:
    """Probabilities of some qubits by counts of all."""
    shares = np.zeros(1 << len(qubits))
    for word, count in found.items():
        number = int(word.replace(" ", ""), 2)
        shares[sum((number >> qubit & 1) << place for place, qubit in enumerate(qubits))] += count
    return shares / shares.sum()
