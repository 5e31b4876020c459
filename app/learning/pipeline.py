"""Plays the schedule of a pipeline on one rank: forward and backward through its chunks, messages in between.

A network that is not cut is the pipeline of one stage, so that there is one way to train.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import nn

from app.data.batches import Batch, Microbatch
from app.errors import InputError
from app.learning.batch_statistics import BatchStatistics
from app.learning.devices import compiling
from app.learning.devices.copies import InputCopies
from app.learning.devices.execution import PLAIN, Execution
from app.learning.devices.steps import step_end
from app.learning.inbox import Inbox
from app.learning.randomness import LayerRandomness
from app.learning.weight_gradients import CONVOLUTIONS, WeightGradients
from app.networks.shapes import Boundary
from app.plan.pipelines.schedules import (
    BACKWARD,
    FORWARD,
    RECEIVE_ACTIVATIONS,
    RECEIVE_GRADIENTS,
    REDUCE,
    SEND_ACTIVATIONS,
    SEND_GRADIENTS,
    WEIGHTS,
    Action,
    forward_only,
    make_schedule,
)
from app.report.timers import Timers
from app.report.trace import NOTHING, Recorder

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Key = tuple[int, int]  # chunk, microbatch


class Arrangement(NamedTuple):
    """How the network is cut and played: this rank's stage, all stages, chunks of a stage, the schedule's name.

    recompute: activations are computed again for the backward pass instead of kept.
    """

    stage: int = 0
    stages: int = 1
    chunks: int = 1
    schedule: str = "1f1b"
    recompute: bool = False

    @property
    def held(self) -> range:
        """Numbers of the chunks on this rank."""
        return range(self.stage, self.stages * self.chunks, self.stages)


class Outputs(NamedTuple):
    """What evaluation sees of a microbatch: outputs (M, ...) float32, the loss summed over samples, and targets."""

    outputs: torch.Tensor
    loss: torch.Tensor
    targets: torch.Tensor


class Pipeline:
    """The chunks of the network on this rank, on a device in a precision. Collective over: pipeline, all of it.

    Batches have inputs on the first stage and targets on the last; every stage has their numbers and sizes.
    """

    def __init__(
        self,
        chunks: Mapping[int, nn.Sequential],
        loss: Loss,
        device: torch.device,
        *,
        entering: Mapping[int, Boundary],
        bf16: bool,
        arrangement: Arrangement,
        inbox: Inbox | None,
        timers: Timers,
        trace: Recorder = NOTHING,
        execution: Execution = PLAIN,
    ) -> None:
        """chunks: by number, those of `arrangement.held`. entering: by chunk. inbox: None with one stage."""
        self.chunks = dict(chunks)
        self.entering = entering
        self.device = device
        self.arrangement = arrangement
        self.final = arrangement.stages * arrangement.chunks - 1
        self.bf16 = bf16
        self.execution = execution
        self.copies = InputCopies(device)
        self._loss = loss
        self._compute = {number: execution.of(number, chunk) for number, chunk in chunks.items()}
        # Autograd does not allow a layer to overwrite the leaf whose gradients we send back, nor a view of it;
        # and who computes again needs the inputs as they were.
        self._overwriting = {number for number, chunk in chunks.items() if _overwrites(chunk)}
        self.inbox = inbox
        self.timers, self.trace = timers, trace
        self.playing: Microbatch | None = None  # of the forward pass at work, for hooks of layers

    def evaluate(self, batch: Batch) -> Iterator[Outputs]:
        """Outputs of this replica's microbatches, in order, on the last stage; elsewhere nothing comes."""
        held = self.arrangement
        row = forward_only(stages=held.stages, microbatches=len(batch.microbatches), chunks=held.chunks)[held.stage]
        if self.inbox:
            self.inbox.begin(row, [microbatch.size for microbatch in batch.microbatches])
        self.begin_copies(batch)
        received: dict[Key, torch.Tensor] = {}
        for action in row:
            key, microbatch = action[1:], batch.microbatches[action.microbatch]
            if action.kind == RECEIVE_ACTIVATIONS:
                received[key] = self.receive(action)
            elif action.kind == FORWARD:
                if self.execution.graphs:
                    compiling.begin_replay()
                outputs = self.forward(action, microbatch, received.pop(key, None))
                if action.chunk == self.final:
                    outputs = outputs.clone() if self.execution.graphs else outputs
                    yield self.outputs(outputs, microbatch)
                else:
                    received[key] = outputs
                step_end(self.device)
            else:
                self.send(action, received.pop(key))
        self.finish()

    def forward(self, action: Action, microbatch: Microbatch, received: torch.Tensor | None) -> torch.Tensor:
        """A chunk's outputs; its inputs are the microbatch's own in the first chunk."""
        self.playing = microbatch
        if received is None:
            assert microbatch.inputs is not None  # the first stage reads them
            received = self.copies.take(microbatch.inputs)
        if action.chunk in self._overwriting:
            received = received.clone()
        with self.trace.event("forward", action.chunk, action.microbatch), precision(self.device, self.bf16):
            return self._compute[action.chunk](received)

    def begin_copies(self, batch: Batch) -> None:
        """The batch whose samples are needed next. Collective over: none."""
        self.copies.begin([one for made in batch.microbatches for one in (made.inputs, made.targets)])

    def outputs(self, outputs: torch.Tensor, microbatch: Microbatch) -> Outputs:
        """The last chunk's outputs beside what they should be."""
        assert microbatch.targets is not None  # data without targets are refused before any phase
        targets = self.copies.take(microbatch.targets)
        outputs = outputs.float()
        return Outputs(outputs, self._loss(outputs, targets), targets)

    def receive(self, action: Action, idle: Callable[[], bool] = lambda: False) -> torch.Tensor:
        """Play a receive; `idle` does something else while the message is on its way."""
        assert self.inbox is not None
        with self.timers("wait"), self.trace.event("receive", action.chunk, action.microbatch):
            return self.inbox.take(action, idle)

    def send(self, action: Action, tensor: torch.Tensor) -> None:
        """Play a send."""
        assert self.inbox is not None
        with self.trace.event("send", action.chunk, action.microbatch):
            if action.kind == SEND_ACTIVATIONS:
                self.inbox.send_activations(tensor, action.chunk)
            else:
                self.inbox.send_gradients(tensor, action.chunk)

    def finish(self) -> None:
        """The end of a batch."""
        if self.inbox:
            with self.timers("wait"):
                self.inbox.finish()

    def close(self) -> None:
        """No more messages."""
        if self.inbox:
            self.inbox.close()


