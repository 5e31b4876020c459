"""Residual network of basic blocks. Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from app.networks.layers import Layer
from app.networks.lenet import as_image
from app.plan import architectures


def resnet(
    *,
    depth: int | None,
    blocks: Sequence[int] | None,
    width: int,
    norm: str,
    sample_shape: Sequence[int],
    outputs: int,
) -> list[Layer]:
    """Layers stem, group1block1, ..., head; inputs (M, C, H, W) or (M, H, W), outputs (M, K).

    `depth` = 6n+2 gives three groups of n blocks, `blocks` the number of blocks of each group; `width` is the number
    of channels of the first group. Norm "batch" normalises by the statistics of the microbatch.
    Collective over: none. Raises InputError.
    """
    sizes = architectures.resnet(
        depth=depth, blocks=blocks, width=width, norm=norm, sample_shape=sample_shape, outputs=outputs
    )
    parts = [Layer(block.name, partial(BasicBlock, block, norm)) for block in sizes.blocks]
    last = sizes.blocks[-1].after.channels
    return [
        Layer("stem", lambda: _stem(sizes, norm, sample_shape)),
        *parts,
        Layer("head", lambda: _head(last, outputs)),
    ]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: (M, C, H, W) -> (M, C', H', W')."""

    def __init__(self, block: architectures.Block, norm: str) -> None:
        super().__init__()
        before, after = block.before.channels, block.after.channels
        self.convolution1 = _convolution(before, after, 3, block.stride)
        self.norm1 = _norm(norm, after)
        self.convolution2 = _convolution(after, after, 3, 1)
        self.norm2 = _norm(norm, after)
        self.shortcut: nn.Module = nn.Identity()
        if block.projects:
            parts = OrderedDict(convolution=_convolution(before, after, 1, block.stride), norm=_norm(norm, after))
            self.shortcut = nn.Sequential(parts)
        self.activation1 = nn.ReLU()
        self.activation2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        inside = self.activation1(self.norm1(self.convolution1(inputs)))
        return self.activation2(self.norm2(self.convolution2(inside)) + self.shortcut(inputs))


def _stem(sizes: architectures.Resnet, norm: str, sample_shape: Sequence[int]) -> nn.Sequential:
    channels = sizes.convolved.channels
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        **as_image(sample_shape),
        convolution=_convolution(sizes.image.channels, channels, sizes.kernel, sizes.stride),
        norm=_norm(norm, channels),
        activation=nn.ReLU(),
    )
    if sizes.pools:
        parts["pooling"] = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(parts)


def _head(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(pooling=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(channels, outputs))
    )


def _convolution(before: int, after: int, kernel: int, stride: int) -> nn.Conv2d:
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    # He et al., Delving Deep into Rectifiers, ICCV 2015: keeps the size of the gradients through the layers.
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def _norm(norm: str, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(architectures.norm_groups(channels), channels)
