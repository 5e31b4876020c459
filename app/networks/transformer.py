"""Transformer encoder or decoder for sequences of tokens or features.

Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017; normalisation before each part as in Xiong et al.,
On Layer Normalization in the Transformer Architecture, ICML 2020; starting weights as in GPT-2 (Radford et al. 2019).
"""

from collections import OrderedDict
from collections.abc import Sequence
from math import sqrt

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from app.networks.layers import Layer
from app.plan import architectures

START = 0.02  # standard deviation of the starting weights
TIES = {"linear.weight": "embedding.elements.weight"}  # of the head


def transformer(
    *,
    width: int,
    heads: int,
    blocks: int,
    feedforward: int | None,
    dropout: float,
    causal: bool,
    pooling: str,
    vocabulary: int | None,
    sample_shape: Sequence[int],
    outputs: int,
    tied: bool = False,
) -> list[Layer]:
    """Layers embedding, block1, ..., head; inputs tokens (M, T) int64, or features (M, T, F) or (M, T) float32.

    Outputs (M, K), or (M, T, K) for pooling "none". `tied`: the head's weights are the embedding's, and it has no
    bias, as in GPT-2 (Press and Wolf, Using the Output Embedding to Improve Language Models, EACL 2017).
    Collective over: none. Raises InputError.
    """
    sizes = architectures.transformer(
        width=width,
        heads=heads,
        blocks=blocks,
        feedforward=feedforward,
        dropout=dropout,
        causal=causal,
        pooling=pooling,
        vocabulary=vocabulary,
        sample_shape=sample_shape,
        outputs=outputs,
        tied=tied,
    )
    # GPT-2: the parts added to the main path start smaller, so that their sum does not grow with the depth.
    added = START / sqrt(2 * blocks)

    def block() -> nn.Module:
        return Block(width, heads, sizes.feedforward, dropout, causal, added)

    return [
        Layer("embedding", lambda: Embedding(sizes, width, dropout)),
        *(Layer(f"block{number + 1}", block) for number in range(blocks)),
        Layer("head", lambda: _head(width, pooling, outputs, bias=not tied), ties=TIES if tied else {}),
    ]


class Embedding(nn.Module):
    """Tokens (M, T) int64, or features (M, T, F) or (M, T) float, plus learned positions -> (M, T, width)."""

    def __init__(self, sizes: architectures.Transformer, width: int, dropout: float) -> None:
        super().__init__()
        self.features = sizes.features
        if sizes.vocabulary:
            self.elements: nn.Module = nn.Embedding(sizes.vocabulary, width)
            nn.init.normal_(self.elements.weight, std=START)
        else:
            self.elements = nn.Linear(sizes.features, width)
        self.positions = Positions(sizes.length, width)
        nn.init.normal_(self.positions.weight, std=START)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.features and inputs.dim() == 2:
            inputs = inputs.unsqueeze(-1)
        return self.dropout(self.elements(inputs) + self.positions())


class Positions(nn.Embedding):
    """The vectors of all positions: () -> (T, width).

    A module that is called, not a weight that is taken: which layers depend on each other is found by their calls.
    """

    def forward(self) -> Tensor:  # type: ignore[override]
        return self.weight.clone()


class Attention(nn.Module):
    """Multi-head self-attention: (M, T, width) -> (M, T, width)."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool, added: float) -> None:
        super().__init__()
        # How many heads there are follows from the weights: pruning removes whole ones.
        self.head_width, self.probability, self.causal = width // heads, dropout, causal
        self.projections = _linear(width, 3 * width, START)
        self.output = _linear(width, width, added)

    def forward(self, inputs: Tensor) -> Tensor:
        samples, length, _ = inputs.shape
        split = self.projections(inputs).view(samples, length, 3, -1, self.head_width).transpose(1, 3)
        queries, keys, values = split.unbind(2)
        probability = self.probability if self.training else 0.0
        mixed = scaled_dot_product_attention(queries, keys, values, dropout_p=probability, is_causal=self.causal)
        return self.output(mixed.transpose(1, 2).reshape(samples, length, -1))


class Block(nn.Module):
    """Attention and feed-forward network, each normalised before and added to its input: (M, T, width) -> same."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, causal: bool, added: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout, causal, added)
        self.norm2 = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            OrderedDict(
                up=_linear(width, feedforward, START), activation=nn.GELU(), down=_linear(feedforward, width, added)
            )
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs + self.dropout(self.attention(self.norm1(inputs)))
        return inputs + self.dropout(self.feedforward(self.norm2(inputs)))


class Pooling(nn.Module):
    """(M, T, width) -> (M, width) by mean or first element, or unchanged."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, inputs: Tensor) -> Tensor:
        if self.pooling == "mean":
            return inputs.mean(1)
        return inputs[:, 0] if self.pooling == "first" else inputs


def _head(width: int, pooling: str, outputs: int, *, bias: bool) -> nn.Sequential:
    linear = _linear(width, outputs, START, bias=bias)
    return nn.Sequential(OrderedDict(norm=nn.LayerNorm(width), pooling=Pooling(pooling), linear=linear))


def _linear(features: int, width: int, deviation: float, *, bias: bool = True) -> nn.Linear:
    linear = nn.Linear(features, width, bias)
    nn.init.normal_(linear.weight, std=deviation)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
