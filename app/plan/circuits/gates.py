"""The gates by name: their matrices, their derivatives, how many targets and angles they have.

Conventions are those of OpenQASM 3's stdgates.inc and Qiskit's library, global phases included:
rx, ry, rz and the two-qubit rotations are exp(-i angle/2 P); u(theta, phi, lambda) has a real upper left entry.
A controlled gate is the gate here with `controls`.
"""

import cmath
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from app.plan.circuits.circuit import Gate, Matrix

_R = math.sqrt(0.5)


class Kind(NamedTuple):
    """targets, angles: how many. matrix: of the angles, 2^targets rows."""

    targets: int
    angles: int
    matrix: Callable[..., Matrix]


def _fixed(*rows: tuple[complex, ...]) -> Callable[[], Matrix]:
    matrix = tuple(tuple(complex(x) for x in row) for row in rows)
    return lambda: matrix


def _rx(a: float) -> Matrix:
    c, s = math.cos(a / 2), math.sin(a / 2)
    return ((c, -1j * s), (-1j * s, c))


def _ry(a: float) -> Matrix:
    c, s = math.cos(a / 2), math.sin(a / 2)
    return ((c + 0j, -s + 0j), (s + 0j, c + 0j))


def _rz(a: float) -> Matrix:
    return ((cmath.exp(-0.5j * a), 0j), (0j, cmath.exp(0.5j * a)))


def _p(a: float) -> Matrix:
    return ((1 + 0j, 0j), (0j, cmath.exp(1j * a)))


def _u(theta: float, phi: float, lam: float) -> Matrix:
    c, s = math.cos(theta / 2), math.sin(theta / 2)
    return (
        (c + 0j, -cmath.exp(1j * lam) * s),
        (cmath.exp(1j * phi) * s, cmath.exp(1j * (phi + lam)) * c),
    )


def _r(theta: float, phi: float) -> Matrix:
    c, s = math.cos(theta / 2), math.sin(theta / 2)
    return ((c + 0j, -1j * cmath.exp(-1j * phi) * s), (-1j * cmath.exp(1j * phi) * s, c + 0j))


def _gphase(a: float) -> Matrix:
    return ((cmath.exp(1j * a),),)


def _pair_rotation(generator: Matrix) -> Callable[[float], Matrix]:
    """exp(-i a/2 G) of a generator whose square is one."""

    def matrix(a: float) -> Matrix:
        c, s = math.cos(a / 2), -1j * math.sin(a / 2)
        return tuple(
            tuple((c if row == column else 0) + s * value for column, value in enumerate(values))
            for row, values in enumerate(generator)
        )

    return matrix


def kron(high: Matrix, low: Matrix) -> Matrix:
    """The Kronecker product; `low` acts on the less significant bits."""
    return tuple(tuple(a * b for a in high_row for b in low_row) for high_row in high for low_row in low)


def product(left: Matrix, right: Matrix) -> Matrix:
    """left @ right: `right` acts first."""
    columns = tuple(zip(*right, strict=True))
    return tuple(tuple(sum(a * b for a, b in zip(row, column, strict=True)) for column in columns) for row in left)


def adjoint(matrix: Matrix) -> Matrix:
    """Conjugate transpose."""
    return tuple(tuple(complex(value).conjugate() for value in column) for column in zip(*matrix, strict=True))


_X: Matrix = ((0, 1), (1, 0))
_Y: Matrix = ((0, -1j), (1j, 0))
_Z: Matrix = ((1, 0), (0, -1))
_SX = _fixed((0.5 + 0.5j, 0.5 - 0.5j), (0.5 - 0.5j, 0.5 + 0.5j))

