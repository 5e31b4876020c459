"""One optimizer step: microbatches forward and backward, gradients summed over replicas, weights moved."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import nn

from app.data.batches import Batch, Microbatch
from app.errors import NumbersError
from app.learning.batch_statistics import BatchStatistics
from app.learning.optimizers import Optimizer, scale_, squared_norm
from app.learning.randomness import LayerRandomness
from app.parallel.gradients import GradientSum
from app.parallel.watchdog import Watchdog
from app.report.timers import Timers

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class StepResult(NamedTuple):
    """`loss`: mean over the batch's samples. `gradient_norm`: before clipping; None when nothing is clipped."""

    loss: float
    gradient_norm: float | None


class Forward:
    """A network on a device in a precision: what training and evaluation have in common."""

    def __init__(self, network: nn.Sequential, loss: Loss, device: torch.device, bf16: bool) -> None:
        self.network = network
        self.loss = loss
        self.device = device
        self._bf16 = bf16

    def __call__(self, microbatch: Microbatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Outputs (M, ...) float32, the loss summed over the samples, and the targets, on the device."""
        assert microbatch.inputs is not None
        assert microbatch.targets is not None  # data without targets are refused before any phase
        inputs = microbatch.inputs.to(self.device, non_blocking=True)
        targets = microbatch.targets.to(self.device, non_blocking=True)
        with self._precision():
            outputs = self.network(inputs)
        outputs = outputs.float()
        return outputs, self.loss(outputs, targets), targets

    def _precision(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self._bf16 else nullcontext()


class TrainStep:
    """Plays one batch.

    Losses and gradients are sums over samples divided by the size of the whole batch, so that
    microbatches of any size, on any replica, weigh right.
    """

    def __init__(
        self,
        forward: Forward,
        optimizer: Optimizer,
        gradient_sum: GradientSum,
        randomness: LayerRandomness,
        clip_norm: float | None,
        timers: Timers,
        watchdog: Watchdog,
    ) -> None:
        self._forward = forward
        self._optimizer = optimizer
        self._gradient_sum = gradient_sum
        self._randomness = randomness
        self._clip_norm = clip_norm
        self._timers = timers
        self._watchdog = watchdog
        self._statistics = BatchStatistics(forward.network)
        self._parameters = [p for p in forward.network.parameters() if p.requires_grad]

    def __call__(self, batch: Batch, epoch: int, rate: float) -> StepResult:
        """Move the weights by one step.

        Collective over: data. Raises NumbersError, on all ranks alike, when the loss or the gradient is not finite.
        """
        with self._timers("compute"):
            loss = self._accumulate(batch, epoch)
            gradients = self._gradients()
        with self._timers("communicate"), self._watchdog.operation("all-reduce of gradients"):
            self._gradient_sum.sum_([*gradients, *self._statistics.tensors(), loss])
        with self._timers("compute"):
            mean = loss.item()
            if not math.isfinite(mean):
                raise _not_finite("loss", mean, epoch, batch.step)
            norm = self._clip(gradients, epoch, batch.step)
            self._optimizer.step_(gradients, rate)
            self._statistics.apply_()
        return StepResult(mean, norm)

    def restart_(self) -> None:
        """Call after weights were loaded into the network."""
        self._statistics.restart_()

    def _accumulate(self, batch: Batch, epoch: int) -> torch.Tensor:
        """Gradients of this replica's microbatches; their share of the batch's mean loss, (1,)."""
        for parameter in self._parameters:
            parameter.grad = None
        total = torch.zeros(1, device=self._forward.device)
        for microbatch in batch.microbatches:
            self._randomness.place(epoch, batch.step, microbatch.number)
            _, loss, _ = self._forward(microbatch)
            loss = loss / batch.size
            loss.backward()
            self._statistics.collect_()
            total += loss.detach()
        return total

    def _gradients(self) -> list[torch.Tensor]:
        """One gradient a parameter; zeros where this replica had no work or the loss does not depend on it."""
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]

    def _clip(self, gradients: list[torch.Tensor], epoch: int, step: int) -> float | None:
        if self._clip_norm is None:
            return None
        norm = math.sqrt(squared_norm(gradients).item())
        if not math.isfinite(norm):
            raise _not_finite("norm of the gradient", norm, epoch, step)
        if norm > self._clip_norm:
            scale_(gradients, self._clip_norm / norm)
        return norm


def _not_finite(what: str, value: float, epoch: int, step: int) -> NumbersError:
    # summed over replicas, so every rank sees the same
    return NumbersError(
        f"the {what} is {value} in epoch {epoch + 1}, step {step + 1}: training has diverged. Try a lower rate,"
        ' clip_norm = 1.0, warmup_epochs = 1, or precision = "float32". Checkpoints written before are whole.'
    ).on_every_rank()
