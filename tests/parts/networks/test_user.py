"""Networks of the user's own: cut where they are a Sequential, refused in one sentence where they are wrong."""

import sys

import pytest
import torch
from torch import nn

from app.errors import InputError
from app.networks.build import architecture, build, from_architecture, layers
from app.networks.layers import ties
from app.networks.shapes import trace

NETWORKS = """
from collections import OrderedDict
import torch
from torch import nn

def plain(sample_shape, outputs, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(sample_shape[0], width), nn.ReLU(), nn.Linear(width, outputs))

def named(sample_shape, outputs):
    return nn.Sequential(OrderedDict(first=nn.Linear(sample_shape[0], 4), second=nn.Linear(4, outputs)))

def reused(sample_shape, outputs):
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(sample_shape[0], 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, outputs))

def tied(sample_shape, outputs):
    linear = nn.Linear(sample_shape[0], sample_shape[0])
    return nn.Sequential(linear, nn.ReLU(), linear, nn.Linear(sample_shape[0], outputs))

def shared(sample_shape, outputs):
    first, last = nn.Linear(3, 3), nn.Linear(3, outputs)
    pair = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    pair[0].weight = pair[1].weight = first.weight
    return nn.Sequential(OrderedDict(first=first, pair=pair, last=last))

def twins(sample_shape, outputs):
    pair = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    pair[1].weight = pair[0].weight
    return nn.Sequential(pair, nn.Linear(3, outputs))

def norms(sample_shape, outputs):
    norm = nn.BatchNorm1d(3)
    return nn.Sequential(norm, nn.Linear(3, 3), norm, nn.Linear(3, outputs))

class Own(nn.Sequential):
    def forward(self, inputs):
        return super().forward(inputs) + 1

def own(sample_shape, outputs):
    return Own(nn.Linear(sample_shape[0], outputs))

class Residual(nn.Module):
    def __init__(self, features, outputs):
        super().__init__()
        self.linear, self.output = nn.Linear(features, features), nn.Linear(features, outputs)
    def forward(self, inputs):
        return self.output(inputs + self.linear(inputs))

def module(sample_shape, outputs):
    return Residual(sample_shape[0], outputs)

def needs_values(sample_shape, outputs):
    scale = torch.rand(3).sum().item()
    return nn.Sequential(nn.Linear(sample_shape[0], outputs + int(scale * 0)), nn.Identity())

def listed(sample_shape, outputs, width=4):
    return [lambda: nn.Linear(sample_shape[0], width), nn.ReLU, lambda: nn.Linear(width, outputs)]

def by_name(sample_shape, outputs):
    scale = torch.rand(3)
    def scaled():
        made = nn.Linear(3, 3)
        made.register_buffer("scale", scale)
        return made
    return {"first": scaled, "second": lambda: nn.Linear(3, outputs)}

def kept(sample_shape, outputs):
    linear = nn.Linear(3, outputs)
    return [lambda: linear]

def of_nothing(sample_shape, outputs):
    return [lambda: nn.Linear(3, outputs), lambda: None]

def of_lazy(sample_shape, outputs):
    return [lambda: nn.LazyLinear(outputs)]

def of_arguments(sample_shape, outputs):
    return {"broad": lambda width: nn.Linear(3, width)}

def raising():
    raise KeyError("inside")

def of_raising(sample_shape, outputs):
    return [raising]

def of_layers(sample_shape, outputs):
    return [nn.Linear(3, outputs), 3]

def empty(sample_shape, outputs):
    return []

def names(sample_shape, outputs):
    return {"a.b": nn.ReLU, "forward": nn.ReLU, "": nn.ReLU, 4: nn.ReLU, "5": 5}

number = 5

def raises(sample_shape, outputs):
    raise KeyError("wide")

def nothing(sample_shape, outputs):
    pass

def lazy(sample_shape, outputs):
    return nn.LazyLinear(outputs)

def wrong_inside(sample_shape, outputs):
    return nn.Sequential(OrderedDict(one=nn.Linear(3, 4), two=nn.Linear(5, outputs)))

def wrong_outputs(sample_shape, outputs):
    return nn.Linear(sample_shape[0], outputs + 1)

def two_outputs(sample_shape, outputs):
    return nn.LSTM(sample_shape[0], outputs)

def mixes(sample_shape, outputs):
    return nn.Flatten(0)
"""


def _line(word):
    """The line of the networks' file where a word in quotes stands first."""
    return NETWORKS[: NETWORKS.index(f'"{word}"')].count("\n") + 1


def _trace_and_build(made):
    trace(made, (3,), 2)
    build(made, 1)


