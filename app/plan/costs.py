"""What each layer of a built-in network costs: parameters, operations, memory. Standard library only.

`operations` are multiply-adds of one sample's forward pass in convolutions, linear layers and attention; what works
element by element is left out. `activation_bytes` are the float32 tensors per sample that autograd keeps for the
backward pass, counted once where two operations keep the same tensor: the input of every layer, the inputs of
normalisations, what activation functions keep (relu and tanh their result, gelu and silu their input), the indices
of pooling, the masks of dropout. A layer's input counts to the layer, its output to the next one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from app.errors import InputError
from app.plan import architectures
from app.plan.architectures import Block, Image, norm_groups
from app.plan.layer_lists import listed

FLOAT, INDEX = 4, 8  # bytes of a float32 and of the int64 indices of pooling and tokens


class LayerCost(NamedTuple):
    """One layer; shapes without the batch dim, all numbers per sample.

    A parameter that is one of an earlier layer counts there alone; `tied_parameters` is how many such a layer uses. A
    stage that has the layer but not the earlier one holds them as well.
    """

    name: str
    parameters: int
    output_shape: tuple[int, ...]
    operations: int
    activation_bytes: int
    tied_parameters: int = 0


def layer_costs(
    kind: str, options: Mapping[str, Any], sample_shape: Sequence[int], outputs: int
) -> tuple[LayerCost, ...]:
    """Costs of the layers of a built-in kind, named and ordered as the layers of the network.

    Collective over: none. Raises InputError for impossible numbers, and for kinds that are not built in.
    """
    if kind not in COSTS:
        raise InputError(f"network {kind!r} is not a built-in kind ({', '.join(COSTS)}): its costs are not known")
    return COSTS[kind](**options, sample_shape=tuple(sample_shape), outputs=outputs)


def mlp(
    *, widths: Sequence[int], activation: str, dropout: float, norm: str, sample_shape: Sequence[int], outputs: int
) -> tuple[LayerCost, ...]:
    """Costs of hidden1, hidden2, ..., output."""
    sizes = architectures.mlp(
        widths=widths, activation=activation, dropout=dropout, norm=norm, sample_shape=sample_shape, outputs=outputs
    )
    hidden = [
        _dense(f"hidden{number + 1}", sizes[number], width, activation, dropout, norm)
        for number, width in enumerate(widths)
    ]
    return (*hidden, _output("output", sizes[-2], outputs))


def lenet(
    *,
    channels: Sequence[int],
    widths: Sequence[int],
    activation: str,
    dropout: float,
    sample_shape: Sequence[int],
    outputs: int,
) -> tuple[LayerCost, ...]:
    """Costs of convolution1, convolution2, dense1, dense2, output."""
    sizes = architectures.lenet(
        channels=channels,
        widths=widths,
        activation=activation,
        dropout=dropout,
        sample_shape=sample_shape,
        outputs=outputs,
    )
    before, convolutions = sizes.image, []
    for number, (convolved, after) in enumerate(zip(sizes.convolved, sizes.maps, strict=True)):
        weights = sizes.kernel**2 * before.channels * convolved.channels
        kept = before.size + convolved.size * (2 if _keeps_input(activation) else 1)
        convolutions.append(
            LayerCost(
                f"convolution{number + 1}",
                weights + convolved.channels,
                tuple(after),
                weights * convolved.height * convolved.width,
                FLOAT * kept + INDEX * after.size,
            )
        )
        before = after
    return (
        *convolutions,
        _dense("dense1", before.size, widths[0], activation, dropout),
        _dense("dense2", widths[0], widths[1], activation, dropout),
        _output("output", widths[1], outputs),
    )


def resnet(
    *,
    depth: int | None,
    blocks: Sequence[int] | None,
    width: int,
    norm: str,
    sample_shape: Sequence[int],
    outputs: int,
) -> tuple[LayerCost, ...]:
    """Costs of stem, group1block1, ..., head."""
    sizes = architectures.resnet(
        depth=depth, blocks=blocks, width=width, norm=norm, sample_shape=sample_shape, outputs=outputs
    )
    convolved, first, last = sizes.convolved, sizes.blocks[0].before, sizes.blocks[-1].after
    weights = sizes.kernel**2 * sizes.image.channels * convolved.channels
    kept = FLOAT * (sizes.image.size + _norm_kept(convolved, norm))
    if sizes.pools:
        kept += FLOAT * convolved.size + INDEX * first.size
    stem = LayerCost(
        "stem", weights + 2 * convolved.channels, tuple(first), weights * convolved.height * convolved.width, kept
    )
    head = _output("head", last.channels, outputs)
    head = head._replace(activation_bytes=head.activation_bytes + FLOAT * last.size)
    return (stem, *(_basic_block(block, norm) for block in sizes.blocks), head)


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
) -> tuple[LayerCost, ...]:
    """Costs of embedding, block1, ..., head; a causal mask saves no operations here.

    The matrix of a tied head counts as parameters of the embedding.
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
    block = _attention_block(sizes, width, heads, dropout)
    length = sizes.length
    pooled = length if pooling == "none" else 1
    head = LayerCost(
        "head",
        2 * width + (0 if tied else width * outputs + outputs),
        (length, outputs) if pooling == "none" else (outputs,),
        pooled * width * outputs,
        FLOAT * (length * (width + 2) + pooled * width),
        width * outputs if tied else 0,
    )
    named = (block._replace(name=f"block{number + 1}") for number in range(blocks))
    return (_embedding(sizes, width, dropout), *named, head)


