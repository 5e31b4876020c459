"""Removing units gives the network that reads nothing from them; what that would break stays."""

from functools import cache

import numpy as np
import pytest
import torch

from app.learning.pruning.units import cut, cut_shapes, kept_places
from app.networks.build import from_architecture
from app.networks.layers import ties
from app.networks.shapes import Boundary, operations_of_sample
from app.phases.prune import description
from app.plan.pruning import totals
from tests.parts.learning.pruning import cases

REFUSED = {
    "own grouped": {"0", "2"},
    "own inputs_added": {"0.convolution"},
    "own fixed_view": {"1"},
    "own tied_modules": {"1", "3", "5", "7"},
    "own crossed": {"1", "3", "5"},
    "own halves": {"1"},
    "own attended": {"0"},
    "own shuffled": {"0"},
    "own uneven": {"0.left", "0.right"},
}
UNITS = {
    "mlp": {"hidden1.linear": 12, "hidden2.linear": 10},
    "lenet": {"convolution1.convolution": 6, "convolution2.convolution": 16, "dense1.linear": 20, "dense2.linear": 12},
    "resnet, batch": {
        "stem.convolution": 8,
        "group1block1.convolution1": 8,
        "group2block1.convolution1": 16,
        "group2block1.shortcut.convolution": 16,
        "group2block2.convolution1": 16,
    },
    "transformer, tied": {
        "block1.attention.heads": 3,
        "block2.attention.heads": 3,
        "block1.feedforward.up": 20,
        "block2.feedforward.up": 20,
        "block2.feedforward.down": 12,
    },
    "own concatenation": {"0.left": 6, "0.right": 10},
    "own depthwise": {"3": 8, "6": 12},
    "own shared": {"3.first": 10, "4": 7},
    "own shared_child": {"3": 10},
    "own transposed": {"0": 6, "3": 8},
    "own gated": {"0": 8, "1.convolution": 8},
    "own two_norms": {"0": 2},
    "own whole": {"network.convolution": 8},
}
NORMALISED = {  # groups over which a layer normalises, so that what is left becomes something else
    "mlp, norm": {"hidden1.linear", "hidden2.linear"},
    "transformer": {"block1.feedforward.down"},
    "transformer, values": {"block1.feedforward.down"},
    "transformer, tied": {"block2.feedforward.down"},
}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Networks by name, each looked at once."""
    return cache(lambda name: cases.network_of(name, tmp_path_factory.mktemp("own")))


def outputs(modules, samples):
    with torch.no_grad():
        return modules(samples)


def exact(network, name, removed):
    return [(group, units) for group, units in removed if group.name not in NORMALISED.get(name, ())]


@pytest.mark.parametrize("name", cases.NAMES)
def test_what_is_found_and_what_stays(network, name):
    found = network(name).found
    assert set(found.refused) == REFUSED.get(name, set())
    if name in UNITS:
        assert {group.name: group.units for group in found.groups} == UNITS[name]
    twice = [group.name for group in found.groups if len({m[:2] for m in group.members}) < len(group.members)]
    assert not twice


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", cases.NAMES)
def test_a_cut_network_is_the_whole_one_that_reads_nothing_of_its_units(network, name, seed):
    made = network(name)
    removed = exact(made, name, cases.some_of(made, seed))
    if not removed:
        assert name in NORMALISED or name in REFUSED
        return
    samples, modules = cases.samples_of(made), cases.modules_of(made, seed=seed)
    before = outputs(modules, samples)
    smaller = cases.cut_modules(made, modules, removed)
    expected = outputs(cases.without_(modules, removed), samples)
    torch.testing.assert_close(outputs(smaller, samples), expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(expected, before), "the units do something"
    fewer = [sum(p.numel() for p in one.parameters()) for one in (smaller, modules)]
    assert fewer[0] < fewer[1]


@pytest.mark.parametrize("name", NORMALISED)
def test_where_a_layer_normalises_over_the_units_what_is_left_computes(network, name):
    made = network(name)
    removed = cases.some_of(made, 3)
    smaller = cases.cut_modules(made, cases.modules_of(made), removed)
    found = outputs(smaller, cases.samples_of(made))
    assert found.shape == outputs(cases.modules_of(made), cases.samples_of(made)).shape
    assert found.isfinite().all()


TWICE = ["resnet, group", "transformer, tied", "own concatenation", "own depthwise", "own shared", "own transposed"]


@pytest.mark.parametrize("name", TWICE)
def test_in_two_cuts(network, name):
    """What is left is looked at again and cut once more, as the next round does."""
    made = network(name)
    samples = cases.samples_of(made)
    first = [(group, units[:1]) for group, units in cases.some_of(made, 5)]
    shapes = cut_shapes(made.found.shapes, first)
    tree = made.tree | {"shapes": {tensor: list(shape) for tensor, shape in shapes.items()}}
    again = made._replace(tree=tree, found=cases.found_in(tree, made.case))
    assert again.found.refused == made.found.refused
    before = {group.name: group.units for group in made.found.groups if group.units > 2}
    assert {group.name: group.units for group in again.found.groups} == {n: units - 1 for n, units in before.items()}
    second = exact(again, name, cases.some_of(again, 6))
    modules = cases.modules_of(again)
    smaller = cases.modules_of(again, {**shapes, **cut_shapes(again.found.shapes, second)})
    smaller.load_state_dict(cut({n: t.clone() for n, t in modules.state_dict().items()}, second))
    expected = outputs(cases.without_(modules, second), samples)
    torch.testing.assert_close(outputs(smaller, samples), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", cases.NAMES)
def test_totals_are_those_of_the_cut_network(network, name):
    """The plan's arithmetic against counting on modules, for random numbers of units."""
    made = network(name)
    case, found = made.case, made.found
    sizes = description.sizes(found)
    planned = [description.planned(group, found, 1, 0.99) for group in found.groups]
    for seed in range(3):
        removed = cases.some_of(made, seed, share=0.3 * seed)
        removed = [] if seed == 0 else removed
        gone = {group.name: len(units) for group, units in removed}
        kept = [group.units - gone.get(group.name, 0) for group in planned]
        smaller = cases.modules_of(made, cut_shapes(found.shapes, removed)).float()
        expected = totals(planned, sizes, kept)
        assert expected.parameters == sum(p.numel() for p in smaller.parameters())
        counted = operations_of_sample(smaller, Boundary(case.shape, case.dtype), torch.device("cpu"))
        assert expected.operations == counted
        assert expected.units == sum(kept)


