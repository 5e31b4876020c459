"""What a text has come to so far: registers, constants, gates, operations, and the condition in force."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from app.plan.circuits.circuit import Angle, Gate, If, Measure, Operation, Reset
from app.plan.circuits.qasm.calls import Budget, Definition
from app.plan.circuits.qasm.expressions import Code, Value, evaluate, parse
from app.plan.circuits.qasm.known import BUILT_IN, Native
from app.plan.circuits.qasm.tokens import Tokens

MOST_QUBITS = 65_536

# One qubit or bit, or those of a register.
Operand: TypeAlias = int | Sequence[int]


class Register(NamedTuple):
    """A declared register or an alias of one: the numbers of its qubits ("qubit") or bits ("bit")."""

    kind: str
    members: Sequence[int]
    single: bool = False


class Condition(NamedTuple):
    """Bits, least significant first, and the value they must have."""

    bits: tuple[int, ...]
    value: int


class Program:
    """The state of reading one text."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.version = 3
        self.registers: dict[str, Register] = {}
        self.constants: dict[str, Value] = {}
        self.gates: dict[str, Native | Definition] = dict(BUILT_IN)
        self.defined: set[str] = set(BUILT_IN)
        self.library = False
        self.operations: list[Operation] = []
        self.qubits = 0
        self.bits = 0
        self.physical = 0
        self.parameters = 0
        # The angles that tokens came to, outside of blocks, where no constant ever changes.
        self.angles: dict[tuple[str, ...], Angle] = {}
        self.depth = 0
        self.condition: Condition | None = None
        self.never = False
        self.measured_condition = False
        self.budget = Budget()

    def declare(self, name: str, at: int) -> None:
        """Refuse a name that is taken, or any in a block. Raises InputError."""
        if self.depth:
            self.tokens.refuse("found a declaration in a block; declare before it, outside of if and for", at)
        if name in self.registers or name in self.constants:
            self.tokens.refuse(f"{name} is declared twice; give one of them another name", at)

    def emit(self, operations: Sequence[Gate | Measure | Reset], at: int) -> None:
        """Add operations, under the condition in force. Raises InputError."""
        if self.condition is None:
            self.operations += operations
            return
        if self.never:
            return
        bits, value = self.condition
        for operation in operations:
            if self.measured_condition:
                self.tokens.refuse(
                    "found an operation in an if, after a measurement into the bits that the if asks for; "
                    "measure last, or into another register",
                    at,
                )
            self.operations.append(If(bits, value, operation))
            self.measured_condition = isinstance(operation, Measure) and operation.bit in bits

    def budget_spend(self, count: int, at: int) -> None:
        """Count operations. Raises InputError when there are too many."""
        try:
            self.budget.spend(count)
        except ValueError as error:
            self.tokens.refuse(str(error), at)

    def value(self, code: Code, at: int) -> Value:
        """The value of an expression of constants. Raises InputError."""
        try:
            return evaluate(code)
        except ValueError as error:
            self.tokens.refuse(str(error), at)

    def integer(self) -> int:
        """The next expression, which must be an integer. Raises InputError."""
        at = self.tokens.at
        value = self.value(parse(self.tokens, self.constants, self.version), at)
        if not isinstance(value, int):
            self.tokens.fail("expected an integer", at)
        return value

    def operand(self, kind: str) -> Operand:
        """The next operand of a kind, "qubit" or "bit": a register, a part of it or one of it. Raises InputError."""
        tokens = self.tokens
        token = tokens.all[tokens.at]
        register = self.registers.get(token)
        if register is None:
            if kind == "qubit" and token[:1] == "$":
                return self._physical()
            declared = [name for name, one in self.registers.items() if one.kind == kind]
            tokens.fail(f"expected a {kind} register; declared are {', '.join(declared[:12]) or 'none'}")
        if register.kind != kind:
            tokens.fail(f"this is a {register.kind} register, and a {kind} is expected")
        tokens.at += 1
        if tokens.all[tokens.at] == "[":
            return self._indexed(register, token)
        return register.members[0] if register.single else register.members

    def _physical(self) -> int:
        at = self.tokens.at
        number = int(self.tokens.take()[1:][:9] or "0")
        if self.qubits > self.physical:
            self.tokens.refuse("found a physical qubit beside declared qubits; use one kind alone", at)
        if number >= MOST_QUBITS:
            self.tokens.refuse(f"found physical qubit ${number}; at most {MOST_QUBITS} qubits are supported", at)
        self.physical = self.qubits = max(self.physical, number + 1)
        return number

    def _indexed(self, register: Register, name: str) -> Operand:
        tokens = self.tokens
        everything, at = tokens.all, tokens.at
        index = everything[at + 1]
        if everything[at + 2] == "]" and index.isdecimal() and len(index) < 10:
            tokens.at = at + 3
            return self._member(register, name, int(index), at + 1)
        tokens.at += 1
        if tokens.took("{"):
            numbers = [self.integer()]
            while tokens.took(","):
                numbers.append(self.integer())
            tokens.expect("}")
            members: Operand = [self._member(register, name, number, at + 1) for number in numbers]
        else:
            numbers = [] if tokens.next == ":" else [self.integer()]
            if tokens.next == ":":
                members = self._slice(register, name, numbers)
            else:
                members = self._member(register, name, numbers[0], at + 1)
        tokens.expect("]")
        return members

    def _member(self, register: Register, name: str, index: int, at: int) -> int:
        size = len(register.members)
        if not -size <= index < size:
            self.tokens.refuse(f"found {name}[{index}]; {name} has {size}, numbered 0 to {size - 1}", at)
        return register.members[index]

    def _slice(self, register: Register, name: str, start: list[int]) -> Sequence[int]:
        """[a:b] and [a:step:b], both ends within, as in OpenQASM 3."""
        tokens = self.tokens
        at, size = tokens.at, len(register.members)
        first = start[0] if start else 0
        tokens.expect(":")
        last = size - 1 if tokens.next == "]" else self.integer()
        step = 1
        if tokens.took(":"):
            step, last = last, (size - 1 if tokens.next == "]" else self.integer())
        ends = [index + size if index < 0 else index for index in (first, last)]
        if step == 0 or not all(0 <= index < size for index in ends):
            tokens.refuse(f"found {name}[{first}:{step}:{last}]; {name} has {size}, numbered 0 to {size - 1}", at)
        return [register.members[index] for index in range(ends[0], ends[1] + (1 if step > 0 else -1), step)]
