"""The gates that qelib1.inc and stdgates.inc name, and those that Qiskit writes without a definition."""

import math
from typing import NamedTuple


class Native(NamedTuple):
    """A gate of gates.py under a name of OpenQASM: its controls come first among the qubits.

    angles: how many the text gives; they come after the fixed ones.
    """

    gate: str
    controls: int
    targets: int
    angles: int = 0
    fixed: tuple[float, ...] = ()

    @property
    def qubits(self) -> int:
        """How many qubits the text gives."""
        return self.controls + self.targets


# Known without an include.
BUILT_IN: dict[str, Native] = {
    "U": Native("u", 0, 1, 3),
    "CX": Native("x", 1, 1),
    "gphase": Native("gphase", 0, 0, 1),
}
_PLAIN = ("id", "x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "sxdg")
_CONTROLLED = ("x", "y", "z", "h", "s", "sdg", "sx")
LIBRARY: dict[str, Native] = {
    **{name: Native(name, 0, 1) for name in _PLAIN},
    **{name: Native(name, 0, 1, 1) for name in ("rx", "ry", "rz", "p")},
    **{f"c{name}": Native(name, 1, 1) for name in _CONTROLLED},
    **{f"c{name}": Native(name, 1, 1, 1) for name in ("rx", "ry", "rz", "p")},
    **{name: Native(name, 0, 2, 1) for name in ("rxx", "ryy", "rzz", "rzx")},
    "u": Native("u", 0, 1, 3),
    "u0": Native("id", 0, 1, 1),
    "u1": Native("p", 0, 1, 1),
    "u2": Native("u", 0, 1, 2, (math.pi / 2,)),
    "u3": Native("u", 0, 1, 3),
    "phase": Native("p", 0, 1, 1),
    "r": Native("r", 0, 1, 2),
    "cu1": Native("p", 1, 1, 1),
    "cphase": Native("p", 1, 1, 1),
    "cu3": Native("u", 1, 1, 3),
    "swap": Native("swap", 0, 2),
    "iswap": Native("iswap", 0, 2),
    "cswap": Native("swap", 1, 2),
    "ccx": Native("x", 2, 1),
    "ccz": Native("z", 2, 1),
    "c3x": Native("x", 3, 1),
    "mcx": Native("x", 3, 1),
    "c4x": Native("x", 4, 1),
    "c3sqrtx": Native("sx", 3, 1),
}
# Gates of several steps; each is read when it is first called. The bodies are those of Qiskit's library.
DEFINED: dict[str, str] = {
    "cu": "gate cu(a, b, c, d) q, r { p(d) q; ctrl @ U(a, b, c) q, r; }",
    "dcx": "gate dcx q, r { cx q, r; cx r, q; }",
    "ecr": "gate ecr q, r { rzx(pi/4) q, r; x q; rzx(-pi/4) q, r; }",
    "rccx": "gate rccx a, b, c { u2(0, pi) c; u1(pi/4) c; cx b, c; u1(-pi/4) c; cx a, c; u1(pi/4) c; cx b, c; "
    "u1(-pi/4) c; u2(0, pi) c; }",
    "rc3x": "gate rc3x a, b, c, d { u2(0, pi) d; u1(pi/4) d; cx c, d; u1(-pi/4) d; u2(0, pi) d; cx a, d; u1(pi/4) d; "
    "cx b, d; u1(-pi/4) d; cx a, d; u1(pi/4) d; cx b, d; u1(-pi/4) d; u2(0, pi) d; u1(pi/4) d; cx c, d; u1(-pi/4) d; "
    "u2(0, pi) d; }",
    "rcccx": "gate rcccx a, b, c, d { rc3x a, b, c, d; }",
    "xx_plus_yy": "gate xx_plus_yy(t, b) q, r { rz(b) q; rz(-pi/2) r; sx r; rz(pi/2) r; s q; cx r, q; ry(-t/2) r; "
    "ry(-t/2) q; cx r, q; sdg q; rz(-pi/2) r; sxdg r; rz(pi/2) r; rz(-b) q; }",
    "xx_minus_yy": "gate xx_minus_yy(t, b) q, r { rz(-b) r; rz(-pi/2) q; sx q; rz(pi/2) q; s r; cx q, r; ry(t/2) q; "
    "ry(-t/2) r; cx q, r; sdg r; rz(-pi/2) q; sxdg q; rz(pi/2) q; rz(b) r; }",
}
