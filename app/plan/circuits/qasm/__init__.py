"""OpenQASM 2 and 3 as text: read into a circuit, written from one.

What is read:
- `OPENQASM` 2 or 3 (3 without the line), `include` of qelib1.inc and stdgates.inc, comments;
- `qreg`, `creg`, `qubit`, `bit`, `$0` physical qubits, `let` aliases, indices, ranges, sets, `++`;
- `gate` definitions of other gates, gate calls on qubits and registers, `U`, `CX`, `gphase`, the modifiers `ctrl`,
  `negctrl`, `inv` and `pow`;
- angles of numbers, pi, tau, euler, `+ - * / **` (`^` in version 2), sin, cos, tan, exp, ln, sqrt, parentheses;
- `const`, and `input float` or `input angle`, which become trainable parameters: an angle may be a * parameter + b;
- `measure`, `reset`, `if` on a register or a bit (with `else` on a bit), `for` over integers, `barrier` and `delay`
  (which do nothing).

Conventions are Qiskit's: qubits and bits are numbered in the order of their declaration, and U and u3 have a real
upper left entry. Everything else is refused with the line.
"""

from app.plan.circuits.qasm.reader import read_qasm
from app.plan.circuits.qasm.writer import write_qasm3

__all__ = ["read_qasm", "write_qasm3"]
