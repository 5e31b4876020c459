"""Circuits by name, of a few numbers. What is trained or given per sample is a Parameter, numbered from 0."""

import math
import random as randomness
from collections.abc import Callable, Sequence
from itertools import combinations

from app.plan.circuits.amplitudes import amplitude_embedding
from app.plan.circuits.circuit import Circuit, Gate, Parameter

MOST_QUBITS = 65_536
MOST_STEPS = 5_000_000


def ghz(qubits: int) -> Circuit:
    """(|0...0> + |1...1>) / sqrt 2, by a chain of cx."""
    _positive(qubits=qubits)
    chain = (Gate("x", (q + 1,), (), (q,)) for q in range(qubits - 1))
    return Circuit(qubits, (Gate("h", (0,)), *chain), name="ghz")


def angle_embedding(qubits: int, rotation: str = "X") -> Circuit:
    """A rotation by one parameter per qubit, about X, Y or Z (after h, as a Z rotation alone changes no 0)."""
    _positive(qubits=qubits)
    name = _choice("rotation", rotation, {"X": "rx", "Y": "ry", "Z": "rz"})
    before = [Gate("h", (q,)) for q in range(qubits)] if name == "rz" else []
    turns = [Gate(name, (q,), (Parameter(q),)) for q in range(qubits)]
    return Circuit(qubits, (*before, *turns), parameters=qubits, name="angle_embedding")


def iqp_embedding(values: Sequence[float], repeats: int = 1) -> Circuit:
    """h, rz(x_i) and rzz(x_i x_j) of every pair, repeated. Products of values are not affine, so they are numbers.

    Havlicek et al., Nature 567, 209 (2019), in the form of PennyLane's IQPEmbedding.
    """
    _positive(repeats=repeats)
    x = _numbers("values", values)
    layer = [Gate("h", (q,)) for q in range(len(x))]
    layer += [Gate("rz", (q,), (value,)) for q, value in enumerate(x)]
    layer += [Gate("rzz", (a, b), (x[a] * x[b],)) for a in range(len(x)) for b in range(a + 1, len(x))]
    return Circuit(len(x), tuple(layer * repeats), name="iqp_embedding")


def strongly_entangling(qubits: int, layers: int, imprimitive: str = "cx") -> Circuit:
    """Per layer l (from 0) a rotation of every qubit by three parameters, then a ring of cx (or cz) with range
    l mod (qubits - 1) + 1. Parameters are numbered as an array (layers, qubits, 3) of (phi, theta, omega) of
    rz(omega) ry(theta) rz(phi), phi first. Schuld et al., PRA 101, 032308 (2020); PennyLane's order.
    """
    _positive(qubits=qubits, layers=layers)
    name = _choice("imprimitive", imprimitive, _PAIRS)
    gates: list[Gate] = []
    for layer in range(layers):
        for q in range(qubits):
            first = 3 * (layer * qubits + q)
            gates += [
                Gate("rz", (q,), (Parameter(first),)),
                Gate("ry", (q,), (Parameter(first + 1),)),
                Gate("rz", (q,), (Parameter(first + 2),)),
            ]
        if qubits > 1:
            reach = layer % (qubits - 1) + 1
            gates += [Gate(name, ((q + reach) % qubits,), (), (q,)) for q in range(qubits)]
    return Circuit(qubits, tuple(gates), parameters=3 * layers * qubits, name="strongly_entangling")


