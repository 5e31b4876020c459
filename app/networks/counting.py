"""Operations and kept activations of a layer, counted while a few samples pass through it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from app.networks.quantum import QuantumLayer
from app.networks.transformer import Attention


class Counts:
    """`operations`: multiply-adds of linear and convolutional layers, of our own attention and quantum layers.

    `activation_bytes`: outputs of all parts.
    """

    def __init__(self) -> None:
        self.operations = 0
        self.activation_bytes = 0


@contextmanager
def counting(module: nn.Module) -> Iterator[Counts]:
    """Count while the module is called inside the block, for all samples together.

    Every part without parts of its own is taken to keep its output for the backward pass, which is about right; what
    a module computes without torch's own layers is not seen. Collective over: none.
    """
    counts = Counts()

    def note(part: nn.Module, _: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        counts.activation_bytes += output.nbytes
        weight = getattr(part, "weight", None)
        if isinstance(part, nn.Linear | nn.modules.conv._ConvNd) and isinstance(weight, Tensor):
            outputs = part.out_features if isinstance(part, nn.Linear) else part.out_channels
            counts.operations += weight.numel() * output.numel() // outputs
        elif isinstance(part, QuantumLayer):
            counts.operations += part.operations * len(output)

    def note_products(part: Attention, _: Any, output: Tensor) -> None:
        # queries with keys, and the shares with values; a causal mask saves no operations
        inside = part.output.weight.shape[1]
        counts.operations += 2 * len(output) * output.shape[1] ** 2 * inside

    handles = []
    for part in module.modules():
        if not any(part.children()):
            handles.append(part.register_forward_hook(note))
        elif isinstance(part, Attention):
            handles.append(part.register_forward_hook(note_products))
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()
