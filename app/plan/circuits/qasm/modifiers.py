"""What inv, pow and ctrl make of a list of gates."""

import cmath
import math
from collections.abc import Sequence

from app.plan.circuits.circuit import Angle, Gate, Matrix, Parameter
from app.plan.circuits.gates import adjoint, matrix

_OWN_INVERSE = frozenset(("id", "x", "y", "z", "h", "swap"))
_INVERSES = {"s": "sdg", "sdg": "s", "t": "tdg", "tdg": "t", "sx": "sxdg", "sxdg": "sx"}
# Gates whose first power is that of their angle.
_LINEAR = frozenset(("rx", "ry", "rz", "p", "gphase", "rxx", "ryy", "rzz", "rzx"))
# diag(1, exp(i phase))
_PHASES = {"z": math.pi, "s": math.pi / 2, "sdg": -math.pi / 2, "t": math.pi / 4, "tdg": -math.pi / 4}
# Gates of two targets without angles: the power that is one.
_ORDERS = {"swap": 2, "iswap": 4}


def inverse(gates: Sequence[Gate]) -> list[Gate]:
    """The gates that undo these."""
    return [undone for gate in reversed(gates) for undone in _inverse(gate)]


def _inverse(gate: Gate) -> list[Gate]:
    name = gate.name
    if name in _OWN_INVERSE:
        return [gate]
    if name in _INVERSES:
        return [gate._replace(name=_INVERSES[name])]
    if name in _LINEAR:
        return [gate._replace(angles=(scaled(gate.angles[0], -1.0),))]
    if name == "u":
        theta, phi, lam = (scaled(angle, -1.0) for angle in gate.angles)
        return [gate._replace(angles=(theta, lam, phi))]
    if name == "r":
        return [gate._replace(angles=(scaled(gate.angles[0], -1.0), gate.angles[1]))]
    if name == "iswap":
        # Its square is Z on both.
        return [*(Gate("z", (target,), (), gate.controls) for target in gate.targets), gate]
    return [gate._replace(matrix=adjoint(matrix(gate)))]


def scaled(angle: Angle, factor: float) -> Angle:
    """factor * angle."""
    if isinstance(angle, Parameter):
        return Parameter(angle.index, angle.scale * factor, angle.offset * factor)
    return angle * factor


def controlled(gates: Sequence[Gate], controls: tuple[int, ...]) -> list[Gate]:
    """The gates where these qubits are 1."""
    return [gate._replace(controls=controls + gate.controls) for gate in gates]


def power_of_one(gate: Gate, exponent: float) -> Gate | None:
    """The gate to a real power: the principal one, as in OpenQASM 3. None where that is not known."""
    if gate.name in _LINEAR:
        return gate._replace(angles=(scaled(gate.angles[0], exponent),))
    if gate.name == "r":
        return gate._replace(angles=(scaled(gate.angles[0], exponent), gate.angles[1]))
    if gate.name in _PHASES:
        return gate._replace(name="p", angles=(_PHASES[gate.name] * exponent,))
    if gate.name == "x" and exponent in (0.5, -0.5):
        return gate._replace(name="sx" if exponent > 0 else "sxdg")
    if gate.name in _ORDERS:
        order = _ORDERS[gate.name]
        if not float(exponent).is_integer() or exponent % order > 1:
            return None
        return gate if exponent % order == 1 else Gate("id", gate.targets[:1], (), gate.controls)
    if len(gate.targets) != 1 or any(isinstance(angle, Parameter) for angle in gate.angles):
        return None
    if exponent == 1:
        return gate
    return Gate("unitary", gate.targets, (), gate.controls, _power(matrix(gate), exponent))


def _power(unitary: Matrix, exponent: float) -> Matrix:
    """A 2x2 unitary to a real power, through its eigenvalues, with phases in (-pi, pi]."""
    (a, b), (c, d) = unitary
    middle, apart = (a + d) / 2, cmath.sqrt((a - d) ** 2 / 4 + b * c)
    first, second = middle + apart, middle - apart
    if abs(apart) < 1e-12:
        factor = cmath.exp(1j * exponent * _phase(middle))
        return ((factor, 0j), (0j, factor))
    one, two = (cmath.exp(1j * exponent * _phase(value)) for value in (first, second))
    # f(M) = one (M - second) / (first - second) + two (M - first) / (second - first)
    slope = (one - two) / (first - second)
    return (
        (two + slope * (a - second), slope * b),
        (slope * c, two + slope * (d - second)),
    )


def _phase(value: complex) -> float:
    phase = cmath.phase(value)
    return math.pi if phase < -math.pi + 1e-12 else phase
