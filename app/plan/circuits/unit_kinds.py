"""2x2 matrices brought to ones on a diagonal, by which half of their multiplications disappear.

M = diag(p, q) N: the diagonal matrix commutes with phases and controls, so it can wait for the next matrix on its qubit
and be multiplied into that. The entry of larger magnitude is the one that becomes 1; where that is beside the main
diagonal, the two amplitudes change places as they are read. Meanwhile states are longer than 1, by at most sqrt(2) a
matrix; one common factor makes up for it.
"""

from collections.abc import Sequence

from app.plan.circuits.circuit import Matrix
from app.plan.circuits.gates import product
from app.plan.circuits.lowering import Lowered, Step

STRAIGHT, SWAPPED = 1, 2
SMALLEST = 2.0**-40  # of the common factor: float32 goes to 2^-126
ALIKE = 0.5  # the two entries of a diagonal of a unitary matrix are of the same magnitude


def unit_kind(matrix: Matrix) -> int:
    """STRAIGHT: ones on the main diagonal. SWAPPED: on the other one. 0: neither."""
    if matrix[0][0] == matrix[1][1] == 1:
        return STRAIGHT
    return SWAPPED if matrix[0][1] == matrix[1][0] == 1 else 0


def with_unit_kinds(lowered: Lowered) -> Lowered:
    """The same circuit. The last matrix on a qubit, and one before a step that must not be passed, stay as they are."""
    factor, steps = lowered.factor, []
    waiting: dict[int, complex] = {}  # qubit -> q / p
    for step, may_wait in zip(lowered.steps, _may_wait(lowered.steps), strict=True):
        if not _is_plain(step):
            steps.append(step)
            continue
        matrix = product(step.matrix, ((1, 0), (0, waiting.pop(step.target, 1))))
        kind = STRAIGHT if abs(matrix[0][0]) >= abs(matrix[0][1]) else SWAPPED
        column = kind - STRAIGHT
        p, q = complex(matrix[0][column]), complex(matrix[1][1 - column])
        if may_wait and abs(factor) > SMALLEST and abs(q) > ALIKE * abs(p):
            factor *= p
            waiting[step.target] = q / p
            upper, lower = matrix[0][1 - column] / p, matrix[1][column] / q
            matrix = ((1, upper), (lower, 1)) if kind == STRAIGHT else ((upper, 1), (1, lower))
        elif abs(factor) <= SMALLEST:
            matrix, factor = tuple(tuple(factor * value for value in row) for row in matrix), 1 + 0j
        steps.append(step._replace(matrix=matrix))
    return lowered._replace(steps=tuple(steps), factor=factor)


def _is_plain(step: Step) -> bool:
    return step.target >= 0 and not step.mask


def _may_wait(steps: Sequence[Step]) -> list[bool]:
    """Of each step: whether the next that mixes its qubit is a matrix without conditions."""
    result, next_plain = [], 0
    for step in reversed(steps):
        result.append(_is_plain(step) and bool(next_plain & step.active))
        next_plain = next_plain | step.active if _is_plain(step) else next_plain & ~step.active
    return result[::-1]
