"""Fully connected network: flattened samples, hidden layers, one linear output layer."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from app.networks.activations import ACTIVATIONS
from app.networks.layers import Layer
from app.plan import architectures


def mlp(
    *, widths: Sequence[int], activation: str, dropout: float, norm: str, sample_shape: Sequence[int], outputs: int
) -> list[Layer]:
    """Layers hidden1, hidden2, ..., output; inputs (M, ...) are flattened, outputs (M, K).

    Collective over: none. Raises InputError.
    """
    sizes = architectures.mlp(
        widths=widths, activation=activation, dropout=dropout, norm=norm, sample_shape=sample_shape, outputs=outputs
    )
    layers = [
        Layer(f"hidden{i + 1}", partial(dense, sizes[i], width, activation, dropout, norm, flatten=i == 0))
        for i, width in enumerate(widths)
    ]
    return [*layers, Layer("output", partial(output, sizes[-2], outputs, flatten=not widths))]


def dense(
    features: int, width: int, activation: str, dropout: float, norm: str = "none", *, flatten: bool = False
) -> nn.Sequential:
    """Linear layer, normalisation, activation, dropout: (M, F) -> (M, width); flatten: (M, ...) first."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if flatten:
        parts["flatten"] = nn.Flatten()
    parts["linear"] = nn.Linear(features, width)
    if norm == "layer":
        parts["norm"] = nn.LayerNorm(width)
    parts["activation"] = ACTIVATIONS[activation]()
    if dropout > 0:
        parts["dropout"] = nn.Dropout(dropout)
    return nn.Sequential(parts)


def output(features: int, outputs: int, *, flatten: bool = False) -> nn.Sequential:
    """The last linear layer: (M, F) -> (M, K); flatten: (M, ...) first."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if flatten:
        parts["flatten"] = nn.Flatten()
    parts["linear"] = nn.Linear(features, outputs)
    return nn.Sequential(parts)
