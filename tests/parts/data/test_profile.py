"""Distributions of features: exact counts against numpy's, frequent values alone in a bin, the same for any sharing."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from app.data.features import Features, input_features, spaced
from app.data.profile import Profile, counts_of, profile_of, sampled
from app.data.source import Source, open_source
from app.data.split import AnySplit, Split, StoredSplit
from app.data.transform import Transform

NUMBERS = Features("number", 1, 3, 1, (0, 1, 2))


def mixed(samples: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, mostly zeros, and a constant: values (3, samples) float32."""
    draw = np.random.default_rng(seed)
    zeros = np.maximum(draw.normal(size=samples), 1.2) - 1.2
    return np.stack([draw.normal(size=samples), zeros, np.full(samples, 7.0)]).astype(np.float32)


def source_of(folder: Path, inputs: np.ndarray) -> Source:
    with h5py.File(folder / "a.h5", "w") as h5:
        h5.create_dataset("x", data=inputs, chunks=(7, *inputs.shape[1:]), compression="gzip")
    return open_source([folder / "a.h5"], "x", None)


def test_counts_are_those_of_numpy():
    profile, values = profile_of(NUMBERS, mixed(5000), 5000), mixed(800, seed=1)
    for edges, found, own in zip(profile.edges, profile.count(values), values, strict=True):
        wanted = np.bincount(np.digitize(own, edges, right=True), minlength=len(edges) + 1)
        np.testing.assert_array_equal(found, wanted)


def test_a_quarter_is_in_a_quarter_of_the_bins():
    profile = profile_of(NUMBERS, mixed(6400), 6400)
    assert profile.counts[0].sum() == 6400
    assert profile.counts[0][:64].min() > 95
    assert profile.counts[0].max() < 105


def test_a_frequent_value_is_alone_in_its_bin():
    profile = profile_of(NUMBERS, mixed(5000), 5000)
    near = np.array([[0.0, 0, 0], [-1e-30, 0.0, 1e-30], [6.999999, 7, 7.000001]], np.float32)
    bins = [np.digitize(row, edges, right=True) for row, edges in zip(near, profile.edges, strict=True)]
    assert bins[1][0] < bins[1][1] < bins[1][2]
    assert profile.counts[1][bins[1]].tolist()[:2] == [0, int((mixed(5000)[1] == 0).sum())]
    assert profile.counts[2][bins[2]].tolist() == [0, 5000, 0]


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "uint32", "int64", "float16", "float32", "float64", "bool"])
def test_numbers_of_every_type_are_counted_alike(kind):
    draw = np.random.default_rng(3)
    values = draw.integers(0, 2 if kind == "bool" else 100, (2, 900))
    profile = profile_of(Features("number", 1, 2, 1, (0, 1)), values, 900)
    np.testing.assert_array_equal(profile.count(values.astype(kind)), profile.counts)


def test_values_that_are_not_finite_are_counted_too():
    profile = profile_of(NUMBERS, mixed(500), 500)
    odd = np.array([[np.nan, np.inf, -np.inf]] * 3)
    found = profile.count(odd)
    assert found[0, 0] == 1  # -inf, below all
    assert found.sum(axis=1).tolist() == [3, 3, 3]
    assert found[0, -1] == 2


@pytest.mark.parametrize(
    ("stored", "transform", "names"),
    [
        ((4,), Transform(), ("number 0", "number 1", "number 2", "number 3")),
        ((), Transform(), ("number",)),
        ((3, 5, 6), Transform(), ("channel 0", "channel 1", "channel 2")),
        ((5, 6, 2), Transform(layout="channels_last"), ("channel 0", "channel 1")),
        ((5, 6), Transform(add_channel=True), ("channel",)),
        ((9, 3), Transform(), ("feature 0", "feature 1", "feature 2")),
        ((9,), Transform(tokens=True), ("token",)),
    ],
)
def test_what_a_feature_is_follows_from_what_a_sample_is(stored, transform, names):
    features = input_features(stored, transform, 1024)
    assert features.names == names
    rows = np.random.default_rng(0).normal(size=(6, *stored))
    values = features.values(rows, 0, 10**6)
    axis = {"channel": 1 if transform.layout == "none" else 3, "feature": 2}.get(features.noun, 1)
    wanted = rows.reshape(1, -1) if len(names) == 1 else np.moveaxis(rows, axis, 0).reshape(len(names), -1)
    np.testing.assert_array_equal(np.sort(values, axis=1), np.sort(wanted, axis=1))


