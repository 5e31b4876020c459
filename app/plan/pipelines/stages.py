"""What the stages of a replica do in one phase: their layers, their bytes, and how long they wait for each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from app.errors import InputError
from app.inputfile import models
from app.inputfile.models import Input
from app.inputfile.networks import NETWORKS, Transformer
from app.inputfile.phases import Evaluate, Trains
from app.plan.costs import LayerCost, layer_costs
from app.plan.grid import Grid
from app.plan.microbatches import microbatch_sizes
from app.plan.pipelines import cut
from app.plan.pipelines.expected import Expected, expected
from app.plan.pipelines.memory import Held, Kept, Memory, kept_by
from app.plan.pipelines.schedules import make_schedule
from app.plan.pipelines.simulation import ChunkTimes
from app.plan.pipelines.times import LayerTime, chunk_times, estimated, seconds, transfer_s

ENOUGH = 2  # microbatches a chunk, to see all that a schedule keeps
MEBIBYTE = 1 << 20
ALIKE = ChunkTimes(1.0, 1.0, 1.0)


class Layout(NamedTuple):
    """One train phase on a replica's stages: `parameters`, `held`, and `shares` of the replica's work by stage;
    `in_flight`, microbatches between forward and backward at most, by chunk.
    """

    cut: tuple[range, ...]
    parameters: tuple[int, ...]
    held: tuple[Held, ...]
    shares: tuple[float, ...]
    in_flight: tuple[int, ...]
    expected: Expected


@dataclass(frozen=True)
class Division:
    """The layers of a network that a phase shares out to the stages of each replica.

    sample_shape: of one sample as the network gets it, without its batch dim.
    """

    given: Input
    grid: Grid
    phase: Trains | Evaluate
    layers: Sequence[LayerCost]
    sample_shape: Sequence[int]

    def cut(self, times: Sequence[LayerTime] | None = None) -> tuple[range, ...]:
        """The layers of each chunk, as [grid] cut and memory say; `times`: of the layers as measured, None: estimated.

        Equal arguments give equal cuts on every rank. Collective over: none. Raises InputError: more chunks than
        layers, names that do not fit the layers, more bytes on a stage than [grid] memory.
        """
        self._refuse_few_layers()
        try:
            return self._cut(times)
        except cut.CannotFit as error:
            raise InputError(self._too_large(error.held)) from None

    def layout(self) -> Layout:
        """What is expected of a train phase. Collective over: none. Raises InputError as `cut`."""
        pieces, grid, memory = self.cut(), self.grid, self._memory()
        sizes = own_sizes(self.phase, grid.replicas)
        samples = sum(sizes) / len(sizes)
        estimates = [estimated(layer) for layer in self.layers]
        times = chunk_times(estimates, pieces, samples, recompute=recomputes(self.given, grid))
        work = [sum(sum(times[chunk]) for chunk in grid.chunks_of(stage)) for stage in range(grid.stages)]
        return Layout(
            pieces,
            tuple(sum(memory.parameters(pieces[c]) for c in grid.chunks_of(s)) for s in range(grid.stages)),
            self._by_stage(pieces),
            tuple(one / sum(work) for one in work),
            tuple(max(in_flight for in_flight, _ in counts) for counts in self._counts()),
            expected(
                times,
                schedule_of(self.given, grid),
                grid.stages,
                len(sizes),
                transfer_s(self.layers, pieces, samples),
            ),
        )

    def _cut(self, times: Sequence[LayerTime] | None) -> tuple[range, ...]:
        given, grid, limit = self.given.grid, self.grid, self.given.grid.memory
        if grid.chunks > 1 and not isinstance(given.cut, str):
            pieces = cut.named_cut([layer.name for layer in self.layers], given.cut, grid.chunks)
            fullest = max(held.total for held in self._by_stage(pieces)) if limit else 0.0
            if limit and fullest > limit:
                raise cut.CannotFit(fullest, limit)
            return pieces
        training, again = isinstance(self.phase, Trains), recomputes(self.given, grid)
        costs = [
            seconds(time, self.phase.microbatch, training=training, recompute=again)
            for time in times or [estimated(layer) for layer in self.layers]
        ]
        return cut.cut(costs, grid.chunks, stages=grid.stages, held=self._held() if limit else None, limit=limit)

    def _held(self) -> Callable[[range, int], float]:
        memory = self._memory()
        return lambda piece, chunk: memory.held(piece, chunk).total

    def _memory(self) -> Memory:
        training = isinstance(self.phase, Trains)
        again = recomputes(self.given, self.grid)
        copies = 1 if training and self.given.data.validation else 0  # of the best epoch
        return Memory(self.layers, self.sample_shape, self.phase, self._counts(), recompute=again, copies=copies)

    def _counts(self) -> list[set[Kept]]:
        grid = self.grid
        if isinstance(self.phase, Evaluate):
            return []
        microbatches, name = len(own_sizes(self.phase, grid.replicas)), schedule_of(self.given, grid)
        few = min(microbatches, ENOUGH * grid.chunks)
        schedule = make_schedule(name, stages=grid.stages, microbatches=few, chunks=grid.chunks_per_stage)
        # GPipe keeps every microbatch until the last forward; the others keep no more of many than of few
        every = {Kept(microbatches, 0)} if name == "gpipe" else set()
        return [kept_by(schedule[grid.stage_of(chunk)], chunk) | every for chunk in range(grid.chunks)]

    def _by_stage(self, pieces: Sequence[range]) -> tuple[Held, ...]:
        memory, grid = self._memory(), self.grid
        return tuple(
            Held(*map(sum, zip(*(memory.held(pieces[chunk], chunk) for chunk in grid.chunks_of(stage)), strict=True)))
            for stage in range(grid.stages)
        )

    def _refuse_few_layers(self) -> None:
        grid, count = self.grid, len(self.layers)
        if grid.chunks <= count:
            return
        names = [layer.name for layer in self.layers]
        shown = names if count <= 8 else [*names[:3], "...", names[-1]]
        each = f" x chunks = {grid.chunks_per_stage}" if grid.chunks_per_stage > 1 else ""
        advice = f"stages may be at most {count // grid.chunks_per_stage}"
        if count == 1 and ".py:" in self.given.network.kind:
            advice = "a function that returns an nn.Sequential can be cut between its children"
        raise InputError(
            f"[grid] stages = {grid.stages}{each} makes {grid.chunks} chunks, but the network has"
            f" {count} layer{'s' * (count > 1)} ({', '.join(shown)}); {advice}."
        )

    def _too_large(self, fullest: float) -> str:
        grid, table = self.grid, self.given.grid
        fitting = next((d for d in self._others() if d._fits()), None)
        advice = "no number of stages would fit; try a smaller microbatch_size"
        if fitting is not None:
            more = "" if fitting.grid.ranks == grid.ranks else f", on a multiple of {fitting.grid.stages} ranks,"
            again = " with recompute = true" if fitting.given.grid.recompute and not table.recompute else ""
            cuts = ' with cut = "estimated"' if not isinstance(table.cut, str) and not again else ""
            advice = f"stages = {fitting.grid.stages}{more}{again}{cuts} would fit"
        what = "a rank" if grid.stages == 1 else "the fullest stage"
        training = isinstance(self.phase, Trains)
        kinds = "weights, gradients, optimizer state and activations" if training else "weights and activations"
        return (
            f'[grid] memory = {(table.memory or 0) / MEBIBYTE:.4g} MiB: in phase "{self.phase.name}" {what} would hold'
            f" {fullest / MEBIBYTE:.4g} MiB of {kinds}; {advice}."
        )

    def _others(self) -> list["Division"]:
        """The same on other numbers of stages, those that divide the ranks first; then all with recomputing."""
        stages = range(self.grid.stages, len(self.layers) + 1)
        dividing = [s for s in stages if self.grid.ranks % s == 0]
        others = [s for s in stages if self.grid.ranks % s and (s <= 16 or s & (s - 1) == 0)]
        ways = (False, True) if isinstance(self.phase, Trains) and not self.given.grid.recompute else (False,)
        return [self._on(s, again) for again in ways for s in (*dividing, *others)]

    def _on(self, stages: int, recompute: bool) -> "Division":
        changes = {"stages": stages, "cut": "estimated", "recompute": recompute or self.given.grid.recompute}
        table: models.Grid = self.given.grid.model_copy(update=changes)
        ranks = self.grid.ranks if self.grid.ranks % stages == 0 else stages
        given = self.given.model_copy(update={"grid": table})
        return replace(self, given=given, grid=Grid(ranks, stages, table.chunks_per_stage))

    def _fits(self) -> bool:
        if self.grid.chunks > len(self.layers):
            return False
        try:
            return bool(self._cut(None))
        except cut.CannotFit:
            return False


def sample_shape_of(given: Input) -> tuple[int, ...] | None:
    """The shape of a sample as the network gets it; None when it is not in the input file."""
    shape = given.data.sample_shape
    if shape and given.data.layout == "channels_last" and len(shape) == 3:
        return (shape[-1], *shape[:-1])
    return shape


def costs_of(given: Input) -> tuple[LayerCost, ...] | None:
    """The layers of a built-in network; None when the sample's shape or the outputs are not in the input file."""
    shape, network = sample_shape_of(given), given.network
    outputs = given.data.classes
    if outputs is None and isinstance(network, Transformer) and network.tied:
        outputs = network.vocabulary
    if shape is None or outputs is None or network.kind not in NETWORKS:
        return None
    return layer_costs(network.kind, network.arguments(), shape, outputs)


def schedule_of(given: Input, grid: Grid) -> str:
    """The name of the schedule in use: one stage has nothing to order."""
    return given.grid.schedule if grid.stages > 1 else "1f1b"


def recomputes(given: Input, grid: Grid) -> bool:
    """Whether activations are computed again: on one stage it would save nothing."""
    return given.grid.recompute and grid.stages > 1


def own_sizes(phase: Trains | Evaluate, replicas: int) -> tuple[int, ...]:
    """Samples of each microbatch of a full batch that the busiest replica computes."""
    return microbatch_sizes(phase.batch_size, phase.microbatch)[::replicas]


def alike(given: Input, grid: Grid, phase: Trains) -> Expected:
    """What is expected where the layers are not known: chunks that all take the same time."""
    microbatches = len(own_sizes(phase, grid.replicas))
    return expected([ALIKE] * grid.chunks, schedule_of(given, grid), grid.stages, microbatches)
