"""Layers told their sizes by their weights."""

import pytest
import torch
from torch import nn

from app.errors import ArtifactError
from app.networks.layers import Layer
from app.networks.resizing import resize_, resized

LAYERS = {
    "linear": (nn.Linear(6, 8), {"weight": (5, 4), "bias": (5,)}, (2, 4), (2, 5)),
    "linear without bias": (nn.Linear(6, 8, bias=False), {"weight": (8, 3)}, (2, 3), (2, 8)),
    "convolution": (nn.Conv2d(6, 8, 3), {"weight": (5, 4, 3, 3), "bias": (5,)}, (2, 4, 5, 5), (2, 5, 3, 3)),
    "convolution in 1-d": (nn.Conv1d(6, 8, 3), {"weight": (8, 4, 3)}, (2, 4, 5), (2, 8, 3)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6), {"weight": (4, 1, 3, 3), "bias": (4,)}, (2, 4, 5, 5), (2, 4, 3, 3)),
    "depthwise to one": (
        nn.Conv2d(6, 6, 3, groups=6),
        {"weight": (1, 1, 3, 3), "bias": (1,)},
        (2, 1, 5, 5),
        (2, 1, 3, 3),
    ),
    "transposed": (nn.ConvTranspose2d(6, 8, 2), {"weight": (4, 5, 2, 2), "bias": (5,)}, (2, 4, 3, 3), (2, 5, 4, 4)),
    "batch norm": (
        nn.BatchNorm1d(6),
        dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (4,)),
        (2, 4),
        (2, 4),
    ),
    "batch norm without weights": (
        nn.BatchNorm2d(6, affine=False),
        dict.fromkeys(("running_mean", "running_var"), (4,)),
        (2, 4, 3, 3),
        (2, 4, 3, 3),
    ),
    "layer norm": (nn.LayerNorm(6), {"weight": (4,), "bias": (4,)}, (2, 3, 4), (2, 3, 4)),
    "group norm": (nn.GroupNorm(3, 12), {"weight": (8,), "bias": (8,)}, (2, 8, 3), (2, 8, 3)),
    "group norm of all": (nn.GroupNorm(1, 12), {"weight": (5,), "bias": (5,)}, (2, 5, 3), (2, 5, 3)),
    "embedding": (nn.Embedding(6, 8), {"weight": (6, 5)}, None, (2, 5)),
    "prelu": (nn.PReLU(6), {"weight": (4,)}, (2, 4, 3), (2, 4, 3)),
}
SIZES = {
    "linear": {"in_features": 4, "out_features": 5},
    "convolution": {"in_channels": 4, "out_channels": 5, "groups": 1},
    "depthwise": {"in_channels": 4, "out_channels": 4, "groups": 4},
    "depthwise to one": {"in_channels": 1, "out_channels": 1, "groups": 1},
    "transposed": {"in_channels": 4, "out_channels": 5},
    "batch norm": {"num_features": 4},
    "batch norm without weights": {"num_features": 4},
    "layer norm": {"normalized_shape": (4,)},
    "group norm": {"num_channels": 8, "num_groups": 2},
    "group norm of all": {"num_channels": 5, "num_groups": 1},
    "embedding": {"num_embeddings": 6, "embedding_dim": 5},
    "prelu": {"num_parameters": 4},
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_in_its_new_sizes(name):
    layer, shapes, inputs, outputs = LAYERS[name]
    resize_(layer, shapes)
    state = layer.state_dict()
    assert all(tuple(state[tensor].shape) == shape for tensor, shape in shapes.items())
    assert {p for p, _ in layer.named_parameters()} == {t for t in state if "running" not in t and "num" not in t}
    samples = torch.tensor([0, 5]) if inputs is None else torch.randn(inputs)
    assert layer(samples).shape == outputs
    assert {key: getattr(layer, key) for key in SIZES.get(name, {})} == SIZES.get(name, {})


def test_a_group_norm_normalises_what_is_left_as_before():
    norm, samples = nn.GroupNorm(3, 12), torch.randn(2, 12, 5)
    expected = norm(samples)
    resize_(norm, {"weight": (8,), "bias": (8,)})
    nn.init.ones_(norm.weight)
    left = [*range(4), *range(8, 12)]
    torch.testing.assert_close(norm(samples[:, left]), expected[:, left])
    resize_(norm, {"weight": (4,), "bias": (4,)})
    nn.init.ones_(norm.weight)
    torch.testing.assert_close(norm(samples[:, 8:]), expected[:, 8:])
    assert norm.whole_groups, "one group is left, and it can only go whole"


@pytest.mark.parametrize("name", ["wait", "weight.more", "0.weight", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(ArtifactError, match="belongs to no layer of this network"):
        resize_(nn.Linear(3, 3), {name: (2, 2)})


def test_other_dims_are_refused():
    with pytest.raises(ArtifactError, match=r"'weight' of shape \(2, 2, 2\) belongs to no layer"):
        resize_(nn.Linear(3, 3), {"weight": (2, 2, 2)})


def test_frozen_parameters_and_dtypes_stay():
    layer = nn.Linear(6, 8).double().requires_grad_(False)
    resize_(layer, {"weight": (4, 6)})
    assert layer.weight.dtype == torch.float64
    assert not layer.weight.requires_grad
    assert isinstance(layer.weight, nn.Parameter)


def test_layers_that_share_stay_one():
    """Under two names in one layer, and in two layers that are made together."""
    one, other = nn.Linear(6, 6), nn.Linear(6, 6)
    other.weight = one.weight
    layers = [Layer(name, lambda: one, lambda: {"a": one, "b": other, "c": one}) for name in "abc"]
    shapes = {f"{layer}.weight": (4, 4) for layer in "abc"} | {f"{layer}.bias": (4,) for layer in "abc"}
    made = resized(layers, shapes)
    modules = made[0].whole()
    assert modules["a"].weight is modules["b"].weight
    assert modules["a"] is modules["c"]
    assert modules["b"].weight.shape == (4, 4)
    assert made[2].build() is modules["c"]


def test_layers_made_one_by_one():
    layers = [Layer("a", lambda: nn.Linear(6, 8)), Layer("b", lambda: nn.Linear(8, 3))]
    first, second = (layer.build() for layer in resized(layers, {"a.weight": (5, 6), "a.bias": (5,)}))
    assert first.weight.shape == (5, 6)
    assert second.weight.shape == (3, 8)
