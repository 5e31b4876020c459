"""Gradients of an expectation by adjoint differentiation: two states, however many parameters.

Jones and Gacon, "Efficient calculation of gradients in classical simulations of variational quantum algorithms"
(arXiv:2009.02823). With psi = U_N ... U_1 |0> and lambda = H psi, both are taken back through the circuit; at gate k

    dE/da = 2 Re <lambda_k| (dU_k/da) U_k^-1 |psi_k>,

and one 2x2 table of sums conj(lambda) psi over the pairs that a fused matrix mixes serves all angles in it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from app.circuits import kernels
from app.circuits.exchange import exchange_
from app.circuits.expectation import apply_sum, expectation
from app.circuits.program import Condition, condition_of, program
from app.circuits.simulate import block_of, run_
from app.circuits.state import APART, StateVector, zero_state
from app.circuits.threads import share
from app.circuits.vector_code import LANES
from app.parallel.group import Group
from app.parallel.memory import aligned
from app.plan.circuits.circuit import Circuit, Gate, Parameter
from app.plan.circuits.gates import derivative, matrix, product
from app.plan.circuits.lowering import Step, lower
from app.plan.circuits.passes import Pass, layout, schedule
from app.plan.circuits.paulis import PauliSum


class Gradient(NamedTuple):
    """energy: the expectation. gradient: (parameters,) float64, d energy / d value. Equal bits on all ranks."""

    energy: float
    gradient: np.ndarray


def gradient(
    circuit: Circuit,
    values: Sequence[float],
    observable: PauliSum,
    dtype: str = "complex128",
    group: Group | None = None,
    threads: int = 1,
) -> Gradient:
    """Expectation and its derivatives by all parameters, starting from |0...0>.

    Collective over: the group, whose ranks hold the states together. Raises ValueError for a circuit that measures.
    """
    bound, trained = circuit.bound(list(values)), trained_gates(circuit)
    lowered = lower(bound, kept=trained)
    psi = zero_state(circuit.qubits, dtype, group, threads)
    # Its factor is a phase of the whole state, which no expectation sees.
    run_(psi, lowered.steps, schedule(lowered.steps, psi.positions, layout(psi.local_bits, dtype)))
    labels = [psi.positions[lowered.labels[q]] for q in range(circuit.qubits)]
    steps_positions, psi.positions = psi.positions, labels  # the observable speaks of the circuit's qubits
    energy = expectation(psi, observable)
    lam = apply_sum(psi, observable)
    psi.positions, lam.positions = list(steps_positions), list(steps_positions)
    sums = _back(psi, lam, lowered.steps, trained)
    return Gradient(energy, derivatives(circuit, bound, lowered.steps, sums))


def trained_gates(circuit: Circuit) -> set[int]:
    """Numbers of the gates that have parameters."""
    return {
        number
        for number, gate in enumerate(circuit.operations)
        if isinstance(gate, Gate) and any(isinstance(angle, Parameter) for angle in gate.angles)
    }


def _back(psi: StateVector, lam: StateVector, steps: Sequence[Step], trained: set[int]) -> dict[int, np.ndarray]:
    """Take both states back through the steps; for each trained step the table of sums, over all ranks."""
    reverse = [step.adjoint for step in reversed(steps)]
    wanted = [any(number in trained for number, _ in step.parts) for step in reverse]
    size = layout(psi.local_bits, psi.dtype)
    plan = schedule(reverse, psi.positions, size._replace(block_bits=size.block_bits - 1))
    found: dict[int, np.ndarray] = {number: np.zeros((2, 2), complex) for number, want in enumerate(wanted) if want}
    for action in plan.actions:
        if isinstance(action, Pass):
            _pass_back_(psi, lam, [(n, reverse[n]) for n in action.steps], action.active, wanted, found)
        else:
            for state in (psi, lam):
                exchange_(state, action)
    numbers = sorted(found)
    table = np.array([found[number] for number in numbers], complex).reshape(-1, 4)
    reals = np.concatenate([table.real.ravel(), table.imag.ravel()])
    if psi.group:
        psi.group.sum_(reals)
    totals = (reals[: table.size] + 1j * reals[table.size :]).reshape(-1, 2, 2)
    return {len(steps) - 1 - number: totals[row] for row, number in enumerate(numbers)}


def _pass_back_(
    psi: StateVector,
    lam: StateVector,
    steps: Sequence[tuple[int, Step]],
    active: Sequence[int],
    wanted: Sequence[bool],
    found: dict[int, np.ndarray],
) -> None:
    """One pass over both states; what is `found` by this rank is added. Collective over: none."""
    dtype = psi.re.dtype
    lanes = LANES[dtype.name]
    block = block_of(active, psi)
    places, rows, length = block.places, block.rows, block.length
    made = program(steps, block.place, dtype.type, fuse=False)
    if not len(made.operations):
        return
    marks = np.array([wanted[number] for number in made.of], np.bool_)
    threads = min(psi.threads, 1 << places.size)
    totals = np.zeros((threads, len(marks), 8, lanes))

    def work(thread: int, first: int, last: int) -> None:
        memory = aligned(4 * (block.size + APART), dtype)
        memory.fill(0)
        kernels.adjoint_blocks(
            (lam.re, lam.im),
            (psi.re, psi.im),
            first,
            last,
            places,
            rows,
            length,
            memory,
            made.operations,
            made.bits,
            made.table,
            marks,
            np.zeros((8, lanes), dtype),
            totals[thread],
        )

    share(work, 1 << places.size, threads)
    total = totals.sum(axis=0)
    by_number, bit_of = dict(steps), block.place.bit_of()
    for row in np.flatnonzero(marks):
        number = made.of[row]
        condition = condition_of(by_number[number], block.place, bit_of)
        assert condition is not None  # it has an operation
        found[number] += _table(made.operations[row], total[row], condition)


def _table(operation: np.ndarray, sums: np.ndarray, condition: Condition) -> np.ndarray:
    """2x2 sums conj(lambda_r) psi_c of one operation, from those of its lanes; of a phase only entry 1, 1."""
    values = sums[0::2] + 1j * sums[1::2]
    lanes = values.shape[1]
    lane = np.arange(lanes)
    mask, value = condition.inside_mask & (lanes - 1), condition.inside_value & (lanes - 1)
    values = values[:, (lane & mask) == value]
    chosen = lane[(lane & mask) == value]
    if operation[kernels.KIND] == kernels.SCALE:
        return np.array([[0, 0], [0, values[0].sum()]])
    if operation[kernels.KIND] != kernels.LANE:
        return values[:4].sum(axis=1).reshape(2, 2)
    high = (chosen & operation[kernels.BIT]) > 0
    return np.array(
        [
            [values[0][~high].sum(), values[1][~high].sum()],
            [values[1][high].sum(), values[0][high].sum()],
        ]
    )


def derivatives(circuit: Circuit, bound: Circuit, steps: Sequence[Step], sums: dict[int, np.ndarray]) -> np.ndarray:
    """d energy / d values from the sums at each trained step, states being those after the step."""
    result = np.zeros(circuit.parameters)
    for number, table in sums.items():
        step = steps[number]
        for part, (gate_number, piece) in enumerate(step.parts):
            original = circuit.operations[gate_number]
            if not isinstance(original, Gate) or not piece.angles:
                continue
            for which, angle in enumerate(original.angles):
                if isinstance(angle, Parameter):
                    change = _change(step, part, piece, which, table)
                    result[angle.index] += 2 * angle.scale * change.real
    return result


def _change(step: Step, part: int, piece: Gate, which: int, table: np.ndarray) -> complex:
    """<lambda| dU U^-1 |psi> for one angle of one of the gates that a step is made of."""
    angles = [float(angle) for angle in piece.angles]  # type: ignore[arg-type]
    changed = derivative(piece.name, angles, which)
    if step.target < 0:
        values = matrix(piece)
        logs = [changed[k][k] / values[k][k] for k in range(len(values))]
        if piece.controls or len(logs) == 1:  # a phase for each entry, told apart by the target's bit
            bit = _entry(step, piece)
            return logs[bit] * table[1, 1]
        return (logs[1] - logs[0]) * table[1, 1]
    whole: tuple[tuple[complex, ...], ...] = ((1, 0), (0, 1))
    for k, (_, gate) in enumerate(step.parts):
        whole = product(changed if k == part else matrix(gate), whole)
    return complex(np.sum(np.array(whole) @ np.array(step.adjoint.matrix) * table))


def _entry(step: Step, piece: Gate) -> int:
    """Which diagonal entry of a controlled gate a phase is: its condition has one bit more where the target is 1."""
    return step.value.bit_count() - len(piece.controls)
