"""What the built-in network kinds consist of, as numbers: sizes, kernels, strides, and which combinations cannot be.

Both the cost model (standard library only) and the networks themselves are written from these, so they cannot differ.
Sizes of images are C channels, H height, W width; of sequences T elements with F features.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from app.errors import InputError

ACTIVATIONS = ("relu", "gelu", "tanh", "silu")
RESNET_18 = (2, 2, 2, 2)
POOLINGS = ("mean", "first", "none")
LARGE_IMAGE = 128  # from this height and width on, resnet starts with a 7x7 stride-2 stem and a pooling
SMALL_IMAGE = 16  # below this height or width, lenet uses 3x3 kernels with padding


class Image(NamedTuple):
    channels: int
    height: int
    width: int

    @property
    def size(self) -> int:
        return self.channels * self.height * self.width


class Lenet(NamedTuple):
    image: Image
    kernel: int
    padding: int
    maps: tuple[Image, Image]  # after each convolution and pooling
    convolved: tuple[Image, Image]  # after each convolution, before pooling


class Block(NamedTuple):
    name: str
    before: Image
    after: Image
    stride: int

    @property
    def projects(self) -> bool:
        """Whether the shortcut needs a 1x1 convolution because the size changes."""
        return self.before != self.after


class Resnet(NamedTuple):
    image: Image
    kernel: int
    stride: int
    convolved: Image  # after the stem's convolution
    pools: bool  # whether a 3x3 stride-2 max pooling follows the stem
    blocks: tuple[Block, ...]


class Transformer(NamedTuple):
    """The input of a transformer: T elements, each a token of a vocabulary or F features; width of its dense layers."""

    length: int
    features: int  # 0 for tokens
    vocabulary: int  # 0 for features
    feedforward: int


def problems_of_numbers(kind: str, **values: int | Sequence[int]) -> list[str]:
    """Sentences about whole numbers (or lists of them) that are not at least 1."""
    problems = []
    for key, value in values.items():
        entries = list(value) if isinstance(value, Sequence) else [value]
        if any(isinstance(entry, bool) or not isinstance(entry, int) or entry < 1 for entry in entries):
            problems.append(f"network {kind}: {key} = {value} must hold whole numbers of at least 1")
    return problems


def problems_of_choices(kind: str, key: str, value: str, choices: Sequence[str]) -> list[str]:
    """A sentence if the word is not one of the choices."""
    return [] if value in choices else [f"network {kind}: {key} = {value!r} is not one of {', '.join(choices)}"]


def problems_of_dropout(kind: str, dropout: float) -> list[str]:
    """A sentence if the probability is outside [0, 1)."""
    return [] if 0 <= dropout < 1 else [f"network {kind}: dropout = {dropout} must be at least 0 and below 1"]


def refuse(problems: Sequence[str]) -> None:
    """Raise InputError with all problems, if there is any."""
    if problems:
        raise InputError(*problems)


def image(kind: str, sample_shape: Sequence[int]) -> Image:
    """Read a sample as an image: (C, H, W), or (H, W) with one channel. Raises InputError for other shapes."""
    if len(sample_shape) not in (2, 3):
        raise InputError(
            f"network {kind}: a sample has shape {tuple(sample_shape)}, but images of shape (channels, height, width) "
            f"or (height, width) are expected; use kind = 'mlp' for other samples"
        )
    channels, height, width = (1, *sample_shape) if len(sample_shape) == 2 else sample_shape
    refuse(problems_of_numbers(kind, channels=channels, height=height, width=width))
    return Image(channels, height, width)


def mlp(
    *, widths: Sequence[int], activation: str, dropout: float, norm: str, sample_shape: Sequence[int], outputs: int
) -> tuple[int, ...]:
    """Number of features before the first, between all, and after the last linear layer. Raises InputError."""
    refuse(
        problems_of_numbers("mlp", widths=list(widths), outputs=outputs, sample_shape=list(sample_shape))
        + problems_of_choices("mlp", "activation", activation, ACTIVATIONS)
        + problems_of_choices("mlp", "norm", norm, ("none", "layer"))
        + problems_of_dropout("mlp", dropout)
    )
    return (prod(sample_shape), *widths, outputs)


def lenet(
    *,
    channels: Sequence[int],
    widths: Sequence[int],
    activation: str,
    dropout: float,
    sample_shape: Sequence[int],
    outputs: int,
) -> Lenet:
    """Sizes of the maps; kernel 5 without padding for images of at least 16x16, else kernel 3 with padding 1.

    Raises InputError, also for images too small to be pooled twice.
    """
    shape = image("lenet", sample_shape)
    problems = problems_of_numbers("lenet", channels=list(channels), widths=list(widths), outputs=outputs)
    for key, value in (("channels", channels), ("widths", widths)):
        if len(value) != 2:
            problems.append(f"network lenet: {key} = {list(value)} has {len(value)} entries, but 2 are expected")
    problems += problems_of_choices("lenet", "activation", activation, ACTIVATIONS)
    problems += problems_of_dropout("lenet", dropout)
    if min(shape.height, shape.width) < 4:
        problems.append(
            f"network lenet: images of {shape.height}x{shape.width} are too small to be halved twice; "
            f"at least 4x4 is needed, or kind = 'mlp'"
        )
    refuse(problems)
    kernel, padding = (5, 0) if min(shape.height, shape.width) >= SMALL_IMAGE else (3, 1)
    loss = kernel - 1 - 2 * padding
    maps, convolved, current = [], [], shape
    for count in channels:
        convolved.append(Image(count, current.height - loss, current.width - loss))
        current = Image(count, convolved[-1].height // 2, convolved[-1].width // 2)
        maps.append(current)
    return Lenet(shape, kernel, padding, (maps[0], maps[1]), (convolved[0], convolved[1]))


def resnet_groups(depth: int | None, blocks: Sequence[int] | None) -> tuple[int, ...]:
    """Number of basic blocks of each group, from `blocks` or from a CIFAR depth 6n+2 (He et al. 2016, section 4.2).

    Neither given: as ResNet-18. Raises InputError when both are given, or the depth is not 6n+2.
    """
    if depth and blocks:
        raise InputError(f"network resnet: depth = {depth} and blocks = {list(blocks)} are both given; leave one out")
    if not depth and not blocks:
        return RESNET_18
    if blocks:
        refuse(problems_of_numbers("resnet", blocks=list(blocks)))
        return tuple(blocks)
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 8 or (depth - 2) % 6:
        raise InputError(f"network resnet: depth = {depth} is not 6n+2; use 8, 14, 20, 26, 32, 44, 56 or 110")
    return (depth // 6,) * 3


def resnet(
    *,
    depth: int | None,
    blocks: Sequence[int] | None,
    width: int,
    norm: str,
    sample_shape: Sequence[int],
    outputs: int,
) -> Resnet:
    """Stem and basic blocks; each group after the first doubles the channels and halves the image.

    Images of at least 128x128 start with a 7x7 convolution of stride 2 and a pooling, smaller ones with a 3x3
    convolution. Source: He et al., Deep Residual Learning, CVPR 2016. Raises InputError.
    """
    shape = image("resnet", sample_shape)
    counts = resnet_groups(depth, blocks)
    problems = problems_of_numbers("resnet", width=width, outputs=outputs)
    problems += problems_of_choices("resnet", "norm", norm, ("group", "batch"))
    if min(shape.height, shape.width) < 2 ** (len(counts) - 1):
        problems.append(
            f"network resnet: images of {shape.height}x{shape.width} are too small for {len(counts)} groups of blocks, "
            f"which halve them {len(counts) - 1} times; give fewer groups in blocks"
        )
    refuse(problems)
    large = min(shape.height, shape.width) >= LARGE_IMAGE
    convolved = Image(width, *shape[1:])
    current = convolved
    if large:
        convolved = _halved(convolved, width)
        current = _halved(convolved, width)
    parts = []
    for group, count in enumerate(counts):
        for number in range(count):
            stride = 2 if group > 0 and number == 0 else 1
            after = _halved(current, width * 2**group) if stride == 2 else Image(width * 2**group, *current[1:])
            parts.append(Block(f"group{group + 1}block{number + 1}", current, after, stride))
            current = after
    return Resnet(shape, 7 if large else 3, 2 if large else 1, convolved, large, tuple(parts))


def _halved(before: Image, channels: int) -> Image:
    return Image(channels, (before.height + 1) // 2, (before.width + 1) // 2)


def norm_groups(channels: int) -> int:
    """Groups of a group normalisation: the most, up to 32, that divide the channels and hold at least 4 each.

    Source: Wu and He, Group Normalization, ECCV 2018 (32 groups, or a fixed number of channels per group).
    """
    return next((count for count in range(min(32, channels // 4), 0, -1) if channels % count == 0), 1)


def sequence(vocabulary: int | None, sample_shape: Sequence[int]) -> tuple[int, int]:
    """Length T and number of features F (0: tokens) of a sample (T,) or (T, F). Raises InputError."""
    shape = tuple(sample_shape)
    if vocabulary and len(shape) != 1:
        raise InputError(
            f"network transformer: vocabulary = {vocabulary} says the samples are tokens of shape (length,), "
            f"but a sample has shape {shape}; leave vocabulary out for samples of shape (length, features)"
        )
    if len(shape) not in (1, 2):
        raise InputError(
            f"network transformer: a sample has shape {shape}, but tokens (length,) with vocabulary, "
            f"or features (length, features) are expected"
        )
    length, features = shape if len(shape) == 2 else (shape[0], 0 if vocabulary else 1)
    refuse(problems_of_numbers("transformer", sample_shape=list(shape)))
    return length, features


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
) -> Transformer:
    """Sizes of the input, and of the dense layers: 4 width where feedforward is None. Raises InputError."""
    feedforward = 4 * width if feedforward is None else feedforward
    problems = problems_of_numbers(
        "transformer", width=width, heads=heads, blocks=blocks, feedforward=feedforward, outputs=outputs
    )
    problems += problems_of_choices("transformer", "pooling", pooling, POOLINGS)
    problems += problems_of_dropout("transformer", dropout)
    if vocabulary is not None and vocabulary < 0:
        problems.append(f"network transformer: vocabulary = {vocabulary} must be at least 1, or left out")
    if not problems and width % heads:
        problems.append(f"network transformer: width = {width} cannot be divided among heads = {heads}")
    if causal and pooling == "first":
        problems.append(
            "network transformer: with causal = true the first element sees only itself, so pooling = 'first' "
            "would ignore the rest; use pooling = 'mean' or 'none'"
        )
    problems += _problems_of_ties(vocabulary or 0, pooling, outputs) if tied else []
    refuse(problems)
    return Transformer(*sequence(vocabulary, sample_shape), vocabulary or 0, feedforward)


def _problems_of_ties(vocabulary: int, pooling: str, outputs: int) -> list[str]:
    """Why the embedding of tokens cannot be the weights of the head, which gives each token of each element a value."""
    problems = []
    if not vocabulary:
        problems.append(
            "network transformer: tied = true makes the embedding of tokens the weights of the head, but without "
            "vocabulary the inputs are features; give vocabulary, or leave tied out"
        )
    elif outputs != vocabulary:
        problems.append(
            f"network transformer: with tied = true there are as many outputs as tokens, vocabulary = {vocabulary}, "
            f"but {outputs} are wanted; give [data] classes = {vocabulary} if the targets are tokens, or leave tied out"
        )
    if pooling != "none":
        problems.append(
            f"network transformer: with tied = true every element has an output for each token, but pooling = "
            f"{pooling!r} leaves one element; use pooling = 'none', or leave tied out"
        )
    return problems
