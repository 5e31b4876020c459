"""The short way for the commonest statement of a large file: a known gate with angles on single qubits."""

import math

from app.plan.circuits.circuit import Angle, Gate
from app.plan.circuits.qasm.known import Native
from app.plan.circuits.qasm.program import Program

_MOST_REMEMBERED = 4096
_LONGEST = 24


def plain_call(program: Program) -> bool:
    """Read the next statement if it is of the form rz(pi/2) q[3]; True if it was. Mistakes are left to the long way."""
    tokens = program.tokens
    everything, place = tokens.all, tokens.at + 1
    gate = program.gates.get(everything[place - 1])
    if type(gate) is not Native or program.depth or gate.gate == "id":
        return False
    angles: tuple[Angle, ...] | None = ()
    if everything[place] == "(":
        words = _words(everything, place)
        angles = _angles(program, words) if words else None
        place += len(words) + 2
    if angles is None or len(angles) != gate.angles:
        return False
    qubits: list[int] = []
    while True:
        register = program.registers.get(everything[place])
        if register is None or register.kind != "qubit" or everything[place + 1] != "[":
            return False
        index, end = everything[place + 2], everything[place + 4]
        if everything[place + 3] != "]" or not index.isdecimal() or len(index) > 9:
            return False
        number = int(index)
        if number >= len(register.members):
            return False
        qubits.append(register.members[number])
        place += 5
        if end == ";":
            break
        if end != ",":
            return False
    if len(qubits) != gate.qubits or (len(qubits) > 1 and len(set(qubits)) < len(qubits)):
        return False
    program.budget_spend(1, tokens.at)
    controls = gate.controls
    program.operations.append(Gate(gate.gate, tuple(qubits[controls:]), gate.fixed + angles, tuple(qubits[:controls])))
    tokens.at = place
    return True


def _words(everything: list[str], opening: int) -> tuple[str, ...]:
    """What stands between a parenthesis and the next closing one, if it is near."""
    words = everything[opening + 1 : opening + _LONGEST]
    return tuple(words[: words.index(")")]) if ")" in words else ()


def _angles(program: Program, words: tuple[str, ...]) -> tuple[Angle, ...] | None:
    """The angles that the words are, with commas between, if each is a number or has come before."""
    known = program.angles
    if "," not in words:
        angles: list[Angle | None] = [_number(words[0]) if len(words) == 1 else known.get(words)]
    else:
        angles = []
        start = 0
        for end in [place for place, word in enumerate(words) if word == ","] + [len(words)]:
            angles.append(_number(words[start]) if end == start + 1 else known.get(words[start:end]))
            start = end + 1
    return None if None in angles else tuple(angles)  # type: ignore[arg-type]


def _number(word: str) -> float | None:
    """The number that a token is. Names are none."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def remember(program: Program, at: int, angles: list[Angle]) -> None:
    """Keep the angles of the call whose name is at this token for the same words to come."""
    everything = program.tokens.all
    if everything[at + 1] != "(" or program.depth or len(program.angles) >= _MOST_REMEMBERED:
        return
    words = _words(everything, at + 1)
    if words and "(" not in words:
        start = 0
        ends = [place for place, word in enumerate(words) if word == ","] + [len(words)]
        for end, angle in zip(ends, angles, strict=True):
            program.angles[words[start:end]] = angle
            start = end + 1
