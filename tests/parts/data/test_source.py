"""Several files as one set, and what is wrong with them."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from app.data import joined
from app.data.source import open_source
from app.errors import DataError


def write(file: Path, inputs: np.ndarray, targets: np.ndarray, chunk: int = 8, **filters: object) -> Path:
    with h5py.File(file, "w") as h5:
        h5.create_dataset("x", data=inputs, chunks=(min(chunk, len(inputs)), *inputs.shape[1:]), **filters)
        h5.create_dataset("y", data=targets)
    return file


def numbered(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(np.arange(start, stop, dtype=np.float32)[:, None], 3, 1), np.arange(start, stop)


def refusal(*args: object, **kwargs: object) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        open_source(*args, **kwargs)
    return caught.value.problems


@pytest.mark.parametrize("open_files", [1, 16])
@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_files_are_one_run_of_samples(
    tmp_path: Path, open_files: int, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "OPEN_FILES", open_files)
    edges = [0, 20, 21, 60]
    files = [write(tmp_path / f"{a}.h5", *numbered(a, b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    with open_source(files, "x", "y", cache_bytes=cache_bytes) as source:
        assert (source.length, source.sample_shape, source.target_shape) == (60, (3,), ())
        assert (source.dtype, source.target_dtype) == (np.float32, np.int64)
        for start, stop in ((0, 60), (18, 22), (20, 21), (59, 60), (3, 50)):
            inputs, targets = np.zeros((stop - start, 3), np.float32), np.zeros(stop - start, np.int64)
            source.read(start, inputs, targets)
            wanted = numbered(start, stop)
            np.testing.assert_array_equal(inputs, wanted[0])
            np.testing.assert_array_equal(targets, wanted[1])
        assert source.where(20) == (files[1], 0)
        with pytest.raises(DataError, match="sample 60 was asked for, all files have 60"):
            source.read(58, np.zeros((4, 3), np.float32))


def test_without_targets(tmp_path: Path) -> None:
    source = open_source([write(tmp_path / "a.h5", *numbered(0, 5))], "x", None)
    assert (source.target_shape, source.target_dtype) == (None, None)


def test_lengths_differ(tmp_path: Path) -> None:
    file = write(tmp_path / "a.h5", numbered(0, 5)[0], np.arange(7))
    (problem,) = refusal([file], "x", "y")
    assert "'x' has 5 samples but 'y' has 7" in problem


def test_every_bad_file_is_named(tmp_path: Path) -> None:
    good = write(tmp_path / "good.h5", *numbered(0, 5))
    shape = write(tmp_path / "shape.h5", np.zeros((5, 4), np.float32), np.arange(5))
    dtype = write(tmp_path / "type.h5", np.zeros((5, 3), np.float64), np.arange(5))
    gone = tmp_path / "gone.h5"
    problems = refusal([good, shape, dtype, gone], "x", "y")
    assert [problem.split(":")[0] for problem in problems] == [str(shape), str(dtype), str(gone)]
    assert "samples of shape (4,) and type float32, but" in problems[0]
    assert refusal([], "x", "y")


def test_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.h5", *numbered(0, 5))
    first = open_source([file], "x", "y").fingerprint
    assert open_source([file], "x", "y").fingerprint == first
    write(file, *numbered(0, 6))
    assert open_source([file], "x", "y").fingerprint != first


def test_a_file_that_became_shorter_is_noticed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.h5", *numbered(0, 50))
    source = open_source([file], "x", "y")
    write(file, *numbered(0, 40))
    with pytest.raises(DataError, match="now has 40 samples, it had 50"):
        source.read(0, np.zeros((50, 3), np.float32))


def test_large_chunks_of_targets_are_followed_or_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("x", data=np.zeros((4096, 256), np.float32), chunks=(16, 256), compression="gzip")
        h5.create_dataset("y", data=np.arange(4096), chunks=(1024,), compression="gzip")
    kept = open_source([tmp_path / "a.h5"], "x", "y", cache_bytes=2**20)
    assert kept.blocks(2**24).rows == (16,)  # all targets stay in memory: their chunks do not matter
    assert kept.block_notes(2**18) == ()
    source = open_source([tmp_path / "a.h5"], "x", "y", cache_bytes=1000)
    assert source.blocks(2**24).rows == (1024,)
    assert source.block_notes(2**24) == ()
    (note,) = source.block_notes(2**18)
    assert "each chunk of 'y' (1024 samples) is read about 5 times an epoch" in note
