"""Which units of a network go, from their scores: pure arithmetic, the same on every rank.

A network is described by the sizes of its tensors and by groups of units; removing a unit shortens one dim of each of
its group's tensors.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

from app.errors import InputError

STEPS = 40  # of the bisection of a share


class Shortened(NamedTuple):
    """A dim of a tensor of which each unit takes `each` indices."""

    tensor: str
    dim: int
    each: int


class Sized(NamedTuple):
    """A tensor: its shape, and the operations of a sample that each of its numbers takes part in.

    stored: whether its numbers are parameters; not where only operations are counted.
    """

    tensor: str
    shape: tuple[int, ...]
    uses: int
    stored: bool = True


class Group(NamedTuple):
    """Units that compete. multiple: kept ones are a multiple of it. fewest: stay at least."""

    name: str
    units: int
    multiple: int
    fewest: int
    dims: tuple[Shortened, ...]


class Totals(NamedTuple):
    """Of a whole network: operations of a sample (two a multiply-add), parameters, units."""

    operations: int
    parameters: int
    units: int


Scores = Sequence[Sequence[float]]  # by group and unit: the least go first


def share_after(round_: int, rounds: int, share: float, growth: str) -> float:
    """The share removed after a round, counted from 1. Source of "cubic": Zhu and Gupta, To Prune, or Not, 2017.

    >>> [round(share_after(r, 3, 0.9, "cubic"), 3) for r in (1, 2, 3)]
    [0.633, 0.867, 0.9]
    """
    left = 1 - round_ / rounds
    return share * (1 - left**3) if growth == "cubic" else share * (1 - left)


def multiple_of(units: int, width: int, round_to: int) -> int:
    """The units that a kept width is a multiple of: `round_to` channels, less where the group is narrow.

    A group of fewer than four multiples is rounded to the largest power of two that goes into it four times.
    """
    while round_to > 1 and 4 * round_to > units * width:
        round_to //= 2
    return max(1, round_to // width)


def totals(groups: Sequence[Group], sizes: Sequence[Sized], kept: Sequence[int]) -> Totals:
    """What a network costs of which so many units of each group are kept."""
    gone: dict[tuple[str, int], int] = {}
    for group, count in zip(groups, kept, strict=True):
        for dim in group.dims:
            gone[dim.tensor, dim.dim] = gone.get((dim.tensor, dim.dim), 0) + (group.units - count) * dim.each
    numbers = [prod(n - gone.get((one.tensor, d), 0) for d, n in enumerate(one.shape)) for one in sizes]
    operations = sum(one.uses * count for one, count in zip(sizes, numbers, strict=True))
    stored = sum(count for one, count in zip(sizes, numbers, strict=True) if one.stored)
    return Totals(operations, stored, sum(kept))


def choose(
    groups: Sequence[Group],
    sizes: Sequence[Sized],
    scores: Scores,
    *,
    target: str,
    limit: float,
    ranking: str,
) -> list[list[int]]:
    """The units of each group that go, ascending, so that `target` (a field of Totals) is at most `limit`.

    Ranking "global": the lowest scores of all groups; "layer": the same share of each group. Widths are rounded to the
    nearest multiple; what that removes beyond the limit is given back, the highest scores first. Raises InputError when
    the groups' fewest units cost more than the limit.
    """

    def cost(kept: Sequence[int]) -> int:
        return getattr(totals(groups, sizes, kept), target)

    kept = _fewest_removed(groups, scores, ranking, lambda counts: cost(counts) <= limit)
    if kept is None:
        lowest = cost([rounded(group, 0) for group in groups])
        raise InputError(
            f"{target} cannot be brought to {limit:,.0f}: with the fewest units of every group"
            f" ({', '.join(group.name for group in groups[:3])}{', ...' if len(groups) > 3 else ''}) there are"
            f" {lowest:,} left. Give a smaller remove, a larger most, or name fewer keep_layers."
        )
    _give_back(groups, scores, kept, lambda counts: cost(counts) <= limit)
    return [_lowest(one, group.units - count) for group, one, count in zip(groups, scores, kept, strict=True)]


def zeros(groups: Sequence[Group], scores: Scores) -> list[list[int]]:
    """The units whose score is zero, as far as multiples and fewest let them go."""
    counts = [rounded_up(group, sum(score > 0 for score in one)) for group, one in zip(groups, scores, strict=True)]
    return [_lowest(one, group.units - count) for group, one, count in zip(groups, scores, counts, strict=True)]


def rounded(group: Group, kept: int) -> int:
    """The nearest number of units that may stay."""
    return _bounded(group, (kept + group.multiple // 2) // group.multiple * group.multiple)


def rounded_up(group: Group, kept: int) -> int:
    """The next larger number of units that may stay."""
    return _bounded(group, -(-kept // group.multiple) * group.multiple)


def _bounded(group: Group, kept: int) -> int:
    fewest = -(-group.fewest // group.multiple) * group.multiple
    return min(group.units, max(kept, fewest))


def _fewest_removed(
    groups: Sequence[Group], scores: Scores, ranking: str, fits: Callable[[Sequence[int]], bool]
) -> list[int] | None:
    """The kept units of each group when as little goes as fits; None when nothing does."""
    if ranking == "layer":
        counts_at: Callable[[float], list[int]] = lambda share: [  # noqa: E731 - one of two ways to count
            rounded(group, round(group.units * (1 - share))) for group in groups
        ]
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if fits(counts_at(middle)) else (middle, high)
        return counts_at(high) if fits(counts_at(high)) else None
    order = sorted((score, g, u) for g, one in enumerate(scores) for u, score in enumerate(one))
    least, most = 0, len(order)
    if not fits(_counts(groups, order)):
        return None
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if fits(_counts(groups, order[:middle])) else (middle + 1, most)
    return _counts(groups, order[:most])


def _counts(groups: Sequence[Group], removed: Sequence[tuple[float, int, int]]) -> list[int]:
    left = [group.units for group in groups]
    for _, group, _ in removed:
        left[group] -= 1
    return [rounded(group, count) for group, count in zip(groups, left, strict=True)]


def _give_back(groups: Sequence[Group], scores: Scores, kept: list[int], fits: Callable[[Sequence[int]], bool]) -> None:
    """Keep a multiple more of a group, as long as that fits; the group whose next units score highest comes first."""
    ordered = [sorted(one, reverse=True) for one in scores]
    closed: set[int] = set()
    while True:
        open_ = [g for g, group in enumerate(groups) if g not in closed and kept[g] < group.units]
        if not open_:
            return
        best = max(open_, key=lambda g: (ordered[g][kept[g]], -g))
        more = min(groups[best].units, kept[best] + groups[best].multiple)
        tried = [*kept[:best], more, *kept[best + 1 :]]
        if fits(tried):
            kept[best] = more
        else:
            closed.add(best)


def _lowest(scores: Sequence[float], count: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda unit: (scores[unit], unit))[:count])
