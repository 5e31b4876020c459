"""How a batch falls into microbatches (by the input file alone) and who computes which (by the grid)."""

from itertools import product

NEAR, NEAR_BOTH = 1000, 20  # other sizes looked at for an advice: of one of the two, of both


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


def leaves_single(samples: int, batch: int, microbatch: int) -> bool:
    """Whether an epoch of `samples` samples has a microbatch of only one.

    >>> leaves_single(168, 40, 10), leaves_single(168, 40, 7)
    (False, True)
    """
    sizes = {batch if samples >= batch else 0, samples % batch} - {0}
    return any(microbatch == 1 or size % microbatch == 1 for size in sizes)


def sizes_without_single(samples: int, batch: int, microbatch: int, replicas: int) -> tuple[int, int] | None:
    """The nearest (batch, microbatch) whose microbatches all have two samples or more; None where none is near.

    Another microbatch is tried first: it changes no step of training. Every replica has work.
    """
    near = sorted(range(-NEAR, NEAR + 1), key=abs)
    candidates = [(batch, microbatch + by) for by in near] + [(batch + by, microbatch) for by in near]
    both = sorted(product(range(-NEAR_BOTH, NEAR_BOTH + 1), repeat=2), key=lambda by: abs(by[0]) + abs(by[1]))
    candidates += [(batch + i, microbatch + j) for i, j in both]
    for b, m in candidates:
        if 1 < m <= b and -(-b // m) >= replicas and not leaves_single(samples, b, m):
            return b, m
    return None
