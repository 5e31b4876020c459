"""One rank of one contender of benchmarks.pipeline: plays batches when it is told to, else sleeps."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from app.learning.device import keep_freed_memory
from app.parallel import environment
from app.plan.pipelines.schedules import RECEIVE_GRADIENTS, Action
from app.plan.pipelines.simulation import ChunkTimes
from app.report.trace import NOTHING, Recorder
from benchmarks.ranks.orders import serve

STAGES = 2
MICROBATCHES = 8
STEP, STAGE, MEMORY = "step", "stage", "memory"
Step = Callable[[], object]
Cut = tuple[int, ...]
WARM = 2  # microbatches before memory is measured: torch's 1F1B takes no fewer than there are stages


class Case(NamedTuple):
    """A network, the shape of a sample, samples of the whole batch."""

    build: Callable[[], nn.Sequential]
    sample: tuple[int, ...]
    batch: int


class Order(NamedTuple):
    """`what` of STEP: seconds of `number` steps; STAGE: ChunkTimes; MEMORY: bytes that `number` microbatches need.

    cut: the layers at which chunks after the first begin: one, or three for two chunks a stage.
    """

    what: str
    case: str
    cut: Cut
    number: int


class Contender(NamedTuple):
    """Makes the step of a case with a cut and a number of microbatches of the usual size; a barrier over the ranks."""

    step: Callable[[Case, Cut, int], Step]
    barrier: Callable[[], object]
    about: str


def deep_mlp() -> nn.Sequential:
    """8 x (Linear 2048 x 2048, ReLU) and an output layer: 33.6 M parameters, 134 MB."""
    hidden = [nn.Sequential(nn.Linear(2048, 2048), nn.ReLU()) for _ in range(8)]
    return nn.Sequential(*hidden, nn.Linear(2048, 10))


def resnet() -> nn.Sequential:
    """The residual network of the data-parallel benchmark."""
    from benchmarks.ranks import models

    network = models.resnet()
    assert isinstance(network, nn.Sequential)
    return network


CASES = {"MLP": Case(deep_mlp, (2048,), 256), "ResNet": Case(resnet, (3, 32, 32), 64)}


def microbatch_size(case: Case) -> int:
    return case.batch // MICROBATCHES


def build(case: Case) -> nn.Sequential:
    """The whole network, the same on each rank."""
    torch.manual_seed(7)
    return case.build()


def data(case: Case, microbatches: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (B, ...) float32 and class numbers (B,) int64."""
    torch.manual_seed(100)
    batch = microbatches * microbatch_size(case)
    return torch.randn(batch, *case.sample), torch.randint(0, 10, (batch,))


def chunk(network: nn.Sequential, cut: Cut, number: int) -> nn.Sequential:
    """The layers of a chunk; with one a stage, of the stage of this number."""
    bounds = (0, *cut, len(network))
    return nn.Sequential(*list(network)[bounds[number] : bounds[number + 1]])


def entering(case: Case, cut: Cut) -> list[torch.Tensor]:
    """A microbatch on its way into each chunk."""
    network, (passing, _) = build(case), data(case, 1)
    found = []
    with torch.no_grad():
        for number in range(len(cut) + 1):
            found.append(passing)
            passing = chunk(network, cut, number)(passing)
    return found


def forget_gradients(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.grad = None


def whole(schedule: str, rank: int) -> Contender:
    """Plain autograd on rank 0, the whole batch at once; rank 1 has nothing to do."""

    def make(case: Case, cut: Cut, microbatches: int) -> Step:
        network, (inputs, targets) = build(case), data(case, microbatches)

        def step() -> None:
            forget_gradients(network)
            cross_entropy(network(inputs), targets).backward()

        return step if rank == 0 else lambda: None

    return Contender(make, lambda: None, "one rank, one thread, the whole batch at once")


def peer(schedule: str, rank: int) -> Contender:
    """torch.distributed.pipelining over gloo; shapes are given, and gradients are not scaled once more at the end."""
    from torch import distributed
    from torch.distributed import pipelining

    meeting = f"file://{os.environ['BENCHMARK_FOLDER']}/{schedule}.store"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=STAGES)
    kind = {"torch-gpipe": pipelining.ScheduleGPipe, "torch-1f1b": pipelining.Schedule1F1B}[schedule]

    def make(case: Case, cut: Cut, microbatches: int) -> Step:
        network, (inputs, targets) = build(case), data(case, microbatches)
        own = chunk(network, cut, rank)
        example, between = entering(case, cut)
        between.requires_grad_()  # from this torch concludes that gradients come back
        given = (example, between) if rank == 0 else (between, own(between))
        stage = pipelining.PipelineStage(
            own, rank, STAGES, torch.device("cpu"), input_args=given[0], output_args=given[1]
        )

        def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return cross_entropy(outputs, targets) / microbatches

        player = kind(stage, microbatches, loss_fn=loss, scale_grads=False)

        def step() -> None:
            forget_gradients(own)
            if rank == 0:
                player.step(inputs)
            else:
                player.step(target=targets, return_outputs=False)

        return step

    return Contender(make, distributed.barrier, f"torch {kind.__name__} over gloo")


