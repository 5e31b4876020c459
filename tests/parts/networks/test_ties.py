"""A parameter that two layers share: one starting value, one Parameter, one gradient; and networks cut anywhere."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from app.errors import InputError
from app.networks.build import build, from_architecture, layers
from app.networks.layers import Layer, ties
from app.networks.shapes import trace
from app.plan.costs import layer_costs

TIED = {
    "width": 8,
    "heads": 2,
    "blocks": 2,
    "feedforward": None,
    "dropout": 0.0,
    "causal": True,
    "pooling": "none",
    "vocabulary": 11,
    "tied": True,
}
ALIAS, OWNER = "head.linear.weight", "embedding.elements.weight"
OWN = """
from torch import nn

def shared(sample_shape, outputs):
    first, last = nn.Linear(8, 8), nn.Linear(8, 8)
    last.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), first, last, nn.Linear(8, outputs))

def functions(sample_shape, outputs):
    return {"one": lambda: nn.Linear(8, 5), "two": nn.Tanh, "three": lambda: nn.Linear(5, outputs)}
"""
KINDS = {
    "mlp": ({"widths": (9, 5), "activation": "gelu", "dropout": 0.0, "norm": "layer"}, (8,)),
    "lenet": ({"channels": (3, 4), "widths": (9, 5), "activation": "relu", "dropout": 0.0}, (8, 8)),
    "resnet": ({"depth": 8, "blocks": None, "width": 4, "norm": "batch"}, (3, 8, 8)),
    "transformer": (TIED, (6,)),
    "own.py:shared": ({}, (8,)),
    "own.py:functions": ({}, (8,)),
}


def _tied():
    return layers("transformer", TIED, (6,), 11)


def _tokens(samples=3):
    return torch.randint(0, 11, (samples, 6), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_cut_anywhere_is_the_whole_network(kind, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    options, shape = KINDS[kind]
    made = layers(f"{tmp_path}/{kind}" if ":" in kind else kind, options, shape, 11)
    whole = build(made, 7)
    inputs = _tokens() if kind == "transformer" else torch.randn(3, *shape)
    expected = whole.eval()(inputs)
    for cut in range(1, len(made)):
        parts = [build(made, 7, [range(cut)]), build(made, 7, [range(cut, len(made))])]
        weights = {name: value for part in parts for name, value in part.state_dict().items()}
        assert list(weights) == list(whole.state_dict())
        assert all(torch.equal(weights[name], value) for name, value in whole.state_dict().items())
        assert torch.equal(parts[1].eval()(parts[0].eval()(inputs)), expected)


def test_a_stage_may_hold_several_chunks():
    network = build(_tied(), 7, [range(1), range(2, 4)])
    assert [name for name, _ in network.named_children()] == ["embedding", "block2", "head"]
    assert network.head.linear.weight is network.embedding.elements.weight


def test_what_is_tied_is_one_parameter_under_two_names():
    network = build(_tied(), 7)
    assert ties(_tied()) == {ALIAS: OWNER}
    assert network.get_parameter(ALIAS) is network.get_parameter(OWNER)
    assert {ALIAS, OWNER} <= set(network.state_dict())
    assert ALIAS not in dict(network.named_parameters())
    network.load_state_dict(build(_tied(), 8).state_dict())
    assert network.get_parameter(ALIAS) is network.get_parameter(OWNER)


def test_gradient_is_that_of_plain_torch():
    network, tokens = build(_tied(), 7), _tokens()
    targets = _tokens().roll(1, dims=0)
    functional.cross_entropy(network(tokens).flatten(0, 1), targets.flatten()).backward()
    table = network.get_parameter(OWNER).detach().clone().requires_grad_()
    values = functional.embedding(tokens, table) + network.embedding.positions.weight
    values = network.head.norm(network.block2(network.block1(values)))
    functional.cross_entropy((values @ table.T).flatten(0, 1), targets.flatten()).backward()
    torch.testing.assert_close(network.get_parameter(OWNER).grad, table.grad)


def test_gradients_of_two_stages_add_up_to_that_of_one():
    whole, parts = build(_tied(), 7), [build(_tied(), 7, [range(2)]), build(_tied(), 7, [range(2, 4)])]
    whole(_tokens()).square().sum().backward()
    parts[1](parts[0](_tokens())).square().sum().backward()
    both = parts[0].get_parameter(OWNER).grad + parts[1].get_parameter(ALIAS).grad
    torch.testing.assert_close(both, whole.get_parameter(OWNER).grad)


def test_the_owner_is_made_for_its_value_and_no_other_layer():
    made = []

    def layer(number, names):
        return Layer(f"l{number}", lambda: made.append(number) or nn.Linear(4, 4), ties=names)

    network = [layer(0, {}), layer(1, {}), layer(2, {"weight": "l0.weight"}), layer(3, {"weight": "l0.weight"})]
    stage = build(network, 1, [range(2, 4)])
    assert made == [2, 3, 0]
    assert stage.l2.weight is stage.l3.weight, "one Parameter also where the owner is elsewhere"
    assert torch.equal(stage.l2.weight, build(network, 1, [range(1)]).l0.weight)


def test_tied_parameters_count_once():
    costs, network = layer_costs("transformer", TIED, (6,), 11), build(_tied(), 7)
    assert sum(cost.parameters for cost in costs) == sum(parameter.numel() for parameter in network.parameters())
    shapes = trace(_tied(), (6,), 11, torch.int64)
    for cost, shape, layer in zip(costs, shapes, network, strict=True):
        held = sum(parameter.numel() for parameter in layer.parameters())
        assert cost.parameters + cost.tied_parameters == held
        assert (shape.parameters, shape.tied_parameters) == (cost.parameters, cost.tied_parameters)


def test_a_stored_network_without_the_later_key_can_be_read():
    options = {key: value for key, value in TIED.items() if key != "tied"}
    tree = {"kind": "transformer", "options": options, "sample_shape": [6], "outputs": 11}
    assert not ties(from_architecture(tree))


@pytest.mark.parametrize(
    ("changed", "outputs", "words"),
    [
        ({"vocabulary": 0}, 11, ["without vocabulary", "features"]),
        ({"pooling": "mean"}, 11, ["pooling = 'mean'", "use pooling = 'none'"]),
        ({}, 10, ["vocabulary = 11", "10 are wanted", "[data] classes = 11"]),
        ({"pooling": "mean"}, 10, ["[data] classes = 11", "use pooling = 'none'"]),
    ],
)
def test_what_cannot_be_tied_is_refused(changed, outputs, words):
    with pytest.raises(InputError) as caught:
        layers("transformer", TIED | changed, (6,), outputs)
    assert all(word in str(caught.value) for word in words), str(caught.value)
