"""Gate definitions, and what definitions and calls have in common: name, modifiers and angles."""

from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from app.plan.circuits.circuit import Parameter
from app.plan.circuits.qasm.calls import DEEPEST_DEFINITION, Call, Definition, Modifier
from app.plan.circuits.qasm.expressions import Code, Formal, parse
from app.plan.circuits.qasm.known import DEFINED, LIBRARY, Native
from app.plan.circuits.qasm.program import Program
from app.plan.circuits.qasm.tokens import Tokens

MODIFIERS = ("ctrl", "negctrl", "inv", "pow")
_NOTHING: tuple = ()


class Head(NamedTuple):
    """A call before its qubits. qubits: how many it needs, controls included."""

    gate: Native | Definition
    modifiers: tuple[Modifier, ...]
    angles: tuple[Code, ...]
    qubits: int


def head(program: Program, scope: Mapping) -> Head:
    """Modifiers, name and angles of the call that comes next. Raises InputError."""
    tokens = program.tokens
    modifiers = _modifiers(program) if tokens.next in MODIFIERS else _NOTHING
    at = tokens.at
    name = tokens.all[at]
    gate = program.gates.get(name) or _of_library(program, name)
    if gate is None:
        _unknown(program, name)
    tokens.at = at + 1
    angles: list[Code] = []
    if tokens.all[at + 1] == "(":
        tokens.at = at + 2
        if tokens.next != ")":
            angles.append(parse(tokens, scope, program.version))
            while tokens.took(","):
                angles.append(parse(tokens, scope, program.version))
        tokens.expect(")")
    if len(angles) != gate.angles:
        tokens.refuse(f"{name} takes {gate.angles} angles, and {len(angles)} are given", at)
    return Head(gate, modifiers, tuple(angles), gate.qubits + sum(modifier.number for modifier in modifiers))


def _of_library(program: Program, name: str) -> Native | Definition | None:
    """The gate of the includes by this name, for a text that has one of them."""
    if not program.library:
        return None
    found: Native | Definition | None = LIBRARY.get(name)
    if found is None and name in DEFINED:
        inner = Program(Tokens(DEFINED[name], "stdgates.inc"))
        inner.library = True
        inner.tokens.expect("gate")
        found = definition(inner)
    if found is not None:
        program.gates[name] = found
    return found


def _unknown(program: Program, name: str) -> NoReturn:
    tokens = program.tokens
    if not name.isidentifier():
        tokens.fail("expected the name of a gate")
    if not program.library:
        include = "qelib1.inc" if program.version == 2 else "stdgates.inc"
        tokens.refuse(f'gate {name} is not defined; is include "{include}"; missing?')
    tokens.refuse(f"gate {name} is not defined; define it above, or use a gate of qelib1.inc or stdgates.inc")


def _modifiers(program: Program) -> tuple[Modifier, ...]:
    """inv @, pow(k) @, ctrl @, ctrl(n) @, negctrl @ and negctrl(n) @, as many as there are."""
    tokens = program.tokens
    modifiers: list[Modifier] = []
    while tokens.next in MODIFIERS:
        at = tokens.at
        kind = tokens.take()
        modifier = Modifier(kind, 1 if kind.endswith("ctrl") else 0)
        if kind == "pow":
            tokens.expect("(")
            exponent = program.value(parse(tokens, program.constants, 2), at)
            if isinstance(exponent, Parameter):
                tokens.refuse("pow takes a number, not an input parameter", at)
            tokens.expect(")")
            modifier = Modifier(kind, 0, float(exponent))
        elif kind != "inv" and tokens.took("("):
            count = program.integer()
            if not 1 <= count < 1000:
                tokens.refuse(f"found {kind}({count}); expected 1 to 999 control qubits", at)
            tokens.expect(")")
            modifier = Modifier(kind, count)
        tokens.expect("@")
        modifiers.append(modifier)
        if len(modifiers) > 64:
            tokens.refuse("found more than 64 modifiers on one gate; define a gate for part of them")
    return tuple(modifiers)


def definition(program: Program) -> Definition:
    """The definition after the word gate, to its closing brace. Raises InputError."""
    tokens = program.tokens
    name = tokens.identifier("the name of a gate")
    angles: list[str] = []
    if tokens.took("("):
        if tokens.next != ")":
            angles = _names(program, "a parameter of the gate")
        tokens.expect(")")
    places = {qubit: place for place, qubit in enumerate(_names(program, "a qubit of the gate"))}
    scope = {**program.constants, **{angle: Formal(place) for place, angle in enumerate(angles)}}
    tokens.expect("{")
    body: list[Call] = []
    while not tokens.took("}"):
        if tokens.took("barrier"):
            while tokens.next not in (";", "", "}"):
                tokens.take()
            tokens.expect(";")
            continue
        body.append(_call(program, scope, places))
    depth = 1 + max((call.gate.depth for call in body if isinstance(call.gate, Definition)), default=0)
    if depth > DEEPEST_DEFINITION:
        tokens.refuse(f"gate {name} is defined through {depth} others; at most {DEEPEST_DEFINITION} are supported")
    size = 1 + sum(call.gate.size if isinstance(call.gate, Definition) else 1 for call in body)
    return Definition(name, len(angles), len(places), tuple(body), depth, size)


def _names(program: Program, what: str) -> list[str]:
    tokens = program.tokens
    names = [tokens.identifier(what)]
    while tokens.took(","):
        at = tokens.at
        names.append(tokens.identifier(what))
        if names[-1] in names[:-1]:
            tokens.refuse(f"{names[-1]} is declared twice; give one of them another name", at)
    return names


def _call(program: Program, scope: Mapping, places: Mapping[str, int]) -> Call:
    tokens = program.tokens
    at = tokens.at
    gate, modifiers, angles, count = head(program, scope)
    qubits: list[int] = []
    while tokens.next != ";":
        if qubits:
            tokens.expect(",")
        if tokens.next not in places:
            tokens.fail(f"expected a qubit of the gate: {', '.join(list(places)[:12])}")
        qubits.append(places[tokens.take()])
    tokens.expect(";")
    if len(qubits) != count:
        tokens.refuse(f"the gate acts on {count} qubits, and {len(qubits)} are given", at)
    if len(set(qubits)) < count:
        tokens.refuse("a gate uses one qubit twice", at)
    return Call(gate, modifiers, angles, tuple(qubits))
