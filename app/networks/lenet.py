"""The classic small convolutional network: two convolutions with pooling, three dense layers.

Source: LeCun et al. 1998, in the form of PyTorch's CIFAR-10 tutorial (6 and 16 channels, 5x5 kernels, 120 and 84).
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from app.networks.activations import ACTIVATIONS
from app.networks.layers import Layer
from app.networks.mlp import dense, output
from app.plan import architectures


def lenet(
    *,
    channels: Sequence[int],
    widths: Sequence[int],
    activation: str,
    dropout: float,
    sample_shape: Sequence[int],
    outputs: int,
) -> list[Layer]:
    """Layers convolution1, convolution2, dense1, dense2, output; inputs (M, C, H, W) or (M, H, W), outputs (M, K).

    Kernels are 5x5 where height and width are at least 16, otherwise 3x3 with padding 1. Dropout follows the two
    dense layers. Collective over: none. Raises InputError.
    """
    sizes = architectures.lenet(
        channels=channels,
        widths=widths,
        activation=activation,
        dropout=dropout,
        sample_shape=sample_shape,
        outputs=outputs,
    )
    first, second = channels
    flat = sizes.maps[1].size

    def convolution(before: int, after: int, *, start: bool) -> nn.Sequential:
        return nn.Sequential(
            OrderedDict(
                **(as_image(sample_shape) if start else {}),
                convolution=nn.Conv2d(before, after, sizes.kernel, padding=sizes.padding),
                activation=ACTIVATIONS[activation](),
                pooling=nn.MaxPool2d(2),
            )
        )

    return [
        Layer("convolution1", lambda: convolution(sizes.image.channels, first, start=True)),
        Layer("convolution2", lambda: convolution(first, second, start=False)),
        Layer("dense1", lambda: dense(flat, widths[0], activation, dropout, flatten=True)),
        Layer("dense2", lambda: dense(widths[0], widths[1], activation, dropout)),
        Layer("output", lambda: output(widths[1], outputs)),
    ]


def as_image(sample_shape: Sequence[int]) -> dict[str, nn.Module]:
    """What turns (M, H, W) into (M, 1, H, W), where samples have no channels; otherwise nothing."""
    return {"image": nn.Unflatten(1, (1, sample_shape[0]))} if len(sample_shape) == 2 else {}
