"""One rank of one contender of benchmarks.checkpoints: trains blocks of steps, and saves its state in them."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from app.parallel import environment
from benchmarks.ranks.orders import serve

EVERY, FIRST = 10, 5  # steps between checkpoints; the step after which the first is begun

Save = Callable[[int], object]  # begins a checkpoint of a step
Finish = Callable[[], object]  # waits until it is on the disk


def saver(name: str, trainer: Any, folder: Path, rank: int) -> tuple[Save, Finish]:
    """How a contender saves."""
    nothing: tuple[Save, Finish] = (lambda step: None, lambda: None)
    if name == "none" or (rank and name != "torch-async"):
        return nothing
    if name.startswith("torch"):
        return (by_torch if name == "torch-save" else by_torch_async)(trainer, folder)
    return ours(trainer, folder, waits=name == "wait")


def ours(trainer: Any, folder: Path, *, waits: bool) -> tuple[Save, Finish]:
    """As a train phase does it."""
    from app.learning.training import Training
    from app.phases.context.saving import Saving
    from app.storage.artifact_file import Provenance

    training = Training(trainer.network, trainer.optimizer, "loss")
    context = SimpleNamespace(
        plan=SimpleNamespace(
            grid=SimpleNamespace(stages=1),
            input=SimpleNamespace(grid=SimpleNamespace(memory=1 if waits else None)),
        ),
        replica=0,
        stage=0,
        speaks=True,
        log=SimpleNamespace(warn=print),
        stopping=SimpleNamespace(took=lambda what, seconds: None),
        watchdog=SimpleNamespace(operation=lambda name: nullcontext()),
        provenance_of=lambda phase: Provenance("phalanx", "0", "", "benchmark", phase),
    )
    phase = SimpleNamespace(name="net", checkpoint_steps=EVERY, checkpoint_minutes=0)
    saving = Saving(cast("Any", context), cast("Any", phase), training, folder)

    def save(step: int) -> None:
        training.step += 1
        saving.save_when_due(EVERY * step)

    return save, saving.finish


def by_torch(trainer: Any, folder: Path) -> tuple[Save, Finish]:
    """What most scripts do, in two files that take turns; neither is synced, none is checked."""
    folder.mkdir(exist_ok=True)

    def save(step: int) -> None:
        state = {"model": trainer.network.state_dict(), "optimizer": trainer.optimizer.state_tree()}
        torch.save(state, folder / f"{step % 2}.pt")

    return save, lambda: None


def by_torch_async(trainer: Any, folder: Path) -> tuple[Save, Finish]:
    """torch.distributed.checkpoint.async_save: a copy, then a thread; all ranks take part."""
    from torch import distributed
    from torch.distributed import checkpoint

    if not distributed.is_initialized():
        meeting = f"file://{os.environ['BENCHMARK_FOLDER']}/async.store"
        rank, size = int(os.environ["OMPI_COMM_WORLD_RANK"]), int(os.environ["BENCHMARK_RANKS"])
        distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    running: list[Any] = []

    def finish() -> None:
        for future in running:
            future.result()
        running.clear()

    def save(step: int) -> None:
        finish()
        state = {"model": trainer.network.state_dict(), "optimizer": trainer.optimizer.state_tree()}
        running.append(checkpoint.async_save(state, checkpoint_id=folder / str(step % 2)))

    return save, finish


def main() -> None:
    """Called as `python -m benchmarks.ranks.checkpoint_step CONTENDER`, by mpirun."""
    name, rank = sys.argv[1], int(os.environ["OMPI_COMM_WORLD_RANK"])
    torch.set_num_threads(1)
    environment.prepare(os.environ)
    from app.learning.device import keep_freed_memory
    from app.parallel import world
    from app.parallel.sums import gradients

    here = world.start()
    keep_freed_memory()
    from benchmarks.ranks import models

    cases: dict[str, tuple[Any, Save, Finish]] = {}

    def answer(order: tuple[str, int]) -> float:
        case, count = order
        if case not in cases:
            group = here.group(0, here.rank)
            engine = gradients.choose(group, wanted="auto", device_type="cpu", hosts=1)
            trainer = models.trainer(models.CASES[case], engine, rank, here.size, "adam")
            folder = Path(os.environ["BENCHMARK_CHECKPOINTS"]) / f"{name}-{case}"
            cases[case] = (trainer.step, *saver(name, trainer, folder, rank))
        return block(*cases[case], count, here.barrier)

    serve(name, rank, name, answer)


def block(step: Callable[[], object], save: Save, finish: Finish, count: int, barrier: Callable[[], None]) -> float:
    """Seconds per step of a block, after one step to warm the caches up."""
    barrier()
    step()
    barrier()
    begin = time.perf_counter()
    for number in range(1, count + 1):
        step()
        if number % EVERY == FIRST:
            save(number // EVERY + 1)
    finish()
    return (time.perf_counter() - begin) / count


if __name__ == "__main__":
    main()
