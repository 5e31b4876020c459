"""Constants against numpy's on the whole array, the same bits for any sharing, and bad values named."""

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import h5py
import numpy as np
import pytest

from app.data import statistics as statistics_module
from app.data.source import Source, open_source
from app.data.split import Split
from app.data.statistics import Statistics, scan
from app.errors import DataError


def made(folder: Path, inputs: np.ndarray, targets: np.ndarray | None, chunk: int = 16, **filters: object) -> Source:
    with h5py.File(folder / "a.h5", "w") as h5:
        h5.create_dataset("x", data=inputs, chunks=(min(chunk, len(inputs)), *inputs.shape[1:]), **filters)
        if targets is not None:
            h5["y"] = targets
    return open_source([folder / "a.h5"], "x", None if targets is None else "y")


def one(source: Source, split: Split, **changes: Any) -> Statistics:
    wanted: dict[str, Any] = {"axis": "channel", "channel_axis": 0, "classification": True, "memory_bytes": 2**20}
    return scan(source, split, member=0, members=1, gather=lambda share: [share], **(wanted | changes))


def shared(members: int, run: Callable[[int, Callable[[object], list[Any]]], Any]) -> list[Any]:
    """Run as `members` threads whose gather exchanges what each gave."""
    given: list[Any] = [None] * members
    barrier = Barrier(members)

    def member(number: int) -> Any:
        def gather(share: object) -> list[Any]:
            given[number] = share
            barrier.wait(60)
            return list(given)

        try:
            return run(number, gather)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(members) as pool:
        return list(pool.map(member, range(members)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("axis", "channel_axis", "over"),
    [("channel", 0, (0, 2, 3)), ("channel", -1, (0, 1, 2)), ("feature", None, (0,)), ("all", None, (0, 1, 2, 3))],
)
def test_constants_of_the_training_part(
    tmp_path: Path, dtype: type, axis: str, channel_axis: int | None, over: tuple[int, ...]
) -> None:
    inputs = np.random.default_rng(0).normal(100, 20, (500, 3, 5, 2)).astype(dtype)
    source = made(tmp_path, inputs, np.arange(500) % 7)
    split = Split(500, 0.2, 0.1, 3)
    found = one(source, split, axis=axis, channel_axis=channel_axis)
    train = inputs[split.members("train", 0, 500)].astype(np.float64)
    np.testing.assert_allclose(found.mean[None], train.mean(over, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(found.std[None], train.std(over, keepdims=True), rtol=1e-6)
    assert found.mean.dtype == found.std.dtype == np.float32
    assert found.samples == split.count("train")


def test_numbers_far_from_zero_keep_their_deviation(tmp_path: Path) -> None:
    inputs = 1e9 + np.random.default_rng(0).normal(0, 1, (3000, 4))
    found = one(made(tmp_path, inputs, None), Split(3000, 0, 0, 0), axis="feature")
    np.testing.assert_allclose(found.std, inputs.std(0), rtol=1e-6)


def test_a_constant_feature_has_no_deviation(tmp_path: Path) -> None:
    inputs = np.full((300, 3, 7), 0.1, np.float32)
    assert (one(made(tmp_path, inputs, None), Split(300, 0, 0, 0)).std == 0).all()


def test_classes_are_counted(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 5, (400, 1)).astype(np.uint8)
    split = Split(400, 0.3, 0.2, 1)
    labels[split.members("test", 0, 400)[0]] = 8  # a class that only the test part has is a class
    found = one(made(tmp_path, np.zeros((400, 2), np.uint8), labels), split, axis="none")
    assert found.classes == 9
    assert found.class_counts is not None
    train = labels[split.members("train", 0, 400), 0]
    np.testing.assert_array_equal(found.class_counts, np.bincount(train, minlength=9))
    assert (found.mean.tolist(), found.std.tolist()) == ([0], [1])


def test_targets_of_a_regression(tmp_path: Path) -> None:
    targets = np.random.default_rng(0).normal([5, -1e6], [1, 3], (400, 2))
    split = Split(400, 0.3, 0.2, 1)
    found = one(made(tmp_path, np.zeros((400, 2), np.uint8), targets), split, classification=False, axis="none")
    train = targets[split.members("train", 0, 400)]
    np.testing.assert_allclose(found.target_mean, train.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.target_std, train.std(0), rtol=1e-6)
    assert found.classes is None


@pytest.mark.parametrize("members", [1, 3])
def test_classes_of_positions_are_counted(tmp_path: Path, members: int) -> None:
    labels = np.random.default_rng(0).integers(0, 50, (400, 12)).astype(np.uint16)
    split = Split(400, 0.3, 0.2, 1)
    labels[split.members("test", 0, 400)[0], 7] = 60
    source = made(tmp_path, np.zeros((400, 12), np.uint8), labels)

    def run(member: int, gather: Callable[[object], list[Any]]) -> Statistics:
        return scan(
            source, split, axis="none", channel_axis=None, classification=True, per_position=True,
            member=member, members=members, gather=gather, memory_bytes=2**16,
        )  # fmt: skip

    for found in shared(members, run):
        assert (found.classes, found.samples) == (61, split.count("train"))
        train = labels[split.members("train", 0, 400)]
        np.testing.assert_array_equal(found.class_counts, np.bincount(train.reshape(-1), minlength=61))


def test_values_of_positions_have_constants_common_to_all(tmp_path: Path) -> None:
    targets = np.random.default_rng(0).normal([5, -1e6], [1, 3], (400, 9, 2))
    split = Split(400, 0.3, 0.2, 1)
    found = one(
        made(tmp_path, np.zeros((400, 9), np.uint8), targets),
        split,
        classification=False,
        axis="none",
        per_position=True,
    )
    train = targets[split.members("train", 0, 400)]
    np.testing.assert_allclose(found.target_mean, train.mean((0, 1))[None], rtol=1e-6)
    np.testing.assert_allclose(found.target_std, train.std((0, 1))[None], rtol=1e-6)


def test_targets_much_larger_than_inputs_are_taken_in_slices(tmp_path: Path) -> None:
    targets = np.random.default_rng(0).normal(size=(64, 16, 2048)).astype(np.float32)  # 8 MiB, and 64 bytes of inputs
    source = made(tmp_path, np.zeros((64, 1), np.uint8), targets, chunk=64)
    split = Split(64, 0, 0, 1)
    tracemalloc.start()
    found = one(source, split, classification=False, axis="none", per_position=True, memory_bytes=2**24)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found.target_std, targets.std((0, 1), dtype=np.float64)[None], rtol=1e-6)
    assert peak < 24 * 2**20, "a block of 8 MiB and what is kept of the file, but not both as float64"


@pytest.mark.parametrize("axis", ["channel", "feature"])
def test_the_same_bits_for_any_number_of_members(tmp_path: Path, axis: str) -> None:
    inputs = np.random.default_rng(0).normal(3, 1, (3000, 3, 4, 4)).astype(np.float32)
    source = made(tmp_path, inputs, np.random.default_rng(0).normal(size=3000), chunk=10)
    split = Split(3000, 0.2, 0.1, 3)
    results = []
    for members in (1, 2, 3, 5):

        def run(member: int, gather: Callable[[object], list[Any]], members: int = members) -> Statistics:
            return scan(
                source, split, axis=axis, channel_axis=0, classification=False,
                member=member, members=members, gather=gather, memory_bytes=2**16,
            )  # fmt: skip

        results += [(s.mean.tobytes(), s.std.tobytes(), s.target_mean.tobytes()) for s in shared(members, run)]
    assert len(results) == 11
    assert len(set(results)) == 1


def test_each_member_reads_only_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(tmp_path, np.zeros((6400, 64), np.float32), np.zeros(6400, np.int64), chunk=10)
    split = Split(6400, 0.2, 0.1, 3)
    read = []
    original = Source.read

    def counting(self: Source, start: int, inputs: np.ndarray, targets: np.ndarray | None = None) -> None:
        read.append((start, len(inputs)))
        original(self, start, inputs, targets)

    monkeypatch.setattr(Source, "read", counting)
    monkeypatch.setattr(statistics_module, "SEGMENTS", 8)
    for member in range(4):
        before = len(read)
        scan(
            source, split, axis="all", channel_axis=None, classification=True, member=member, members=4,
            gather=lambda share: [statistics_module_segments(share)], memory_bytes=2**16,
        )  # fmt: skip
        assert 0.15 < sum(count for _, count in read[before:]) / 6400 < 0.35
    assert sum(count for _, count in read) == 6400


def statistics_module_segments(share: dict[int, Any]) -> dict[int, Any]:
    """All eight segments, the missing ones as copies of one that is there."""
    return dict.fromkeys(range(8), next(iter(share.values()))) | share


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axis", ["channel", "none"])
@pytest.mark.parametrize("members", [1, 3])
def test_the_first_bad_value_is_named_on_every_member(tmp_path: Path, value: float, axis: str, members: int) -> None:
    inputs = np.zeros((2000, 3, 4), np.float32)
    split = Split(2000, 0.5, 0.4, 0)
    bad = [int(split.members(part, start, 2000)[0]) for part, start in (("validation", 700), ("train", 1500))]
    inputs[bad] = value
    source = made(tmp_path, inputs, None)

    def run(member: int, gather: Callable[[object], list[Any]]) -> Statistics:
        return scan(
            source, split, axis=axis, channel_axis=0, classification=True,
            member=member, members=members, gather=gather, memory_bytes=2**20,
        )  # fmt: skip

    for text in shared(members, run):
        assert f"a.h5: 'x' holds {np.float32(value)} in sample {bad[0]} (counted from 0)" in text


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (np.array([[0, 1, 2], [0, 1, -1]] * 20), "'y' holds the label -1 in sample 1 (counted from 0), expected 0 to"),
        (np.array([[0, 1, 2], [0, 3_000_000, 1]] * 20), "'y' holds the label 3000000 in sample 1"),
        (np.zeros((40, 3, 2), np.int64), "'y' has targets of shape (3, 2), expected one class label a sample, or one"),
        (np.zeros((40, 3)), "'y' has type float64, expected integers"),
    ],
)
def test_bad_labels_of_positions(tmp_path: Path, targets: np.ndarray, says: str) -> None:
    source = made(tmp_path, np.zeros((40, 3), np.float32), targets)
    with pytest.raises(DataError) as caught:
        one(source, Split(40, 0, 0, 0), axis="none", per_position=True)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "classification", "says"),
    [
        (np.array([0, 1, -1, 2] * 10), True, "'y' holds the label -1 in sample 2 (counted from 0), expected 0 to"),
        (np.array([0, 1, 2_000_000, 2] * 10), True, "'y' holds the label 2000000 in sample 2"),
        (np.array([0.0, 1.5] * 20), True, "'y' has type float64, expected integers 0, 1, 2, ... as class labels"),
        (np.zeros((40, 10), np.int64), True, "'y' has targets of shape (10,), expected one class label a sample"),
        (np.array([0.0, np.nan] * 20), False, "'y' holds nan in sample 1 (counted from 0)"),
        (np.array([0.0, 1e300] * 20), False, "'y' holds values too large for 32-bit floating point"),
    ],
)
def test_bad_targets(tmp_path: Path, targets: np.ndarray, classification: bool, says: str) -> None:
    source = made(tmp_path, np.zeros((40, 2), np.float32), targets)
    with pytest.raises(DataError) as caught:
        one(source, Split(40, 0, 0, 0), classification=classification, axis="none")
    assert says in str(caught.value)


def test_an_empty_training_part(tmp_path: Path) -> None:
    source = made(tmp_path, np.zeros((40, 2), np.float32), None)
    with pytest.raises(DataError, match="The training part is empty: 40 samples"):
        one(source, Split(40, 0.5, 0.5, 0), axis="all")


def test_tree_and_back(tmp_path: Path) -> None:
    source = made(tmp_path, np.ones((40, 2), np.float32), np.arange(40) % 3)
    for classification in (True, False):
        found = one(source, Split(40, 0, 0, 0), classification=classification, axis="feature")
        again = Statistics.from_tree(found.to_tree())
        for name, value in found.to_tree().items():
            np.testing.assert_array_equal(getattr(again, name), value)
