"""Schedules do every step once, in an order that computes the same, with its qubits where a pass needs them."""

import numpy as np
import pytest

from app.plan.circuits.lowering import Step
from app.plan.circuits.passes import Layout, Pass, schedule

# local, block and row bits: all in one block; several passes; ranks; ranks and several passes
LAYOUTS = [Layout(8, 9, 2), Layout(8, 5, 2), Layout(6, 9, 2), Layout(3, 9, 2), Layout(7, 5, 2), Layout(6, 5, 2)]


def drawn_steps(rng, qubits, count, most):
    """2x2 matrices with and without conditions, phases, and matrices on up to `most` qubits."""
    steps = []
    for _ in range(count):
        places = [int(q) for q in rng.permutation(qubits)]
        width = int(rng.integers(0, most + 1))
        mask = sum(1 << q for q in places[width : width + int(rng.integers(0, 3))])
        target, targets = (places[0], ()) if width == 1 else (-1, tuple(places[:width]))
        steps.append(Step(target, ((1,),), mask, mask, targets))
    return steps


def commute(a, b):
    return not (a.active & (b.active | b.mask) or b.active & (a.active | a.mask))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("smallest", [0, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_schedules(layout, smallest, seed):
    rng = np.random.default_rng([seed, smallest])
    steps = [s for s in drawn_steps(rng, 8, 90, 3) if s.active.bit_count() >= smallest]
    plan = schedule(steps, range(8), layout)
    where, done = list(range(8)), []
    for action in plan.actions:
        if isinstance(action, Pass):
            assert set(range(min(layout.row_bits, layout.local_bits))) <= set(action.active)
            assert len(action.active) <= max(layout.block_bits, layout.row_bits)
            assert max(action.active) < layout.local_bits
            for number in action.steps:
                assert {where[q] for q in range(8) if steps[number].active >> q & 1} <= set(action.active)
            done += action.steps
        else:
            there = {action.rank_position: action.local_position, action.local_position: action.rank_position}
            where = [there.get(place, place) for place in where]
    assert tuple(where) == plan.positions
    assert sorted(done) == list(range(len(steps)))
    for later, number in enumerate(done):
        for earlier in done[:later]:
            assert earlier < number or commute(steps[earlier], steps[number])


def test_a_matrix_that_no_block_has_room_for_is_refused():
    wide = Step(-1, ((1,),), targets=(0, 1, 2, 3))
    with pytest.raises(ValueError, match="a gate on 4 qubits at once has no room where a rank holds 3 of them"):
        schedule([wide], range(5), Layout(3, 9, 2))
