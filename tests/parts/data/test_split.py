"""The split: every sample in one part, exact counts, the same whatever asks for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.data import keys
from app.data.split import PARTS, Split, StoredSplit, rotor

fractions = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda f: (f[0] * (1 - f[1]), f[1] * (1 - f[0])))


@given(st.integers(1, 20_000), fractions, st.integers(0, 2**63 - 1))
def test_every_sample_is_in_one_part_and_counts_are_exact(length: int, held: tuple[float, float], seed: int) -> None:
    split = Split(length, *held, seed)
    parts = [split.members(part, 0, length) for part in PARTS]
    assert [len(part) for part in parts] == [split.count(part) for part in PARTS]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(length))
    assert abs(split.count("validation") - length * held[0]) <= 1.5
    assert abs(split.count("test") - length * held[1]) <= 1.5


@given(st.integers(1, 12_000), st.integers(0, 12_000), st.integers(0, 12_000), st.integers(0, 9))
def test_a_range_is_a_piece_of_the_whole(length: int, a: int, b: int, seed: int) -> None:
    split = Split(length, 0.2, 0.1, seed)
    start, stop = sorted((min(a, length), min(b, length)))
    for part in (*PARTS, "all"):
        whole = split.members(part, 0, length)
        np.testing.assert_array_equal(
            split.members(part, start, stop), whole[(whole >= start) & (whole < stop)], strict=True
        )


def test_members_before_edges() -> None:
    split = Split(1_000_003, 0.15, 0.1, 3)
    edges = np.append(np.arange(0, split.length, 777), split.length)
    for part in PARTS:
        members = split.members(part, 0, split.length)
        np.testing.assert_array_equal(split.before(part, edges), np.searchsorted(members, edges))


def test_scattered_samples_are_judged_as_in_a_run() -> None:
    split = Split(5_000_000, 0.15, 0.1, 3)
    some = np.random.default_rng(0).integers(0, split.length, 1000)
    for part in PARTS:
        alone = [len(split.members(part, n, n + 1)) == 1 for n in some.tolist()]
        np.testing.assert_array_equal(split.mask(part, some), alone)


def test_parts_are_spread_evenly_and_depend_on_the_seed() -> None:
    split, other = Split(40_960, 0.25, 0.25, 1), Split(40_960, 0.25, 0.25, 2)
    members = split.members("test", 0, split.length)
    assert (np.bincount(members // 4096) == 1024).all()
    halves = np.bincount(members // 32, minlength=1280)  # binomial: mean 8, standard deviation 2.4
    assert halves.max() <= 20
    assert 2.0 < halves.std() < 2.9
    shared = np.intersect1d(members, other.members("test", 0, other.length))
    assert 0.2 < len(shared) / len(members) < 0.3
    strata = (members % 4096).reshape(10, 1024)
    assert len(np.intersect1d(strata[0], strata[1])) < 400  # strata are divided differently: 256 expected


def test_the_rotor_is_a_permutation_of_each_stratum() -> None:
    for stratum in (0, 1, 12345678901):
        ranks = rotor(np.full(4096, stratum), np.arange(4096), 5)
        np.testing.assert_array_equal(np.sort(ranks), np.arange(4096))


def test_the_same_on_every_platform() -> None:
    assert Split(10_000, 0.2, 0.1, 7).members("test", 0, 100).tolist() == [15, 35, 51, 61, 68, 85, 96]
    assert keys.permutation(10, 7, 2, 0).tolist() == [0, 3, 5, 1, 8, 4, 9, 2, 6, 7]


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0), (0.6, 0.6), (0, 1.1)])
def test_impossible_fractions(validation: float, test: float) -> None:
    with pytest.raises(ValueError, match="not possible"):
        Split(10, validation, test, 0)


@given(st.tuples(*[st.integers(0, 400)] * 3), st.lists(st.integers(0, 1200), max_size=9))
def test_a_stored_split_agrees_with_itself(counts: tuple[int, int, int], edges: list[int]) -> None:
    split = StoredSplit(counts)
    samples = np.arange(split.length)
    parts = [split.members(part, 0, split.length) for part in PARTS]
    np.testing.assert_array_equal(np.concatenate(parts), samples)
    assert [len(part) for part in parts] == list(counts) == [split.count(part) for part in PARTS]
    for part, members in zip((*PARTS, "all"), (*parts, samples), strict=True):
        np.testing.assert_array_equal(split.mask(part, samples), np.isin(samples, members))
        np.testing.assert_array_equal(split.before(part, np.sort(edges)), np.searchsorted(members, np.sort(edges)))
