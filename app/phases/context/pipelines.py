"""A network of the run as a pipeline: this rank's chunks, linked to those of the other stages."""

from collections.abc import Mapping

import torch
from torch import nn

from app.learning.devices.execution import Execution, choose_execution
from app.learning.inbox import Inbox
from app.learning.pipeline import Arrangement, Loss, Pipeline, precision
from app.networks.shapes import SAMPLES, Boundary
from app.parallel.links import Links
from app.phases.context import Context
from app.phases.context.networks import BuiltNetwork
from app.report.trace import NOTHING, Recorder


def make_pipeline(context: Context, built: BuiltNetwork, loss: Loss, trace: Recorder = NOTHING) -> Pipeline:
    """The pipeline that trains or evaluates a network. Collective over: pipeline."""
    plan, grid = context.plan, context.plan.grid
    arrangement = Arrangement(context.stage, grid.stages, grid.chunks_per_stage, plan.schedule, plan.recompute)
    chunks = built.chunks(arrangement.held)
    bf16 = plan.input.run.precision == "bf16"
    entering = _entering(context, chunks, bf16)
    inbox = None
    if grid.stages > 1:
        links = Links(context.stage_group, context.device)
        inbox = Inbox(links, entering, grid.stages, context.watchdog)
    return Pipeline(
        chunks,
        loss,
        context.device,
        entering=entering,
        bf16=bf16,
        arrangement=arrangement,
        inbox=inbox,
        timers=context.timers,
        trace=trace,
        execution=_execution(context, chunks),
    )


def _execution(context: Context, chunks: Mapping[int, nn.Sequential]) -> Execution:
    run = context.plan.input.run
    return choose_execution(
        chunks,
        context.device,
        precision=run.precision,
        memory_format=run.memory_format,
        compile=run.compile,
        graphs=run.cuda_graphs,
        stages=context.plan.grid.stages,
    )


def _entering(context: Context, chunks: Mapping[int, nn.Sequential], bf16: bool) -> dict[int, Boundary]:
    """What enters each chunk, found by sending samples of zeros through all of them. Collective over: pipeline."""
    grid, tokens = context.plan.grid, context.data.transform.tokens
    found = {0: Boundary(context.data.sample_shape, torch.int64 if tokens else torch.float32)}
    for number in range(grid.chunks - 1):
        leaving = None
        if number in chunks:
            leaving = _leaving(context, chunks[number], found[number], bf16)
        with context.watchdog.operation("agreement on what passes between the stages"):
            found[number + 1] = context.stage_group.bcast(leaving, root=grid.stage_of(number))
    return found


@torch.no_grad()
def _leaving(context: Context, chunk: nn.Sequential, entering: Boundary, bf16: bool) -> Boundary:
    samples = torch.zeros((SAMPLES, *entering.shape), dtype=entering.dtype, device=context.device)
    with torch.random.fork_rng([]), precision(context.device, bf16):
        outputs = chunk.eval()(samples)
    chunk.train()
    return Boundary(tuple(outputs.shape[1:]), outputs.dtype)
