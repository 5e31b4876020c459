"""A circuit to OpenQASM 3."""

import cmath
import math
from collections.abc import Iterator

from app.errors import InputError
from app.plan.circuits.circuit import Angle, Circuit, Gate, If, Matrix, Measure, Operation, Parameter, Reset
from app.plan.circuits.gates import matrix

# Gates under the names of stdgates.inc, by name and number of controls.
_NAMES = {
    **{(name, 0): name for name in ("id", "x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "rx", "ry", "rz", "p")},
    **{(name, 1): f"c{name}" for name in ("x", "y", "z", "h", "rx", "ry", "rz", "p")},
    ("u", 0): "U",
    ("x", 2): "ccx",
    ("swap", 0): "swap",
    ("swap", 1): "cswap",
    ("gphase", 0): "gphase",
}
# Gates that stdgates.inc lacks, global phases included. Angles in alphabetical order: Qiskit's importer sorts them.
_DEFINITIONS = {
    "sxdg": "gate sxdg q { inv @ sx q; }",
    "r": "gate r(a, b) q { U(a, b - pi/2, pi/2 - b) q; }",
    "iswap": "gate iswap q, r { s q; s r; h q; cx q, r; cx r, q; h r; }",
    "rzz": "gate rzz(t) q, r { cx q, r; rz(t) r; cx q, r; }",
    "rxx": "gate rxx(t) q, r { h q; h r; cx q, r; rz(t) r; cx q, r; h q; h r; }",
    "ryy": "gate ryy(t) q, r { sx q; sx r; cx q, r; rz(t) r; cx q, r; inv @ sx q; inv @ sx r; }",
    "rzx": "gate rzx(t) q, r { h r; cx q, r; rz(t) r; cx q, r; h r; }",
}


def write_qasm3(circuit: Circuit) -> str:
    """The circuit as OpenQASM 3, which read_qasm reads back into an equal one (unitary gates: of equal matrices).

    Qubits are q, bits c, parameters p0, p1, ... Raises InputError for a unitary gate of more than one target.
    """
    used = {gate.name for gate in _gates(circuit)}
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";']
    lines += [text for name, text in _DEFINITIONS.items() if name in used]
    lines += [f"input float[64] p{index};" for index in range(circuit.parameters)]
    lines.append(f"qubit[{circuit.qubits}] q;")
    if circuit.bits:
        lines.append(f"bit[{circuit.bits}] c;")
    for operation in circuit.operations:
        lines += _lines(operation, circuit)
    return "\n".join(lines) + "\n"


def _gates(circuit: Circuit) -> Iterator[Gate]:
    for operation in circuit.operations:
        while isinstance(operation, If):
            operation = operation.operation
        if isinstance(operation, Gate):
            yield operation


def _lines(operation: Operation, circuit: Circuit) -> list[str]:
    if isinstance(operation, Measure):
        return [f"c[{operation.bit}] = measure q[{operation.qubit}];"]
    if isinstance(operation, Reset):
        return [f"reset q[{operation.qubit}];"]
    if isinstance(operation, Gate):
        return _gate(operation, circuit)
    inner = " ".join(_lines(operation.operation, circuit))
    if len(operation.bits) > 1 and operation.bits == tuple(range(circuit.bits)):
        return [f"if (c == {operation.value}) {{ {inner} }}"]
    conditions = [f"{'' if operation.value >> place & 1 else '!'}c[{bit}]" for place, bit in enumerate(operation.bits)]
    # One in the other, as other readers do not know &&.
    for condition in reversed(conditions):
        inner = f"if ({condition}) {{ {inner} }}"
    return [inner]


def _gate(gate: Gate, circuit: Circuit) -> list[str]:
    if gate.name == "unitary":
        return _unitary(gate, circuit)
    name = _NAMES.get((gate.name, len(gate.controls)))
    if name is None:
        count = len(gate.controls)
        control = "" if not count else "ctrl @ " if count == 1 else f"ctrl({count}) @ "
        name = control + _NAMES.get((gate.name, 0), gate.name)
    angles = f"({', '.join(_angle(angle) for angle in gate.angles)})" if gate.angles else ""
    qubits = ", ".join(f"q[{qubit}]" for qubit in gate.controls + gate.targets)
    return [f"{name}{angles} {qubits};" if qubits else f"{name}{angles};"]


def _angle(angle: Angle) -> str:
    if not isinstance(angle, Parameter):
        return repr(float(angle))
    text = f"p{angle.index}"
    if angle.scale != 1:
        text = f"{float(angle.scale)!r}*{text}"
    if angle.offset != 0:
        text += f" {'-' if angle.offset < 0 else '+'} {abs(float(angle.offset))!r}"
    return text


def _unitary(gate: Gate, circuit: Circuit) -> list[str]:
    """U and a global phase of a 2x2 matrix."""
    if len(gate.targets) != 1:
        raise InputError(
            f"{circuit.name}: found a unitary matrix on {len(gate.targets)} qubits; OpenQASM 3 has no name for it, and "
            "only matrices on one qubit can be written; decompose it into gates first"
        )
    phase, angles = _euler(matrix(gate))
    return [
        *_gate(Gate("u", gate.targets, angles, gate.controls), circuit),
        *_gate(Gate("gphase", (), (phase,), gate.controls), circuit),
    ]


def _euler(unitary: Matrix) -> tuple[float, tuple[float, float, float]]:
    """(phase, (theta, phi, lambda)) with exp(i phase) u(theta, phi, lambda) the 2x2 unitary."""
    (a, b), (c, d) = unitary
    theta = 2 * math.atan2(abs(c), abs(a))
    if abs(a) < 1e-12:
        phase = cmath.phase(-b)
        return phase, (math.pi, cmath.phase(c) - phase, 0.0)
    phase = cmath.phase(a)
    if abs(c) < 1e-12:
        return phase, (theta, 0.0, cmath.phase(d) - phase)
    return phase, (theta, cmath.phase(c) - phase, cmath.phase(-b) - phase)
