"""The built-in networks compute what they say, sample by sample."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from app.networks.build import build, layers

LENET = {"channels": (6, 16), "widths": (120, 84), "activation": "relu", "dropout": 0.0}
TRANSFORMER = {
    "width": 16,
    "heads": 4,
    "blocks": 2,
    "feedforward": None,
    "dropout": 0.0,
    "causal": False,
    "pooling": "mean",
    "vocabulary": 0,
}


def _network(kind, options, shape, outputs=10, seed=3):
    return build(layers(kind, options, shape, outputs), seed)


def test_mlp_is_linear_norm_activation():
    options = {"widths": (7,), "activation": "tanh", "dropout": 0.0, "norm": "layer"}
    network = _network("mlp", options, (2, 3))
    inputs = torch.randn(4, 2, 3)
    hidden, output = network.hidden1, network.output
    expected = functional.layer_norm(inputs.flatten(1) @ hidden.linear.weight.T + hidden.linear.bias, (7,)).tanh()
    torch.testing.assert_close(network(inputs), expected @ output.linear.weight.T + output.linear.bias)


def test_mlp_without_hidden_layers_is_linear():
    network = _network("mlp", {"widths": (), "activation": "relu", "dropout": 0.0, "norm": "none"}, (2, 3))
    inputs = torch.randn(4, 2, 3)
    expected = functional.linear(inputs.flatten(1), network.output.linear.weight, network.output.linear.bias)
    assert torch.equal(network(inputs), expected)


def test_lenet_is_the_network_of_the_pytorch_tutorial():
    class Tutorial(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

        def forward(self, x):
            x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
            x = functional.max_pool2d(functional.relu(self.conv2(x)), 2).flatten(1)
            return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x)))))

    network, tutorial = _network("lenet", LENET, (3, 32, 32)), Tutorial()
    for ours, theirs in zip(network.parameters(), tutorial.parameters(), strict=True):
        theirs.data.copy_(ours)
    inputs = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(network(inputs), tutorial(inputs))


def test_images_with_and_without_a_channel_dim_are_the_same():
    inputs = torch.randn(4, 8, 8)
    for kind, options in (("lenet", LENET), ("resnet", {"depth": 8, "blocks": None, "width": 8, "norm": "group"})):
        flat, channel = _network(kind, options, (8, 8)), _network(kind, options, (1, 8, 8))
        assert torch.equal(flat(inputs), channel(inputs[:, None]))


def test_resnet_block_adds_its_shortcut():
    network = _network("resnet", {"depth": None, "blocks": (1, 1), "width": 8, "norm": "group"}, (3, 8, 8))
    block, inputs = network.group2block1, torch.randn(2, 8, 8, 8)
    inside = block.norm2(block.convolution2(block.norm1(block.convolution1(inputs)).relu()))
    shortcut = block.shortcut.norm(functional.conv2d(inputs, block.shortcut.convolution.weight, stride=2))
    torch.testing.assert_close(block(inputs), (inside + shortcut).relu())


@pytest.mark.parametrize(
    ("kind", "options", "shape"),
    [
        ("mlp", {"widths": (9,), "activation": "gelu", "dropout": 0.0, "norm": "layer"}, (5,)),
        ("lenet", LENET, (8, 8)),
        ("resnet", {"depth": 8, "blocks": None, "width": 8, "norm": "group"}, (3, 9, 9)),
        ("transformer", TRANSFORMER, (6, 2)),
    ],
)
def test_a_sample_does_not_depend_on_the_others_of_its_microbatch(kind, options, shape):
    network, inputs = _network(kind, options, shape), torch.randn(6, *shape)
    together, apart = network(inputs), torch.cat([network(part) for part in inputs.split([1, 2, 3])])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)


def test_transformer_mixes_like_torchs_encoder_layer():
    network = _network("transformer", TRANSFORMER, (6, 2))
    block = network.block1.eval()
    theirs = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    ours = [*block.attention.projections.parameters(), *block.attention.output.parameters()]
    ours += [*block.feedforward.up.parameters(), *block.feedforward.down.parameters()]
    attention = theirs.self_attn
    pairs = [attention.in_proj_weight, attention.in_proj_bias, *attention.out_proj.parameters()]
    pairs += [*theirs.linear1.parameters(), *theirs.linear2.parameters()]
    for own, other in zip(ours, pairs, strict=True):
        nn.init.normal_(own, std=0.3)
        other.data.copy_(own)
    inputs = torch.randn(3, 6, 16)
    with torch.enable_grad():  # without gradients theirs takes another, fused path
        torch.testing.assert_close(block(inputs), theirs(inputs), rtol=1e-4, atol=1e-5)


def test_causal_elements_see_only_those_before_them():
    inputs = torch.randint(0, 11, (2, 6))
    changed = inputs.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 11
    for causal in (True, False):
        options = TRANSFORMER | {"causal": causal, "pooling": "none", "vocabulary": 11}
        network = _network("transformer", options, (6,)).eval()
        same = torch.isclose(network(inputs), network(changed)).all(-1).all(0)
        assert same.tolist() == [causal] * 4 + [False] * 2


def test_transformer_knows_positions_and_pools():
    inputs = torch.randint(0, 11, (2, 6))
    for pooling, shape in (("mean", (2, 10)), ("first", (2, 10)), ("none", (2, 6, 10))):
        network = _network("transformer", TRANSFORMER | {"pooling": pooling, "vocabulary": 11}, (6,)).eval()
        assert network(inputs).shape == shape
        assert not torch.allclose(network(inputs), network(inputs.flip(1)).flip(1 if pooling == "none" else 0))


def test_dropout_draws_from_torchs_generator_in_training_alone():
    network = _network("transformer", TRANSFORMER | {"dropout": 0.5}, (6, 2))
    inputs = torch.randn(3, 6, 2)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(network(inputs))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    network.eval()
    assert torch.equal(network(inputs), network(inputs))


@pytest.mark.parametrize("kind", ["lenet", "resnet", "transformer", "mlp"])
def test_gradients_reach_every_parameter(kind):
    options = {
        "lenet": LENET,
        "resnet": {"depth": None, "blocks": (1, 1), "width": 8, "norm": "batch"},
        "transformer": TRANSFORMER,
        "mlp": {"widths": (8,), "activation": "silu", "dropout": 0.2, "norm": "layer"},
    }[kind]
    network = _network(kind, options, (8, 8))
    functional.cross_entropy(network(torch.randn(8, 8, 8)), torch.arange(8)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())
