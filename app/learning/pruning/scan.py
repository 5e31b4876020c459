"""What removing a share of each group costs, measured: the sensitivity scan.

Source: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, section 3.2.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from app.data.batches import Batch
from app.learning.pipeline import Pipeline
from app.learning.pruning.scores import Scores
from app.learning.pruning.units import UnitGroup

Variant = list[tuple[Tensor, int, Tensor]]  # own tensors, a dim of each, and the indices along it that become zero


def steps(units: int, levels: int) -> list[int]:
    """How many units a group loses at each level: equal steps up to all but one.

    >>> steps(10, 4), steps(3, 8)
    ([2, 5, 8, 9], [1, 2])
    """
    counts = [min(round(units * level / levels), units - 1) for level in range(1, levels + 1)]
    return sorted(set(counts) - {0})


def scan(
    pipeline: Pipeline,
    batches: Iterable[Batch],
    groups: Sequence[UnitGroup],
    orders: Sequence[np.ndarray],
    levels: int,
    tensors: Mapping[str, Tensor],
    sum_: Callable[[np.ndarray], None],
    on_batch: Callable[[Batch], None] = lambda batch: None,
) -> list[np.ndarray]:
    """By group, the rise (1 + steps,) of the mean loss without its first units in `orders`, as many as `steps` says.

    A unit is gone when nothing is read from it: the columns it enters by are zero. Every replica goes through its own
    share of the batches with every variant and nothing is exchanged before the end, so that N replicas take 1/N of the
    time. tensors: this rank's weights, as they were afterwards.
    Collective over: pipeline, and world through `sum_`, which adds a float64 array over all ranks in place.
    """
    cases = [(g, count) for g, group in enumerate(groups) for count in steps(group.units, levels)]
    variants = [_variant(groups[g], orders[g][:count], tensors) for g, count in cases]
    sums = np.zeros(2 + len(cases))  # samples; the loss of the whole network; of each case
    modules = list(pipeline.chunks.values())
    for chunk in modules:
        chunk.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                samples, sums[1] = _add(pipeline, batch, sums[1])
                sums[0] += samples
                for number, variant in enumerate(variants, 2):
                    with _without(variant):
                        _, sums[number] = _add(pipeline, batch, sums[number])
                on_batch(batch)
    finally:
        for chunk in modules:
            chunk.train()
    sum_(sums)
    rises = (sums[2:] - sums[1]) / sums[0]
    found: list[list[float]] = [[0.0] for _ in groups]
    for (g, _), rise in zip(cases, rises, strict=True):
        found[g].append(float(rise))
    return [np.array(one) for one in found]


def from_rises(
    groups: Sequence[UnitGroup], rises: Sequence[np.ndarray], orders: Sequence[np.ndarray], levels: int
) -> Scores:
    """Scores by group (units,): what each unit adds to the loss when the group's are removed in its order.

    They are the slopes of the largest convex curve below the measured rises, so that taking the lowest of all groups
    costs least in all for what is removed. The last unit of a group is never measured and has the highest slope.
    """
    found = []
    for group, rise, order in zip(groups, rises, orders, strict=True):
        removed = np.array([0, *steps(group.units, levels)])
        slopes = _convex_slopes(removed, rise)
        scores = np.empty(group.units)
        spacing = 1e-9 * max(np.abs(slopes).max(), 1e-30)  # keeps the order among those of one slope
        for rank, unit in enumerate(order):
            piece = min(int(np.searchsorted(removed, rank, side="right")) - 1, len(slopes) - 1)
            scores[unit] = slopes[piece] + rank * spacing
        found.append(scores)
    return found


def _convex_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes between neighbouring points of the lower convex hull, one for each interval of x."""
    hull: list[int] = []
    for point in range(len(x)):
        while len(hull) > 1 and _slope(x, y, hull[-2], hull[-1]) >= _slope(x, y, hull[-1], point):
            hull.pop()
        hull.append(point)
    slopes = np.empty(len(x) - 1)
    for first, last in zip(hull, hull[1:], strict=False):
        slopes[first:last] = _slope(x, y, first, last)
    return slopes


def _slope(x: np.ndarray, y: np.ndarray, first: int, last: int) -> float:
    return float((y[last] - y[first]) / (x[last] - x[first]))


def _add(pipeline: Pipeline, batch: Batch, loss: float) -> tuple[int, float]:
    """Samples of this replica's microbatches and the loss with theirs added; the last stage alone knows them."""
    samples = 0
    for found in pipeline.evaluate(batch):
        loss += found.loss.item()
        samples += len(found.targets)
    return samples, loss


def _variant(group: UnitGroup, units: np.ndarray, tensors: Mapping[str, Tensor]) -> Variant:
    return [
        (tensors[m.tensor], m.dim, torch.from_numpy(m.places[units].reshape(-1)).to(tensors[m.tensor].device))
        for m in group.members
        if m.enters and m.tensor in tensors
    ]


@contextmanager
def _without(variant: Variant) -> Iterator[None]:
    kept = [tensor.index_select(dim, places) for tensor, dim, places in variant]
    for tensor, dim, places in variant:
        tensor.index_fill_(dim, places, 0.0)
    try:
        yield
    finally:
        for (tensor, dim, places), values in zip(variant, kept, strict=True):
            tensor.index_copy_(dim, places, values)
