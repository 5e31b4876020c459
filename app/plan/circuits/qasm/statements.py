"""Statements other than if and for: each takes what follows its first word."""

from collections.abc import Callable

from app.plan.circuits.circuit import Measure, Parameter, Reset
from app.plan.circuits.qasm.calls import apply
from app.plan.circuits.qasm.definitions import definition, head
from app.plan.circuits.qasm.expressions import CONSTANTS, UNARY, angle, parse
from app.plan.circuits.qasm.native import same_as_native
from app.plan.circuits.qasm.plain import plain_call, remember
from app.plan.circuits.qasm.program import MOST_QUBITS, Operand, Program, Register

INCLUDES = ("qelib1.inc", "stdgates.inc", "stdgates.qasm")


def include(program: Program) -> None:
    """include "qelib1.inc"; the gates are built in, no file is opened."""
    tokens = program.tokens
    if tokens.next.strip('"') not in INCLUDES:
        tokens.fail('only "qelib1.inc" and "stdgates.inc" can be included; copy the gates of other files into this one')
    tokens.take()
    tokens.expect(";")
    program.library = True


def old_register(kind: str) -> Callable[[Program], None]:
    """qreg name[n]; and creg name[n];"""

    def read(program: Program) -> None:
        tokens = program.tokens
        at = tokens.at
        name = tokens.identifier("the name of a register")
        size, single = _size(program)
        tokens.expect(";")
        _register(program, name, kind, size, single, at)

    return read


def qubit(program: Program) -> None:
    """qubit[n] name; and qubit name;"""
    size, single = _size(program)
    at = program.tokens.at
    name = program.tokens.identifier("the name of a register")
    program.tokens.expect(";")
    _register(program, name, "qubit", size, single, at)


def bit(program: Program) -> None:
    """bit[n] name; bit name; and either with = measure ...;"""
    tokens = program.tokens
    size, single = _size(program)
    at = tokens.at
    name = tokens.identifier("the name of a register")
    _register(program, name, "bit", size, single, at)
    if tokens.took("="):
        if tokens.next != "measure":
            tokens.fail("bits begin as 0; only = measure is supported")
        tokens.take()
        register = program.registers[name]
        _measured(program, program.operand("qubit"), register.members[0] if single else register.members, at)
    tokens.expect(";")


def _size(program: Program) -> tuple[int, bool]:
    """[n], and whether it is left out."""
    if not program.tokens.took("["):
        return 1, True
    at = program.tokens.at
    size = program.integer()
    if not 1 <= size <= MOST_QUBITS:
        program.tokens.refuse(f"found a register of {size}; expected 1 to {MOST_QUBITS}", at)
    program.tokens.expect("]")
    return size, False


def _register(program: Program, name: str, kind: str, size: int, single: bool, at: int) -> None:
    program.declare(name, at)
    if kind == "qubit":
        if program.physical:
            program.tokens.refuse("found declared qubits beside physical ones; use one kind alone", at)
        first = program.qubits
        program.qubits += size
    else:
        first = program.bits
        program.bits += size
    if max(program.qubits, program.bits) > MOST_QUBITS:
        program.tokens.refuse(f"at most {MOST_QUBITS} qubits and as many bits are supported", at)
    program.registers[name] = Register(kind, range(first, first + size), single)


def gate(program: Program) -> None:
    """gate name(angles) qubits { ... }"""
    tokens = program.tokens
    at = tokens.at
    if program.depth:
        tokens.refuse("found a definition in a block; define before it, outside of if and for")
    made = definition(program)
    if made.name in program.defined:
        tokens.refuse(f"gate {made.name} is defined twice; give one of them another name", at)
    program.defined.add(made.name)
    program.gates[made.name] = same_as_native(made, program.version)


def let(program: Program) -> None:
    """let name = part ++ part;"""
    tokens = program.tokens
    at = tokens.at
    name = tokens.identifier("the name of an alias")
    tokens.expect("=")
    register = program.registers.get(tokens.next)
    kind = register.kind if register else "qubit"
    parts = [program.operand(kind)]
    while tokens.took("++"):
        parts.append(program.operand(kind))
    tokens.expect(";")
    program.declare(name, at)
    members = [number for part in parts for number in ([part] if isinstance(part, int) else part)]
    if len(members) > MOST_QUBITS:
        tokens.refuse(f"found an alias of {len(members)}; at most {MOST_QUBITS} are supported", at)
    program.budget_spend(len(members), at)
    program.registers[name] = Register(kind, members, len(parts) == 1 and isinstance(parts[0], int))


