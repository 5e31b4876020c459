"""Gates by name, built in and defined by the text; a call becomes gates of gates.py."""

from collections.abc import Sequence
from typing import NamedTuple

from app.plan.circuits.circuit import Angle, Gate
from app.plan.circuits.qasm.expressions import Code, angle
from app.plan.circuits.qasm.known import Native
from app.plan.circuits.qasm.modifiers import controlled, inverse, power_of_one

MOST_OPERATIONS = 5_000_000
DEEPEST_DEFINITION = 100


class Modifier(NamedTuple):
    """kind: "ctrl", "negctrl" (number qubits), "inv" or "pow" (exponent)."""

    kind: str
    number: int = 0
    exponent: float = 1.0


class Call(NamedTuple):
    """A gate called in a definition; qubits are places among the definition's own."""

    gate: "Native | Definition"
    modifiers: tuple[Modifier, ...]
    angles: tuple[Code, ...]
    qubits: tuple[int, ...]


class Definition(NamedTuple):
    """A gate that the text defines. depth: of definitions below it; size: least number of calls it comes to."""

    name: str
    angles: int
    qubits: int
    body: tuple[Call, ...]
    depth: int
    size: int


class Budget:
    """How many operations the text may still come to. Counts calls too, which may come to none."""

    def __init__(self, most: int = MOST_OPERATIONS) -> None:
        self.most = most
        self.left = most

    def spend(self, count: int) -> None:
        """Take `count`. Raises ValueError when none are left."""
        self.expect(count)
        self.left -= count

    def expect(self, count: int) -> None:
        """Raise ValueError unless `count` are left."""
        if count > self.left:
            raise ValueError(f"the circuit comes to more than {self.most} operations; cut it into several")


def expand(gate: Native | Definition, angles: Sequence[Angle], qubits: Sequence[int], budget: Budget) -> list[Gate]:
    """The gates that a call without modifiers stands for. Raises ValueError with a sentence."""
    budget.spend(1)
    if isinstance(gate, Native):
        given = () if gate.gate == "id" else gate.fixed + tuple(angles)
        return [Gate(gate.gate, tuple(qubits[gate.controls :]), given, tuple(qubits[: gate.controls]))]
    # Asked before the work, which is exponential in the length of a hostile text.
    budget.expect(gate.size)
    gates: list[Gate] = []
    for call in gate.body:
        below = [angle(code, angles) for code in call.angles]
        gates += apply(call.gate, call.modifiers, below, [qubits[place] for place in call.qubits], budget)
    return gates


def apply(
    gate: Native | Definition,
    modifiers: tuple[Modifier, ...],
    angles: Sequence[Angle],
    qubits: Sequence[int],
    budget: Budget,
) -> list[Gate]:
    """The gates that a call stands for; the qubits of the leftmost ctrl come first. Raises ValueError."""
    if not modifiers:
        return expand(gate, angles, qubits, budget)
    controls: list[tuple[int, ...]] = []
    first = 0
    for modifier in modifiers:
        controls.append(tuple(qubits[first : first + modifier.number]))
        first += modifier.number
    gates = expand(gate, angles, qubits[first:], budget)
    for modifier, own in zip(reversed(modifiers), reversed(controls), strict=True):
        budget.spend(len(gates))
        if modifier.kind == "inv":
            gates = inverse(gates)
        elif modifier.kind == "pow":
            gates = _power(gates, modifier.exponent, budget)
        else:
            gates = controlled(gates, own)
            if modifier.kind == "negctrl":
                turns = [Gate("x", (qubit,)) for qubit in own]
                gates = [*turns, *gates, *turns]
    return gates


def _power(gates: list[Gate], exponent: float, budget: Budget) -> list[Gate]:
    if len(gates) == 1 and (powered := power_of_one(gates[0], exponent)) is not None:
        return [powered]
    if not float(exponent).is_integer():
        raise ValueError(
            f"pow({exponent}) of a gate of several steps, of parameters or of several targets without an angle; "
            "such a gate has whole powers alone"
        )
    budget.spend(len(gates) * int(abs(exponent)))
    return (inverse(gates) if exponent < 0 else gates) * int(abs(exponent))
