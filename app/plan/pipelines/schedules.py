"""The order in which every stage of a pipeline works, written once as printable data.

Chunk v of the network, a run of consecutive layers, lives on stage v % stages. Backward is split in two: `BACKWARD`
forms the gradients towards a chunk's inputs, for which the stage before waits, `WEIGHTS` those of its weights, for
which nobody waits (Qi et al., Zero Bubble Pipeline Parallelism, ICLR 2024). One rule makes every schedule: all stages
take the forwards in one order and the backwards in one order; a stage first fills up to its limit of microbatches in
flight and then takes one backward, one forward in turn. The limit alone tells the schedules apart.

Forward goes through the chunks of a stage with a group of microbatches at a time (Narayanan et al., Efficient
Large-Scale Language Model Training on GPU Clusters, SC 2021). There a group is as large as the pipeline is long and
must divide the microbatches: a smaller last one could wait for itself in a ring. Here groups are as even as they can
be, from `stages` to 2 stages - 1 microbatches, so any number of microbatches works.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

RECEIVE_ACTIVATIONS, FORWARD, SEND_ACTIVATIONS = "RF", "F", "SF"
RECEIVE_GRADIENTS, BACKWARD, SEND_GRADIENTS = "RB", "B", "SB"
WEIGHTS, REDUCE = "W", "R"
RECEIVES, SENDS = (RECEIVE_ACTIVATIONS, RECEIVE_GRADIENTS), (SEND_ACTIVATIONS, SEND_GRADIENTS)
KINDS = (RECEIVE_ACTIVATIONS, FORWARD, SEND_ACTIVATIONS, RECEIVE_GRADIENTS, BACKWARD, SEND_GRADIENTS, WEIGHTS, REDUCE)
ALL = -1  # the microbatch of REDUCE

LAG = 1
EXTRA = 0


class Action(NamedTuple):
    """What a stage does next: `kind` one of KINDS; `microbatch` is the replica's own, from 0; ALL for REDUCE."""

    kind: str
    chunk: int
    microbatch: int


Schedule = tuple[tuple[Action, ...], ...]  # by stage


