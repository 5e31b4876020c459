"""The loss of a student: against the targets, and against what its teachers give.

Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from app.learning.losses import Loss


class Taught(NamedTuple):
    """Targets of M samples, and outputs (A, M, ...) float32 of A teachers; in the place of a microbatch's targets."""

    targets: Tensor
    teachers: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> "Taught":
        """Both on a device."""
        return Taught(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


def student_loss(hard: Loss, soft: Loss, share: float) -> Loss:
    """(1 - share) of the loss against the targets and `share` of that against the teachers; the hard one alone where
    nothing is taught, as in validation.

    soft: of outputs (M, ...) and the teachers' (A, M, ...). Collective over: none.
    """

    def both(outputs: Tensor, targets: Tensor | Taught) -> Tensor:
        if not isinstance(targets, Taught):
            return hard(outputs, targets)
        return (1 - share) * hard(outputs, targets.targets) + share * soft(outputs, targets.teachers)

    return both


def softened(temperature: float) -> Loss:
    """Of a classification, summed over samples: T^2 KL(p || q), p the mean of the teachers' softmax(outputs / T), q the
    student's, for outputs (M, K), or the mean over T' positions of outputs (M, T', K).

    T^2 keeps the gradients as large as those of the targets (section 2.1 of the source). Collective over: none.
    """

    def soft(outputs: Tensor, teachers: Tensor) -> Tensor:
        wanted = (teachers / temperature).softmax(-1).mean(0)
        given = (outputs / temperature).log_softmax(-1)
        rows = given[..., 0].numel() // max(len(given), 1)
        return temperature**2 / max(rows, 1) * functional.kl_div(given, wanted, reduction="sum")

    return soft


def followed(loss: Loss, probabilities: bool) -> Loss:
    """Of a regression: the phase's own loss against the mean of the teachers' outputs.

    probabilities: the loss takes outputs as logits and compares probabilities, as bce does. Collective over: none.
    """
    seen: Callable[[Tensor], Tensor] = torch.sigmoid if probabilities else lambda outputs: outputs
    return lambda outputs, teachers: loss(outputs, seen(teachers).mean(0))
