"""Networks to prune: built-in kinds and those of a user, and what they compute with and without some of their units."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from app.learning.pruning.groups import SMALL, Found, find_groups
from app.learning.pruning.units import Removed, UnitGroup, cut, cut_shapes
from app.learning.training import load_weights_
from app.networks.build import architecture, build, from_architecture

OUTPUTS = 5

OWN = '''
import torch
from torch import nn
from torch.nn import functional


class Concatenated(nn.Module):
    """Two branches side by side, one of them twice."""

    def __init__(self, channels):
        super().__init__()
        self.left, self.right = nn.Conv2d(channels, 6, 1), nn.Conv2d(channels, 10, 3, padding=1)

    def forward(self, inputs):
        left = self.left(inputs)
        return torch.cat([left, self.right(inputs), left.relu()], 1)


class Added(nn.Module):
    """A residual over the network's own inputs."""

    def __init__(self, channels):
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, inputs):
        return inputs + self.convolution(inputs)


class Recurrent(nn.Module):
    """One linear layer applied twice, under two names, with a residual."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.again = self.first

    def forward(self, inputs):
        return inputs + torch.tanh(self.again(torch.tanh(self.first(inputs))))


class Fixed(nn.Module):
    """A view whose sizes are written down."""

    def forward(self, inputs):
        return inputs.view(-1, 4, 3).transpose(1, 2).reshape(-1, 12)


class Gated(nn.Module):
    """A weight of its own beside torch's layers."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Parameter(torch.randn(channels, 1, 1))
        self.convolution = nn.Conv2d(channels, channels, 1)

    def forward(self, inputs):
        return self.convolution(inputs * self.gate)


class Halves(nn.Module):
    """Takes its inputs apart."""

    def __init__(self, width):
        super().__init__()
        self.half = width // 2
        self.left, self.right = nn.Linear(width // 2, 6), nn.Linear(width // 2, 6)

    def forward(self, inputs):
        return self.left(inputs[:, : self.half]) + self.right(inputs[:, self.half :])


class Attended(nn.Module):
    """Torch's own attention over the positions of an image."""

    def __init__(self, channels):
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, inputs):
        tokens = inputs.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2)


class Shuffled(nn.Module):
    """Channels of two groups mixed."""

    def forward(self, inputs):
        samples, channels, height, width = inputs.shape
        return inputs.view(samples, 2, channels // 2, height, width).transpose(1, 2).reshape(inputs.shape)


def _head(channels, outputs):
    return [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, outputs)]


def concatenation(sample_shape, outputs):
    return nn.Sequential(Concatenated(sample_shape[0]), nn.BatchNorm2d(22), nn.ReLU(), *_head(22, outputs))


def depthwise(sample_shape, outputs):
    channels = sample_shape[0]
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 1), nn.ReLU(), *_head(12, outputs),
    )


def grouped(sample_shape, outputs):
    channels = sample_shape[0]
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(8, 12, 1), nn.ReLU(), *_head(12, outputs),
    )


def inputs_added(sample_shape, outputs):
    channels = sample_shape[0]
    return nn.Sequential(Added(channels), nn.ReLU(), nn.Conv2d(channels, 6, 1), nn.ReLU(), *_head(6, outputs))


def fixed_view(sample_shape, outputs):
    channels = sample_shape[0]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * 36, 12), nn.ReLU(), Fixed(), nn.Linear(12, 8), nn.ReLU(),
        nn.Linear(8, outputs),
    )


def shared(sample_shape, outputs):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(sample_shape[0] * 36, 10), nn.Tanh(), Recurrent(10), nn.Linear(10, 7), nn.Tanh(),
        nn.Linear(7, outputs),
    )


def shared_child(sample_shape, outputs):
    again, act = nn.Linear(10, 10), nn.Tanh()
    first, last = nn.Linear(sample_shape[0] * 36, 10), nn.Linear(10, outputs)
    return nn.Sequential(nn.Flatten(), first, act, again, act, again, act, last)


