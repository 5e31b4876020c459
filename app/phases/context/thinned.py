"""What is said of networks that have single connections removed."""

from collections.abc import Sequence

from torch import nn

from app.networks.sparse import HalfSparseLinear, SparseLinear
from app.phases.context import Context
from app.phases.context.networks import BuiltNetwork


def say_sparse(context: Context, built: BuiltNetwork, layers: Sequence[SparseLinear | HalfSparseLinear]) -> None:
    """How many linear layers with removed connections were computed as sparse products, over all stages.

    Collective over: pipeline. Says nothing of a network whose connections are all there.
    """
    if not built.sparse:
        return
    parts = built.network.named_modules()
    linear = sum(isinstance(part, nn.Linear) and f"{path}.weight" in built.sparse for path, part in parts)
    with context.watchdog.operation("count of the layers that run sparse"):
        everyone = context.stage_group.allgather((linear, sum(layer.ran for layer in layers)))
    linear, ran = map(sum, zip(*everyone, strict=True))
    if linear:
        context.log.info(
            f"{ran} of {linear} linear layers with removed connections ran as sparse products; of the others dense ones"
            " are faster"
        )
