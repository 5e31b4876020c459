"""One optimizer step: microbatches forward and backward, gradients summed over replicas, weights moved."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import nn

from app.data.batches import Batch
from app.errors import NumbersError
from app.learning.optimizers import Optimizer, scale_, squared_norms
from app.learning.pipeline import Gradients, Pipeline
from app.learning.randomness import LayerRandomness
from app.parallel.group import Group
from app.parallel.sums.gradients import GradientSum
from app.parallel.watchdog import Watchdog
from app.report.timers import Timers


class StepResult(NamedTuple):
    """`loss`: mean over the batch's samples. `gradient_norm`: before clipping; None when nothing is clipped.

    `stop`: whether any rank was asked to stop when it began the step; the same on all ranks.
    """

    loss: float
    gradient_norm: float | None
    stop: bool


class Tie(NamedTuple):
    """A parameter that other stages hold too, the sum over them, and whether this one is the copy that counts."""

    parameter: nn.Parameter
    sum: GradientSum
    counts: bool


class Sums(NamedTuple):
    """Who adds up what: gradients of each chunk over replicas, those of ties over stages; the stages of the replica."""

    chunks: Mapping[int, GradientSum]
    ties: Sequence[Tie]
    stages: Group | None  # None: one stage


class TrainStep:
    """Plays one batch.

    Losses and gradients are sums over samples divided by the size of the whole batch, so that
    microbatches of any size, on any replica, weigh right.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        optimizer: Optimizer,
        sums: Sums,
        randomness: LayerRandomness,
        clip_norm: float | None,
        timers: Timers,
        watchdog: Watchdog,
        masks: Mapping[str, torch.Tensor] = MappingProxyType({}),
        asked: Callable[[], bool] = lambda: False,
    ) -> None:
        """optimizer: of the parameters to train, in the order of the chunks.

        masks: by a parameter's name in its layers, 0 or 1 as the parameter; where 0 it is zero and stays so.
        asked: whether this rank is asked to stop; the ranks agree on it by a number among the gradients.
        """
        self._optimizer = optimizer
        self._sums = sums
        self._clip_norm = clip_norm
        self._timers, self._trace, self._watchdog = timers, pipeline.trace, watchdog
        self._chunks = _parameters(pipeline.chunks)
        self._parameters = [parameter for chunk in self._chunks.values() for parameter in chunk]
        self._copies = {id(tie.parameter) for tie in sums.ties if not tie.counts}
        self._gradients = Gradients(pipeline, randomness, self._reduce)
        self._first, self._final = min(pipeline.chunks), pipeline.final
        named = {name: p for chunk in pipeline.chunks.values() for name, p in chunk.named_parameters()}
        self._asked = asked
        self._stop = torch.zeros(1, device=self._gradients.loss.device)
        self._masked = [(named[name], mask) for name, mask in masks.items() if name in named]

    def __call__(self, batch: Batch, epoch: int, rate: float) -> StepResult:
        """Move the weights by one step.

        Collective over: world. Raises NumbersError, on all ranks alike, when the loss or the gradient is not finite.
        """
        self._trace.begin_step(batch.step)
        with self._timers("compute"):
            result = self._gradients_of(batch, epoch)
            with self._trace.event("optimizer"):
                self._move(result.gradient_norm, rate)
        return result

    def only_gradients(self, batch: Batch, epoch: int) -> StepResult:
        """Leave the batch's gradients, summed over the replicas, in the parameters; nothing else changes.

        Collective over: world. Raises NumbersError as a step does.
        """
        result = self._gradients_of(batch, epoch)
        for statistics in self._gradients.statistics.values():
            statistics.discard_()
        return result

    def restart_(self) -> None:
        """Call after weights were loaded into the network."""
        for statistics in self._gradients.statistics.values():
            statistics.restart_()

    def _gradients_of(self, batch: Batch, epoch: int) -> StepResult:
        for parameter in self._parameters:
            parameter.grad = None
        self._stop.fill_(self._asked())
        self._gradients(batch, epoch)
        self._sum_ties()
        for parameter, mask in self._masked:
            _gradient(parameter).mul_(mask)
        loss, norm, stop = self._agree()
        for what, value in (("loss", loss), ("norm of the gradient", norm)):
            if value is not None and not math.isfinite(value):
                raise _not_finite(what, value, epoch, batch.step)
        return StepResult(loss, norm, stop)

    def _reduce(self, chunk: int) -> None:
        """Sum over the replicas what a chunk has formed. Collective over: data."""
        formed = [_gradient(parameter) for parameter in self._chunks[chunk]]
        formed += self._gradients.statistics[chunk].tensors()
        if chunk == self._final:
            formed.append(self._gradients.loss)
        if chunk == self._first:
            formed.append(self._stop)
        operation = self._watchdog.operation("all-reduce of gradients")
        with self._timers("communicate"), operation, self._trace.event("all-reduce", chunk):
            self._sums.chunks[chunk].sum_(formed)

    def _sum_ties(self) -> None:
        """Sum over the stages the gradients of weights that several of them hold. Collective over: pipeline."""
        for tie in self._sums.ties:
            operation = self._watchdog.operation("sum of the gradients of tied weights")
            with self._timers("communicate"), operation, self._trace.event("all-reduce"):
                tie.sum.sum_([_gradient(tie.parameter)])

    def _agree(self) -> tuple[float, float | None, bool]:
        """The batch's mean loss, the norm of all gradients, whether to stop; on every stage. Collective over: pipeline.

        The sum of the tensors' squares is rounded once (math.fsum), so that it does not depend on the cut.
        """
        clips, stages = self._clip_norm is not None, self._sums.stages
        counted = [_gradient(p) for p in self._parameters if id(p) not in self._copies] if clips else []
        loss, stop, squares = self._gradients.loss.item(), bool(self._stop), squared_norms(counted)
        if stages is not None:
            operation = self._watchdog.operation("agreement on loss and norm with the other stages")
            with self._timers("wait"), operation, self._trace.event("agree"):
                found = stages.allgather((loss, stop, squares))
            loss, stop = found[-1][0], any(asked for _, asked, _ in found)
            squares = [square for _, _, others in found for square in others]
        return loss, math.sqrt(math.fsum(squares)) if clips else None, stop

    def _move(self, norm: float | None, rate: float) -> None:
        gradients = [_gradient(parameter) for parameter in self._parameters]
        if norm is not None and self._clip_norm is not None and norm > self._clip_norm:
            scale_(gradients, self._clip_norm / norm)
        self._optimizer.step_(gradients, rate)
        for statistics in self._gradients.statistics.values():
            statistics.apply_()


def _parameters(chunks: Mapping[int, nn.Sequential]) -> dict[int, list[nn.Parameter]]:
    """Those to train, by chunk; one that several chunks use goes with the first, whose gradients are formed last."""
    found: dict[int, list[nn.Parameter]] = {}
    seen: set[int] = set()
    for number in sorted(chunks):
        own = [p for p in chunks[number].parameters() if p.requires_grad and id(p) not in seen]
        seen.update(map(id, own))
        found[number] = own
    return found


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    """Zeros where this replica had no work or the loss does not depend on the parameter."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _not_finite(what: str, value: float, epoch: int, step: int) -> NumbersError:
    # summed over replicas and told to all stages, so every rank sees the same
    return NumbersError(
        f"the {what} is {value} in epoch {epoch + 1}, step {step + 1}: training has diverged. Try a lower rate,"
        ' clip_norm = 1.0, warmup_epochs = 1, or precision = "float32". Checkpoints written before are whole.'
    ).on_every_rank()
