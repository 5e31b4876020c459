"""Matrices and phases done in one go, and matrices with ones on a diagonal, give the amplitudes of plain numpy."""

import numpy as np
import pytest

from app.circuits import kernels
from app.circuits.fusing import Fused, Item, fused
from app.circuits.program import program
from app.circuits.simulate import apply_, block_of, planned
from app.circuits.state import amplitudes, zero_state
from app.plan.circuits.circuit import Circuit, Gate
from app.plan.circuits.lowering import lower
from app.plan.circuits.unit_kinds import STRAIGHT, SWAPPED, unit_kind, with_unit_kinds
from tests.parts.circuits import plain

NEAR = {"complex128": 1e-13, "complex64": 3e-6}


def bricks(qubits, layers, *, phase="z", far=1, seed=1):
    """Layers of u on every qubit, and phases between qubits that are `far` apart."""
    rng = np.random.default_rng([qubits, layers, far, seed])
    operations = []
    for layer in range(layers):
        operations += [Gate("u", (q,), tuple(map(float, rng.uniform(-3, 3, 3)))) for q in range(qubits)]
        for q in range(qubits - far):
            if (q // far + layer) % 2 == 0:
                angles = (float(rng.uniform(-3, 3)),) if phase == "p" else ()
                operations.append(Gate(phase, (q + far,), angles, (q,)))
    return Circuit(qubits, tuple(operations))


def found(circuit, dtype, threads=1):
    state = zero_state(circuit.qubits, dtype, threads=threads)
    apply_(state, circuit)
    return amplitudes(state)


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("phase", ["z", "p"])
@pytest.mark.parametrize("far", [1, 2, 3])
@pytest.mark.parametrize("qubits", range(2, 13))
def test_bricks(qubits, far, phase, dtype):
    circuit = bricks(qubits, 6, phase=phase, far=far)
    np.testing.assert_allclose(found(circuit, dtype), plain.run(circuit), rtol=0, atol=NEAR[dtype])


@pytest.mark.parametrize("dtype", NEAR)
def test_bricks_over_several_passes(dtype):
    circuit = bricks(17, 8)
    assert len(planned(circuit, range(17), 17, dtype)[1].actions) > 1
    np.testing.assert_allclose(found(circuit, dtype, threads=2), plain.run(circuit), rtol=0, atol=NEAR[dtype])


@pytest.mark.parametrize("dtype", NEAR)
def test_every_kind_of_two_occurs(dtype):
    """Else the tests above would not be about them."""
    circuit = bricks(10, 6)
    state = zero_state(10, dtype)
    kinds = set()
    for each in (lower(circuit), with_unit_kinds(lower(circuit))):
        made = program(list(enumerate(each.steps)), block_of(range(10), state).place, state.re.dtype.type)
        kinds |= {int(row[kernels.KIND]) for row in made.operations}
    assert kinds >= {kernels.TWO_PAIRS, kernels.TWO_UNIT_PAIRS, kernels.TWO_LANES}
    singles = [Gate("u", (q,), (0.1 + q, 0.2, 0.3)) for q in (0, 5)]
    made = program(
        list(enumerate(lower(Circuit(10, tuple(singles))).steps)),
        block_of(range(10), state).place,
        state.re.dtype.type,
    )
    assert [int(row[kernels.KIND]) for row in made.operations] == [kernels.LANE_AND_PAIR]


@pytest.mark.parametrize("dtype", NEAR)
def test_a_thousand_hadamards_neither_overflow_nor_vanish(dtype):
    """Each of them makes an unscaled state longer by sqrt(2): 2^500 is beyond float32."""
    layer = [Gate("h", (q,)) for q in range(5)] + [Gate("t", (q,)) for q in range(5)]
    circuit = Circuit(5, tuple(layer) * 200)
    np.testing.assert_allclose(found(circuit, dtype), plain.run(circuit), rtol=0, atol=30 * NEAR[dtype])


def test_matrices_get_ones_on_the_larger_diagonal():
    angles = {STRAIGHT: 0.4, SWAPPED: 2.8}
    for kind, angle in angles.items():
        gate = Gate("u", (0,), (angle, 0.5, 0.7))
        circuit = Circuit(2, (gate, Gate("z", (1,), (), (0,)), gate))
        steps = with_unit_kinds(lower(circuit)).steps
        assert [unit_kind(step.matrix) for step in steps if step.target == 0] == [kind, 0]


@pytest.mark.parametrize(
    "last", [Gate("x", (0,), (), (1,)), Gate("rxx", (0, 1), (0.3,)), Gate("h", (0,), (), (1,))], ids=lambda g: g.name
)
def test_nothing_waits_for_a_step_that_it_must_not_pass(last):
    circuit = Circuit(2, (Gate("u", (0,), (0.4, 0.5, 0.6)), Gate("u", (1,), (1.4, 0.5, 0.6)), last))
    np.testing.assert_allclose(found(circuit, "complex128"), plain.run(circuit), rtol=0, atol=1e-15)


def drawn_items(rng, count):
    items = []
    for number in range(count):
        a, b, c = (1 << int(k) for k in rng.permutation(6)[:3])
        kinds = [
            Item(number, a, single=a),
            Item(number, a | b, both=a | b),
            Item(number, a | b | c),
        ]
        items.append(kinds[rng.choice(3, p=[0.6, 0.3, 0.1])])
    return items


@pytest.mark.parametrize("seed", range(30))
def test_the_order_of_what_touches_the_same_bits_is_kept(seed):
    items = drawn_items(np.random.default_rng(seed), 60)
    groups = fused(items)
    place = {}
    for number, group in enumerate(groups):
        members = [n for n in group if n >= 0] if isinstance(group, Fused) else [group]
        place |= {member: (number, within) for within, member in enumerate(members)}
        if isinstance(group, Fused):
            first, second = items[group.first], items[group.second]
            assert first.single
            assert second.single
            assert first.single != second.single
            assert group.phase < 0 or items[group.phase].both == first.single | second.single
    assert sorted(place) == list(range(60))
    assert any(isinstance(group, Fused) for group in groups)
    for later, item in enumerate(items):
        for earlier in range(later):
            if items[earlier].touched & item.touched:
                assert place[earlier] < place[later]