def test_of_many_numbers_evenly_spaced_ones_are_taken():
    assert input_features((1000,), Transform(), 4).names == ("number 0", "number 250", "number 500", "number 750")
    rows = np.arange(3000.0).reshape(3, 1000)
    values = input_features((1000,), Transform(), 4).values(rows, 0, 10**6)
    np.testing.assert_array_equal(values, rows[:, [0, 250, 500, 750]].T)
    assert spaced(3, 8) == [0, 1, 2]


@pytest.mark.parametrize("layout", ["none", "channels_last"])
def test_of_large_images_all_places_are_looked_at_equally_often(layout):
    """Each pixel holds its number, and 1000 more for each channel."""
    places = np.arange(48).reshape(1, 6, 8) + 1000 * np.arange(2)[:, None, None]
    image = places if layout == "none" else np.moveaxis(places, 0, -1)
    rows = np.broadcast_to(image, (96, *image.shape))
    values = input_features(image.shape, Transform(layout=layout), 9).values(rows, 480, 5 * 96)
    assert values.shape == (2, 5 * 96)
    for channel in (0, 1):
        np.testing.assert_array_equal(np.bincount(values[channel] - 1000 * channel), np.full(48, 10))


@pytest.mark.parametrize("split", [Split(700, 0.2, 0.1, 3), StoredSplit((400, 200, 100))], ids=["keyed", "stored"])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_counts_are_of_the_training_part_whoever_shares_them(tmp_path, split: AnySplit, kind):
    inputs = np.random.default_rng(1).integers(0, 256, (700, 2, 5, 5)).astype(kind)
    features = input_features((2, 5, 5), Transform(), 9)
    with source_of(tmp_path, inputs) as source:
        profile = sampled(source, split, features, 5)
        shares = [
            sum(counts_of(profile, source, split, member=m, members=n, memory_bytes=2**20) for m in range(n))
            for n in (1, 2, 5)
        ]
    train = inputs[split.members("train", 0, 700)]
    wanted = profile.count(np.moveaxis(train, 1, 0).reshape(2, -1))
    for found in shares:
        np.testing.assert_array_equal(found, wanted)


def test_the_sample_for_the_edges_is_keyed(tmp_path):
    inputs = np.random.default_rng(1).normal(size=(9000, 2)).astype(np.float32)
    split = Split(9000, 0.2, 0.1, 3)
    features = input_features((2,), Transform(), 9)
    with source_of(tmp_path, inputs) as source:
        one, again, other = (sampled(source, split, features, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.edges, again.edges)
    assert (one.edges != other.edges).any()
    assert 1000 < one.samples <= 4200
    wanted = np.quantile(inputs[:, 0], np.arange(1, 64) / 64)
    np.testing.assert_allclose(one.edges[0], wanted, atol=0.4)


def test_one_training_sample_is_enough(tmp_path):
    inputs = np.arange(3000, dtype=np.float32).reshape(3000, 1)
    split = StoredSplit((1, 2999, 0))
    with source_of(tmp_path, inputs) as source:
        profile = sampled(source, split, input_features((1,), Transform(), 9), 0)
        counts = counts_of(profile, source, split, member=0, members=1, memory_bytes=2**20)
    assert counts.sum() == 1
    assert profile.count(np.zeros((1, 1))).argmax() == counts.argmax()


def test_a_profile_comes_back_from_its_tree():
    profile = profile_of(NUMBERS, mixed(500), 500)
    again = Profile.from_tree(profile.to_tree())
    assert again.features == profile.features
    assert again.samples == 500
    np.testing.assert_array_equal(again.edges, profile.edges)
    np.testing.assert_array_equal(again.counts, profile.counts)


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 0},
        {"chosen": np.array([0, 1, 9])},
        {"edges": np.zeros((3, 5))},
        {"edges": np.zeros(3)},
        {"counts": -np.ones((3, 65), np.int64)},
        {"shape": [1, 3]},
    ],
)
def test_trees_of_strangers_are_checked(changes):
    tree = profile_of(NUMBERS, mixed(500), 500).to_tree()
    with pytest.raises((ValueError, KeyError, TypeError)):
        Profile.from_tree(tree | changes)
    tree["edges"][0] = tree["edges"][0][::-1]
    with pytest.raises(ValueError, match="ascend"):
        Profile.from_tree(tree)
