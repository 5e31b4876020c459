"""States of one rank on an accelerator, by torch: gates, energies and adjoint gradients.

Every step of a circuit is a few operations of torch on views of the state, so a device's memory holds the state once
and a half, in a gradient up to four times. What else is measured of it is measured on the host. Any device of torch
that computes with complex numbers will do, the CPU too.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from app.circuits.adjoint import Gradient, derivatives, trained_gates
from app.circuits.state import StateVector, zero_state
from app.plan.circuits.circuit import Circuit
from app.plan.circuits.lowering import Step, lower
from app.plan.circuits.paulis import PauliString, PauliSum

SMALLEST = 18  # qubits: fewer are computed faster than a device is told what to do (not measured)
KINDS = ("cuda", "xpu")  # devices of torch with complex128
DTYPES = {"complex64": torch.complex64, "complex128": torch.complex128}


def pays(device: torch.device, qubits: int) -> bool:
    """Whether states of so many qubits are computed on a device rather than by the compiled loops."""
    return device.type in KINDS and qubits >= SMALLEST


def evolved(circuit: Circuit, dtype: str, device: torch.device, threads: int = 1) -> StateVector:
    """|0...0> taken through a bound circuit of gates alone on the device; the state on the host.

    Collective over: none. Raises ValueError for what is no gate.
    """
    lowered = lower(circuit)
    psi = _zero(circuit.qubits, dtype, device)
    for step in lowered.steps:
        apply_(psi, step)
    psi *= lowered.factor
    state = zero_state(circuit.qubits, dtype, threads=threads)
    for part, values in ((state.re, psi.real), (state.im, psi.imag)):
        torch.from_numpy(part).copy_(values.reshape(-1))
    state.positions[:] = lowered.labels
    return state


def gradient_on(
    circuit: Circuit, values: Sequence[float], observable: PauliSum, dtype: str, device: torch.device
) -> Gradient:
    """As app.circuits.adjoint.gradient, with both states on the device. Collective over: none. Raises ValueError."""
    bound, trained = circuit.bound(list(values)), trained_gates(circuit)
    lowered = lower(bound, kept=trained)
    psi = _zero(circuit.qubits, dtype, device)
    for step in lowered.steps:
        apply_(psi, step)
    lam = torch.zeros_like(psi)
    for term in observable.terms:
        _add_string_(lam, psi, term, lowered.labels)
    energy = _overlap(lam, psi).real
    sums: dict[int, np.ndarray] = {}
    for number in reversed(range(len(lowered.steps))):
        step = lowered.steps[number]
        if any(gate in trained for gate, _ in step.parts):
            sums[number] = _sums(lam, psi, step)
        for state in (psi, lam):
            apply_(state, step.adjoint)
    return Gradient(energy, derivatives(circuit, bound, lowered.steps, sums))


def apply_(psi: Tensor, step: Step) -> None:
    """One step. psi: n dimensions of 2, qubit 0 the last."""
    if step.targets:
        views = [psi[place] for place in _places(psi, step)]
        new = torch.tensor(step.matrix, dtype=psi.dtype, device=psi.device) @ torch.stack(
            [v.reshape(-1) for v in views]
        )
        for view, values in zip(views, new, strict=True):
            view.copy_(values.reshape(view.shape))
    elif step.target < 0:
        (place,) = _places(psi, step)
        psi[place] *= complex(step.matrix[0][0])
    else:
        first, second = (psi[place] for place in _places(psi, step))
        ((a, b), (c, d)) = ((complex(value) for value in row) for row in step.matrix)
        new_first = (first * a).add_(second, alpha=b)
        second.mul_(d).add_(first, alpha=c)
        first.copy_(new_first)


def _zero(qubits: int, dtype: str, device: torch.device) -> Tensor:
    psi = torch.zeros((2,) * qubits, dtype=DTYPES[dtype], device=device)
    psi[(0,) * qubits] = 1
    return psi


def _places(psi: Tensor, step: Step) -> list[tuple[int | slice, ...]]:
    """Indices of what a step mixes, by the values of its targets, the first the least significant bit."""
    targets = step.targets or ((step.target,) if step.target >= 0 else ())
    place: list[int | slice] = [slice(None)] * psi.ndim
    for qubit in range(psi.ndim):
        if step.mask >> qubit & 1:
            place[psi.ndim - 1 - qubit] = step.value >> qubit & 1
    places = []
    for value in range(1 << len(targets)):
        for bit, qubit in enumerate(targets):
            place[psi.ndim - 1 - qubit] = value >> bit & 1
        places.append(tuple(place))
    return places


def _add_string_(lam: Tensor, psi: Tensor, term: PauliString, labels: Sequence[int]) -> None:
    """Add a Pauli string of psi. Y = i X Z, so the signs come first, then the flips."""
    flipped = [psi.ndim - 1 - labels[q] for q in range(psi.ndim) if term.x >> q & 1]
    signed = [psi.ndim - 1 - labels[q] for q in range(psi.ndim) if term.z >> q & 1]
    new = psi.clone() if signed else psi
    for dim in signed:
        new.select(dim, 1).neg_()
    factor = term.coefficient * 1j ** (term.x & term.z).bit_count()
    lam.add_(new.flip(flipped) if flipped else new, alpha=factor)


def _overlap(lam: Tensor, psi: Tensor) -> complex:
    """Sum of conj(lam) psi, added up in complex128."""
    return complex((lam.conj() * psi).sum(dtype=torch.complex128).item())


def _sums(lam: Tensor, psi: Tensor, step: Step) -> np.ndarray:
    """The 2x2 table of a step that app.circuits.adjoint speaks of; of a phase only entry 1, 1."""
    places = _places(psi, step)
    if step.target < 0:
        return np.array([[0, 0], [0, _overlap(lam[places[0]], psi[places[0]])]])
    return np.array([[_overlap(lam[r], psi[c]) for c in places] for r in places])
