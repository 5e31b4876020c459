"""What drives weights to zero: the proximal steps, once for each number, exactly zero at the end."""

from functools import cache

import numpy as np
import pytest
import torch

from app.learning.pruning import penalties, scores
from tests.parts.learning.pruning import cases
from tests.parts.learning.pruning.test_scores import alone, rows, staged


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return cache(lambda name: cases.network_of(name, tmp_path_factory.mktemp("own")))


def copied(weights):
    return {name: tensor.clone() for name, tensor in weights.items()}


def test_lasso_is_the_proximal_step(network):
    """Of units that share no numbers: each is shortened by rate x strength x sqrt(its numbers)."""
    made = network("lenet")
    group = made.groups["dense2.linear"]
    weights = cases.modules_of(made).state_dict()
    weights["dense2.linear.weight"][3] *= 0.01
    weights["dense2.linear.bias"][3] *= 0.01
    weights["output.linear.weight"][:, 3] *= 0.01
    before = copied(weights)
    lasso = penalties.Lasso([group], weights, 0.5, alone)
    lasso(0.3, 0.1)
    numbers = 20 + 1 + cases.OUTPUTS
    for unit in range(group.units):
        old, new = (
            torch.cat(
                [
                    of["dense2.linear.weight"][unit],
                    of["dense2.linear.bias"][unit, None],
                    of["output.linear.weight"][:, unit],
                ]
            )
            for of in (before, weights)
        )
        length = max(0.0, old.norm().item() - 0.3 * 0.5 * numbers**0.5)
        torch.testing.assert_close(new, old * length / old.norm().item())
        assert (length == 0) == (unit == 3)
        assert unit != 3 or new.count_nonzero() == 0
    others = before.keys() - {member.tensor for member in group.members}
    assert all(torch.equal(weights[name], before[name]) for name in others)


def test_lasso_makes_all_of_it_zero_in_the_end(network):
    for name in ("resnet, batch", "transformer, tied", "own shared"):
        made = network(name)
        weights = {n: t for n, t in cases.modules_of(made).state_dict().items() if t.is_floating_point()}
        lasso = penalties.Lasso(made.found.groups, weights, 1.0, alone)
        counts = []
        for _ in range(60):
            counts.append(sum(int((one == 0).sum()) for one in scores.sizes(made.found.groups, weights, alone)))
            lasso(0.1, 0.5)
        assert counts[0] == 0
        assert counts == sorted(counts)
        assert counts[-1] == sum(group.units for group in made.found.groups)
        assert not any(name.endswith("running_var") and (t == 0).any() for name, t in weights.items())


@pytest.mark.parametrize("name", ["transformer, tied", "own shared", "own shared_child"])
def test_a_tied_number_is_penalised_once(network, name):
    """One unit: its shortening says how often each number was met."""
    made = network(name)
    (group,) = (g for g in made.found.groups if any(m.again for m in g.members))
    modules = cases.modules_of(made)
    weights = {n: t.detach() for n, t in modules.state_dict().items()}
    before = copied(weights)
    counted = {(m.tensor, m.dim): m for m in group.members if not m.again}
    squares = sum(rows(before[m.tensor], m.dim, m.places).square().sum(1) for m in counted.values())
    numbers = sum(rows(before[m.tensor], m.dim, m.places).shape[1] for m in counted.values())
    penalties.Lasso([group], weights, 0.01, alone)(0.1, 0.5)
    factors = 1 - 0.1 * 0.01 * numbers**0.5 / squares.sqrt()
    for member in group.members:
        old = rows(before[member.tensor], member.dim, member.places)
        new = rows(weights[member.tensor], member.dim, member.places)
        if (member.tensor, 1 - member.dim) not in {(m.tensor, m.dim) for m in group.members}:
            torch.testing.assert_close(new, old * factors[:, None])


@pytest.mark.parametrize("name", ["transformer, tied", "own shared_child", "resnet, batch"])
def test_lasso_over_stages(network, name):
    made = network(name)
    weights, stages = staged(made)
    weights, stages = copied(weights), [copied(own) for own in stages]
    values: list[list] = []

    def gather_of(calls, own):
        def gather(value):
            calls.append(value)
            return [value]

        return gather

    whole = {n: t.clone() for n, t in cases.modules_of(made).state_dict().items()}
    modules = cases.modules_of(made)
    one = {n: t.detach() for n, t in modules.state_dict().items()}
    penalties.Lasso(made.found.groups, one, 0.05, alone)(0.2, 0.5)
    for own in stages:  # what each tells, then all with what all told
        calls = []
        penalties.Lasso(made.found.groups, copied(own), 0.05, gather_of(calls, own))(0.2, 0.5)
        values.append(calls)
    for own in stages:
        told = iter(zip(*values, strict=True))
        penalties.Lasso(made.found.groups, own, 0.05, lambda value, told=told: list(next(told)))(0.2, 0.5)
    merged = {n: t for own in stages for n, t in own.items()}
    assert merged.keys() == one.keys()
    for tensor, expected in one.items():
        torch.testing.assert_close(merged[tensor], expected, rtol=1e-12, atol=0)
    assert any(not torch.equal(one[n], whole[n]) for n in whole)


def test_growing_takes_all_at_the_end(network):
    made = network("resnet, group")
    weights = cases.modules_of(made).state_dict()
    before = copied(weights)
    removed = cases.some_of(made, 1)
    group, units = removed[0]
    penalties.Growing(removed[:1], weights)(0.1, 0.5)
    for member in group.members:
        factors = torch.ones(group.units, 1, dtype=torch.float64)
        factors[units] = 1 - 0.5**2
        old, new = (rows(of[member.tensor], member.dim, member.places) for of in (before, weights))
        torch.testing.assert_close(new, old * factors)
    growing = penalties.Growing(removed, weights)
    growing(0.1, 1.0)
    for (group, units), one in zip(removed, scores.sizes([group for group, _ in removed], weights, alone), strict=True):
        assert np.flatnonzero(one == 0).tolist() == units, group.name


def test_scale_touches_scales_of_normalisations_alone(network):
    made = network("resnet, batch")
    weights = cases.modules_of(made).state_dict()
    before = copied(weights)
    penalties.ScaleL1(made.found.groups, weights, 2.0)(0.1, 0.5)
    for name, old in before.items():
        if old.dim() == 1 and name.endswith("weight"):
            expected = old.sign() * (old.abs() - 0.2).clamp(min=0)
            torch.testing.assert_close(weights[name], expected)
            assert (expected == 0).any() or old.abs().min() > 0.2
        else:
            assert torch.equal(weights[name], old), name


def test_l1_of_connections():
    weight = torch.tensor([[0.3, -0.05], [-1.0, 0.1]])
    penalties.ConnectionL1({"a": weight}, 0.5)(0.2, 0.5)
    torch.testing.assert_close(weight, torch.tensor([[0.2, 0.0], [-0.9, 0.0]]))
    assert weight[0, 1] == 0


def test_growing_connections_are_gone_at_the_end():
    weight = torch.tensor([[0.3, -0.05], [-1.0, 0.1]])
    mask = torch.tensor([[True, False], [True, False]])
    growing = penalties.ConnectionGrowing({"a": weight, "b": torch.ones(2)}, {"a": mask})
    growing(0.2, 0.5)
    torch.testing.assert_close(weight, torch.tensor([[0.3, -0.0375], [-1.0, 0.075]]))
    growing(0.2, 1.0)
    assert weight.tolist()[0][1] == 0
    assert torch.equal(weight != 0, mask)
