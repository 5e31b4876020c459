"""Sums of Pauli strings: observables and Hamiltonians."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

_FACTOR = re.compile(r"([IXYZ])(\d+)")


class PauliString(NamedTuple):
    """coefficient times a product of Paulis; masks have a bit per qubit: X in x, Z in z, Y in both."""

    coefficient: float
    x: int
    z: int

    @property
    def text(self) -> str:
        """Its factors, as "X0 Z3"; "I" of none."""
        factors = [
            f"{'IXZY'[(self.x >> q & 1) + 2 * (self.z >> q & 1)]}{q}"
            for q in range((self.x | self.z).bit_length())
            if (self.x | self.z) >> q & 1
        ]
        return " ".join(factors) or "I"


@dataclass(frozen=True)
class PauliSum:
    """Real coefficients times Pauli strings, each string once."""

    terms: tuple[PauliString, ...]

    @property
    def qubits(self) -> int:
        """Qubits it needs: the highest one named, and one more."""
        return max(((term.x | term.z).bit_length() for term in self.terms), default=0)


def pauli_sum(terms: Mapping[str, float] | Iterable[tuple[str, float]]) -> PauliSum:
    """From {"Z0 Z1": 0.5, "X0": -1.0, "I": 2.0}. Strings of the same factors are added. Raises ValueError."""
    pairs = terms.items() if isinstance(terms, Mapping) else terms
    sums: dict[tuple[int, int], float] = {}
    for text, coefficient in pairs:
        masks = _masks(text)
        sums[masks] = sums.get(masks, 0.0) + float(coefficient)
    return PauliSum(tuple(PauliString(value, *masks) for masks, value in sums.items()))


def _masks(text: str) -> tuple[int, int]:
    x = z = 0
    seen: set[int] = set()
    for factor in text.split():
        if factor == "I":
            continue
        match = _FACTOR.fullmatch(factor)
        if not match:
            raise ValueError(f"{text!r}: {factor!r} is not a Pauli such as X0, Y3 or Z12")
        qubit = int(match[2])
        if qubit in seen:
            raise ValueError(f"{text!r}: qubit {qubit} comes twice")
        seen.add(qubit)
        x |= (match[1] in "XY") << qubit
        z |= (match[1] in "ZY") << qubit
    return x, z
