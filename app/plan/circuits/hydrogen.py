"""The hydrogen molecule in a minimal basis as a sum of Pauli strings on four qubits, from its integrals.

STO-3G: each 1s orbital is three Gaussians. Source: Szabo and Ostlund, Modern Quantum Chemistry (1996), section 3.5 and
appendix A (all integrals of s-type Gaussians), table 3.1 and scaling factor 1.24. The two molecular orbitals, bonding
and antibonding, follow from symmetry. Fermions to qubits: Jordan and Wigner, Z. Phys. 47, 631 (1928).
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

from app.plan.circuits.paulis import PauliSum, pauli_sum

BOHR = 0.529177210903  # angstrom, CODATA 2018
# exponents and coefficients of STO-3G for hydrogen as the Basis Set Exchange has them
GAUSSIANS = (
    (3.42525091, 0.15432897),
    (0.62391373, 0.53532814),
    (0.16885540, 0.44463454),
)


class Integrals(NamedTuple):
    """Of the bonding orbital g and the antibonding u, in hartree; `exchange` is (gu|gu)."""

    repulsion: float
    one_g: float
    one_u: float
    gg: float
    uu: float
    gu: float
    exchange: float


def hydrogen(distance: float = 0.7414) -> PauliSum:
    """H2 at this distance in angstrom. Qubits: g up, g down, u up, u down; |0011> is the Hartree-Fock state.

    Raises ValueError.
    """
    if not 0.05 <= distance <= 50:
        raise ValueError(f"distance = {distance}: expected 0.05 to 50 angstrom")
    return jordan_wigner(integrals(distance / BOHR))


def jordan_wigner(found: Integrals) -> PauliSum:
    """The Hamiltonian of two orbitals of which each has a symmetry of its own."""
    terms: list[tuple[str, float]] = [("I", found.repulsion)]

    def pair(value: float, first: int, second: int) -> None:
        """value n_first n_second, with n = (1 - Z) / 2."""
        terms.extend(
            [
                ("I", value / 4),
                (f"Z{first}", -value / 4),
                (f"Z{second}", -value / 4),
                (f"Z{first} Z{second}", value / 4),
            ]
        )

    for qubit, energy in enumerate((found.one_g, found.one_g, found.one_u, found.one_u)):
        terms += [("I", energy / 2), (f"Z{qubit}", -energy / 2)]
    pair(found.gg, 0, 1)
    pair(found.uu, 2, 3)
    for g, u in itertools.product((0, 1), (2, 3)):
        pair(found.gu - (found.exchange if u - g == 2 else 0.0), g, u)
    quarter = found.exchange / 4
    terms += [("X0 Y1 Y2 X3", quarter), ("Y0 X1 X2 Y3", quarter), ("X0 X1 Y2 Y3", -quarter), ("Y0 Y1 X2 X3", -quarter)]
    return pauli_sum(terms)


def integrals(distance: float) -> Integrals:
    """At this distance in bohr."""
    places = (0.0, distance)
    overlap = _contracted(_overlap, (0.0, distance))
    kinetic = [_contracted(_kinetic, (0.0, place)) for place in places]
    attraction = [sum(_contracted(_attracted(nucleus), (0.0, place)) for nucleus in places) for place in places]
    same, other = kinetic[0] + attraction[0], kinetic[1] + attraction[1]
    norm_g, norm_u = 2 * (1 + overlap), 2 * (1 - overlap)
    table = {
        sides: _contracted(_repulsion, [places[s] for s in sides]) for sides in itertools.product((0, 1), repeat=4)
    }

    def orbitals(*signs: int) -> float:
        """(ab|cd) of molecular orbitals; sign +1: g, -1: u."""
        norm = math.prod(math.sqrt(norm_g if sign > 0 else norm_u) for sign in signs)
        total = sum(
            value * math.prod(sign if side else 1 for sign, side in zip(signs, sides, strict=True))
            for sides, value in table.items()
        )
        return total / norm

    return Integrals(
        1 / distance,
        2 * (same + other) / norm_g,
        2 * (same - other) / norm_u,
        orbitals(1, 1, 1, 1),
        orbitals(-1, -1, -1, -1),
        orbitals(1, 1, -1, -1),
        orbitals(1, -1, 1, -1),
    )


Primitive = Callable[..., float]


def _contracted(primitive: Primitive, places: "list[float] | tuple[float, ...]") -> float:
    """An integral over contracted orbitals at places on one axis, as a sum over their Gaussians."""
    total = 0.0
    for chosen in itertools.product(GAUSSIANS, repeat=len(places)):
        weight = math.prod(c * (2 * a / math.pi) ** 0.75 for a, c in chosen)
        total += weight * primitive([a for a, _ in chosen], places)
    return total


def _overlap(a: list[float], at: list[float]) -> float:
    p = a[0] + a[1]
    return (math.pi / p) ** 1.5 * math.exp(-a[0] * a[1] / p * (at[0] - at[1]) ** 2)


def _kinetic(a: list[float], at: list[float]) -> float:
    reduced = a[0] * a[1] / (a[0] + a[1])
    return reduced * (3 - 2 * reduced * (at[0] - at[1]) ** 2) * _overlap(a, at)


def _attracted(nucleus: float) -> Primitive:
    def primitive(a: list[float], at: list[float]) -> float:
        p = a[0] + a[1]
        centre = (a[0] * at[0] + a[1] * at[1]) / p
        spread = math.exp(-a[0] * a[1] / p * (at[0] - at[1]) ** 2)
        return -2 * math.pi / p * spread * _boys(p * (centre - nucleus) ** 2)

    return primitive


def _repulsion(a: list[float], at: list[float]) -> float:
    p, q = a[0] + a[1], a[2] + a[3]
    left = (a[0] * at[0] + a[1] * at[1]) / p
    right = (a[2] * at[2] + a[3] * at[3]) / q
    exponent = a[0] * a[1] / p * (at[0] - at[1]) ** 2 + a[2] * a[3] / q * (at[2] - at[3]) ** 2
    factor = 2 * math.pi**2.5 / (p * q * math.sqrt(p + q)) * math.exp(-exponent)
    return factor * _boys(p * q / (p + q) * (left - right) ** 2)


def _boys(t: float) -> float:
    """F0(t)."""
    return 1 - t / 3 + t * t / 10 if t < 1e-7 else 0.5 * math.sqrt(math.pi / t) * math.erf(math.sqrt(t))
