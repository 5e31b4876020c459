"""OpenQASM 2 and 3 to a circuit: the words a statement can begin with, if and for."""

from collections.abc import Callable, Sequence

from app.errors import InputError
from app.plan.circuits.circuit import Circuit
from app.plan.circuits.qasm import statements
from app.plan.circuits.qasm.program import Condition, Program
from app.plan.circuits.qasm.tokens import Tokens

DEEPEST_BLOCK = 32
SUPPORTED = (
    "supported are include, qreg, creg, qubit, bit, let, const, input, gate, gate calls, measure, reset, if, for, "
    "barrier and delay"
)
_REFUSED = frozenset(
    [
        "opaque",
        "def",
        "while",
        "switch",
        "case",
        "defcal",
        "defcalgrammar",
        "cal",
        "extern",
        "box",
        "end",
        "break",
        "continue",
        "return",
        "output",
        "pragma",
        "bool",
        "int",
        "uint",
        "float",
        "angle",
        "complex",
        "array",
        "duration",
        "stretch",
        "OPENQASM",
        "else",
        "#",
        "@",
        "readonly",
        "mutable",
    ]
)


def read_qasm(text: str, name: str = "circuit") -> Circuit:
    """The circuit of an OpenQASM 2 or 3 text. `name` is its name, and that of the text in mistakes.

    Raises InputError with the line, what was found there and what is supported.
    """
    program = Program(Tokens(text, name))
    tokens = program.tokens
    if tokens.took("OPENQASM"):
        version = tokens.take()
        if version not in ("2", "2.0", "3", "3.0", "3.1"):
            tokens.fail("expected OpenQASM 2.0 or 3.0", tokens.at - 1)
        program.version = int(version[0])
        tokens.expect(";")
    while tokens.next:
        _statement(program)
    if not program.qubits:
        raise InputError(f"{name}: found no qubits; expected qreg q[n]; or qubit[n] q;")
    return Circuit(program.qubits, tuple(program.operations), program.bits, program.parameters, name)


def _statement(program: Program) -> None:
    tokens = program.tokens
    word = tokens.all[tokens.at]
    read = STATEMENTS.get(word)
    if read is not None:
        tokens.at += 1
        read(program)
    elif word in _REFUSED or not word.isidentifier():
        tokens.fail(SUPPORTED)
    elif word in program.registers:
        if program.registers[word].kind == "qubit":
            tokens.fail(f"a register of qubits, which does nothing by itself; {SUPPORTED}")
        statements.assignment(program)
    else:
        statements.call(program)


def _block(program: Program) -> None:
    """{ statements }, or one statement."""
    tokens = program.tokens
    if program.depth >= DEEPEST_BLOCK:
        tokens.refuse(f"blocks are nested too deep; at most {DEEPEST_BLOCK} are supported")
    program.depth += 1
    if tokens.took("{"):
        while not tokens.took("}"):
            if not tokens.next:
                tokens.fail("expected }")
            _statement(program)
    else:
        _statement(program)
    program.depth -= 1


def _if(program: Program) -> None:
    """if (condition) block, with else after a condition on one bit."""
    tokens = program.tokens
    outer, never = program.condition, program.never
    tokens.expect("(")
    conditions = [_comparison(program)]
    while tokens.took("&&"):
        conditions.append(_comparison(program))
    tokens.expect(")")
    if outer is None:
        program.measured_condition = False
    for condition in conditions:
        _narrow(program, condition)
    _block(program)
    program.condition, program.never = outer, never
    if tokens.next == "else":
        if len(conditions) > 1 or len(conditions[0].bits) > 1:
            tokens.fail("else is supported after a condition on one bit alone; write a second if")
        tokens.take()
        _narrow(program, Condition(conditions[0].bits, 1 - conditions[0].value))
        _block(program)
        program.condition, program.never = outer, never


def _narrow(program: Program, condition: Condition) -> None:
    """Let what follows depend on the condition in force and this one."""
    bits, value = program.condition or Condition((), 0)
    program.never |= not 0 <= condition.value < 1 << len(condition.bits)
    program.condition = Condition(bits + condition.bits, value | condition.value << len(bits))


