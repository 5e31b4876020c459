"""How a batch falls into microbatches (by the input file alone) and who computes which (by the grid)."""


def microbatch_sizes(batch: int, microbatch: int) -> tuple[int, ...]:
    """Samples of each microbatch of a batch of `batch` samples: all full but perhaps the last.

    >>> microbatch_sizes(50, 16)
    (16, 16, 16, 2)
    """
    full, rest = divmod(batch, microbatch)
    return (microbatch,) * full + ((rest,) if rest else ())


def owned(microbatches: int, replica: int, replicas: int) -> range:
    """Numbers of the microbatches that a replica computes: every `replicas`-th."""
    return range(replica, microbatches, replicas)


def steps_per_epoch(samples: int, batch: int) -> int:
    """Optimizer steps of an epoch; the last batch may be smaller."""
    return -(-samples // batch)


def load(microbatches: int, replicas: int) -> float:
    """Work of the busiest replica over the mean: 1 is even."""
    return -(-microbatches // replicas) * replicas / microbatches