def tied_modules(sample_shape, outputs):
    first, middle, last = nn.Linear(sample_shape[0] * 36, 9), nn.Linear(9, 10), nn.Linear(9, 10)
    last.weight = middle.weight
    join, end = nn.Linear(10, 9), nn.Linear(10, outputs)
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), middle, nn.Tanh(), join, nn.Tanh(), last, nn.Tanh(), end)


def crossed(sample_shape, outputs):
    """The weight of a layer is that of the next one, whose inputs are the first one's outputs."""
    first, middle, last = nn.Linear(sample_shape[0] * 36, 10), nn.Linear(10, 10), nn.Linear(10, 10)
    last.weight = middle.weight
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), middle, nn.Tanh(), last, nn.Tanh(), nn.Linear(10, outputs))


def transposed(sample_shape, outputs):
    channels = sample_shape[0]
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.ConvTranspose2d(6, 8, 2, stride=2),
        nn.BatchNorm2d(8), nn.PReLU(8), *_head(8, outputs),
    )


def gated(sample_shape, outputs):
    return nn.Sequential(nn.Conv2d(sample_shape[0], 8, 3), Gated(8), nn.ReLU(), *_head(8, outputs))


def halves(sample_shape, outputs):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(sample_shape[0] * 36, 10), nn.ReLU(), Halves(10), nn.ReLU(), nn.Linear(6, outputs)
    )


def attended(sample_shape, outputs):
    return nn.Sequential(
        nn.Conv2d(sample_shape[0], 8, 3), nn.ReLU(), Attended(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, outputs)
    )


def shuffled(sample_shape, outputs):
    return nn.Sequential(nn.Conv2d(sample_shape[0], 8, 3), Shuffled(), nn.ReLU(), *_head(8, outputs))


def two_norms(sample_shape, outputs):
    """Groups of four channels, then of six: only twelve are whole groups of both."""
    return nn.Sequential(
        nn.Conv2d(sample_shape[0], 24, 3), nn.GroupNorm(6, 24), nn.ReLU(), nn.GroupNorm(4, 24), nn.ReLU(),
        *_head(24, outputs),
    )


class Uneven(nn.Module):
    """A group of the normalisation is of both branches."""

    def __init__(self, channels):
        super().__init__()
        self.left, self.right, self.norm = nn.Conv2d(channels, 6, 1), nn.Conv2d(channels, 10, 1), nn.GroupNorm(4, 16)

    def forward(self, inputs):
        return self.norm(torch.cat([self.left(inputs), self.right(inputs)], 1))


def uneven(sample_shape, outputs):
    return nn.Sequential(Uneven(sample_shape[0]), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU(), *_head(8, outputs))


def functions(sample_shape, outputs):
    return {
        "flat": nn.Flatten,
        "first": lambda: nn.Linear(sample_shape[0] * 36, 12),
        "norm": lambda: nn.BatchNorm1d(12),
        "act": nn.ReLU,
        "last": lambda: nn.Linear(12, outputs),
    }


class Whole(nn.Module):
    """Not a Sequential: one layer."""

    def __init__(self, channels, outputs):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, outputs)

    def forward(self, inputs):
        return self.linear(functional.relu(self.norm(self.convolution(inputs))).mean((2, 3)))


def whole(sample_shape, outputs):
    return Whole(sample_shape[0], outputs)
