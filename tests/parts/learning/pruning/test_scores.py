"""What units are worth, against the formulas, and wherever their tensors are."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from app.learning.pruning import scores
from app.learning.pruning.units import Member, UnitGroup
from tests.parts.learning.pruning import cases

NAMES = ("lenet", "resnet, batch", "resnet, group", "transformer", "own concatenation", "own shared", "own transposed")


def alone(value):
    """One stage."""
    return [value]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return cache(lambda name: cases.network_of(name, tmp_path_factory.mktemp("own")))


def rows(tensor, dim, units):
    """All numbers of each unit (units, n)."""
    flat = tensor.movedim(dim, 0).reshape(tensor.shape[dim], -1)
    return torch.stack([flat[torch.from_numpy(unit)].reshape(-1) for unit in units])


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("name", NAMES)
def test_magnitude_is_the_mean_of_relative_norms(network, name, norm):
    made = network(name)
    weights = cases.modules_of(made).state_dict()
    found = scores.magnitude(made.found.groups, weights, norm, alone)
    for group, one in zip(made.found.groups, found, strict=True):
        members = [m for m in group.members if m.tensor.endswith(".weight") and not m.again]
        norms = [rows(weights[m.tensor], m.dim, m.places).norm(p=int(norm[1]), dim=1).numpy() for m in members]
        np.testing.assert_allclose(one, np.mean([n / n.mean() for n in norms], 0), rtol=1e-12)
        assert len(set(one)) == group.units


def test_magnitude_of_two_layers_by_hand():
    weights = {
        "a.weight": torch.tensor([[3.0, -4.0], [0.0, 5.0]]),
        "a.bias": torch.tensor([100.0, 0.0]),
        "b.weight": torch.tensor([[1.0, -2.0]]),
    }
    one = np.array([[0], [1]])
    members = (Member("a.weight", 0, one, False), Member("a.bias", 0, one, False), Member("b.weight", 1, one, True))
    group = UnitGroup("a", 2, 1, members)
    (found,) = scores.magnitude([group], weights, "l2", alone)
    np.testing.assert_allclose(found, [(1 + 1 / 1.5) / 2, (1 + 2 / 1.5) / 2])
    (found,) = scores.magnitude([group], weights, "l1", alone)
    np.testing.assert_allclose(found, [(7 / 6 + 1 / 1.5) / 2, (5 / 6 + 2 / 1.5) / 2])
    (found,) = scores.sizes([group], weights, alone)
    np.testing.assert_allclose(found, np.sqrt([25 + 100**2 + 1, 25 + 4]))


def test_weights_that_are_all_zero_say_nothing():
    group = UnitGroup("a", 2, 1, (Member("a.weight", 0, np.array([[0], [1]]), False),))
    (found,) = scores.magnitude([group], {"a.weight": torch.zeros(2, 3)}, "l2", alone)
    assert found.tolist() == [0, 0]


def test_scales_are_those_of_normalisations_alone(network):
    made = network("resnet, batch")
    weights = cases.modules_of(made).state_dict()
    found = dict(zip(made.groups, scores.scales(made.found.groups, weights, alone), strict=True))
    np.testing.assert_allclose(
        found["group1block1.convolution1"], weights["group1block1.norm1.weight"].abs().numpy(), rtol=1e-12
    )
    two = (weights["stem.norm.weight"].abs() + weights["group1block1.norm2.weight"].abs()) / 2
    np.testing.assert_allclose(found["stem.convolution"], two.numpy(), rtol=1e-12)
    plain = network("lenet")
    found = scores.scales(plain.found.groups, cases.modules_of(plain).state_dict(), alone)
    assert all(np.isinf(one).all() for one in found), "without a normalisation nothing is known: it stays"


def test_sizes_count_shared_numbers_once(network):
    made = network("own shared")
    group = made.groups["3.first"]
    weights = cases.modules_of(made).state_dict()
    (found,) = scores.sizes([group], weights, alone)
    names = [("3.first.weight", 0), ("3.first.weight", 1), ("3.first.bias", 0), ("1.weight", 0), ("1.bias", 0)]
    names.append(("4.weight", 1))
    parts = [rows(weights[name], dim, np.arange(10)[:, None]).square().sum(1) for name, dim in names]
    np.testing.assert_allclose(found, torch.stack(parts).sum(0).sqrt().numpy(), rtol=1e-12)


def staged(made, stages=3):
    """Tensors of each stage, by layer."""
    weights = cases.modules_of(made).state_dict()
    names = list(dict.fromkeys(name.partition(".")[0] for name in weights))
    cut = np.array_split(np.array(names), stages)
    return weights, [{n: t for n, t in weights.items() if n.partition(".")[0] in set(layers)} for layers in cut]


def every_stage(compute, stages):
    """What a stage finds that is told what the others have: compute(own tensors, gather) on each."""
    told = []

    class Stop(Exception):
        pass

    def tell(value):
        told.append(value)
        raise Stop

    for own in stages:
        with pytest.raises(Stop):
            compute(own, tell)
    return [compute(own, lambda value: told) for own in stages]


@pytest.mark.parametrize("name", ["resnet, batch", "transformer, tied", "own shared_child"])
@pytest.mark.parametrize("kind", ["l1", "l2", "sizes", "scales"])
def test_scores_do_not_depend_on_the_stages(network, name, kind):
    made = network(name)
    weights, stages = staged(made)

    def compute(own, gather):
        if kind in ("l1", "l2"):
            return scores.magnitude(made.found.groups, own, kind, gather)
        return (scores.sizes if kind == "sizes" else scores.scales)(made.found.groups, own, gather)

    expected = compute(weights, alone)
    for found in every_stage(compute, stages):
        for one, other in zip(found, expected, strict=True):
            assert one.tobytes() == other.tobytes()


class Gated(nn.Module):
    """The network with each unit's value multiplied where it is read, as in Molchanov et al."""

    def __init__(self, modules, group):
        super().__init__()
        self.modules_, self.group = modules, group
        self.gates = torch.ones(group.units, dtype=torch.float64, requires_grad=True)

    def forward(self, samples):
        changed = dict(self.modules_.named_parameters())
        for member in self.group.members:
            if member.enters:
                tensor = changed[member.tensor]
                along = torch.ones(tensor.shape[member.dim], dtype=torch.float64)
                for unit, places in enumerate(member.places):
                    along = along.index_put((torch.from_numpy(places),), self.gates[unit].expand(len(places)))
                shape = [-1 if dim == member.dim else 1 for dim in range(tensor.dim())]
                changed[member.tensor] = tensor * along.view(shape)
        return torch.func.functional_call(self.modules_, changed, (samples,))


