"""One rank of one contender of benchmarks.data_parallel: trains blocks of steps when it is told to, else sleeps."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from app.parallel import environment
from benchmarks.ranks.orders import serve

Step = Callable[[], None]


class Contender(NamedTuple):
    """Makes the step of a case; a barrier over the contender's ranks."""

    step: Callable[[str], Step]
    barrier: Callable[[], None]
    about: str


def ours(engine_name: str, rank: int) -> Contender:
    """The trainer's own step with one of our gradient sums; "none": the same step without a sum, the limit."""
    environment.prepare(os.environ)
    from app.learning.device import keep_freed_memory
    from app.parallel import world
    from app.parallel.sums import gradients

    here = world.start()
    keep_freed_memory()  # as the program does when it starts
    group = here.group(0, here.rank)
    from benchmarks.ranks import models

    wanted: Any = engine_name if engine_name in ("mpi", "horovod") else "auto"
    engine: gradients.GradientSum = gradients.NoSum()
    if engine_name != "none":
        engine = gradients.choose(group, wanted=wanted, device_type="cpu", hosts=1)

    def make(name: str) -> Step:
        # each case has tensors of its own, and an engine serves one list of tensors
        summed = engine
        if engine_name != "none":
            summed = gradients.choose(group, wanted=wanted, device_type="cpu", hosts=1)
        return models.training_step(models.CASES[name], summed, rank, here.size)

    return Contender(make, here.barrier, engine.reason)


def ddp(engine_name: str, rank: int) -> Contender:
    """torch DistributedDataParallel over gloo with torch's SGD: its default kernels ("ddp") or fused ("ddp-fused")."""
    import torch
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    from benchmarks.ranks import models

    meeting = f"file://{os.environ['BENCHMARK_FOLDER']}/{engine_name}.store"
    size = int(os.environ["BENCHMARK_RANKS"])
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)

    def make(name: str) -> Step:
        case = models.CASES[name]
        torch.manual_seed(7)
        network = DistributedDataParallel(case.build(), gradient_as_bucket_view=True)
        parameters = list(network.parameters())
        fused = True if engine_name == "ddp-fused" else None
        optimizer = torch.optim.SGD(parameters, lr=models.RATE, momentum=models.MOMENTUM, fused=fused)
        inputs, targets = models.data(case, rank)

        def step() -> None:
            loss = torch.nn.functional.cross_entropy(network(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    return Contender(make, distributed.barrier, "torch DistributedDataParallel over gloo")


def main() -> None:
    """Called as `python -m benchmarks.ranks.step_time CONTENDER`, by mpirun."""
    name = sys.argv[1]
    rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
    import torch

    torch.set_num_threads(1)
    contender = (ddp if name.startswith("ddp") else ours)(name, rank)
    steps: dict[str, Step] = {}

    def answer(order: tuple[str, int]) -> float:
        case, count = order
        if case not in steps:
            steps[case] = contender.step(case)
        return block(steps[case], count, contender.barrier)

    serve(name, rank, contender.about, answer)


def block(step: Step, count: int, barrier: Callable[[], None]) -> float:
    """Seconds per step of a block, after one step to warm the caches up."""
    barrier()
    step()
    barrier()
    begin = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - begin) / count


if __name__ == "__main__":
    main()
