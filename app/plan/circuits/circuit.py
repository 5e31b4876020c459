"""A circuit: operations on numbered qubits, with angles that are numbers or parameters.

Qubit 0 is the least significant bit of the index of an amplitude, as in Qiskit and OpenQASM.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

Matrix: TypeAlias = tuple[tuple[complex, ...], ...]


class Parameter(NamedTuple):
    """An angle that depends on one trainable number: scale * values[index] + offset."""

    index: int  # type: ignore[assignment]  # tuples have a method of that name
    scale: float = 1.0
    offset: float = 0.0

    def value(self, values: Sequence[float]) -> float:
        """The angle in radians for these values of the circuit's parameters."""
        return self.scale * values[self.index] + self.offset


Angle: TypeAlias = float | Parameter


class Gate(NamedTuple):
    """A unitary by name (see gates.py) on its targets, where every control qubit is 1.

    targets[0] is the least significant bit of the gate's matrix. angles in radians.
    matrix: of the name "unitary" alone.
    """

    name: str
    targets: tuple[int, ...]
    angles: tuple[Angle, ...] = ()
    controls: tuple[int, ...] = ()
    matrix: Matrix | None = None

    @property
    def qubits(self) -> tuple[int, ...]:
        """Targets, then controls."""
        return self.targets + self.controls


class Measure(NamedTuple):
    """Measure one qubit in the Z basis into a classical bit."""

    qubit: int
    bit: int


class Reset(NamedTuple):
    """Put one qubit into state 0: measure it and turn a 1 over."""

    qubit: int


class If(NamedTuple):
    """An operation done when classical bits (least significant first) have a value."""

    bits: tuple[int, ...]
    value: int
    operation: "Gate | Measure | Reset"


Operation: TypeAlias = Gate | Measure | Reset | If


@dataclass(frozen=True)
class Circuit:
    """Operations in order on `qubits` qubits and `bits` classical bits, with `parameters` trainable numbers.

    Raises ValueError for a qubit, bit or parameter that does not exist and for a qubit used twice by one gate.
    """

    qubits: int
    operations: tuple[Operation, ...]
    bits: int = 0
    parameters: int = 0
    name: str = "circuit"

    def __post_init__(self) -> None:
        if self.qubits < 1:
            raise ValueError(f"a circuit of {self.qubits} qubits; at least 1")
        for number, operation in enumerate(self.operations):
            if problem := self._problem(operation):
                raise ValueError(f"{self.name}: operation {number}, {type(operation).__name__}: {problem}")

    def _problem(self, operation: Operation) -> str | None:
        if isinstance(operation, If):
            if not all(0 <= bit < self.bits for bit in operation.bits):
                return f"bits {operation.bits} of {self.bits}"
            return self._problem(operation.operation)
        if isinstance(operation, Measure) and not 0 <= operation.bit < self.bits:
            return f"bit {operation.bit} of {self.bits}"
        used = operation.qubits if isinstance(operation, Gate) else (operation.qubit,)
        if not all(0 <= qubit < self.qubits for qubit in used):
            return f"qubits {used} of {self.qubits}"
        if len(set(used)) < len(used):
            return f"a qubit twice among {used}"
        if isinstance(operation, Gate):
            for angle in operation.angles:
                if isinstance(angle, Parameter) and not 0 <= angle.index < self.parameters:
                    return f"parameter {angle.index} of {self.parameters}"
        return None

    @property
    def gates(self) -> Iterator[Gate]:
        """Its gates alone, without those under a condition."""
        return (operation for operation in self.operations if isinstance(operation, Gate))

    @property
    def is_unitary(self) -> bool:
        """Whether it holds gates alone."""
        return all(isinstance(operation, Gate) for operation in self.operations)

    def bound(self, values: Sequence[float]) -> "Circuit":
        """The same circuit with numbers for its parameters. Raises ValueError for another number of values."""
        if len(values) != self.parameters:
            raise ValueError(f"{self.name} has {self.parameters} parameters, and {len(values)} values were given")
        return replace(self, operations=tuple(_bound(one, values) for one in self.operations), parameters=0)

    def then(self, other: "Circuit") -> "Circuit":
        """This circuit, then the other on the same qubits; the other's parameters and bits come after its own."""
        moved = tuple(_moved(one, self.parameters, self.bits) for one in other.operations)
        return Circuit(
            max(self.qubits, other.qubits),
            self.operations + moved,
            self.bits + other.bits,
            self.parameters + other.parameters,
            self.name,
        )


def _bound(operation: Operation, values: Sequence[float]) -> Operation:
    if isinstance(operation, If):
        return operation._replace(operation=_bound(operation.operation, values))  # type: ignore[arg-type]
    if not isinstance(operation, Gate):
        return operation
    angles = tuple(angle.value(values) if isinstance(angle, Parameter) else angle for angle in operation.angles)
    return operation._replace(angles=angles)


def _moved(operation: Operation, parameters: int, bits: int) -> Operation:
    if isinstance(operation, If):
        inner = _moved(operation.operation, parameters, bits)
        return If(tuple(bit + bits for bit in operation.bits), operation.value, inner)  # type: ignore[arg-type]
    if isinstance(operation, Measure):
        return operation._replace(bit=operation.bit + bits)
    if isinstance(operation, Reset):
        return operation
    angles = tuple(
        angle._replace(index=angle.index + parameters) if isinstance(angle, Parameter) else angle
        for angle in operation.angles
    )
    return operation._replace(angles=angles)
