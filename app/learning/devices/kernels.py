"""Steps of optimizers for devices whose torch has no fused kernels for them: XLA, Gaudi and other plug-ins.

Our optimizers call torch's fused kernels, which exist for CPU, CUDA, XPU and MPS. Under the same names these are given
to other devices, in operations that every device has. Source of both: torch.optim.SGD and torch.optim.AdamW.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

KEYS = {"xla": "XLA", "hpu": "HPU"}  # of other plug-ins: PrivateUse1
HAVE_THEM = ("cpu", "cuda", "xpu", "mps")
_lent: dict[str, Library] = {}  # what is registered lasts as long as this does


def lend(kind: str) -> None:
    """Give a kind of device the kernels that it lacks; nothing for those that have them. Collective over: none."""
    key = KEYS.get(kind, "PrivateUse1")
    if kind in HAVE_THEM or key in _lent:
        return
    library = Library("aten", "IMPL")
    for name, kernel in KERNELS.items():
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", key):
            library.impl(name, kernel, key)
    _lent[key] = library


def sgd_(
    parameters: list[Tensor],
    gradients: list[Tensor],
    buffers: list[Tensor],
    *,
    weight_decay: float,
    momentum: float,
    lr: float,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """Of torch._fused_sgd_, without scaled gradients, which nobody here has."""
    for number, (parameter, given) in enumerate(zip(parameters, gradients, strict=True)):
        gradient = -given if maximize else given
        if weight_decay:
            gradient = gradient.add(parameter, alpha=weight_decay)
        if momentum:
            buffer = buffers[number]
            if is_first_step:
                buffer.copy_(gradient)
            else:
                buffer.mul_(momentum).add_(gradient, alpha=1 - dampening)
            gradient = gradient.add(buffer, alpha=momentum) if nesterov else buffer
        parameter.add_(gradient, alpha=-lr)


def _adam_(coupled: bool) -> Callable[..., None]:
    """Of torch._fused_adam_ (coupled: decay is added to the gradient) and torch._fused_adamw_."""

    def step_(
        parameters: list[Tensor],
        gradients: list[Tensor],
        first: list[Tensor],
        second: list[Tensor],
        largest: list[Tensor],
        steps: list[Tensor],
        *,
        lr: float,
        beta1: float,
        beta2: float,
        weight_decay: float,
        eps: float,
        amsgrad: bool,
        maximize: bool,
        grad_scale: Tensor | None = None,
        found_inf: Tensor | None = None,
    ) -> None:
        for number, (parameter, given) in enumerate(zip(parameters, gradients, strict=True)):
            gradient = -given if maximize else given
            if weight_decay and coupled:
                gradient = gradient.add(parameter, alpha=weight_decay)
            elif weight_decay:
                parameter.mul_(1 - lr * weight_decay)
            first[number].lerp_(gradient, 1 - beta1)
            second[number].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            variance = (
                torch.maximum(largest[number], second[number], out=largest[number]) if amsgrad else second[number]
            )
            # Powers of a tensor, as its number would have to be waited for.
            bias1, bias2 = 1 - beta1 ** steps[number], 1 - beta2 ** steps[number]
            width = (variance / bias2).sqrt_().add_(eps)
            parameter.sub_(first[number] / width * (lr / bias1))

    return step_


KERNELS: dict[str, Callable[..., Any]] = {
    "_fused_sgd_": sgd_,
    "_fused_adam_": _adam_(coupled=True),
    "_fused_adamw_": _adam_(coupled=False),
}
