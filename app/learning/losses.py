"""Losses as sums over samples, so that batches of any size weigh right when sums and counts are added over ranks.

The loss of a sample is the mean over its elements (positions, values): samples of any length weigh the same.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from app.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LossOptions:
    """label_smoothing: of cross_entropy, in [0, 1). delta: of huber, where squares turn into absolute values."""

    label_smoothing: float = 0.0
    delta: float = 1.0


def loss(name: str, options: LossOptions = LossOptions()) -> Loss:  # noqa: B008 - a frozen value, made once
    """A function (outputs, targets) -> sum over the samples, a scalar tensor that can be differentiated.

    Collective over: none. Raises InputError for an unknown name.
    """
    if name not in LOSSES:
        raise InputError(f"loss = {name!r} is not known; use one of {', '.join(LOSSES)}")
    function = LOSSES[name]
    return lambda outputs, targets: function(outputs, targets, options)


def cross_entropy(outputs: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Outputs (M, K) with targets (M,) int64, or (M, T, K) with (M, T), or class probabilities shaped as the outputs.

    Of T positions of a sample the mean is taken, then the sum over samples.
    """
    outputs = _full(outputs)
    classes = outputs.shape[-1]
    soft = targets.shape == outputs.shape and targets.is_floating_point()
    if not soft and targets.shape != outputs.shape[:-1]:
        raise _mismatch("cross_entropy", outputs, targets, "one class number for each row of outputs")
    elements = outputs[..., 0].numel() // max(outputs.shape[0], 1)
    summed = functional.cross_entropy(
        outputs.reshape(-1, classes),
        targets.reshape(-1, classes) if soft else targets.reshape(-1).long(),
        reduction="sum",
        label_smoothing=options.label_smoothing,
    )
    return summed / elements if elements > 1 else summed


def mse(outputs: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Squared error, mean over the elements of a sample: outputs (M, ...), targets of as many elements."""
    return _sum_of_means(functional.mse_loss(*_paired("mse", outputs, targets), reduction="none"))


def l1(outputs: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Absolute error, mean over the elements of a sample: outputs (M, ...), targets of as many elements."""
    return _sum_of_means(functional.l1_loss(*_paired("l1", outputs, targets), reduction="none"))


def huber(outputs: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Huber's loss with its delta, mean over the elements of a sample (Huber, Ann. Math. Stat. 35, 1964)."""
    paired = _paired("huber", outputs, targets)
    return _sum_of_means(functional.huber_loss(*paired, reduction="none", delta=options.delta))


def bce(outputs: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Binary cross-entropy of logits (M, ...) and targets in [0, 1] of as many elements, mean over the labels."""
    paired = _paired("bce", outputs, targets)
    return _sum_of_means(functional.binary_cross_entropy_with_logits(*paired, reduction="none"))


LOSSES: dict[str, Callable[[Tensor, Tensor, LossOptions], Tensor]] = {
    "cross_entropy": cross_entropy,
    "mse": mse,
    "l1": l1,
    "huber": huber,
    "bce": bce,
}


def _full(outputs: Tensor) -> Tensor:
    """Half-precision outputs of autocast in float32; others unchanged."""
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


def _paired(name: str, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (M, elements) in the precision of the outputs; targets (M,) belong to outputs (M, 1)."""
    outputs = _full(outputs)
    if outputs.shape[0] != targets.shape[0] or outputs.numel() != targets.numel():
        raise _mismatch(name, outputs, targets, "as many target values as outputs")
    samples = outputs.shape[0]
    return outputs.reshape(samples, -1), targets.reshape(samples, -1).to(outputs.dtype)


def _sum_of_means(elements: Tensor) -> Tensor:
    return elements.sum() / elements.shape[1]


def _mismatch(name: str, outputs: Tensor, targets: Tensor, expected: str) -> InputError:
    return InputError(
        f"loss {name}: outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)} "
        f"(first dim: samples), but {expected} is expected; check [network] and the targets of [data]"
    )