def hardware_efficient(
    qubits: int, layers: int, rotations: str = "ry rz", entangler: str = "cz", pattern: str = "chain"
) -> Circuit:
    """Per layer each of the rotations on every qubit, then cz or cx along a chain or a ring; rotations once more last.

    Parameters are numbered as an array (layers + 1, rotations, qubits). Kandala et al., Nature 549, 242 (2017).
    """
    _positive(qubits=qubits, layers=layers)
    names = [_choice("rotations", word, {"rx": "rx", "ry": "ry", "rz": "rz"}) for word in str(rotations).split()]
    if not names:
        raise ValueError('rotations: expected some of rx, ry, rz, as in "ry rz"')
    name = _choice("entangler", entangler, _PAIRS)
    last = qubits if _choice("pattern", pattern, {"chain": "chain", "ring": "ring"}) == "ring" else qubits - 1
    pairs = range(last if qubits > 2 else qubits - 1)
    gates: list[Gate] = []
    parameters = 0
    for layer in range(layers + 1):
        for rotation in names:
            gates += [Gate(rotation, (q,), (Parameter(parameters + q),)) for q in range(qubits)]
            parameters += qubits
        if layer < layers:
            gates += [Gate(name, ((q + 1) % qubits,), (), (q,)) for q in pairs]
    return Circuit(qubits, tuple(gates), parameters=parameters, name="hardware_efficient")


def qaoa(edges: Sequence[Sequence[int]], layers: int = 1, weights: Sequence[float] | None = None) -> Circuit:
    """h on all, then per layer exp(-i gamma w/2 Z Z) per edge and exp(-i beta X) per qubit.

    Parameters: gamma_0, beta_0, gamma_1, ... Farhi et al., arXiv:1411.4028; the cost is sum w/2 (Z Z - 1).
    """
    _positive(layers=layers)
    pairs = [_edge(edge) for edge in edges]
    if not pairs:
        raise ValueError("edges: expected at least one pair of qubits")
    factors = [1.0] * len(pairs) if weights is None else _numbers("weights", weights)
    if len(factors) != len(pairs):
        raise ValueError(f"weights: {len(factors)} for {len(pairs)} edges; expected as many")
    qubits = 1 + max(map(max, pairs))
    _positive(qubits=qubits)
    gates = [Gate("h", (q,)) for q in range(qubits)]
    for layer in range(layers):
        gates += [
            Gate("rzz", pair, (Parameter(2 * layer, weight),)) for pair, weight in zip(pairs, factors, strict=True)
        ]
        gates += [Gate("rx", (q,), (Parameter(2 * layer + 1, 2.0),)) for q in range(qubits)]
    return Circuit(qubits, tuple(gates), parameters=2 * layers, name="qaoa")


def excitations(qubits: int, electrons: int) -> Circuit:
    """x on the first qubits, one an electron, then a rotation for each way to lift two electrons, and one, that keeps
    the spin; even qubits are spin up. The number of electrons stays. From |1...0...> an angle t leads to
    cos(t/2) |1...0...> - sin(t/2) |0...1...>.

    Arrazola et al., Quantum 6, 742 (2022); PennyLane's AllSinglesDoubles: doubles before singles.
    """
    _positive(qubits=qubits, electrons=electrons)
    if electrons >= qubits:
        raise ValueError(f"electrons: {electrons} on {qubits} qubits; expected fewer, so that some can be lifted")
    ways = math.comb(electrons, 2) * math.comb(qubits - electrons, 2)
    if ways > MOST_STEPS:
        raise ValueError(f"electrons: {ways} ways to lift two of them; expected a smaller circuit")
    held, free = range(electrons), range(electrons, qubits)
    pairs = [(low, high) for low in combinations(held, 2) for high in combinations(free, 2)]
    lifts: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        (low, high) for low, high in pairs if _spin(low) == _spin(high)
    ]
    lifts += [((q,), (r,)) for q in held for r in free if _spin((q,)) == _spin((r,))]
    if not lifts:
        raise ValueError(f"electrons: none of {electrons} on {qubits} qubits can be lifted; expected more qubits")
    turns = [gate for number, (low, high) in enumerate(lifts) for gate in _lift(low, high, Parameter(number))]
    ground = [Gate("x", (q,)) for q in held]
    return Circuit(qubits, (*ground, *turns), parameters=len(lifts), name="excitations")


