"""Transforms of microbatches: layout, channel axis, standardisation, types."""

import numpy as np
import pytest
import torch

from app.data.statistics import Statistics
from app.data.transform import Transform

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("transform", "stored", "shape"),
    [
        (Transform(), (3, 8, 6), (3, 8, 6)),
        (Transform(layout="channels_last"), (8, 6, 3), (3, 8, 6)),
        (Transform(layout="channels_last"), (8, 3), (3, 8)),
        (Transform(layout="channels_last"), (8,), (8,)),
        (Transform(add_channel=True), (8, 6), (1, 8, 6)),
        (Transform(add_channel=True), (3, 8, 6), (3, 8, 6)),
        (Transform(tokens=True), (12,), (12,)),
        (Transform(), (), ()),
    ],
)
def test_shapes(transform: Transform, stored: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert transform.sample_shape(stored) == shape
    assert transform.inputs_(np.zeros((5, *stored), np.uint8)).shape == (5, *shape)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "u4", "i8", "f2", "f4", "f8", "?"])
def test_standardised_channels(dtype: str) -> None:
    rows = RANDOM.integers(0, 100, (4, 5, 6, 3)).astype(dtype)
    mean = np.array([1.0, 20.0, 30.0], np.float32).reshape(1, 1, 3)
    std = np.array([2.0, 0.0, 0.5], np.float32).reshape(1, 1, 3)
    transform = Transform(layout="channels_last", statistics=Statistics(mean, std, 10))
    wanted = np.moveaxis((rows.astype(np.float64) - mean) / [2.0, 1.0, 0.5], -1, 1)
    found = transform.inputs_(rows.copy())
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-4)


def test_tokens_stay_integers_and_are_not_standardised() -> None:
    rows = RANDOM.integers(0, 60_000, (4, 12)).astype(np.uint16)
    statistics = Statistics(np.full((1,), 5, np.float32), np.full((1,), 2, np.float32), 10)
    found = Transform(tokens=True, statistics=statistics).inputs_(rows)
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found.numpy(), rows)


def test_targets() -> None:
    labels = np.array([[3], [1]], np.uint8)
    found = Transform(classification=True).targets_(labels)
    assert (found.dtype, found.tolist()) == (torch.int64, [3, 1])
    labels = np.array([[3, 1, 0], [1, 2, 5]], np.uint16)
    found = Transform(classification=True).targets_(labels)
    assert (found.dtype, found.tolist()) == (torch.int64, labels.tolist())
    values = np.array([[3, 1], [1, 2]], np.float64)
    found = Transform(classification=False).targets_(values)
    assert (found.dtype, found.tolist()) == (torch.float32, [[3, 1], [1, 2]])
