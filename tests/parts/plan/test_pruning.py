"""Which units go: the limit is met, no more goes than widths ask for, and the lowest scores go first."""

import re
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InputError
from app.plan import pruning
from app.plan.pruning import Group, Shortened, Sized

TARGETS = ("operations", "parameters", "units")
RANKINGS = ("global", "layer")


def chain(widths, multiples=None, fewest=1):
    """Fully connected layers between 5 inputs and 3 outputs, as groups and sizes; each weight is used 7 times."""
    multiples = multiples or [1] * len(widths)
    sizes, groups = [], []
    for number, (before, after) in enumerate(zip((5, *widths), (*widths, 3), strict=True)):
        sizes += [Sized(f"{number}.weight", (after, before), 14), Sized(f"{number}.bias", (after,), 0)]
    for number, (width, multiple) in enumerate(zip(widths, multiples, strict=True)):
        dims = (f"{number}.weight", 0), (f"{number}.bias", 0), (f"{number + 1}.weight", 1)
        shortened = tuple(Shortened(tensor, dim, 1) for tensor, dim in dims)
        groups.append(Group(f"layer{number}", width, multiple, fewest, shortened))
    return groups, sizes


def by_hand(kept):
    """Operations and parameters of such a chain."""
    weights = sum(a * b for a, b in zip((5, *kept), (*kept, 3), strict=True))
    return 14 * weights, weights + sum(kept) + 3


