"""A network of some layers of another."""

import pytest
import torch
from torch import nn

from app.errors import InputError
from app.networks.build import architecture, build, from_architecture, layers
from app.networks.layers import Layer, chosen, ties
from app.networks.shapes import trace

LENET = architecture(
    "lenet", {"channels": [4, 6], "widths": [12, 12], "activation": "relu", "dropout": 0.0}, (1, 8, 8), 12
)


def test_the_layers_take_the_weights_of_the_whole_network():
    whole = build(from_architecture(LENET), seed=7)
    names = ["convolution1", "convolution2", "dense1", "output"]
    found = from_architecture(LENET | {"layers": names})
    assert [layer.name for layer in found] == names
    student = build(found, seed=1)
    student.load_state_dict({name: whole.state_dict()[name] for name in student.state_dict()})
    inputs = torch.randn(3, 1, 8, 8)
    assert torch.equal(student(inputs), whole.output(whole.dense1(whole.convolution2(whole.convolution1(inputs)))))


def test_layers_that_do_not_fit_together_are_found():
    found = from_architecture(LENET | {"layers": ["convolution1", "dense1", "output"]})
    with pytest.raises(InputError, match=r"layer 'dense1' of the network, .* failed: RuntimeError"):
        trace(found, (1, 8, 8), 12)
    with pytest.raises(InputError, match=r"its outputs for one sample have shape \(6, 2, 2\)"):
        trace(from_architecture(LENET | {"layers": ["convolution1", "convolution2"]}), (1, 8, 8), 12)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["convolution1", "dense3"], r"there is no layer 'dense3'; did you mean 'dense2'\?"),
        (["output", "dense1"], "expected once each, in the order convolution1, convolution2"),
        (["dense1", "dense1"], "expected once each"),
    ],
)
def test_names_that_cannot_be(names, words):
    with pytest.raises(InputError, match=words):
        from_architecture(LENET | {"layers": names})


def test_a_layer_whose_owner_is_left_out_owns_its_weights():
    options = {"vocabulary": 9, "width": 8, "heads": 2, "blocks": 2, "feedforward": None, "dropout": 0.0}
    options |= {"causal": False, "pooling": "none", "tied": True}
    known = layers("transformer", options, (5,), 9)
    assert ties(known)
    names = [layer.name for layer in known]
    assert ties(chosen(known, names[:1] + names[2:])) == ties(known)
    assert ties(chosen(known, names[1:])) == {}


def test_the_first_that_is_left_owns_what_several_share():
    tied = {"weight": "a.weight"}
    found = chosen([Layer("a", nn.Identity), *(Layer(name, nn.Identity, ties=tied) for name in "bcd")], ["b", "c", "d"])
    assert ties(found) == {"c.weight": "b.weight", "d.weight": "b.weight"}


def test_of_the_users_own_layers_too(tmp_path):
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def whole(shape, outputs):\n"
        "    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, outputs))\n"
    )
    tree = architecture(f"{tmp_path}/own.py:whole", {}, (4,), 3)
    found = from_architecture(tree | {"layers": ["0", "1", "3"]})
    assert [shape.output_shape for shape in trace(found, (4,), 3)] == [(4,), (4,), (3,)]
    assert list(build(found, 1, [range(1, 3)]).state_dict()) == ["3.weight", "3.bias"]