'''

IMAGE = (3, 6, 6)
TRANSFORMER = {
    "width": 12,
    "heads": 3,
    "blocks": 1,
    "feedforward": 20,
    "dropout": 0.1,
    "causal": True,
    "pooling": "none",
    "vocabulary": 7,
    "tied": False,
}
SEEN_BY_FIRST = {"pooling": "first", "causal": False}
MLP = {"widths": [12, 10], "activation": "gelu", "dropout": 0.2, "norm": "none"}
RESNET = {"depth": None, "blocks": [1, 2], "width": 8, "norm": "batch"}


class Case(NamedTuple):
    """A kind with its options, the shape of a sample, and the dtype of inputs."""

    kind: str
    options: dict[str, Any]
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    outputs: int = OUTPUTS


BUILT_IN = {
    "mlp": Case("mlp", MLP, (4, 5)),
    "mlp, norm": Case("mlp", {**MLP, "norm": "layer"}, (4, 5)),
    "lenet": Case("lenet", {"channels": [6, 16], "widths": [20, 12], "activation": "relu", "dropout": 0.1}, (3, 8, 9)),
    "resnet, batch": Case("resnet", RESNET, (8, 8)),
    "resnet, group": Case("resnet", {**RESNET, "blocks": [1, 1], "norm": "group", "width": 16}, IMAGE),
    "transformer": Case("transformer", {**TRANSFORMER, "pooling": "mean"}, (9,), torch.int64),
    "transformer, values": Case(
        "transformer", {**TRANSFORMER, "vocabulary": None, "pooling": "first", "causal": False}, (9, 4)
    ),
    "transformer, tied": Case("transformer", {**TRANSFORMER, "blocks": 2, "tied": True}, (9,), torch.int64, 7),
}
OWN_NAMES = tuple(line[4:].partition("(")[0] for line in OWN.splitlines() if line.startswith("def ") and line[4] != "_")
NAMES = (*BUILT_IN, *(f"own {name}" for name in OWN_NAMES))


class Network(NamedTuple):
    """A case with its groups; `tree` is what a file of it would say."""

    case: Case
    tree: dict[str, Any]
    found: Found

    @property
    def groups(self) -> dict[str, UnitGroup]:
        return {group.name: group for group in self.found.groups}


def network_of(name: str, folder: Path, parameters: int = SMALL + 1) -> Network:
    """A network by its name; folder: for the user's file."""
    case = BUILT_IN.get(name)
    if case is None:
        (folder / "own.py").write_text(OWN)
        case = Case(f"{folder / 'own.py'}:{name.removeprefix('own ')}", {}, IMAGE)
    tree = architecture(case.kind, case.options, case.shape, case.outputs)
    return Network(case, tree, found_in(tree, case, parameters))


def found_in(tree: dict[str, Any], case: Case, parameters: int = SMALL + 1) -> Found:
    """What is found with so many parameters; those of small networks are given memory for it."""
    return find_groups(from_architecture(tree), case.shape, case.dtype, parameters)


def modules_of(network: Network, shapes: Mapping[str, tuple[int, ...]] | None = None, seed: int = 1) -> nn.Sequential:
    """The network in double precision with random numbers everywhere, or one of these shapes."""
    tree = network.tree if shapes is None else network.tree | {"shapes": {n: list(s) for n, s in shapes.items()}}
    modules = build(from_architecture(tree), 0).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in modules.state_dict().items():
        if tensor.is_floating_point():
            numbers = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(numbers.abs() + 0.5 if name.endswith("running_var") else numbers)
    return modules


def cut_modules(network: Network, modules: nn.Module, removed: Removed) -> nn.Sequential:
    """The smaller network, as it is built again from a file."""
    weights = {name: tensor.clone() for name, tensor in modules.state_dict().items()}
    smaller = modules_of(network, cut_shapes(network.found.shapes, removed))
    load_weights_(smaller, cut(weights, removed))
    return smaller


def without_(modules: nn.Module, removed: Removed) -> nn.Module:
    """Nothing is read from the removed units any more."""
    weights = modules.state_dict()
    for group, units in removed:
        for member in group.members:
            if member.enters:
                weights[member.tensor].index_fill_(member.dim, places(member.places[list(units)]), 0.0)
    return modules


def places(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(rows.reshape(-1))


def samples_of(network: Network, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    if network.case.dtype == torch.int64:
        return torch.randint(network.case.options["vocabulary"], (count, *network.case.shape), generator=generator)
    return torch.randn((count, *network.case.shape), generator=generator, dtype=torch.float64)


def some_of(network: Network, seed: int, share: float = 0.4) -> list[tuple[UnitGroup, list[int]]]:
    """Random units of every group, at least one and never all."""
    draw = np.random.default_rng(seed)
    chosen = []
    for group in network.found.groups:
        count = min(group.units - 1, max(1, round(share * group.units)))
        chosen.append((group, sorted(draw.choice(group.units, count, replace=False).tolist())))
    return chosen