@pytest.fixture
def kind(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NETWORKS)
    return lambda function: f"{path}:{function}"


@pytest.mark.parametrize(
    ("function", "names"),
    [
        ("plain", ["0", "1", "2", "3"]),
        ("named", ["first", "second"]),
        ("reused", ["0", "1", "2", "3", "4"]),
        ("tied", ["0", "1", "2", "3"]),
        ("shared", ["first", "pair", "last"]),
        ("twins", ["0", "1"]),
        ("norms", ["network"]),
        ("listed", ["layer1", "layer2", "layer3"]),
        ("by_name", ["first", "second"]),
        ("own", ["network"]),
        ("module", ["network"]),
        ("needs_values", ["0", "1"]),
    ],
)
def test_children_of_a_sequential_are_the_layers(kind, function, names):
    made = layers(kind(function), {}, (3,), 2)
    assert [layer.name for layer in made] == names
    network = build(made, seed=1)
    assert network(torch.randn(5, 3)).shape == (5, 2)
    assert not any(parameter.is_meta for parameter in network.parameters())
    assert len(list(network)) == len(names)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("plain", {}),
        ("tied", {"2.weight": "0.weight", "2.bias": "0.bias"}),
        ("shared", {"pair.0.weight": "first.weight", "pair.1.weight": "first.weight"}),
        ("twins", {}),
        ("listed", {}),
    ],
)
def test_parameters_that_children_share_are_tied(kind, function, expected):
    made = layers(kind(function), {}, (3,), 2)
    assert ties(made) == expected
    network = build(made, 1)
    assert all(network.get_parameter(alias) is network.get_parameter(owner) for alias, owner in expected.items())
    assert sum(shape.parameters for shape in trace(made, (3,), 2)) == sum(p.numel() for p in network.parameters())


def test_only_the_functions_of_the_stage_are_called(tmp_path):
    (tmp_path / "counts.py").write_text(
        "from torch import nn\n"
        "made = []\n"
        "def net(sample_shape, outputs):\n"
        "    return [lambda number=number: made.append(number) or nn.Linear(3, 3) for number in range(4)]\n"
    )
    network = layers(f"{tmp_path}/counts.py:net", {}, (3,), 3)
    build(network, 1, [range(1), range(2, 3)])
    assert sys.modules["phalanx_user_counts"].made == [0, 2]


def test_layers_of_functions_have_weights_by_seed_and_number(kind):
    made = layers(kind("listed"), {"width": 3}, (3,), 3)
    again, other = build(made, 7, [range(2, 3)]), build(made, 8)
    assert torch.equal(build(made, 7).layer3.weight, again.layer3.weight)
    assert not torch.equal(other.layer3.weight, again.layer3.weight)
    assert not torch.equal(other.layer3.weight, other.layer1.weight)


def test_what_functions_of_layers_hold_is_the_same_on_every_rank(kind):
    torch.manual_seed(1)
    first = build(layers(kind("by_name"), {}, (3,), 2), 7).first.scale
    torch.manual_seed(2)
    assert torch.equal(build(layers(kind("by_name"), {}, (3,), 2), 7).first.scale, first)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("of_nothing", ["the function of layer 'layer2' returned NoneType", "nn.Module is expected"]),
        ("of_lazy", ["the function of layer 'layer1' has lazy modules"]),
        ("of_arguments", ["layer 'broad' failed when called without arguments", "TypeError"]),
        ("of_raising", ["layer 'layer1' failed", f"in line {_line('inside')}:", "KeyError: 'inside'"]),
        ("kept", ["layer 'layer1' returned a parameter that an earlier call returned", "nn.Sequential"]),
    ],
)
def test_functions_that_make_no_layer_are_refused_when_called(kind, function, words):
    made = layers(kind(function), {}, (3,), 2)
    with pytest.raises(InputError) as caught:
        _trace_and_build(made)
    assert all(word in str(caught.value) for word in (*words, f"nets.py:{function}")), str(caught.value)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("of_layers", ["'layer1' is Linear, 'layer2' is int, but a function without arguments"]),
        ("empty", ["returned no functions"]),
        ("names", ["'a.b', 'forward', '', ... cannot be the name of a layer", "'5' is int"]),
    ],
)
def test_all_that_is_wrong_with_functions_of_layers_is_said(kind, function, words):
    with pytest.raises(InputError) as caught:
        layers(kind(function), {}, (3,), 2)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_options_reach_the_function(kind):
    network = build(layers(kind("plain"), {"width": 9}, (3,), 2), seed=1)
    assert network[1].weight.shape == (9, 3)


