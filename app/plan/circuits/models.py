"""Hamiltonians by name, as sums of Pauli strings."""

from collections.abc import Callable, Sequence

from app.plan.circuits.hydrogen import hydrogen
from app.plan.circuits.paulis import PauliSum, pauli_sum


def ising(qubits: int, coupling: float = 1.0, field: float = 1.0, periodic: bool = False) -> PauliSum:
    """-coupling sum Z Z of neighbours - field sum X: the transverse-field Ising chain. Raises ValueError."""
    terms = [(f"Z{a} Z{b}", -coupling) for a, b in _chain(qubits, periodic)]
    return pauli_sum(terms + [(f"X{q}", -field) for q in range(qubits)])


def heisenberg(
    qubits: int, x: float = 1.0, y: float = 1.0, z: float = 1.0, field: float = 0.0, periodic: bool = False
) -> PauliSum:
    """sum x XX + y YY + z ZZ of neighbours + field sum Z: the Heisenberg (XYZ) chain. Raises ValueError."""
    terms = [
        (f"{axis}{a} {axis}{b}", value)
        for a, b in _chain(qubits, periodic)
        for axis, value in (("X", x), ("Y", y), ("Z", z))
        if value
    ]
    return pauli_sum(terms + [(f"Z{q}", field) for q in range(qubits) if field])


def maxcut(edges: Sequence[Sequence[int]], weights: Sequence[float] | None = None) -> PauliSum:
    """sum w/2 (Z Z - 1) over edges: minus the weight that is cut. Raises ValueError."""
    for edge in edges:
        if (
            len(edge) != 2
            or edge[0] == edge[1]
            or any(isinstance(q, bool) or not isinstance(q, int) or q < 0 for q in edge)
        ):
            raise ValueError(f"edges: {list(edge)} is not a pair of different qubits")
    if not edges or (weights is not None and len(weights) != len(edges)):
        raise ValueError(f"{len(edges)} edges and {len(weights or ())} weights; expected one weight each, and an edge")
    terms: list[tuple[str, float]] = []
    for (a, b), weight in zip(edges, weights or [1.0] * len(edges), strict=True):
        terms += [(f"Z{a} Z{b}", weight / 2), ("I", -weight / 2)]
    return pauli_sum(terms)


def h2(distance: float = 0.7414) -> PauliSum:
    """The hydrogen molecule in STO-3G on 4 qubits, with the repulsion of its nuclei; distance in angstrom."""
    return hydrogen(distance)


MODELS: dict[str, Callable[..., PauliSum]] = {"ising": ising, "heisenberg": heisenberg, "maxcut": maxcut, "h2": h2}


def _chain(qubits: int, periodic: bool) -> list[tuple[int, int]]:
    if isinstance(qubits, bool) or not isinstance(qubits, int) or qubits < 2:
        raise ValueError(f"qubits = {qubits!r}: expected a whole number of at least 2")
    ring = [(qubits - 1, 0)] if periodic and qubits > 2 else []
    return [(q, q + 1) for q in range(qubits - 1)] + ring