def ours(schedule: str, rank: int) -> Contender:
    """The trainer's own way to play a batch."""
    environment.prepare(os.environ)
    from app.parallel import world

    here = world.start()

    def make(case: Case, cut: Cut, microbatches: int) -> Step:
        from app.learning.inbox import Inbox
        from app.networks.shapes import Boundary
        from app.parallel.group import Group
        from app.parallel.links import Links
        from app.parallel.watchdog import Watchdog

        boundaries = {n: Boundary(one.shape[1:], one.dtype) for n, one in enumerate(entering(case, cut))}
        watchdog = Watchdog(rank, STAGES, "", Path(), 0, print, sys.exit)
        inbox = Inbox(Links(Group(here.comm), torch.device("cpu")), boundaries, STAGES, watchdog)
        return played(case, cut, microbatches, schedule, rank, inbox, NOTHING)

    return Contender(make, here.barrier, f"ours, schedule {schedule}")


def played(case: Case, cut: Cut, microbatches: int, schedule: str, rank: int, inbox: Any, trace: Recorder) -> Step:
    """A batch as the trainer plays it on one stage."""
    from app.data.batches import Batch, Microbatch
    from app.learning.losses import loss
    from app.learning.pipeline import Arrangement, Gradients, Pipeline
    from app.learning.randomness import LayerRandomness
    from app.report.timers import Timers

    network, (inputs, targets) = build(case), data(case, microbatches)
    arrangement = Arrangement(rank, STAGES, (len(cut) + 1) // STAGES, schedule)
    chunks = {number: chunk(network, cut, number) for number in arrangement.held}
    pipeline = Pipeline(
        chunks,
        loss("cross_entropy"),
        torch.device("cpu"),
        entering={},  # read by phases only
        bf16=False,
        arrangement=arrangement,
        inbox=inbox,
        timers=Timers(),
        trace=trace,
    )
    own = nn.Sequential(*(layer for one in chunks.values() for layer in one))
    gradients = Gradients(pipeline, LayerRandomness(own, 7, "benchmark"), lambda chunk: None)
    size = microbatch_size(case)
    pieces = zip(inputs.split(size), targets.split(size), strict=True)
    batch = Batch(0, len(inputs), tuple(Microbatch(n, size, *piece, None) for n, piece in enumerate(pieces)))

    def step() -> None:
        forget_gradients(own)
        gradients(batch, 0)

    return step


OURS = ("gpipe", "1f1b", "interleaved")
CONTENDERS = {"torch-gpipe": peer, "torch-1f1b": peer, **dict.fromkeys(OURS, ours), "whole": whole}


class Alone:
    """In the place of an inbox: every message is there at once, and nobody gets ours."""

    def __init__(self, case: Case, cut: Cut) -> None:
        self._entering = entering(case, cut)

    def begin(self, *_: object) -> None:
        pass

    finish = send_activations = send_gradients = begin

    def take(self, action: Action, _: object) -> torch.Tensor:
        return self._entering[action.chunk + (action.kind == RECEIVE_GRADIENTS)].detach()


def stage_times(case: Case, cut: Cut, schedule: str, rank: int) -> dict[int, ChunkTimes]:
    """Seconds of a microbatch in each of this rank's chunks alone, backward divided as ours does it."""
    trace = Recorder()
    step = played(case, cut, MICROBATCHES, schedule, rank, Alone(case, cut), trace)
    step()  # warms up
    trace.start()
    step()
    seconds: dict[int, dict[str, list[float]]] = {}
    for event in trace.events:
        by_name = seconds.setdefault(event.chunk, {"forward": [], "backward": [], "weights": []})
        by_name.setdefault(event.name, []).append(event.end - event.begin)
    return {
        number: ChunkTimes(
            statistics.median(by_name["forward"]),
            statistics.median(by_name["backward"]),
            sum(by_name["weights"]) / MICROBATCHES,  # formed for several microbatches at once, where that is faster
        )
        for number, by_name in seconds.items()
    }


def activation_memory(contender: Contender, case: Case, order: Order) -> int:
    """Bytes by which the resident set grows at its peak; gradients, libraries and code are there already."""
    contender.step(case, order.cut, WARM)()
    step = contender.step(case, order.cut, order.number)
    contender.barrier()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    step()
    return resident("VmHWM") - before


def resident(line: str) -> int:
    """A line of this process's status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return next(int(row.split()[1]) * 1024 for row in text.splitlines() if row.startswith(line))


def block(step: Step, count: int, barrier: Callable[[], object]) -> list[float]:
    """Seconds of each step of a block, after one to warm the caches up; each begins together."""
    seconds = []
    for _ in range(count + 1):
        barrier()
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def main(arguments: Sequence[str]) -> None:
    """Called as `python -m benchmarks.ranks.pipeline_step CONTENDER`, by mpirun."""
    (name,) = arguments
    rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
    torch.set_num_threads(1)
    contender = CONTENDERS[name](name, rank)
    steps: dict[str, Step] = {}

    def answer(order: Order) -> object:
        case = CASES[order.case]
        if order.what == MEMORY:
            return activation_memory(contender, case, order)
        if name in OURS:
            keep_freed_memory()  # as the program does when it starts
        if order.what == STAGE:
            return stage_times(case, order.cut, name, rank)
        if order.case not in steps:
            steps[order.case] = contender.step(case, order.cut, MICROBATCHES)
        return block(steps[order.case], order.number, contender.barrier)

    serve(name, rank, contender.about, answer)


if __name__ == "__main__":
    main(sys.argv[1:])
