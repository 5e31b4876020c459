"""Starting weights belong to (seed, global layer number), whoever builds the layer."""

import pytest
import torch
from torch import nn

from app.errors import InputError
from app.inputfile.networks import NETWORKS
from app.networks.build import KINDS, architecture, build, from_architecture, layers
from app.networks.layers import Layer

RESNET = {"depth": 8, "blocks": None, "width": 8, "norm": "batch"}


def _resnet():
    return layers("resnet", RESNET, (3, 8, 8), 10)


def test_a_stage_starts_with_the_weights_of_the_whole_network():
    whole = build(_resnet(), seed=7).state_dict()
    for start in range(5):
        for stop in (*range(start + 1, 6), None):
            stage = build(_resnet(), 7, [range(5)[start:stop]]).state_dict()
            assert stage
            assert all(torch.equal(value, whole[name]) for name, value in stage.items())


def test_stages_together_are_the_whole_network():
    cut = [build(_resnet(), 7, [chunk]) for chunk in (range(2), range(2, 3), range(3, 5))]
    names = [name for stage in cut for name in stage.state_dict()]
    assert names == list(build(_resnet(), 7).state_dict())
    inputs = torch.randn(4, 3, 8, 8)
    values = inputs
    for stage in cut:
        values = stage.eval()(values)
    assert torch.equal(values, build(_resnet(), 7).eval()(inputs))


def test_seeds_and_layers_differ():
    wide = [Layer(str(number), lambda: nn.Linear(50, 50)) for number in range(3)]
    weights = [build(wide, seed)[number].weight for seed in (1, 2) for number in range(3)]
    for one in range(6):
        for other in range(one):
            assert not torch.equal(weights[one], weights[other])


def test_starting_weights_are_the_same_for_ever():
    weight = build([Layer("only", lambda: nn.Linear(2, 2))], seed=7)[0].weight
    # Numbers written down when this was made: a run must start alike after an upgrade of Phalanx.
    expected = torch.tensor([[-0.4158690273761749, 0.008737631142139435], [0.6500985026359558, 0.5836685299873352]])
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-7)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    build(_resnet(), seed=7)
    assert torch.equal(torch.rand(3), expected)


def test_the_generator_is_restored_when_building_fails():
    def fail():
        torch.rand(3)
        raise ValueError

    before = torch.get_rng_state()
    with pytest.raises(ValueError):
        build([Layer("bad", fail)], seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_only_the_layers_of_the_stage_are_made():
    made = []

    def layer(number):
        return Layer(str(number), lambda: made.append(number) or nn.Linear(2, 2))

    build([layer(number) for number in range(6)], 1, [range(2, 4)])
    assert made == [2, 3]


@pytest.mark.parametrize(
    ("kind", "shape"), [("mlp", (4, 5)), ("lenet", (8, 8)), ("resnet", (3, 9, 9)), ("transformer", (6, 2))]
)
def test_input_models_and_kinds_have_the_same_keys_and_their_defaults_work(kind, shape):
    table = NETWORKS[kind].model_validate({"kind": kind})
    options = table.model_dump(exclude={"kind"})
    tree = architecture(kind, options, shape, 10)
    first, again = build(layers(kind, options, shape, 10), 1).eval(), build(from_architecture(tree), 1).eval()
    inputs = torch.randn(2, *shape)
    assert first(inputs).shape == (2, 10)
    assert torch.equal(first(inputs), again(inputs))
    assert all(not isinstance(value, tuple) for value in (*tree.values(), *tree["options"].values()))


def test_every_kind_has_an_input_model():
    assert set(KINDS) == {kind for kind in NETWORKS if ":" not in kind}


def test_unknown_kinds_and_keys_are_refused():
    with pytest.raises(InputError, match="'convnet' is not known; use one of mlp, lenet, resnet, transformer"):
        layers("convnet", {}, (8, 8), 10)
    with pytest.raises(InputError, match="network resnet: .* differing: norm, wdth"):
        layers("resnet", {"depth": 8, "blocks": None, "width": 8, "wdth": 8}, (8, 8), 10)
