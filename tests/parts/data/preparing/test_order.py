"""Order, parts and repeated samples, beside sorting everything at once."""

import numpy as np
import pytest

from app.data.preparing.hashes import hashes
from app.data.preparing.order import (
    BINS,
    TOP,
    Cut,
    bins_of,
    buckets,
    counted,
    last_of,
    lots_of,
    part_of,
    places,
    ranges,
    repeated,
    shuffled,
)


@pytest.mark.parametrize("count", [1, 2, 1000, 30_000])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_counts_are_exact(count, share):
    lots = lots_of(places(3, np.arange(count)), 7)
    first = round(share * count)
    last = last_of(first, lambda prefix, bits: counted(lots, prefix, bits))
    assert (part_of(lots, Cut(last, TOP)) == 0).sum() == first


def test_groups_stay_together_and_come_near():
    groups = np.repeat(np.arange(50, dtype=np.uint64), 40)
    lots = lots_of(groups, 1)
    last = last_of(1010, lambda prefix, bits: counted(lots, prefix, bits))
    training = part_of(lots, Cut(last, TOP)) == 0
    assert training.sum() == 1000
    assert len(np.unique(groups[training])) == 25


def test_a_range_of_samples_is_where_sorting_has_it():
    keys = np.sort(shuffled(places(0, np.arange(5000)), 3))
    part = part_of(lots_of(keys, 4), Cut(1 << 63, 3 << 62))
    counts = np.stack([np.bincount(bins_of(keys[part == number]), minlength=BINS) for number in range(3)])
    order = np.concatenate([keys[part == number] for number in range(3)])
    for start, stop in ((0, 5000), (10, 11), (1800, 4400), (4999, 5000)):
        found = []
        for one in ranges(counts, start, stop):
            inside = (part == one.part) & (bins_of(keys) >= one.first) & (bins_of(keys) <= one.last)
            found.append(keys[inside][one.skip : one.skip + one.wanted])
        assert np.array_equal(np.concatenate(found), order[start:stop])


def test_shuffled_keys_are_different_and_of_the_seed():
    one, other = (np.concatenate([shuffled(places(p, np.arange(1000)), seed) for p in range(3)]) for seed in (1, 2))
    assert len(np.unique(one)) == 3000
    assert not np.array_equal(np.argsort(one), np.argsort(other))


def test_hashes_are_of_values_not_of_types():
    whole = hashes([np.array([1, 2, 300]), np.array(["a", "bb", ""])])
    assert np.array_equal(whole, hashes([np.array([1.0, 2.0, 300.0], np.float32), np.array(["a", "bb", ""], object)
                                         .astype("U9")]))  # fmt: skip
    assert np.array_equal(hashes([np.array([0.0])]), hashes([np.array([-0.0])]))
    different = np.array([0.5, 1.5, -0.5, 1e300, 1e-300, 2**53, 2**53 + 2, 0])
    assert len(np.unique(hashes([different])[:, 0])) == len(different)
    assert len(np.unique(hashes([np.array(["ab", "a"]), np.array(["c", "bc"])]), axis=0)) == 2


def test_of_equal_ones_the_first_stays():
    found = hashes([np.array([5, 3, 5, 5, 3, 1])])
    pieces, rows = np.array([1, 0, 0, 0, 2, 0]), np.array([0, 5, 9, 8, 0, 1])
    assert sorted(repeated(found, (pieces, rows)).tolist()) == [0, 2, 4]
    assert repeated(found[:0], (pieces[:0], rows[:0])).tolist() == []


def test_buckets_cover_every_hash_once():
    for total, at_once, least in ((0, 10, 1), (100, 7, 1), (5, 10, 3)):
        found = buckets(total, at_once, least)
        assert found[0][0] == 0 and found[-1][1] == TOP  # noqa: PT018
        assert all(b[0] == a[1] + 1 for a, b in zip(found[:-1], found[1:], strict=True))
