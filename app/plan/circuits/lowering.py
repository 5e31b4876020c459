"""From gates to the few steps that a state vector knows: 2x2 matrices, phases, exchanged labels, dense matrices.

One-qubit gates are multiplied together until something else touches their qubit; a diagonal gate is a phase on the
amplitudes whose bits have given values, and what is common to all amplitudes is kept as one number.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from app.plan.circuits.circuit import Circuit, Gate, Matrix
from app.plan.circuits.gates import adjoint, matrix, product

ONE = 1 + 0j
ZERO = 1e-300  # below any entry that a product of gates leaves


class Step(NamedTuple):
    """What is done to a state at once; masks are of qubits.

    target: the qubit of a 2x2 matrix, -1 of a phase. matrix: 2x2 of a target, ((factor,),) of a phase, 2^k rows of
    `targets`. Only amplitudes whose bits in `mask` equal `value` are touched. targets: of a dense matrix, else empty.
    parts: the gates it is made of, first to last, with their numbers in the circuit.
    """

    target: int
    matrix: Matrix
    mask: int = 0
    value: int = 0
    targets: tuple[int, ...] = ()
    parts: tuple[tuple[int, Gate], ...] = ()

    @property
    def active(self) -> int:
        """Qubits it mixes."""
        return sum(1 << q for q in self.targets) if self.targets else (1 << self.target if self.target >= 0 else 0)

    @property
    def adjoint(self) -> "Step":
        """The step that undoes it."""
        return self._replace(matrix=adjoint(self.matrix))


class Lowered(NamedTuple):
    """Steps of a circuit; labels: qubit q of the circuit ends where qubit labels[q] of the steps is."""

    steps: tuple[Step, ...]
    factor: complex
    labels: tuple[int, ...]


@dataclass
class _Pending:
    """The product of the one-qubit gates on a qubit that nothing else has touched since."""

    matrix: Matrix
    parts: list[tuple[int, Gate]]

    @property
    def is_diagonal(self) -> bool:
        return abs(self.matrix[0][1]) < ZERO and abs(self.matrix[1][0]) < ZERO


@dataclass
class _Lowering:
    labels: list[int]
    kept: Collection[int]
    pending: dict[int, _Pending] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    factor: complex = ONE

    def multiply_(self, qubit: int, matrix: Matrix, part: tuple[int, Gate]) -> None:
        if qubit in self.pending:
            waiting = self.pending[qubit]
            waiting.matrix = product(matrix, waiting.matrix)
            waiting.parts.append(part)
        else:
            self.pending[qubit] = _Pending(matrix, [part])

    def flush_(self, qubits: Iterable[int], *, past_diagonal: bool = False) -> None:
        """Write what waits on the qubits; past_diagonal: what commutes with a diagonal step may wait on."""
        for qubit in qubits:
            waiting = self.pending.get(qubit)
            if waiting is None or (past_diagonal and waiting.is_diagonal):
                continue
            del self.pending[qubit]
            parts = tuple(waiting.parts)
            if not waiting.is_diagonal:
                self.steps.append(Step(qubit, waiting.matrix, parts=parts))
                continue
            first, second = waiting.matrix[0][0], waiting.matrix[1][1]
            self.factor *= first
            self.phase_(second / first, 1 << qubit, 1 << qubit, parts)

    def phase_(self, factor: complex, mask: int, value: int, parts: tuple[tuple[int, Gate], ...]) -> None:
        """A phase; one that changes nothing is left out, unless a derivative is wanted of it."""
        if factor != ONE or any(number in self.kept for number, _ in parts):
            self.steps.append(Step(-1, ((factor,),), mask, value, parts=parts))


def lower(circuit: Circuit, kept: Collection[int] = ()) -> Lowered:
    """The steps of a bound circuit of gates alone. kept: numbers of gates that have a step even where it does nothing.

    Raises ValueError for a gate of parameters without values, and for what is no gate.
    """
    work = _Lowering(list(range(circuit.qubits)), kept)
    for number, gate in enumerate(circuit.operations):
        if not isinstance(gate, Gate):
            raise ValueError(f"{type(gate).__name__} is no gate")
        for piece in _pieces(gate):
            _lower_piece_(work, piece, number)
    work.flush_(sorted(work.pending))
    return Lowered(tuple(work.steps), work.factor, tuple(work.labels))


def _pieces(gate: Gate) -> Iterator[Gate]:
    """A two-qubit gate as gates on one target, with its angle on one of them; others as they are."""
    match gate.name, gate.targets:
        case "swap", (a, b) if gate.controls:
            yield Gate("x", (a,), controls=(b,))
            yield Gate("x", (b,), controls=(a, *gate.controls))
            yield Gate("x", (a,), controls=(b,))
        case "iswap", (a, b):
            yield Gate("swap", (a, b), controls=gate.controls)
            yield Gate("s", (a,), controls=gate.controls)
            yield Gate("s", (b,), controls=gate.controls)
            yield Gate("z", (a,), controls=(b, *gate.controls))
        case "rzx", (a, b):
            yield Gate("h", (b,))
            yield from _pieces(Gate("rzz", (a, b), gate.angles, gate.controls))
            yield Gate("h", (b,))
        case "rxx" | "ryy", (a, b):
            turn, back = ("h", "h") if gate.name == "rxx" else ("sx", "sxdg")
            yield Gate(turn, (a,))
            yield Gate(turn, (b,))
            yield from _pieces(Gate("rzz", (a, b), gate.angles, gate.controls))
            yield Gate(back, (a,))
            yield Gate(back, (b,))
        case "rzz", (a, b) if gate.controls:
            yield Gate("x", (b,), controls=(a,))
            yield Gate("rz", (b,), gate.angles, gate.controls)
            yield Gate("x", (b,), controls=(a,))
        case _:
            yield gate


def _lower_piece_(work: _Lowering, gate: Gate, number: int) -> None:
    labels = work.labels
    targets = tuple(labels[q] for q in gate.targets)
    controls = [labels[q] for q in gate.controls]
    mask = sum(1 << q for q in controls)
    if gate.name == "swap" and not controls:
        a, b = gate.targets
        labels[a], labels[b] = labels[b], labels[a]
        return
    values = matrix(gate)
    if gate.name == "rzz":
        _lower_rzz_(work, values, targets, (number, gate))
    elif not targets or (len(targets) == 1 and controls and _is_diagonal(values)):
        _lower_phases_(work, values, targets, mask, (number, gate))
    elif len(targets) == 1 and not controls:
        work.multiply_(targets[0], values, (number, gate))
    else:
        work.flush_(targets)
        work.flush_(controls, past_diagonal=True)
        one = len(targets) == 1
        work.steps.append(
            Step(targets[0] if one else -1, values, mask, mask, () if one else targets, ((number, gate),))
        )


def _lower_rzz_(work: _Lowering, values: Matrix, targets: tuple[int, ...], part: tuple[int, Gate]) -> None:
    work.flush_(targets, past_diagonal=True)
    work.factor *= values[0][0]
    factor = values[1][1] / values[0][0]
    both = (1 << targets[0]) | (1 << targets[1])
    for target in targets:
        work.phase_(factor, both, 1 << target, (part,))


def _lower_phases_(
    work: _Lowering, values: Matrix, targets: tuple[int, ...], mask: int, part: tuple[int, Gate]
) -> None:
    """A diagonal matrix on at most one target under controls: phases of the amplitudes they choose."""
    factors = [values[k][k] for k in range(len(values))]
    if not targets and not mask:
        work.factor *= factors[0]
        return
    work.flush_([q for q in range(len(work.labels)) if mask >> q & 1] + list(targets), past_diagonal=True)
    bit = 1 << targets[0] if targets else 0
    for value, factor in zip((0, bit), factors, strict=False):
        work.phase_(factor, mask | bit, mask | value, (part,))


def _is_diagonal(values: Matrix) -> bool:
    return all(value == 0 for r, row in enumerate(values) for c, value in enumerate(row) if r != c)