class Gradients:
    """Plays the batches of training: leaves the gradients of the mean loss in the parameters of this rank's chunks."""

    def __init__(self, pipeline: Pipeline, randomness: LayerRandomness, reduce: Callable[[int], None]) -> None:
        """reduce: sums what a chunk has formed over the data group; called when its last gradient is there."""
        self.loss = torch.zeros(1, device=pipeline.device)
        self.statistics = {number: BatchStatistics(chunk) for number, chunk in pipeline.chunks.items()}
        self._pipeline, self._randomness = pipeline, randomness
        self._weights = _weight_gradients(pipeline)
        self._own: dict[nn.Parameter, torch.Tensor] = {}
        self._play: dict[str, Callable[[Action], None]] = {
            RECEIVE_ACTIVATIONS: self._receive_activations,
            FORWARD: self._forward,
            SEND_ACTIVATIONS: self._send,
            RECEIVE_GRADIENTS: self._receive_gradients,
            BACKWARD: self._backward,
            SEND_GRADIENTS: self._send,
            WEIGHTS: self._form_weights,
            REDUCE: lambda action: reduce(action.chunk),
        }

    def __call__(self, batch: Batch, epoch: int) -> None:
        """Forward and backward of this replica's microbatches, and `reduce` of each chunk.

        `loss` (1,) is then, on the last stage, this replica's share of the batch's mean loss; 0 elsewhere.
        Collective over: pipeline, and what `reduce` is.
        """
        pipeline, held = self._pipeline, self._pipeline.arrangement
        self._batch, self._epoch = batch, epoch
        self.loss = torch.zeros(1, device=pipeline.device)
        count = len(batch.microbatches)
        row = make_schedule(held.schedule, stages=held.stages, microbatches=count, chunks=held.chunks)[held.stage]
        self._begin(row)
        step_end(pipeline.device)  # what the optimizer has left to do
        if pipeline.inbox:
            pipeline.inbox.begin(row, [microbatch.size for microbatch in batch.microbatches])
        pipeline.begin_copies(batch)
        for action in row:
            self._play[action.kind](action)
        pipeline.finish()

    def _begin(self, row: Sequence[Action]) -> None:
        self._inputs: dict[Key, torch.Tensor] = {}
        self._outputs: dict[Key, torch.Tensor] = {}
        self._messages: dict[Key, torch.Tensor] = {}  # to be sent next, or gradients received
        self._passed: set[Key] = set()  # backward
        self._due = deque(action for action in row if action.kind == WEIGHTS)
        self._again = _kept_long(row) if self._pipeline.arrangement.recompute else frozenset()
        if self._pipeline.execution.graphs:
            self._own_gradients_()

    def _own_gradients_(self) -> None:
        """Graphs write what they give out over what they gave before: gradients are added up in memory of our own."""
        for chunk in self._pipeline.chunks.values():
            for parameter in chunk.parameters():
                if parameter.requires_grad:
                    if parameter not in self._own:
                        self._own[parameter] = torch.empty_like(parameter)
                    parameter.grad = self._own[parameter].zero_()

    def _receive_activations(self, action: Action) -> None:
        self._inputs[action[1:]] = self._pipeline.receive(action, self._form_early)

    def _receive_gradients(self, action: Action) -> None:
        self._messages[action[1:]] = self._pipeline.receive(action, self._form_early)

    def _send(self, action: Action) -> None:
        self._pipeline.send(action, self._messages.pop(action[1:]))

    def _forward(self, action: Action) -> None:
        key = action[1:]
        received = self._inputs.get(key)
        if received is not None and (received.is_floating_point() or received.is_complex()):
            received.requires_grad_()
        if self._pipeline.execution.graphs and not self._outputs:  # else a backward pass still needs what is there
            compiling.begin_replay()
        if key in self._again:
            outputs = self._not_kept(action, received)
        else:
            outputs = self._computed(action, received)
        self.statistics[action.chunk].collect_()
        if action.chunk == self._pipeline.final:
            self.loss += outputs.detach()
        else:
            self._messages[key] = outputs.detach()
        if key not in self._again:
            self._outputs[key] = outputs

    def _not_kept(self, action: Action, received: torch.Tensor | None) -> torch.Tensor:
        """The outputs alone. Raises InputError where the inputs are then no longer what they were."""
        inputs = self._batch.microbatches[action.microbatch].inputs if received is None else received
        assert inputs is not None  # the first stage reads them
        before = inputs._version
        with torch.no_grad():
            outputs = self._computed(action, received)
        if inputs._version != before:
            raise InputError(
                f"network: with [grid] recompute = true the inputs of layer"
                f" {next(iter(self._pipeline.chunks[action.chunk]._modules))!r} are needed twice, but the layer, or one"
                " after it, overwrites them, as x.relu_() does; write x.relu(), or leave recompute out."
            )
        return outputs

    def _computed(self, action: Action, received: torch.Tensor | None) -> torch.Tensor:
        """The chunk's outputs; of the last one, what the microbatch adds to the mean loss of the whole batch."""
        microbatch = self._batch.microbatches[action.microbatch]
        self._randomness.place(self._epoch, self._batch.step, microbatch.number)
        outputs = self._pipeline.forward(action, microbatch, received)
        if action.chunk < self._pipeline.final:
            return outputs
        return self._pipeline.outputs(outputs, microbatch).loss / self._batch.size

    def _backward(self, action: Action) -> None:
        key = action[1:]
        received = self._inputs.pop(key, None)
        if key in self._again:
            self._outputs[key] = self._computed(action, received)
        outputs, gradients = self._outputs.pop(key), self._messages.pop(key, None)
        with self._pipeline.trace.event("backward", action.chunk, action.microbatch), self._noted(action):
            if outputs.requires_grad:  # not where the first layers have no weights
                outputs.backward(gradients)
        if received is not None:
            self._messages[key] = torch.zeros_like(received) if received.grad is None else received.grad
        self._passed.add(key)
        step_end(self._pipeline.device)

    def _noted(self, action: Action) -> AbstractContextManager:
        """Inside, what the weights' gradients need is kept."""
        weights = self._weights.get(action.chunk)
        return weights.backward(action.microbatch) if weights else nullcontext()

    def _form_weights(self, action: Action) -> None:
        if self._due and self._due[0] == action:  # else it was done while waiting
            self._form_next()

    def _form_early(self) -> bool:
        """Gradients of weights that are due later; False when there are none yet."""
        if not self._due or self._due[0][1:] not in self._passed:
            return False
        self._form_next()
        return True

    def _form_next(self) -> None:
        _, chunk, microbatch = self._due.popleft()
        if chunk in self._weights:
            with self._pipeline.timers("compute"), self._pipeline.trace.event("weights", chunk, microbatch):
                self._weights[chunk].form(microbatch, last=microbatch == len(self._batch.microbatches) - 1)