def loss_of(outputs, targets):
    return nn.functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1))


@pytest.mark.parametrize("name", ["lenet", "resnet, group", "transformer", "own concatenation", "own transposed"])
def test_taylor_is_the_derivative_by_a_gate(network, name):
    made = network(name)
    taylor, expected = scores.Taylor(made.found.groups), []
    for batch in range(3):
        modules = cases.modules_of(made).requires_grad_(True)
        samples = cases.samples_of(made, 4 + batch)
        positions = modules(samples).shape[:-1]
        targets = torch.randint(0, cases.OUTPUTS, positions, generator=torch.Generator().manual_seed(batch))
        loss_of(modules(samples), targets).backward()
        named = dict(modules.named_parameters())
        taylor.add_({n: p.detach() for n, p in named.items()}, {n: p.grad for n, p in named.items()})
        derivatives = []
        for group in made.found.groups:
            gated = Gated(modules, group)
            loss_of(gated(samples), targets).backward()
            derivatives.append(gated.gates.grad.abs().numpy())
        expected.append(derivatives)
    for found, wanted in zip(taylor.scores(alone), zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(found, np.mean(wanted, 0), rtol=1e-8, atol=1e-15)
        assert (found > 0).any()


def test_taylor_over_stages(network):
    made = network("resnet, batch")
    weights, stages = staged(made)
    draw = np.random.default_rng(3)
    gradients = {n: torch.from_numpy(draw.normal(size=t.shape)) for n, t in weights.items() if t.is_floating_point()}

    def compute(own, gather):
        taylor = scores.Taylor(made.found.groups)
        for batch in (1.0, 0.3):
            taylor.add_(own, {n: batch * gradients[n] for n in own if n in gradients})
        return taylor.scores(gather)

    expected = compute(weights, alone)
    for found in every_stage(compute, stages):
        assert all(one.tobytes() == other.tobytes() for one, other in zip(found, expected, strict=True))


def test_random_scores_are_those_of_seed_title_and_group(network):
    groups = network("lenet").found.groups
    found = scores.at_random(groups, 5, "round 1")
    again = scores.at_random(groups[1:], 5, "round 1")
    assert all(one.tobytes() == other.tobytes() for one, other in zip(found[1:], again, strict=True))
    for other in (scores.at_random(groups, 6, "round 1"), scores.at_random(groups, 5, "round 2")):
        assert not np.array_equal(found[0], other[0])
    assert not np.array_equal(found[0][:6], found[1][:6])
    assert all(one.shape == (group.units,) and (one >= 0).all() for one, group in zip(found, groups, strict=True))


def test_scores_that_are_no_numbers_are_found():
    assert scores.finite([np.array([1.0, np.inf])])
    assert not scores.finite([np.ones(2), np.array([1.0, np.nan])])