def qft(qubits: int) -> Circuit:
    """The Fourier transform of the amplitudes, exp(2 pi i j k / 2^qubits) / 2^(qubits/2), with swaps at the end."""
    _positive(qubits=qubits)
    gates: list[Gate] = []
    for target in reversed(range(qubits)):
        gates.append(Gate("h", (target,)))
        # math.ldexp: an angle too small for a double is 0, not an error
        gates += [
            Gate("p", (target,), (math.ldexp(math.pi, control - target),), (control,))
            for control in reversed(range(target))
        ]
    gates += [Gate("swap", (q, qubits - 1 - q)) for q in range(qubits // 2)]
    return Circuit(qubits, tuple(gates), name="qft")


def random(qubits: int, depth: int, seed: int = 0, entangler: str = "cz") -> Circuit:
    """Per layer a u gate of uniform angles on every qubit, then cz or cx on random disjoint pairs; a seed fixes all."""
    _positive(qubits=qubits, depth=depth)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"seed: found {seed!r}; expected an integer")
    name = _choice("entangler", entangler, _PAIRS)
    draw = randomness.Random(seed)
    gates: list[Gate] = []
    for _ in range(depth):
        for q in range(qubits):
            # One call after another: the order of the draws is part of what the seed fixes.
            theta = draw.uniform(0, math.pi)
            phi = draw.uniform(-math.pi, math.pi)
            gates.append(Gate("u", (q,), (theta, phi, draw.uniform(-math.pi, math.pi))))
        order = draw.sample(range(qubits), qubits)
        gates += [Gate(name, (b,), (), (a,)) for a, b in zip(order[::2], order[1::2], strict=False)]
    return Circuit(qubits, tuple(gates), name="random")


def _spin(qubits: Sequence[int]) -> int:
    return sum(q % 2 for q in qubits)


def _lift(low: Sequence[int], high: Sequence[int], angle: Parameter) -> list[Gate]:
    """A rotation between |low: 1, high: 0> and |low: 0, high: 1>, and of nothing else."""
    first, others = low[0], (*low[1:], *high)
    # with cx the two states differ in the first qubit alone: the other low ones are 0 and the high ones 1
    chain = [Gate("x", (q,), (), (first,)) for q in others]
    flips = [Gate("x", (q,)) for q in low[1:]]
    return [*chain, *flips, Gate("ry", (first,), (angle,), others), *flips, *reversed(chain)]


_PAIRS = {"cx": "x", "cz": "z"}


def _positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_QUBITS:
            raise ValueError(f"{name}: found {number!r}; expected an integer from 1 to {MOST_QUBITS}")
    if math.prod(numbers.values()) > MOST_STEPS:
        raise ValueError(f"{' times '.join(numbers)} is more than {MOST_STEPS}; expected a smaller circuit")


def _choice(name: str, word: str, known: dict[str, str]) -> str:
    if not isinstance(word, str) or word not in known:
        raise ValueError(f"{name}: found {word!r}; expected one of {', '.join(known)}")
    return known[word]


def _numbers(name: str, values: Sequence[float]) -> list[float]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(f"{name}: expected a list of numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name}: found {value!r}; expected finite numbers")
    return [float(value) for value in values]


def _edge(edge: Sequence[int]) -> tuple[int, int]:
    whole = not isinstance(edge, str) and isinstance(edge, Sequence) and len(edge) == 2
    if not whole or any(isinstance(q, bool) or not isinstance(q, int) or q < 0 for q in edge) or edge[0] == edge[1]:
        raise ValueError(f"edges: {edge!r} is not a pair of different qubits")
    return edge[0], edge[1]


TEMPLATES: dict[str, Callable[..., Circuit]] = {
    "ghz": ghz,
    "angle_embedding": angle_embedding,
    "amplitude_embedding": amplitude_embedding,
    "iqp_embedding": iqp_embedding,
    "strongly_entangling": strongly_entangling,
    "hardware_efficient": hardware_efficient,
    "qaoa": qaoa,
    "excitations": excitations,
    "qft": qft,
    "random": random,
}
