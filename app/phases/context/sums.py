"""The engines that add up gradients: over the replicas for each chunk, over the stages for weights they share."""

from collections.abc import Mapping

from torch import nn

from app.learning.step import Sums, Tie
from app.parallel.group import Group
from app.parallel.sums.gradients import GradientSum, Wanted, choose
from app.phases.context import Context
from app.phases.context.networks import BuiltNetwork


def make_sums(context: Context, built: BuiltNetwork) -> Sums:
    """The engines of a train phase. Collective over: world."""
    grid = context.plan.grid
    wanted = context.plan.input.grid.allreduce
    chunks = {
        number: context.together(lambda: _engine(context, context.data_group, wanted))
        for number in grid.chunks_of(context.stage)
    }
    first = next(iter(chunks.values()))
    context.log.info(f"gradients are summed by {first.reason}")
    stages = context.stage_group if grid.stages > 1 else None
    return Sums(chunks, _ties(context, built) if stages else (), stages)


def close_sums(sums: Sums) -> None:
    """Give back what the engines hold. Collective over: world."""
    for engine in (*sums.chunks.values(), *(tie.sum for tie in sums.ties)):
        engine.close()


def canonical(network: nn.Module, ties: Mapping[str, str]) -> dict[str, nn.Parameter]:
    """The parameters to train under names that do not depend on the cut: a tied one has its owner's."""
    return {ties.get(name, name): p for name, p in network.named_parameters() if p.requires_grad}


def _ties(context: Context, built: BuiltNetwork) -> list[Tie]:
    """Of the parameters that several stages hold, those of this one, in the same order everywhere."""
    found = []
    named = dict(built.network.named_parameters())
    own = canonical(built.network, built.ties)
    for owner in sorted(set(built.ties.values())):
        holders = context.stage_group.split(int(owner in own), context.stage)
        if owner in own and holders.size > 1:
            engine = _engine(context, holders, "mpi")
            found.append(Tie(own[owner], engine, counts=owner in named))
    return found


def _engine(context: Context, group: Group, wanted: Wanted) -> GradientSum:
    hosts = len(set(group.allgather(context.world.host)))
    return choose(
        group,
        wanted=wanted,
        device_type=context.device.type,
        hosts=hosts,
        thread_level=context.world.thread_level if context.plan.grid.stages > 1 else "multiple",
    )