def test_stages_have_the_weights_of_the_whole_network(kind):
    made = layers(kind("plain"), {}, (3,), 2)
    whole = build(made, 7).state_dict()
    parts = {**build(made, 7, [range(2)]).state_dict(), **build(made, 7, [range(2, 4)]).state_dict()}
    assert list(parts) == list(whole)
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    assert not torch.equal(build(made, 8)[1].weight, build(made, 7)[1].weight)


def test_the_global_generator_is_left_alone(kind):
    before = torch.get_rng_state()
    made = layers(kind("needs_values"), {}, (3,), 2)
    build(made, 1)
    trace(made, (3,), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_architecture_makes_the_same_network_again(kind):
    tree = architecture(kind("plain"), {"width": 6}, (3,), 2)
    inputs = torch.randn(5, 3)
    first, again = build(layers(kind("plain"), {"width": 6}, (3,), 2), 1), build(from_architecture(tree), 1)
    assert torch.equal(first(inputs), again(inputs))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("missing", ["no function 'missing'", "plain"]),
        ("number", ["'number'", "int, not a function"]),
        ("raises", ["failed when called with ((3,), 2)", f"line {_line('wide')}:", "KeyError", "wide"]),
        ("nothing", ["returned NoneType", "nn.Module"]),
        ("lazy", ["lazy"]),
    ],
)
def test_mistakes_are_one_sentence(kind, function, words):
    with pytest.raises(InputError) as caught:
        layers(kind(function), {}, (3,), 2)
    text = str(caught.value)
    assert len(caught.value.problems) == 1
    assert "\n" not in text
    assert all(word in text for word in (*words, "nets.py")), text


def test_an_unknown_option_is_the_functions_to_refuse(kind):
    with pytest.raises(InputError, match=r"with \(\(3,\), 2, depth=3\): TypeError: .*depth"):
        layers(kind("plain"), {"depth": 3}, (3,), 2)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*none\.py"):
        layers(f"{tmp_path}/none.py:net", {}, (3,), 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nonsense_module", "line 1: ModuleNotFoundError"),
        ("x = 1\ndef f(:\n  pass", "line 2: SyntaxError"),
        ("x = 1\nraise SystemExit(3)", "line 2: SystemExit"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path, text, words):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(InputError, match=f"reading .*broken.py failed in {words}"):
        layers(f"{path}:net", {}, (3,), 2)


def test_a_file_may_import_what_lies_beside_it_and_have_dataclasses(tmp_path):
    (tmp_path / "phalanx_test_beside.py").write_text("from torch import nn\nWIDTH = 6\n")
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from phalanx_test_beside import WIDTH, nn\n"
        "@dataclass\n"
        "class Sizes:\n"
        "    width: int = WIDTH\n"
        "def net(sample_shape, outputs):\n"
        "    return nn.Sequential(nn.Linear(sample_shape[0], Sizes().width), nn.Linear(WIDTH, outputs))\n"
    )
    network = build(layers(f"{tmp_path}/mine.py:net", {}, (3,), 2), seed=1)
    assert network(torch.randn(5, 3)).shape == (5, 2)


def test_trace_finds_what_passes_between_layers(kind):
    found = trace(layers(kind("plain"), {}, (3,), 2), (3,), 2)
    assert [(shape.name, shape.parameters, shape.output_shape) for shape in found] == [
        ("0", 0, (3,)),
        ("1", 16, (4,)),
        ("2", 0, (4,)),
        ("3", 10, (2,)),
    ]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("wrong_inside", ["layer 'two'", "shape (4,)", "failed", "RuntimeError"]),
        ("wrong_outputs", ["(3,)", "must be 2"]),
        ("two_outputs", ["returned tuple", "one tensor"]),
        ("mixes", ["returned shape (6,)", "samples"]),
    ],
)
def test_networks_that_cannot_run_are_refused_before_training(kind, function, words):
    made = layers(kind(function), {}, (3,), 2)
    with pytest.raises(InputError) as caught:
        trace(made, (3,), 2)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_trace_agrees_with_the_cost_model_for_a_built_in_kind():
    from app.plan.costs import layer_costs

    options = {"depth": 8, "blocks": None, "width": 8, "norm": "batch"}
    found = trace(layers("resnet", options, (3, 9, 9), 10), (3, 9, 9), 10)
    costs = layer_costs("resnet", options, (3, 9, 9), 10)
    assert [shape[:3] for shape in found] == [cost[:3] for cost in costs]
    assert isinstance(build(layers("resnet", options, (3, 9, 9), 10), 1), nn.Sequential)