def const(program: Program) -> None:
    """const float name = expression;"""
    tokens = program.tokens
    kind = _type(program, ("int", "uint", "float", "angle"))
    at = tokens.at
    name = tokens.identifier("the name of a constant")
    tokens.expect("=")
    value = program.value(parse(tokens, program.constants, program.version), at)
    tokens.expect(";")
    _constant_name(program, name, at)
    if isinstance(value, Parameter):
        tokens.refuse("a constant is a number, and this one depends on an input parameter", at)
    if kind in ("int", "uint"):
        value = int(value)
    program.constants[name] = value if kind in ("int", "uint") else float(value)


def parameter(program: Program) -> None:
    """input float name; and input angle name;: the next trainable parameter."""
    tokens = program.tokens
    _type(program, ("float", "angle"))
    at = tokens.at
    name = tokens.identifier("the name of a parameter")
    tokens.expect(";")
    _constant_name(program, name, at)
    program.constants[name] = Parameter(program.parameters)
    program.parameters += 1


def _type(program: Program, kinds: tuple[str, ...]) -> str:
    tokens = program.tokens
    if tokens.next not in kinds:
        tokens.fail(f"expected one of the types {', '.join(kinds)}")
    kind = tokens.take()
    if tokens.took("["):
        program.integer()
        tokens.expect("]")
    return kind


def _constant_name(program: Program, name: str, at: int) -> None:
    program.declare(name, at)
    if name in CONSTANTS or name in UNARY:
        program.tokens.refuse(f"{name} is a name of the language; give it another name", at)


def ignored(program: Program) -> None:
    """barrier and delay: to the semicolon."""
    tokens = program.tokens
    while tokens.next not in (";", "", "{", "}"):
        tokens.take()
    tokens.expect(";")


def measure(program: Program) -> None:
    """measure qubits -> bits;"""
    tokens = program.tokens
    at = tokens.at
    qubits = program.operand("qubit")
    if tokens.next == ";":
        tokens.fail("expected -> and bits to measure into")
    tokens.expect("->")
    _measured(program, qubits, program.operand("bit"), at)
    tokens.expect(";")


def assignment(program: Program) -> None:
    """bits = measure qubits;"""
    tokens = program.tokens
    at = tokens.at
    bits = program.operand("bit")
    tokens.expect("=")
    if tokens.next != "measure":
        tokens.fail("only a measurement can be assigned to bits")
    tokens.take()
    _measured(program, program.operand("qubit"), bits, at)
    tokens.expect(";")


def _measured(program: Program, qubits: Operand, bits: Operand, at: int) -> None:
    sources = [qubits] if isinstance(qubits, int) else qubits
    places = [bits] if isinstance(bits, int) else bits
    if len(sources) != len(places):
        program.tokens.refuse(f"found {len(sources)} qubits measured into {len(places)} bits; expected as many", at)
    program.budget_spend(len(sources), at)
    program.emit([Measure(*pair) for pair in zip(sources, places, strict=True)], at)


def reset(program: Program) -> None:
    """reset qubits;"""
    at = program.tokens.at
    qubits = program.operand("qubit")
    program.tokens.expect(";")
    members = [qubits] if isinstance(qubits, int) else qubits
    program.budget_spend(len(members), at)
    program.emit([Reset(member) for member in members], at)


def call(program: Program) -> None:
    """A gate on qubits, or on registers: once per member, single qubits again and again."""
    if plain_call(program):
        return
    tokens = program.tokens
    at = tokens.at
    called, modifiers, codes, count = head(program, program.constants)
    operands: list[Operand] = []
    while tokens.all[tokens.at] != ";":
        if operands:
            tokens.expect(",")
        operands.append(program.operand("qubit"))
    tokens.at += 1
    if len(operands) != count:
        tokens.refuse(f"the gate acts on {count} qubits, and {len(operands)} are given", at)
    lengths = {len(operand) for operand in operands if not isinstance(operand, int)}
    if len(lengths) > 1:
        tokens.refuse(f"found registers of {', '.join(map(str, sorted(lengths)))} in one call; expected one length", at)
    times = range(lengths.pop()) if lengths else range(1)
    try:
        angles = [angle(code) for code in codes]
        if not modifiers:
            remember(program, at, angles)
        for time in times:
            qubits = [operand if isinstance(operand, int) else operand[time] for operand in operands]
            if count > 1 and len(set(qubits)) < count:
                raise ValueError("a gate uses one qubit twice")
            program.emit(apply(called, modifiers, angles, qubits, program.budget), at)
    except ValueError as error:
        tokens.refuse(str(error), at)
