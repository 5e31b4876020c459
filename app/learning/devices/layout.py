"""The order of images in memory: channels last where convolutions are faster so.

Only what enters a chunk is reordered: layers keep the order from there on, and convolutions take weights of the other
order, at the cost of reordering those. Weights stay as they are, and with them optimizer states and files.
"""

import torch
from torch import Tensor, nn

# Layers of torch and ours go by strides; a user's own may take memory to be in the plain order, as x.view() does.
KNOWN = ("torch.nn.", "app.networks.")


def pays(device: torch.device, precision: str) -> bool:
    """Whether convolutions are faster with channels last: tensor cores ask for it, and bfloat16 on CPUs (x1.5)."""
    if device.type == "cuda":
        return precision in ("bf16", "tf32")
    return device.type == "cpu" and precision == "bf16"


def convolves(chunk: nn.Module) -> bool:
    """Whether a chunk has two-dimensional convolutions."""
    return any(isinstance(module, nn.Conv2d) for module in chunk.modules())


def known(chunk: nn.Module) -> bool:
    """Whether all layers of a chunk take images in any order."""
    return all(type(module).__module__.startswith(KNOWN) for module in chunk.modules())


def channels_last(inputs: Tensor) -> Tensor:
    """Images (M, C, H, W) with their channels side by side; a copy, but where C = 1. Others as they are."""
    if inputs.dim() != 4:
        return inputs
    samples, channels, height, width = inputs.shape
    if channels == 1 and inputs.is_contiguous():
        # Both orders are the same memory; convolutions go by the strides that are written beside it.
        return inputs.as_strided(inputs.shape, (height * width, 1, width, 1))
    return inputs.contiguous(memory_format=torch.channels_last)