class Pipeline(NamedTuple):
    """Numbers a schedule is made from: stages, the replica's microbatches of a batch, chunks that a stage holds."""

    stages: int
    microbatches: int
    chunks: int

    @property
    def group(self) -> int:
        """Microbatches of the largest group that goes through the chunks of a stage together."""
        return max(len(group) for group in self.groups())

    def groups(self) -> list[range]:
        """Consecutive microbatches, as evenly as they can be, at least `stages` in each where there are so many."""
        count = max(self.microbatches // self.stages, 1)
        return [range(begin, end) for begin, end in pairwise(i * self.microbatches // count for i in range(count + 1))]

    def own(self, stage: int) -> range:
        """Chunks that live on a stage."""
        return range(stage, self.stages * self.chunks, self.stages)


def _all_in_flight(pipeline: Pipeline, stage: int) -> int:
    return pipeline.microbatches * pipeline.chunks


def _until_the_first_is_back(pipeline: Pipeline, stage: int) -> int:
    return pipeline.stages - stage + (pipeline.chunks - 1) * pipeline.group


def _megatron(pipeline: Pipeline, stage: int) -> int:
    return 2 * (pipeline.stages - stage) - 1 + (pipeline.chunks - 1) * pipeline.group


SCHEDULES: dict[str, Callable[[Pipeline, int], int]] = {
    "gpipe": _all_in_flight,
    "1f1b": _until_the_first_is_back,
    "interleaved": _megatron,
}


def in_flight_limit(name: str, stage: int, *, stages: int, microbatches: int, chunks: int = 1) -> int:
    """Most microbatches that a stage holds between FORWARD and BACKWARD; one counts for each chunk that holds it.

    gpipe: all (Huang et al., GPipe, NeurIPS 2019). 1f1b: as many as there are stages from this one to the last
    (Narayanan et al., PipeDream, SOSP 2019). interleaved: Megatron-LM's warm-up and one (Narayanan et al., SC 2021).
    Collective over: none. Raises KeyError for a schedule that is not in SCHEDULES.
    """
    return SCHEDULES[name](Pipeline(stages, microbatches, chunks), stage)


@lru_cache(maxsize=64)
def make_schedule(
    name: str, *, stages: int, microbatches: int, chunks: int = 1, lag: int = LAG, extra: int = EXTRA
) -> Schedule:
    """What every stage does in a batch of `microbatches` (0 or more), by stage; `name` is one of SCHEDULES.

    Messages follow their producer at once, a receive stands right before its consumer. Backwards of a chunk run in
    ascending order of microbatches under every schedule, and REDUCE in descending order of chunks under any number of
    microbatches, so sums of gradients form in one order everywhere. WEIGHTS stand at their latest place: on stage s
    `lag` + s backwards of the stage after their own; the player may run them earlier, in order, while it waits.

    `lag` buys work for the waits with memory. A later stage has fewer microbatches in flight, so s more waiting for
    WEIGHTS cost nothing: under 1f1b no stage holds more than `stages` + `lag`, however many microbatches there are.
    LAG was chosen over 2 to 8 stages, 4, 6, ... 32 microbatches, messages of a tenth of a forward (mean bubble of
    1f1b; of interleaved with 2 chunks): WEIGHTS right after their backward 0.168; 0.102. lag 0: 0.166; 0.067.
    lag 1: 0.152; 0.063. lag 2: 0.147; 0.062. No bound: 0.144; 0.062. `extra` raises the limit of microbatches in
    flight on every stage: one more left these bubbles of 1f1b as they were, made those of interleaved 0.002 larger
    and those of 1f1b with unequal stages 0.004 larger, so EXTRA is 0.

    Collective over: none. Raises KeyError for a schedule that is not in SCHEDULES.
    """
    pipeline = Pipeline(stages, microbatches, chunks)
    limits = (SCHEDULES[name](pipeline, stage) + extra for stage in range(stages))
    return tuple(tuple(_training(pipeline, stage, limit, lag + stage)) for stage, limit in enumerate(limits))


@lru_cache(maxsize=64)
def forward_only(*, stages: int, microbatches: int, chunks: int = 1) -> Schedule:
    """What every stage does to apply the network to `microbatches` (0 or more), by stage. Collective over: none."""
    pipeline = Pipeline(stages, microbatches, chunks)
    return tuple(
        tuple(action for work in _forwards(pipeline, stage) for action in _forward(pipeline, *work))
        for stage in range(stages)
    )


def received(send: Action) -> Action:
    """The receive, on the stage of its chunk, that a send is for."""
    if send.kind == SEND_ACTIVATIONS:
        return Action(RECEIVE_ACTIVATIONS, send.chunk + 1, send.microbatch)
    return Action(RECEIVE_GRADIENTS, send.chunk - 1, send.microbatch)


def show(schedule: Schedule) -> list[str]:
    """One line a stage: its work in order, without the messages, which follow from it.

    F2 is FORWARD of microbatch 2; where stages hold several chunks F1.2 is that of chunk 1, and R1 its REDUCE.
    """
    several = any(action.chunk >= len(schedule) for actions in schedule for action in actions)
    lines = []
    for stage, actions in enumerate(schedule):
        work = " ".join(_short(action, several) for action in actions if action.kind not in RECEIVES + SENDS)
        lines.append(f"stage {stage}: {work}")
    return lines


def _short(action: Action, several: bool) -> str:
    numbers = [action.chunk] * several + [action.microbatch] * (action.kind != REDUCE)
    return action.kind + ".".join(map(str, numbers))


def _training(pipeline: Pipeline, stage: int, limit: int, lag: int) -> Iterator[Action]:
    forwards, backwards = _forwards(pipeline, stage), _backwards(pipeline, stage)
    for work in forwards[:limit]:
        yield from _forward(pipeline, *work)
    for number, work in enumerate(backwards):
        yield from _backward(pipeline, *work)
        if number >= lag:
            yield from _weights(pipeline, *backwards[number - lag])
        for following in forwards[limit + number : limit + number + 1]:
            yield from _forward(pipeline, *following)
    for work in backwards[max(len(backwards) - lag, 0) :]:
        yield from _weights(pipeline, *work)
    if not backwards:  # the other replicas sum with this one all the same
        yield from (Action(REDUCE, chunk, ALL) for chunk in reversed(pipeline.own(stage)))


def _forwards(pipeline: Pipeline, stage: int) -> list[tuple[int, int]]:
    return [(chunk, i) for group in pipeline.groups() for chunk in pipeline.own(stage) for i in group]


def _backwards(pipeline: Pipeline, stage: int) -> list[tuple[int, int]]:
    return [(chunk, i) for group in pipeline.groups() for chunk in reversed(pipeline.own(stage)) for i in group]


def _forward(pipeline: Pipeline, chunk: int, microbatch: int) -> Iterator[Action]:
    if chunk > 0 and pipeline.stages > 1:
        yield Action(RECEIVE_ACTIVATIONS, chunk, microbatch)
    yield Action(FORWARD, chunk, microbatch)
    if chunk < pipeline.stages * pipeline.chunks - 1 and pipeline.stages > 1:
        yield Action(SEND_ACTIVATIONS, chunk, microbatch)


def _backward(pipeline: Pipeline, chunk: int, microbatch: int) -> Iterator[Action]:
    if chunk < pipeline.stages * pipeline.chunks - 1 and pipeline.stages > 1:
        yield Action(RECEIVE_GRADIENTS, chunk, microbatch)
    yield Action(BACKWARD, chunk, microbatch)
    if chunk > 0 and pipeline.stages > 1:
        yield Action(SEND_GRADIENTS, chunk, microbatch)


def _weights(pipeline: Pipeline, chunk: int, microbatch: int) -> Iterator[Action]:
    yield Action(WEIGHTS, chunk, microbatch)
    if microbatch == pipeline.microbatches - 1:
        yield Action(REDUCE, chunk, ALL)
