"""The circuits of the quantum benchmark, as names, qubits and angles that every simulator is given alike.

rand: 10 layers; a layer is u(theta, phi, lambda) with angles uniform in [0, 2 pi) (seed 24) on every qubit, then CZ on
the neighbours (q, q + 1) with q even in even layers and odd in odd ones. qft: for each qubit from the highest down, h,
then a controlled phase pi / 2^distance with every lower one; swaps at the end. ansatz: 3 layers of ry and rz on every
qubit, then a chain of CX; every angle a parameter.
"""

import math
import random
from typing import NamedTuple

DEPTH = 10
LAYERS = 3


class Op(NamedTuple):
    """u, h, ry, rz: one qubit. cz, cp, cx, swap: two, the control first."""

    name: str
    qubits: tuple[int, ...]
    angles: tuple[float, ...] = ()


class Listed(NamedTuple):
    """A circuit."""

    qubits: int
    ops: list[Op]


def listed(case: str) -> Listed:
    """By name and qubits: rand24, qft24, ansatz20."""
    name, qubits = case.rstrip("0123456789"), int(case.lstrip("abcdefghijklmnopqrstuvwxyz"))
    return Listed(qubits, {"rand": random_layers, "qft": qft, "ansatz": ansatz}[name](qubits))


def random_layers(qubits: int) -> list[Op]:
    """Depth 10."""
    make = random.Random(24)
    ops = []
    for layer in range(DEPTH):
        ops += [Op("u", (q,), tuple(make.uniform(0, 2 * math.pi) for _ in range(3))) for q in range(qubits)]
        ops += [Op("cz", (q, q + 1)) for q in range(layer % 2, qubits - 1, 2)]
    return ops


def qft(qubits: int) -> list[Op]:
    """Of |1>, with the swaps; the first operation makes |1>."""
    ops = [Op("u", (0,), (math.pi, 0.0, math.pi))]
    for high in reversed(range(qubits)):
        ops.append(Op("h", (high,)))
        ops += [Op("cp", (low, high), (math.pi / 2 ** (high - low),)) for low in reversed(range(high))]
    return ops + [Op("swap", (q, qubits - 1 - q)) for q in range(qubits // 2)]


def ansatz(qubits: int) -> list[Op]:
    """Its angles are the values of the parameters, in order."""
    make = random.Random(20)
    ops = []
    for _ in range(LAYERS):
        ops += [Op(name, (q,), (make.uniform(0, 2 * math.pi),)) for q in range(qubits) for name in ("ry", "rz")]
        ops += [Op("cx", (q, q + 1)) for q in range(qubits - 1)]
    return ops


def observable(name: str, qubits: int) -> dict[str, float]:
    """zsum: the sum of Z. ising: the sum of Z Z of neighbours, and half the sum of X."""
    if name == "zsum":
        return {f"Z{q}": 1.0 for q in range(qubits)}
    return {f"Z{q} Z{q + 1}": 1.0 for q in range(qubits - 1)} | {f"X{q}": 0.5 for q in range(qubits)}
