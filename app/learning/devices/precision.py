"""What numbers are computed in: float32 as it is written, TF32 on GPUs that have it, bfloat16 by autocast."""

from typing import Any, cast

import torch

AMPERE = 8  # the first NVIDIA architecture (compute capability 8) with TF32


def supports_bf16(device: torch.device) -> bool:
    """Whether bf16 autocast works and is worth having: any CPU that torch runs on, and accelerators that say so."""
    if device.type == "cpu":
        return True
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    try:
        ask = getattr(torch.get_device_module(device.type), "is_bf16_supported", None)
    except RuntimeError:  # of "xla" there is no such module
        ask = None
    return bool(ask()) if ask else torch.amp.is_autocast_available(device.type)


def settle(device: torch.device, precision: str) -> tuple[str, tuple[str, ...]]:
    """Set torch to a precision ("float32", "tf32", "bf16"); what it is in words, and what is worth a warning.

    By itself torch convolves in TF32 on GPUs that have it: "float32" here means float32. Collective over: none.
    """
    if precision == "tf32" and not has_tf32(device):
        why = (
            f'[run] precision = "tf32", but {device.type} has none (NVIDIA GPUs since Ampere do): what is computed in'
            " float32 stays so, which is more exact and slower."
        )
        _set(device, "ieee")
        return "float32", (why,)
    _set(device, "tf32" if precision == "tf32" else "ieee")
    return precision, ()


def has_tf32(device: torch.device) -> bool:
    """Whether a device can round factors of products to TF32."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device)[0] >= AMPERE


def _set(device: torch.device, float32_as: str) -> None:
    if device.type != "cuda":
        return  # elsewhere nothing else is computed in unless it is asked for
    cudnn: Any = torch.backends.cudnn  # torch's types do not know of its parts
    for part in (cast("Any", torch.backends.cuda.matmul), cudnn.conv, cudnn.rnn):
        part.fp32_precision = float32_as