def precision(device: torch.device, bf16: bool) -> AbstractContextManager:
    """What forward passes run in: float32, or autocast to bfloat16."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


def _overwrites(chunk: nn.Sequential) -> bool:
    """Whether a layer that works in place may get the chunk's inputs: what comes out of weights is a new tensor."""
    for layer in chunk:
        if any(getattr(module, "inplace", False) for module in layer.modules()):
            return True
        if any(True for _ in layer.parameters()):
            return False
    return False


def _weight_gradients(pipeline: Pipeline) -> dict[int, WeightGradients]:
    """By chunk; none where nobody waits for gradients of inputs, under autocast, where types are mixed, or compiled.

    For the first chunk's nobody waits either. Its linear layers gain by being joined; for convolutions, which cost 3 to
    7 % more in two parts, it pays only where a first stage of many waits long for the others.
    """
    if pipeline.arrangement.stages == 1 or pipeline.bf16 or pipeline.execution.compiled:
        return {}
    modules = (module for chunk in pipeline.chunks.values() for module in chunk.modules())
    uses = Counter(parameter for module in modules for parameter in module._parameters.values())
    shared = {parameter for parameter, count in uses.items() if count > 1 and parameter is not None}
    alone = () if pipeline.arrangement.stages > 2 else CONVOLUTIONS
    return {
        number: WeightGradients(chunk, shared, left=() if number else alone)
        for number, chunk in pipeline.chunks.items()
    }


def _kept_long(row: Sequence[Action]) -> frozenset[Key]:
    """Chunks and microbatches that do not go backward right after they went forward."""
    computed = [action for action in row if action.kind in (FORWARD, BACKWARD)]
    pairs = zip(computed, computed[1:], strict=False)
    return frozenset(one[1:] for one, two in pairs if one.kind == FORWARD and one[1:] != two[1:])
