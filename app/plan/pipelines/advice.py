"""From the times of layers to what could be faster: the size of microbatches, or no pipeline at all."""

from collections.abc import Sequence

from app.plan.microbatches import microbatch_sizes
from app.plan.pipelines.expected import Expected, expected
from app.plan.pipelines.times import LayerTime, chunk_times, seconds

WORTH_SAYING = 0.05  # a share of the predicted step
COUNTS = (*range(1, 17), 20, 24, 32, 48, 64)  # of a replica's microbatches, in the sizes looked at


def predict(
    layers: Sequence[LayerTime],
    cut: Sequence[range],
    schedule: str,
    stages: int,
    microbatch_sizes: Sequence[int],
    *,
    transfer: float = 0.0,
    recompute: bool = False,
) -> Expected:
    """Forward and backward of a replica's microbatches of these sizes; uneven ones as if all had their mean.

    transfer: seconds of a message between stages. Collective over: none.
    """
    samples = sum(microbatch_sizes) / len(microbatch_sizes)
    times = chunk_times(layers, cut, samples, recompute=recompute)
    return expected(times, schedule, stages, len(microbatch_sizes), transfer)


def one_rank_seconds(layers: Sequence[LayerTime], samples: int) -> float:
    """Seconds of forward and backward of samples that one rank takes through all layers at once."""
    return sum(seconds(layer, samples) for layer in layers)


def advice(
    layers: Sequence[LayerTime],
    cut: Sequence[range],
    schedule: str,
    stages: int,
    *,
    batch_size: int,
    microbatch_size: int,
    replicas: int = 1,
    transfer: float = 0.0,
    recompute: bool = False,
) -> list[str]:
    """Lines for the log: the step and bubble to expect, a better microbatch_size, whether the pipeline pays.

    batch_size: of all replicas; `layers` of the whole network. The cut stays as it is for other sizes.
    Collective over: none.
    """

    def played(size: int) -> Expected:
        sizes = microbatch_sizes(batch_size, size)[::replicas]
        return predict(layers, cut, schedule, stages, sizes, transfer=transfer, recompute=recompute)

    now = played(microbatch_size)
    count = len(microbatch_sizes(batch_size, microbatch_size)[::replicas])
    lines = [
        f"expected: {1e3 * now.seconds:.3g} ms a step without all-reduce and optimizer, {now.bubble:.0%} of it waiting"
        f" ({count} microbatches of {microbatch_size} on {stages} stages, {schedule})"
    ]
    share = -(-batch_size // replicas)
    best = min(_sizes(share), key=lambda size: played(size).seconds)
    least = played(best)
    gain = 1 - least.seconds / now.seconds
    if gain > WORTH_SAYING:
        lines.append(f"microbatch_size = {best} would take {gain:.0%} less time ({least.bubble:.0%} waiting)")
    alone = one_rank_seconds(layers, share)
    if alone <= now.seconds:
        gain = 1 - least.seconds / alone
        better = f"with microbatch_size = {best} it would take {gain:.0%} less than that" if gain > WORTH_SAYING else ""
        lines.append(
            f"this pipeline does not pay: one rank would take {1e3 * alone:.3g} ms with stages = 1 and"
            f" microbatch_size = {share}; {better or 'it is for networks that one rank cannot hold'}"
        )
    return lines


def _sizes(share: int) -> list[int]:
    """Sizes that share out a replica's samples, the larger first."""
    return sorted({-(-share // count) for count in COUNTS}, reverse=True)