@st.composite
def networks(draw):
    """Groups, sizes and scores of a chain of one to four layers."""
    widths = draw(st.lists(st.integers(2, 24), min_size=1, max_size=4))
    multiples = [draw(st.integers(1, max(1, width // 2))) for width in widths]
    groups, sizes = chain(widths, multiples, draw(st.integers(1, 2)))
    one = st.floats(0, 9, allow_nan=False) | st.just(inf) if draw(st.booleans()) else st.integers(0, 3).map(float)
    return groups, sizes, [draw(st.lists(one, min_size=width, max_size=width)) for width in widths]


def least(group):
    """The units that a group keeps at least."""
    return min(group.units, -(-group.fewest // group.multiple) * group.multiple)


def chosen(network, target, share, ranking):
    """What goes and what is kept, and the limit; None where that cannot be."""
    groups, sizes, scores = network
    limit = (1 - share) * getattr(pruning.totals(groups, sizes, [group.units for group in groups]), target)
    try:
        removed = pruning.choose(groups, sizes, scores, target=target, limit=limit, ranking=ranking)
    except InputError:
        return None, None, limit
    return removed, [group.units - len(units) for group, units in zip(groups, removed, strict=True)], limit


shares = st.floats(0.01, 0.99)


@settings(max_examples=120, deadline=None)
@given(networks(), st.sampled_from(TARGETS), shares, st.sampled_from(RANKINGS))
def test_the_limit_is_met_and_nothing_could_stay(network, target, share, ranking):
    groups, sizes, _ = network
    removed, kept, limit = chosen(network, target, share, ranking)
    if removed is None:
        assert getattr(pruning.totals(groups, sizes, list(map(least, groups))), target) > limit
        return

    def cost(counts):
        return getattr(pruning.totals(groups, sizes, counts), target)

    assert cost(kept) <= limit
    for number, group in enumerate(groups):
        more = min(group.units, kept[number] + group.multiple)
        if more > kept[number]:
            assert cost([*kept[:number], more, *kept[number + 1 :]]) > limit, "a multiple more would fit"
        assert kept[number] % group.multiple == 0 or kept[number] == group.units
        assert kept[number] >= least(group)


@settings(max_examples=60, deadline=None)
@given(networks(), st.sampled_from(TARGETS), shares, st.sampled_from(RANKINGS))
def test_the_lowest_of_a_group_go(network, target, share, ranking):
    groups, _, scores = network
    removed, _, _ = chosen(network, target, share, ranking)
    for group, units, one in zip(groups, removed or [], scores, strict=bool(removed)):
        assert units == sorted(set(units))
        stay = [unit for unit in range(group.units) if unit not in units]
        assert stay
        for unit in units:
            assert (one[unit], unit) < min((one[other], other) for other in stay)


@settings(max_examples=40, deadline=None)
@given(networks())
def test_totals_of_a_chain(network):
    groups, sizes, _ = network
    for kept in ([group.units for group in groups], [1] * len(groups)):
        found = pruning.totals(groups, sizes, kept)
        assert found == (*by_hand(kept), sum(kept))


def test_totals_of_what_several_groups_shorten():
    """A tensor cut along both dims, one along one dim by two groups, and what is used but not stored."""
    sizes = [Sized("a", (8, 6, 3, 3), 10), Sized("b", (20,), 0), Sized("heads", (4,), 100, stored=False)]
    groups = [
        Group("rows", 8, 1, 1, (Shortened("a", 0, 1), Shortened("b", 0, 2))),
        Group("columns", 3, 1, 1, (Shortened("a", 1, 2),)),
        Group("heads", 4, 1, 1, (Shortened("b", 0, 1), Shortened("heads", 0, 1))),
    ]
    assert pruning.totals(groups, sizes, [8, 3, 4]) == (10 * 432 + 400, 432 + 20, 15)
    assert pruning.totals(groups, sizes, [5, 2, 1]) == (10 * 5 * 4 * 9 + 100, 180 + 20 - 6 - 3, 8)


def test_global_ranking_takes_the_lowest_of_all():
    groups, sizes = chain([4, 4])
    scores = [[1, 2, 3, 4], [10, 20, 30, 40]]
    assert pruning.choose(groups, sizes, scores, target="units", limit=5, ranking="global") == [[0, 1, 2], []]
    scores = [[9, 9, 9, 9], [1, 10, 2, 11]]
    assert pruning.choose(groups, sizes, scores, target="units", limit=6, ranking="global") == [[], [0, 2]]


def test_layer_ranking_takes_the_same_share_of_each():
    groups, sizes = chain([4, 8])
    scores = [[1, 2, 3, 4], [10, 80, 20, 70, 30, 60, 40, 50]]
    found = pruning.choose(groups, sizes, scores, target="units", limit=6, ranking="layer")
    assert found == [[0, 1], [0, 2, 4, 6]]


def test_infinite_scores_go_last():
    groups, sizes = chain([4, 4])
    scores = [[inf] * 4, [1, 2, 3, 4]]
    assert pruning.choose(groups, sizes, scores, target="units", limit=5, ranking="global") == [[], [0, 1, 2]]
    assert pruning.choose(groups, sizes, scores, target="units", limit=4, ranking="global") == [[0], [0, 1, 2]]


def test_what_rounding_takes_too_much_is_given_back_to_the_highest():
    """Half of 16 + 16 units in multiples of 8: 10 and 6 would be rounded to 8 and 8; 12 and 4 to 16 and 8, too many."""
    groups, sizes = chain([16, 16], [8, 8])
    low, high = [float(i) for i in range(16)], [100.0 + i for i in range(16)]
    assert pruning.choose(groups, sizes, [low, high], target="units", limit=24, ranking="global") == [
        list(range(8)),
        [],
    ]
    assert pruning.choose(groups, sizes, [high, low], target="units", limit=24, ranking="layer") == [[], list(range(8))]


def test_nothing_goes_where_the_limit_is_met():
    groups, sizes = chain([6, 6])
    scores = [[1.0] * 6] * 2
    for ranking in RANKINGS:
        assert pruning.choose(groups, sizes, scores, target="units", limit=12, ranking=ranking) == [[], []]


def test_an_equal_score_goes_by_its_number():
    groups, sizes = chain([6])
    assert pruning.choose(groups, sizes, [[2.0, 1, 2, 1, 2, 1]], target="units", limit=2, ranking="global") == [
        [0, 1, 3, 5]
    ]


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("target", TARGETS)
def test_what_cannot_be_reached_is_said(target, ranking):
    groups, sizes = chain([8, 8, 8, 8], fewest=4)
    left = getattr(pruning.totals(groups, sizes, [4] * 4), target)
    scores = [[1.0] * 8] * 4
    assert pruning.choose(groups, sizes, scores, target=target, limit=left, ranking=ranking) == [[0, 1, 2, 3]] * 4
    words = f"{target} cannot be brought to {left - 1:,}: .*layer0, layer1, layer2, .*there are {left:,} left"
    with pytest.raises(InputError, match=words.replace("(", r"\(")) as error:
        pruning.choose(groups, sizes, scores, target=target, limit=left - 1, ranking=ranking)
    assert re.search("smaller remove, a larger most, or name fewer keep_layers", str(error.value))


@settings(max_examples=60, deadline=None)
@given(networks())
def test_zeros_go_as_far_as_widths_allow(network):
    groups, _, scores = network
    for group, one, units in zip(groups, scores, pruning.zeros(groups, scores), strict=True):
        assert all(one[unit] == 0 for unit in units)
        kept = group.units - len(units)
        assert kept % group.multiple == 0 or kept == group.units
        assert kept >= least(group)
        left = one.count(0) - len(units)
        assert left < group.multiple or kept == least(group)


def test_zeros_leave_the_fewest():
    groups, _ = chain([8], [2], fewest=3)
    assert pruning.zeros(groups, [[0.0] * 8]) == [[0, 1, 2, 3]]
    assert pruning.zeros(groups, [[0, 0, 1, 0, 1, 1, 1, 1.0]]) == [[0, 1]]


@pytest.mark.parametrize(
    ("growth", "expected"), [("linear", [0.2, 0.4, 0.6]), ("cubic", [0.6 * 19 / 27, 0.6 * 26 / 27, 0.6])]
)
def test_the_share_grows_to_what_was_asked(growth, expected):
    assert [pruning.share_after(r, 3, 0.6, growth) for r in (1, 2, 3)] == pytest.approx(expected)
    assert pruning.share_after(1, 1, 0.6, growth) == 0.6
    assert pruning.share_after(7, 7, 0.3, growth) == 0.3


@pytest.mark.parametrize(
    ("units", "width", "round_to", "expected"),
    [
        (64, 1, 16, 16),
        (256, 1, 16, 16),
        (63, 1, 16, 8),
        (16, 1, 16, 4),
        (10, 1, 16, 2),
        (3, 1, 16, 1),
        (100, 1, 1, 1),
        (16, 4, 16, 4),  # groups of four channels
        (8, 8, 16, 2),  # heads of eight
        (8, 64, 16, 1),
        (40, 1, 10, 10),
    ],
)
def test_multiples_of_narrow_groups_are_smaller(units, width, round_to, expected):
    assert pruning.multiple_of(units, width, round_to) == expected


@given(st.integers(2, 5000), st.integers(1, 64), st.integers(1, 128))
def test_a_group_has_four_multiples_at_least(units, width, round_to):
    multiple = pruning.multiple_of(units, width, round_to)
    assert multiple == 1 or 4 * multiple <= units
    assert multiple == 1 or multiple * width <= round_to
