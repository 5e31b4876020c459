"""Forward passes: by torch, over the stages of a replica, or by ONNX Runtime, on each rank alone."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from app.data.batches import Batch, Microbatch
from app.data.signature import Signature
from app.data.source import Source
from app.data.statistics import Statistics
from app.errors import DataError, PhalanxError
from app.inputfile.phases import Evaluate, Predict
from app.learning.pipeline import Pipeline
from app.networks.sparse import running_sparse
from app.networks.user import is_user_kind
from app.phases.context import Context, DataSet
from app.phases.context.networks import stored_network
from app.phases.context.pipelines import make_pipeline
from app.phases.context.thinned import say_sparse
from app.phases.predict.networks import Found
from app.phases.predict.pooling import pooling_faster
from app.phases.predict.samples import NewSamples
from app.plan.microbatches import microbatch_sizes

if TYPE_CHECKING:
    from app.inference.onnx_network import OnnxNetwork


class Passed(NamedTuple):
    """A forward pass of M samples: outputs (M, ...) float32, inputs as stored where they were wanted, seconds."""

    outputs: np.ndarray
    rows: np.ndarray | None
    seconds: float


class Share(NamedTuple):
    """Which share of the pieces a rank has: number `replica` of `replicas`. reads: whether it needs inputs.

    gives: whether outputs come out on it. group: microbatches that are in work on it at once.
    """

    replica: int
    replicas: int
    reads: bool
    gives: bool
    group: int


class Forward(Protocol):
    """Plays a network. share: of this rank. outputs: shape of what it gives for a sample.

    problem: what was wrong with an input; it is kept there, as other stages wait for what comes of it.
    """

    share: Share
    outputs: tuple[int, ...]
    problem: PhalanxError | None

    def __call__(self, group: Sequence[Microbatch]) -> Iterator[Passed]:
        """Of each microbatch, in order, on a rank that gives outputs. Collective over: pipeline."""
        ...


@contextmanager
def forward_of(
    context: Context, phase: Predict, found: Found, signature: Signature, samples: NewSamples
) -> Iterator[Forward]:
    """The network ready to be played. Collective over: world. Raises InputError, ArtifactError."""
    if found.onnx is not None:
        yield _with_onnx(context, found, samples.source)
        return
    seen = _as_taken(context, phase, signature, samples)
    table = Evaluate(
        kind="evaluate", name=phase.name, batch_size=phase.batch_size, microbatch_size=phase.microbatch_size
    )
    built = stored_network(seen, table, found.path)
    pipeline = make_pipeline(seen, built, lambda outputs, targets: torch.zeros(()))
    chunks = [chunk.eval() for chunk in pipeline.chunks.values()]
    keeps = phase.monitor is not None
    outputs = tuple(built.cut.costs[-1].output_shape)
    with (
        running_sparse(chunks, built.sparse, bf16=pipeline.bf16) as layers,
        pooling_faster(() if is_user_kind(str(built.architecture["kind"])) else chunks, context.device),
    ):
        yield _WithTorch(pipeline, signature, samples.source, found, _share(context, phase, keeps), outputs, keeps)
    # only where nothing went wrong: both wait for other stages
    say_sparse(seen, built, layers)
    pipeline.close()


def _with_onnx(context: Context, found: Found, source: Source) -> Forward:
    onnx, world = found.onnx, context.world
    assert onnx is not None
    zeros = np.zeros((1, *source.sample_shape), source.dtype)
    outputs = context.together(lambda: onnx.run(zeros).shape[1:])
    return _WithOnnx(onnx, Share(world.rank, world.size, True, True, 1), outputs)


def _share(context: Context, phase: Predict, keeps: bool) -> Share:
    grid = context.plan.grid
    first, last = context.stage == 0, context.stage == grid.stages - 1
    at_once = -(-len(microbatch_sizes(phase.batch_size, phase.microbatch)) // grid.replicas)
    group = 1 if grid.stages == 1 else max(grid.stages, at_once)
    return Share(context.replica, grid.replicas, first or (last and keeps), last, group)


def _as_taken(context: Context, phase: Predict, signature: Signature, samples: NewSamples) -> Context:
    """The run as the network sees it: these samples, by its own constants, and no targets."""
    transform = signature.transform
    constants = transform.statistics or Statistics(np.zeros((), np.float32), np.ones((), np.float32), 0)
    data = DataSet(
        samples.source, samples.split, constants, transform, signature.input_shape, signature.outputs,
        signature.class_names,
    )  # fmt: skip
    given = context.plan.input
    task = "classification" if transform.classification else "regression"
    own = {"data": given.data.model_copy(update={"task": task})}
    if phase.network is not None and phase.network.endswith(".h5"):  # names in [grid] cut are those of other layers
        own["grid"] = given.grid.model_copy(update={"cut": "estimated"})  # type: ignore[assignment]
    return replace(context, known_data=data, plan=replace(context.plan, input=given.model_copy(update=own)))


class _WithTorch:
    """A pipeline of one stage or several."""

    def __init__(
        self,
        pipeline: Pipeline,
        signature: Signature,
        source: Source,
        found: Found,
        share: Share,
        outputs: tuple[int, ...],
        keeps: bool,
    ) -> None:
        """keeps: whether inputs as stored are wanted beside outputs."""
        self._pipeline, self._transform, self._source = pipeline, signature.transform, source
        self._vocabulary, self._keeps, self._first = found.vocabulary, keeps, pipeline.arrangement.stage == 0
        self.share, self.outputs = share, outputs
        self.problem: PhalanxError | None = None
        self._uses_up = self._transform.keeps(source.dtype) and self._transform.statistics is not None

    def __call__(self, group: Sequence[Microbatch]) -> Iterator[Passed]:
        begun = time.perf_counter()
        rows = [self._kept(one) for one in group]
        batch = Batch(0, sum(one.size for one in group), tuple(self._ready(one) for one in group))
        with torch.inference_mode():
            for number, one in enumerate(self._pipeline.evaluate(batch)):
                outputs = one.outputs.cpu().numpy()
                now = time.perf_counter()
                yield Passed(outputs, rows[number], now - begun)
                begun = time.perf_counter()

    def _kept(self, one: Microbatch) -> np.ndarray | None:
        """The inputs as stored, in memory of their own where the network's overwrite them."""
        if not (self._keeps and self.share.gives) or one.inputs is None:
            return None
        rows = one.inputs.numpy()
        return rows.copy() if self._uses_up and self._first else rows

    def _ready(self, one: Microbatch) -> Microbatch:
        """As the network takes it. Its targets are never looked at."""
        unread = torch.empty(one.size, 0)
        if one.inputs is None or not self._first:
            return one._replace(inputs=None, targets=unread)
        rows = one.inputs.numpy()
        if self._vocabulary:
            rows = self._known_tokens(rows, one)
        inputs = self._transform.inputs_(rows)
        if self._pipeline.device.type == "cuda":
            inputs = inputs.pin_memory()
        return one._replace(inputs=inputs, targets=unread)

    def _known_tokens(self, rows: np.ndarray, one: Microbatch) -> np.ndarray:
        """The rows; where a token is unknown, which is noted, with others in its place."""
        wrong = (rows < 0) | (rows >= self._vocabulary)
        if not wrong.any():
            return rows
        assert one.samples is not None  # they come with the inputs
        at = int(np.argmax(wrong.reshape(len(rows), -1).any(1)))
        file, row = self._source.where(int(one.samples[at]))
        self.problem = self.problem or DataError(
            f"{file}: sample {row} of '{self._source.inputs_name}' has the token {rows[at][wrong[at]][0]}, but the"
            f" network knows those from 0 to {self._vocabulary - 1}."
        )
        return np.where(wrong, 0, rows)


class _WithOnnx:
    """A session of ONNX Runtime."""

    def __init__(self, onnx: "OnnxNetwork", share: Share, outputs: tuple[int, ...]) -> None:
        self._onnx, self.share, self.outputs = onnx, share, outputs
        self.problem: PhalanxError | None = None

    def __call__(self, group: Sequence[Microbatch]) -> Iterator[Passed]:
        for one in group:
            assert one.inputs is not None  # every rank reads
            rows = one.inputs.numpy()
            begun = time.perf_counter()
            outputs = self._onnx.run(rows)
            yield Passed(outputs, rows, time.perf_counter() - begun)