def _comparison(program: Program) -> Condition:
    """bit, !bit, bit == value, bit != value, register == value."""
    tokens = program.tokens
    at = tokens.at
    negated = tokens.took("!") or tokens.took("~")
    operand = program.operand("bit")
    bits = (operand,) if isinstance(operand, int) else tuple(operand)
    compared = tokens.next in ("==", "!=") and not negated
    if compared:
        negated = tokens.take() == "!="
        value = _value(program)
    elif tokens.next in (")", "&&"):
        value = 1
    else:
        tokens.fail("expected == and a number, in a condition such as c == 3, c[0] or !c[0]")
    if len(bits) > 1 and (negated or not compared):
        tokens.refuse("found a condition on a register; expected register == number, or a condition on one bit", at)
    if negated and value not in (0, 1):
        tokens.refuse("a bit is compared with 0, 1, true or false", at)
    return Condition(bits, 1 - value if negated else value)


def _value(program: Program) -> int:
    """What a register is compared with: an integer, true, false, or "01" with the last bit first."""
    tokens = program.tokens
    token = tokens.next
    if token in ("true", "false"):
        return int(tokens.take() == "true")
    if token[:1] == '"' and len(token) > 2 and set(token[1:-1]) <= {"0", "1"}:
        return int(tokens.take()[1:-1], 2)
    return program.integer()


def _for(program: Program) -> None:
    """for int i in [a:b] block, and in [a:step:b] and {a, b}. The block is read once per value."""
    tokens = program.tokens
    at = tokens.at
    if tokens.next in ("int", "uint"):
        tokens.take()
        if tokens.took("["):
            program.integer()
            tokens.expect("]")
    name = tokens.identifier("the name of an integer")
    if name in program.registers or name in program.gates:
        tokens.refuse(f"{name} is declared twice; give one of them another name", at)
    tokens.expect("in")
    numbers = _numbers(program)
    before = program.constants.get(name)
    body = tokens.at
    _skip(program)
    program.budget_spend(len(numbers), at)
    for number in numbers:
        program.constants[name] = number
        tokens.at = body
        _block(program)
    program.constants.pop(name, None)
    if before is not None:
        program.constants[name] = before


def _numbers(program: Program) -> Sequence[int]:
    tokens = program.tokens
    at = tokens.at
    if tokens.took("{"):
        numbers = [program.integer()]
        while tokens.took(","):
            numbers.append(program.integer())
        tokens.expect("}")
        return numbers
    if not tokens.took("["):
        tokens.fail("expected integers such as [0:3] or {0, 2}")
    ends = [program.integer()]
    while tokens.took(":"):
        ends.append(program.integer())
    tokens.expect("]")
    if len(ends) not in (2, 3) or (len(ends) == 3 and ends[1] == 0):
        tokens.refuse("expected integers such as [0:3] or [0:2:6], with a step that is not 0", at)
    step = ends[1] if len(ends) == 3 else 1
    return range(ends[0], ends[-1] + (1 if step > 0 else -1), step)


def _skip(program: Program) -> None:
    """Pass a block, or one statement of no block, without reading it."""
    tokens = program.tokens
    depth = 0
    while tokens.next:
        token = tokens.take()
        depth += (token == "{") - (token == "}")
        if depth <= 0 and token in ("}", ";"):
            return
    tokens.fail("expected }")


STATEMENTS: dict[str, Callable[[Program], None]] = {
    "include": statements.include,
    "qreg": statements.old_register("qubit"),
    "creg": statements.old_register("bit"),
    "qubit": statements.qubit,
    "bit": statements.bit,
    "gate": statements.gate,
    "let": statements.let,
    "const": statements.const,
    "input": statements.parameter,
    "measure": statements.measure,
    "reset": statements.reset,
    "barrier": statements.ignored,
    "delay": statements.ignored,
    "if": _if,
    "for": _for,
}
