"""The sensitivity scan: what it says a network loses is what cut networks lose."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from app.data.batches import Batch, Microbatch
from app.learning.losses import loss
from app.learning.pipeline import Arrangement, Pipeline
from app.learning.pruning.scan import from_rises, scan, steps
from app.learning.pruning.units import UnitGroup
from app.networks.shapes import Boundary
from app.report.timers import Timers
from tests.parts.learning.pruning import cases

LEVELS = 3
NAMES = ("mlp", "resnet, batch", "resnet, group", "own concatenation", "own transposed", "own shared")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return cache(lambda name: cases.network_of(name, tmp_path_factory.mktemp("own")))


def pipeline_of(modules, shape):
    return Pipeline(
        {0: modules},
        loss("cross_entropy"),
        torch.device("cpu"),
        entering={0: Boundary(shape, torch.float64)},
        bf16=False,
        arrangement=Arrangement(schedule="1f1b", recompute=False),
        inbox=None,
        timers=Timers(),
    )


def batches_of(shape, sizes=((4, 4, 3), (4, 1))):
    """Batches of uneven microbatches."""
    generator = torch.Generator().manual_seed(4)

    def one(number, size):
        inputs = torch.randn((size, *shape), generator=generator, dtype=torch.float64)
        targets = torch.randint(0, cases.OUTPUTS, (size,), generator=generator)
        return Microbatch(number, size, inputs, targets, np.arange(size))

    return [Batch(n, sum(one_batch), tuple(map(one, range(9), one_batch))) for n, one_batch in enumerate(sizes)]


def mean_loss(modules, batches):
    micros = [micro for batch in batches for micro in batch.microbatches]
    with torch.no_grad():
        outputs = modules.eval()(torch.cat([micro.inputs for micro in micros]))
    return nn.functional.cross_entropy(outputs, torch.cat([micro.targets for micro in micros])).item()


def orders_of(made):
    draw = np.random.default_rng(8)
    return [draw.permutation(group.units) for group in made.found.groups]


def scanned(made, modules, batches, sum_=lambda array: None):
    pipeline = pipeline_of(modules, made.case.shape)
    tensors = {name: tensor.detach() for name, tensor in modules.state_dict().items()}
    return scan(pipeline, batches, made.found.groups, orders_of(made), LEVELS, tensors, sum_)


@pytest.mark.parametrize("name", NAMES)
def test_rises_are_those_of_cut_networks(network, name):
    made, modules = network(name), cases.modules_of(network(name)).train()
    batches = batches_of(made.case.shape)
    before = copy.deepcopy(modules.state_dict())
    rises = scanned(made, modules, batches)
    assert modules.training
    after = modules.state_dict()
    assert all(after[tensor].numpy().tobytes() == before[tensor].numpy().tobytes() for tensor in before)
    whole = mean_loss(modules, batches)
    for group, order, rise in zip(made.found.groups, orders_of(made), rises, strict=True):
        counts = steps(group.units, LEVELS)
        assert len(rise) == 1 + len(counts)
        assert rise[0] == 0
        for count, one in zip(counts, rise[1:], strict=True):
            smaller = cases.cut_modules(made, modules, [(group, sorted(order[:count].tolist()))])
            assert one == pytest.approx(
                mean_loss(smaller, batches) - whole, rel=1e-5, abs=1e-5 * whole
            )  # the loss is float32
    assert any(rise[1:].any() for rise in rises)


def test_shares_of_replicas_add_up(network):
    made = network("resnet, batch")
    batches = batches_of(made.case.shape)
    expected = scanned(made, cases.modules_of(made), batches)
    told = []

    class Stop(Exception):
        pass

    def tell(array):
        told.append(array.copy())
        raise Stop

    shares = [[b._replace(microbatches=b.microbatches[first::2]) for b in batches] for first in (0, 1)]
    for share in shares:
        modules = cases.modules_of(made)
        with pytest.raises(Stop):
            scanned(made, modules, share, tell)

    def add(array):
        array[:] = sum(told)

    for share in shares:
        found = scanned(made, cases.modules_of(made), share, add)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_weights_are_back_when_something_fails(network):
    made = network("mlp")
    modules = cases.modules_of(made)
    before = copy.deepcopy(modules.state_dict())
    calls = []

    def failing(module, inputs):
        calls.append(None)
        if len(calls) > 4:
            raise RuntimeError("no more")

    modules.register_forward_pre_hook(failing)
    with pytest.raises(RuntimeError, match="no more"):
        scanned(made, modules, batches_of(made.case.shape))
    assert all(torch.equal(tensor, before[name]) for name, tensor in modules.state_dict().items())


@given(st.integers(2, 200), st.integers(2, 64))
def test_steps_are_even_and_leave_one(units, levels):
    found = steps(units, levels)
    assert found == sorted(set(found))
    assert found[-1] == units - 1
    assert found[0] >= 1
    assert len(found) <= levels
    gaps = np.diff([0, *found[:-1]])
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_scores_are_convex_and_in_order(data):
    """Whatever was measured: those that go first cost least, and together no more than what was measured."""
    units, levels = data.draw(st.integers(2, 30)), data.draw(st.integers(2, 9))
    removed = [0, *steps(units, levels)]
    rise = np.array([0.0, *data.draw(st.lists(st.floats(-2, 9), min_size=len(removed) - 1, max_size=len(removed) - 1))])
    order = np.random.default_rng(units).permutation(units)
    (scores,) = from_rises([UnitGroup("a", units, 1, ())], [rise], [order], levels)
    in_order = scores[order]
    assert (np.diff(in_order) > 0).all() or not rise.any()
    sums = np.concatenate([[0], np.cumsum(in_order)])
    tolerance = 1e-6 * max(1.0, np.abs(rise).max())
    assert all(sums[count] <= one + tolerance for count, one in zip(removed, rise, strict=True))
    assert sums[removed[-1]] == pytest.approx(rise[-1], abs=tolerance)


def test_slopes_by_hand():
    """Removing 1, 2, 3 of 4: what is measured above the straight line is not convex and is taken as on it."""
    group = UnitGroup("a", 4, 1, ())
    (found,) = from_rises([group], [np.array([0, 3.0, 4.0, 9.0])], [np.array([2, 0, 3, 1])], 4)
    np.testing.assert_allclose(found, [2, 5, 2, 5], rtol=1e-7)
    assert found[2] < found[0] < found[3] < found[1]
