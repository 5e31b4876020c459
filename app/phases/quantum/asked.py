"""What a quantum phase is asked for: its circuit, its observable, and the ranks that hold the state."""

import inspect
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from app.circuits.draws import uniforms
from app.circuits.on_device import pays
from app.errors import ArtifactError, InputError, MachineError
from app.inputfile.phases import Quantum
from app.networks.user import load_function
from app.parallel.group import Group
from app.phases.context import Context
from app.plan.circuits.chosen import observable_of
from app.plan.circuits.circuit import Circuit
from app.plan.circuits.paulis import PauliSum
from app.plan.plan import PhasePlan
from app.plan.quantum import Holding, circuit_problems, holding, quantum_notes

START = 11  # what the random numbers of the first values are for


class Asked(NamedTuple):
    """circuit: with parameters. values: of them, those to begin with. held: by how many ranks; `group`: these, where
    this is one of them and there are several; `mine`: whether it is one. device: an accelerator that computes the
    state of one rank; None: the compiled loops do.
    """

    phase: Quantum
    circuit: Circuit
    observable: PauliSum | None
    values: np.ndarray
    held: Holding
    group: Group | None
    mine: bool
    device: torch.device | None = None

    @property
    def bound(self) -> Circuit:
        """The circuit with its values."""
        return self.circuit.bound(self.values.tolist()) if self.circuit.parameters else self.circuit


def asked_for(context: Context, plan: PhasePlan) -> Asked:
    """The tables of the phase as things. Collective over: world. Raises InputError, MachineError."""
    phase: Quantum = plan.phase  # type: ignore[assignment]
    observable = observable_of(phase)
    circuit = context.plan.circuits.get(phase.name)
    if circuit is None:
        circuit = context.together(lambda: _from_function(context, phase, observable))
        for note in quantum_notes(phase, circuit, context.world.size):
            context.log.warn(f'[[phase]] "{phase.name}": {note}')
    held = holding(phase, circuit, context.world.size)
    context.together(lambda: _refuse_large(context, circuit, held))
    values = context.together(lambda: _values(context, phase, circuit))
    mine = context.world.rank < held.ranks
    group = context.everyone.split(int(mine), context.world.rank)
    device = _device(context, phase, circuit, held)
    return Asked(phase, circuit, observable, values, held, group if mine and held.ranks > 1 else None, mine, device)


def _device(context: Context, phase: Quantum, circuit: Circuit, held: Holding) -> torch.device | None:
    if phase.backend != "statevector" or not pays(context.device, circuit.qubits):
        return None
    if held.ranks > 1:
        context.log.warn(
            f'[[phase]] "{phase.name}": {held.ranks} ranks hold the state and compute it on their CPUs;'
            " accelerators compute states of one rank."
        )
        return None
    return context.device


def _from_function(context: Context, phase: Quantum, observable: PauliSum | None) -> Circuit:
    """The user's own circuit, checked as the others are before the run."""
    word = str(phase.circuit.function)
    file, _, name = context.user_file(word).rpartition(":")
    subject = f'[[phase]] "{phase.name}": circuit: function = "{word}"'
    function = load_function(Path(file), name, subject)
    try:
        inspect.signature(function).bind(**phase.circuit.options)
        circuit = function(**phase.circuit.options)
    except Exception as error:  # whatever a user's function may raise
        raise InputError(f"{subject}: {type(error).__name__}: {' '.join(str(error).split())}.") from error
    if not isinstance(circuit, Circuit):
        raise InputError(f"{subject} returned {type(circuit).__name__}; expected an app.plan.circuits.circuit.Circuit.")
    observed = observable.qubits if observable else 0
    problems = circuit_problems(phase, circuit, observed, context.plan.input, context.world.size)
    if problems:
        raise InputError(*(f'[[phase]] "{phase.name}": {problem}' for problem in problems))
    return circuit


def _values(context: Context, phase: Quantum, circuit: Circuit) -> np.ndarray:
    """Of the circuit's parameters (P,) float64: given, found by an earlier phase, or to begin with."""
    if isinstance(phase.values, tuple):
        return np.array(phase.values, np.float64)
    if phase.values is not None:
        found = context.results.read().get("phases", {})
        values = found.get(phase.values, {}).get("values") if isinstance(found, dict) else None  # type: ignore[union-attr]
        if not isinstance(values, np.ndarray):
            raise ArtifactError(f'{context.results.path}: there are no values of phase "{phase.values}" in it.')
        if len(values) != circuit.parameters:
            raise InputError(
                f'[[phase]] "{phase.name}": values = "{phase.values}": {len(values)} numbers, but the circuit has'
                f" {circuit.parameters} parameters."
            )
        return values
    if phase.start == "zeros" or not circuit.parameters:
        return np.zeros(circuit.parameters)
    drawn = uniforms(circuit.parameters, context.plan.input.run.seed, START)
    return phase.spread * (2 * drawn - 1)


def _refuse_large(context: Context, circuit: Circuit, held: Holding) -> None:
    """A state that the hosts' memory cannot hold; found before it is half made."""
    hosts = context.world.hosts[: held.ranks]
    here = hosts.count(context.world.host) if context.world.rank < held.ranks else 0
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    need = here * held.bytes * held.copies
    if need > memory:
        raise MachineError(
            f"{circuit.qubits} qubits on {held.ranks} ranks take {need:,} bytes on host {context.world.host}, which has"
            f" {memory:,}. What to try: more hosts, or precision complex64."
        )
