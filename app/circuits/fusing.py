"""Steps of a pass that are computed in one go over a block: two 2x2 matrices, and a phase on what they leave.

A block in the second-level cache is read and written at the speed of that cache, whatever is computed in between, so
half as many traversals take almost half of the time.
"""

from collections.abc import Sequence
from typing import NamedTuple

LOOK_BACK = 8  # matrices among which a partner is looked for


class Item(NamedTuple):
    """What a step is to a block; masks are of bits of the block.

    number: the caller's. touched: all bits on which it depends or acts. single: the bit of a 2x2 matrix without any
    condition, else 0. both: the two bits of a phase where both are one, without any other condition, else 0.
    """

    number: int
    touched: int
    single: int = 0
    both: int = 0


class Fused(NamedTuple):
    """Numbers of the items: two matrices and, or -1, a phase."""

    first: int
    second: int
    phase: int = -1


def fused(items: Sequence[Item]) -> list[int | Fused]:
    """Numbers in an order that computes the same, joined where that is possible."""
    groups: list[tuple[Item, int | Fused] | None] = []
    last: dict[int, int] = {}  # of each bit, the place of the group that touched it last

    def append_(item: Item, group: int | Fused) -> None:
        for bit in _bits(item.touched):
            last[bit] = len(groups)
        groups.append((item, group))

    for item in items:  # a phase with the matrices before it
        places = [last.get(bit, -1) for bit in _bits(item.both)]
        before = [groups[place] if place >= 0 else None for place in places]
        singles = [group[0].number for group in before if group is not None and group[0].single]
        if len(singles) == 2:
            for place in places:
                groups[place] = None
            append_(item, Fused(singles[0], singles[1], item.number))
        else:
            append_(item, item.number)
    return _in_twos([group for group in groups if group is not None])


def _in_twos(groups: Sequence[tuple[Item, int | Fused]]) -> list[int | Fused]:
    """Matrices that were left alone, with another that can be moved to where they are, or they to it."""
    result: list[int | Fused | None] = []
    last: dict[int, int] = {}  # of each bit, the place of what touched it last
    alone: list[tuple[int, int, int]] = []  # bit, place and number of the last matrices without a partner
    for item, group in groups:
        place = len(result)
        for bit, other, number in alone if item.single else ():
            if bit == item.single or (last[bit] != other and last.get(item.single, -1) > other):
                continue
            alone.remove((bit, other, number))
            pair = Fused(number, item.number)
            if last[bit] == other:  # the first is moved to the second
                result[other], group = None, pair
                last[bit] = place
            else:
                result[other], place = pair, other
            break
        else:
            if item.single:
                alone = [*alone[1 - LOOK_BACK :], (item.single, place, item.number)]
        for bit in _bits(item.touched):
            last[bit] = max(place, last.get(bit, -1))
        result.append(group if place == len(result) else None)
    return [group for group in result if group is not None]


def _bits(mask: int) -> list[int]:
    return [1 << k for k in range(mask.bit_length()) if mask >> k & 1]
