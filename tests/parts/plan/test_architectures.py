"""Impossible combinations of numbers are refused by key and number."""

import pytest

from app.errors import InputError
from app.plan import architectures
from app.plan.costs import layer_costs

MLP = {"widths": [8], "activation": "relu", "dropout": 0.0, "norm": "none"}
LENET = {"channels": [6, 16], "widths": [120, 84], "activation": "relu", "dropout": 0.0}
RESNET = {"depth": 20, "blocks": None, "width": 16, "norm": "group"}
TRANSFORMER = {
    "width": 32,
    "heads": 4,
    "blocks": 2,
    "feedforward": None,
    "dropout": 0.0,
    "causal": False,
    "pooling": "mean",
    "vocabulary": 0,
}
REFUSED = [
    ("mlp", MLP | {"widths": [8, 0]}, (4,), ["widths = [8, 0]"]),
    ("mlp", MLP | {"activation": "sine"}, (4,), ["activation = 'sine'", "relu, gelu, tanh, silu"]),
    ("mlp", MLP | {"dropout": 1.0}, (4,), ["dropout = 1.0", "below 1"]),
    ("mlp", MLP | {"norm": "batch"}, (4,), ["norm = 'batch'", "none, layer"]),
    ("lenet", LENET, (64,), ["shape (64,)", "(channels, height, width)", "mlp"]),
    ("lenet", LENET, (3, 3, 8), ["3x8", "4x4"]),
    ("lenet", LENET | {"channels": [6]}, (8, 8), ["channels = [6]", "2 are expected"]),
    ("lenet", LENET | {"widths": [1, 2, 3]}, (8, 8), ["widths = [1, 2, 3]", "2 are expected"]),
    ("resnet", RESNET | {"depth": 18}, (8, 8), ["depth = 18", "6n+2"]),
    ("resnet", RESNET | {"blocks": [1, 1]}, (8, 8), ["depth = 20", "blocks = [1, 1]", "both"]),
    ("resnet", RESNET, (3, 3, 8), ["3x8", "3 groups", "2 times"]),
    ("resnet", RESNET | {"norm": "none"}, (8, 8), ["norm = 'none'", "group, batch"]),
    ("transformer", TRANSFORMER | {"heads": 5}, (9,), ["width = 32", "heads = 5"]),
    ("transformer", TRANSFORMER | {"vocabulary": 9}, (9, 2), ["vocabulary = 9", "(9, 2)"]),
    ("transformer", TRANSFORMER, (1, 9, 2), ["(1, 9, 2)", "(length, features)"]),
    ("transformer", TRANSFORMER | {"causal": True, "pooling": "first"}, (9,), ["causal", "pooling = 'first'"]),
    ("transformer", TRANSFORMER | {"pooling": "max"}, (9,), ["pooling = 'max'", "mean, first, none"]),
]


@pytest.mark.parametrize(("kind", "options", "shape", "words"), REFUSED)
def test_refusals_name_key_and_number(kind, options, shape, words):
    with pytest.raises(InputError) as caught:
        layer_costs(kind, options, shape, 10)
    assert all(word in str(caught.value) for word in (f"network {kind}", *words)), str(caught.value)


def test_all_problems_are_found_at_once():
    with pytest.raises(InputError) as caught:
        layer_costs("mlp", MLP | {"dropout": -1, "norm": "x", "activation": "y", "widths": [0]}, (4,), 10)
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("channels", range(1, 200))
def test_norm_groups_divide_the_channels(channels):
    groups = architectures.norm_groups(channels)
    assert channels % groups == 0
    assert 1 <= groups <= 32
    assert groups == 1 or channels // groups >= 4


def test_norm_groups_of_usual_widths():
    assert [architectures.norm_groups(channels) for channels in (16, 32, 64, 128, 256, 512)] == [4, 8, 16, 32, 32, 32]
