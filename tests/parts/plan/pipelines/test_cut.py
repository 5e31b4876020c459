"""Cuts against trying every one of them."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InputError
from app.plan.pipelines.cut import FILL, CannotFit, cut, named_cut

NAMES = ("stem", "block1", "block2", "block3", "head")
COSTS = st.lists(st.integers(0, 20), min_size=1, max_size=9)


def every_cut(layers: int, parts: int) -> list[tuple[range, ...]]:
    bounds = [(0, *inner, layers) for inner in combinations(range(1, layers), parts - 1)]
    return [tuple(range(first, stop) for first, stop in pairwise(one)) for one in bounds]


def loads(pieces, costs, stages: int) -> list[float]:
    return [sum(costs[n] for piece in pieces[stage::stages] for n in piece) for stage in range(stages)]


def quality(pieces, costs, stages: int) -> tuple[float, float]:
    """Load of the busiest stage with something of the longest chunk, and unevenness."""
    chunks = loads(pieces, costs, len(pieces))
    return max(loads(pieces, costs, stages)) + FILL * max(chunks), sum(load**2 for load in chunks)


@given(COSTS, st.data())
def test_no_cut_is_better(costs, data):
    parts = data.draw(st.integers(1, len(costs)))
    expected = min(quality(pieces, costs, parts) for pieces in every_cut(len(costs), parts))
    pieces = cut(costs, parts)
    assert [n for piece in pieces for n in piece] == list(range(len(costs)))
    assert all(pieces)
    assert quality(pieces, costs, parts) == expected


@given(COSTS.filter(lambda costs: len(costs) > 3), st.data())
def test_no_cut_into_several_chunks_a_stage_is_better(costs, data):
    stages = data.draw(st.integers(1, len(costs) // 2))
    expected = min(quality(pieces, costs, stages) for pieces in every_cut(len(costs), 2 * stages))
    assert quality(cut(costs, 2 * stages, stages=stages), costs, stages) == expected


def test_many_ways_to_cut_into_several_chunks():
    """Too many to try: never worse than the best cut by chunk, and here close to even."""
    costs = [1 + (number * 7919) % 13 for number in range(60)]
    found = cut(costs, 16, stages=8)
    assert quality(found, costs, 8) <= quality(cut(costs, 16), costs, 8)
    assert max(loads(found, costs, 8)) <= 1.1 * sum(costs) / 8


@given(COSTS, st.integers(5, 60), st.data())
def test_the_best_cut_of_those_within_the_limit(costs, limit, data):
    stages = data.draw(st.integers(1, len(costs)))
    chunks = data.draw(st.integers(1, len(costs) // stages))
    parts = stages * chunks
    weights = data.draw(st.lists(st.integers(1, 9), min_size=len(costs), max_size=len(costs)))

    def held(piece: range, chunk: int) -> float:
        return sum(weights[n] * (stages - chunk % stages) for n in piece)  # as 1F1B holds more on the first stages

    def fullest(pieces) -> float:
        by_stage = [0.0] * stages
        for chunk, piece in enumerate(pieces):
            by_stage[chunk % stages] += held(piece, chunk)
        return max(by_stage)

    ways = every_cut(len(costs), parts)
    fitting = [quality(pieces, costs, stages) for pieces in ways if fullest(pieces) <= limit]
    if fitting:
        pieces = cut(costs, parts, stages=stages, held=held, limit=limit)
        assert fullest(pieces) <= limit
        assert quality(pieces, costs, stages) == min(fitting)
    else:
        with pytest.raises(CannotFit) as caught:
            cut(costs, parts, stages=stages, held=held, limit=limit)
        assert caught.value.held == min(map(fullest, ways))


def test_fewer_layers_than_chunks():
    with pytest.raises(ValueError, match="2 layers cannot be cut into 3 chunks"):
        cut([1.0, 1.0], 3)


def test_named_cut():
    assert named_cut(NAMES, ["block2", "head"], 3) == (range(2), range(2, 4), range(4, 5))
    assert named_cut(NAMES, [], 1) == (range(5),)


@pytest.mark.parametrize(
    ("firsts", "words"),
    [
        (["blok2", "head"], ["'blok2'", "did you mean 'block2'?"]),
        (["stem", "head"], ["'stem' is the first layer", "leave it out"]),
        (["head", "block1"], ["'block1' comes before 'head'", "stem, block1, block2"]),
        (["head", "head"], ["'head' is named twice"]),
        (["head"], ["1 layers are named, but 3 chunks need 2"]),
    ],
)
def test_named_cut_is_refused(firsts, words):
    with pytest.raises(InputError) as caught:
        named_cut(NAMES, firsts, 3)
    assert all(word in str(caught.value) for word in ("[grid] cut", *words)), str(caught.value)


def test_all_that_is_wrong_about_names_is_told_at_once():
    with pytest.raises(InputError) as caught:
        named_cut(NAMES, ["head", "tail", "block1", "stem"], 3)
    assert len(caught.value.problems) == 5
