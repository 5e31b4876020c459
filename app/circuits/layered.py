"""Circuits of equal layers, as a quantum layer of a network has them, and the constants their simulation needs.

A layer is RZ(phi), RY(theta), RZ(omega) on every qubit, then CNOTs. Qubit 0 is the least significant bit.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from app.plan.circuits.paulis import PauliString
from app.plan.layer_lists import rotation_groups

Pairs: TypeAlias = tuple[tuple[int, int], ...]  # control, target of CNOTs, in order


class Layered(NamedTuple):
    """The shape of a circuit: its qubits, and the CNOTs that end each layer."""

    qubits: int
    cnots: tuple[Pairs, ...]

    @property
    def layers(self) -> int:
        """Number of layers L."""
        return len(self.cnots)


def rings(qubits: int, layers: int) -> Layered:
    """A ring of CNOTs in each layer, from qubit q to q + 1, in the next layer q + 2, ..., up to q + qubits - 1.

    Source: Schuld et al., Circuit-centric quantum classifiers, 2020: strongly entangling layers, as in PennyLane.
    """
    reach = [layer % max(1, qubits - 1) + 1 for layer in range(layers)]
    one = range(qubits if qubits > 1 else 0)
    return Layered(qubits, tuple(tuple((q, (q + step) % qubits) for q in one) for step in reach))


def chains(qubits: int, layers: int) -> Layered:
    """CNOTs from each qubit to the next in each layer. Source: Kandala et al., Hardware-efficient VQE, 2017."""
    return Layered(qubits, (tuple((q, q + 1) for q in range(qubits - 1)),) * layers)


class Constants(NamedTuple):
    """What the simulation of a circuit needs and weights do not change; N = 2^n amplitudes.

    signs (n, N): 1 where the qubit is 0, -1 where it is 1. sources, targets: by layer (N,) int64, where an amplitude
    after the CNOTs comes from, and where one before them goes; None where there are none. groups: sizes of the groups
    of qubits, the most significant first; generators: by group (4^k, k), what picks the gradient of RY(theta_q) out of
    gradient x state.
    """

    signs: Tensor
    sources: tuple[Tensor | None, ...]
    targets: tuple[Tensor | None, ...]
    groups: tuple[int, ...]
    generators: tuple[Tensor, ...]


@lru_cache(maxsize=32)
def constants(circuit: Layered, dtype: torch.dtype, device: torch.device) -> Constants:
    """They are made once. Collective over: none."""
    known: dict[Pairs, tuple[Tensor | None, Tensor | None]] = {}
    for pairs in circuit.cnots:
        if pairs not in known:
            known[pairs] = _permutation(circuit.qubits, pairs, device)
    sizes = rotation_groups(circuit.qubits)
    return Constants(
        signs(circuit.qubits, dtype, device),
        tuple(known[pairs][0] for pairs in circuit.cnots),
        tuple(known[pairs][1] for pairs in circuit.cnots),
        sizes,
        tuple(_generators(size).to(device, dtype) for size in sizes),
    )


@lru_cache(maxsize=32)
def parities(
    circuit: Layered, strings: tuple[PauliString, ...], dtype: torch.dtype, device: torch.device, before: bool
) -> Tensor:
    """Signs that the strings' Z and Y give amplitudes (m, N); before: by their places before the last CNOTs.

    Collective over: none.
    """
    index = torch.arange(1 << circuit.qubits, device=device)
    if before and circuit.cnots:
        index = moved(index, circuit.cnots[-1])
    rows = []
    for string in strings:
        parity = torch.zeros_like(index)
        for qubit in range(circuit.qubits):
            if string.z >> qubit & 1:
                parity ^= index >> qubit & 1
        rows.append(1 - 2 * parity)
    return torch.stack(rows).to(dtype)


def signs(qubits: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Eigenvalues of Z on each qubit (n, N)."""
    index = torch.arange(1 << qubits, device=device)
    return torch.stack([1 - 2 * (index >> q & 1) for q in range(qubits)]).to(dtype)


def moved(index: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Where the CNOTs send basis states, by their index."""
    for control, target in pairs:
        index = index ^ ((index >> control & 1) << target)
    return index


def _permutation(qubits: int, pairs: Pairs, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    if not pairs:
        return None, None
    targets = moved(torch.arange(1 << qubits, device=device), pairs)
    return torch.argsort(targets), targets


def _generators(size: int) -> Tensor:
    """d RY(a)/da RY(a)^-1 = J/2 with J = [[0, -1], [1, 0]], on each qubit of a group, as columns (4^k, k)."""
    turn = torch.tensor([[0.0, -0.5], [0.5, 0.0]], dtype=torch.float64)
    whole = []
    for qubit in range(size):
        left = torch.eye(1 << (size - 1 - qubit), dtype=torch.float64)
        right = torch.eye(1 << qubit, dtype=torch.float64)
        whole.append(torch.kron(torch.kron(left, turn), right).reshape(-1))
    return torch.stack(whole, 1)