GATES: dict[str, Kind] = {
    "gphase": Kind(0, 1, _gphase),
    "id": Kind(1, 0, _fixed((1, 0), (0, 1))),
    "x": Kind(1, 0, _fixed(*_X)),
    "y": Kind(1, 0, _fixed(*_Y)),
    "z": Kind(1, 0, _fixed(*_Z)),
    "h": Kind(1, 0, _fixed((_R, _R), (_R, -_R))),
    "s": Kind(1, 0, _fixed((1, 0), (0, 1j))),
    "sdg": Kind(1, 0, _fixed((1, 0), (0, -1j))),
    "t": Kind(1, 0, _fixed((1, 0), (0, complex(_R, _R)))),
    "tdg": Kind(1, 0, _fixed((1, 0), (0, complex(_R, -_R)))),
    "sx": Kind(1, 0, _SX),
    "sxdg": Kind(1, 0, lambda: adjoint(_SX())),
    "rx": Kind(1, 1, _rx),
    "ry": Kind(1, 1, _ry),
    "rz": Kind(1, 1, _rz),
    "p": Kind(1, 1, _p),
    "u": Kind(1, 3, _u),
    "r": Kind(1, 2, _r),
    "swap": Kind(2, 0, _fixed((1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0), (0, 0, 0, 1))),
    "iswap": Kind(2, 0, _fixed((1, 0, 0, 0), (0, 0, 1j, 0), (0, 1j, 0, 0), (0, 0, 0, 1))),
    "rxx": Kind(2, 1, _pair_rotation(kron(_X, _X))),
    "ryy": Kind(2, 1, _pair_rotation(kron(_Y, _Y))),
    "rzz": Kind(2, 1, _pair_rotation(kron(_Z, _Z))),
    "rzx": Kind(2, 1, _pair_rotation(kron(_X, _Z))),
}
# Angles for which a derivative needs no more than a shift of pi: d/da M(a) = M(a + pi) / 2 (exp(-i a/2 P)).
ROTATIONS = ("rx", "ry", "rz", "rxx", "ryy", "rzz", "rzx")


def matrix_of(name: str, angles: Sequence[float]) -> Matrix:
    """The gate's matrix, targets[0] the least significant bit. Raises KeyError."""
    return GATES[name].matrix(*angles)


def matrix(gate: Gate) -> Matrix:
    """The matrix on the gate's targets, without its controls. Its angles must be numbers. Raises ValueError."""
    if gate.matrix is not None:
        return gate.matrix
    numbers = [angle for angle in gate.angles if isinstance(angle, int | float)]
    if len(numbers) < len(gate.angles):
        raise ValueError(f"{gate.name} has parameters without values; bind the circuit first")
    return matrix_of(gate.name, numbers)


def derivative(name: str, angles: Sequence[float], which: int) -> Matrix:
    """d matrix / d angles[which], exact."""
    if name in ROTATIONS:
        turned = matrix_of(name, [angles[0] + math.pi])
        return tuple(tuple(0.5 * value for value in row) for row in turned)
    if name == "p":
        return ((0j, 0j), (0j, 1j * cmath.exp(1j * angles[0])))
    if name == "gphase":
        return ((1j * cmath.exp(1j * angles[0]),),)
    if name == "u":
        return _u_derivative(*angles, which=which)
    if name == "r":
        return _r_derivative(*angles, which=which)
    raise ValueError(f"{name} has no angle to derive by")


def _u_derivative(theta: float, phi: float, lam: float, *, which: int) -> Matrix:
    if which == 0:
        return tuple(tuple(0.5 * value for value in row) for row in _u(theta + math.pi, phi, lam))
    (a, b), (c, d) = _u(theta, phi, lam)
    return ((0j, 0j), (1j * c, 1j * d)) if which == 1 else ((0j, 1j * b), (0j, 1j * d))


def _r_derivative(theta: float, phi: float, *, which: int) -> Matrix:
    if which == 0:
        return tuple(tuple(0.5 * value for value in row) for row in _r(theta + math.pi, phi))
    (_, b), (c, _) = _r(theta, phi)
    return ((0j, -1j * b), (1j * c, 0j))