def test_a_single_head_stays_and_counts(tmp_path, monkeypatch):
    """A group of one unit is none, but what it computes still costs."""
    single = cases.BUILT_IN["transformer"]
    monkeypatch.setitem(cases.BUILT_IN, "single", single._replace(options={**single.options, "heads": 1}))
    made = cases.network_of("single", tmp_path)
    assert set(made.groups) == {"block1.feedforward.up", "block1.feedforward.down"}
    assert made.found.refused == ()
    planned = [description.planned(group, made.found, 1, 0.9) for group in made.found.groups]
    found = totals(planned, description.sizes(made.found), [group.units for group in planned])
    modules = cases.modules_of(made).float()
    counted = operations_of_sample(modules, Boundary(single.shape, torch.int64), torch.device("cpu"))
    assert found.operations == counted


def test_shared_tensors_count_once(network):
    made = network("own shared")
    assert made.found.aliases == {"3.again.weight", "3.again.bias"}
    members = {(m.tensor, m.dim): m for m in made.groups["3.first"].members}
    assert {place for place, member in members.items() if member.again} == {
        ("3.again.weight", 0),
        ("3.again.weight", 1),
        ("3.again.bias", 0),
    }
    tied = network("transformer, tied")
    assert tied.found.aliases == set(ties(from_architecture(tied.tree))) == {"head.linear.weight"}
    again = {m.tensor for m in tied.groups["block2.feedforward.down"].members if m.again}
    assert again == {"embedding.elements.weight"}, "the one that is read counts"


def test_tied_weights_stay_one_tensor(network):
    for name, one, other in (
        ("own shared", "3.first.weight", "3.again.weight"),
        ("own shared_child", "3.weight", "5.weight"),
        ("transformer, tied", "embedding.elements.weight", "head.linear.weight"),
    ):
        made = network(name)
        shapes = cut_shapes(made.found.shapes, cases.some_of(made, 1))
        modules = dict(cases.modules_of(made, shapes).named_parameters(remove_duplicate=False))
        assert modules[one] is modules[other]
        assert tuple(modules[one].shape) == shapes[one]


@pytest.mark.parametrize("name", cases.NAMES)
def test_with_and_without_memory_the_same_is_found(network, name, tmp_path):
    found, expected = cases.network_of(name, tmp_path, parameters=1).found, network(name).found
    assert found[1:] == expected[1:]
    for one, other in zip(found.groups, expected.groups, strict=True):
        assert one[:3] == other[:3]
        for member, same in zip(one.members, other.members, strict=True):
            assert (member.tensor, member.dim, member.enters, member.again) == (*same[:2], *same[3:])
            assert np.array_equal(member.places, same.places)


def test_the_global_generators_are_left_alone(network, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    cases.network_of("mlp", tmp_path)
    assert torch.equal(torch.rand(2), expected)


def test_places_that_stay_are_those_not_removed(network):
    made = network("own concatenation")
    group = made.groups["0.left"]
    stays = kept_places(made.found.shapes, [(group, [1, 4])])
    assert stays["0.left.weight"][0].tolist() == [0, 2, 3, 5]
    assert stays["1.weight"][0].tolist() == [i for i in range(22) if i not in (1, 4, 17, 20)]
    gone = np.setdiff1d(np.arange(88), stays["5.weight"][1])
    assert gone.tolist() == [4 * channel + place for channel in (1, 4, 17, 20) for place in range(4)]
    assert kept_places(made.found.shapes, [(group, [])]) == {}