def layers(*, layers: Sequence[Mapping[str, Any]], sample_shape: Sequence[int], outputs: int) -> tuple[LayerCost, ...]:
    """Costs of a list of layers, and of the output layer."""
    return tuple(
        LayerCost(one.name, one.parameters, one.after, one.operations, FLOAT * one.kept)
        for one in listed(layers, sample_shape, outputs)
    )


COSTS: dict[str, Callable[..., tuple[LayerCost, ...]]] = {
    "mlp": mlp,
    "lenet": lenet,
    "resnet": resnet,
    "transformer": transformer,
    "layers": layers,
}


def _dense(name: str, features: int, width: int, activation: str, dropout: float, norm: str = "none") -> LayerCost:
    normed = norm == "layer"
    kept = features + (width + 2 if normed else 0)
    # relu's result is the next layer's input, unless dropout makes a new tensor of it
    kept += width if _keeps_input(activation) or dropout else 0
    kept += width if dropout else 0
    parameters = features * width + width + (2 * width if normed else 0)
    return LayerCost(name, parameters, (width,), features * width, FLOAT * kept)


def _output(name: str, features: int, outputs: int) -> LayerCost:
    return LayerCost(name, features * outputs + outputs, (outputs,), features * outputs, FLOAT * features)


def _keeps_input(activation: str) -> bool:
    return activation in ("gelu", "silu")


def _norm_kept(before: Image, norm: str) -> int:
    """Elements a normalisation keeps: its input, and per sample the mean and deviation of each group."""
    return before.size + (2 * norm_groups(before.channels) if norm == "group" else 0)


def _basic_block(block: Block, norm: str) -> LayerCost:
    before, after = block.before, block.after
    area = after.height * after.width
    weights = 9 * after.channels * (before.channels + after.channels)
    norms = 2
    if block.projects:
        weights += before.channels * after.channels
        norms = 3
    return LayerCost(
        block.name,
        weights + norms * 2 * after.channels,
        tuple(after),
        weights * area,
        FLOAT * (before.size + norms * _norm_kept(after, norm) + after.size),
    )


def _embedding(sizes: architectures.Transformer, width: int, dropout: float) -> LayerCost:
    elements = sizes.vocabulary * width if sizes.vocabulary else sizes.features * width + width
    inputs = INDEX * sizes.length if sizes.vocabulary else FLOAT * sizes.length * sizes.features
    return LayerCost(
        "embedding",
        elements + sizes.length * width,
        (sizes.length, width),
        sizes.length * sizes.features * width,
        inputs + (FLOAT * sizes.length * width if dropout else 0),
    )


def _attention_block(sizes: architectures.Transformer, width: int, heads: int, dropout: float) -> LayerCost:
    length, feedforward = sizes.length, sizes.feedforward
    weights = 4 * width * width + 2 * width * feedforward
    # both norms with their statistics, the inputs of projections and of the feed-forward network, q, k, v, the mixture
    kept = length * (2 * (width + 2) + 2 * width + 3 * width + width + 2 * feedforward)
    if dropout:
        # the plain kernel keeps probabilities, mask and their product; two more masks follow in the block
        kept += 3 * heads * length**2 + 2 * length * width
    else:
        kept += heads * length
    return LayerCost(
        "block",
        weights + 4 * width + width + feedforward + 4 * width,
        (length, width),
        length * weights + 2 * length**2 * width,
        FLOAT * kept,
    )
