"""Batches of which a pipeline's stage wants a part: the other part is not read, and the order is the same."""

import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from app.data import joined
from app.data.batches import BOTH, Batch, Microbatch, batches, reading
from app.data.memory import Memory
from app.data.source import Source, open_source
from app.data.split import Split
from app.data.transform import Transform
from app.errors import DataError

INPUTS, TARGETS, NOTHING = frozenset({"inputs"}), frozenset({"targets"}), frozenset[str]()
LENGTHS = (403, 17, 580)
TOTAL = sum(LENGTHS)
# Chunks of inputs and of targets, for each file; None: no chunks.
CHUNKS: tuple[tuple[int | None, int | None], ...] = ((10, 64), (None, 5), (7, 100))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Compressed chunks that do not fall together, and targets about as large as inputs, so that both shape windows."""
    folder, values = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    found = []
    for length, chunks in zip(LENGTHS, CHUNKS, strict=True):
        found.append(folder / f"{len(found)}.h5")
        with h5py.File(found[-1], "w") as h5:
            for name, width, rows in zip(("x", "y"), (24, 17), chunks, strict=True):
                layout = {"chunks": (rows, width), "compression": "gzip"} if rows else {}
                h5.create_dataset(name, data=values.normal(size=(length, width)).astype(np.float32), **layout)
    return found


@pytest.fixture
def source(files: list[Path]) -> Iterator[Source]:
    """Targets are not kept in memory, or the choice of blocks would not have to think of them."""
    with open_source(files, "x", "y", cache_bytes=0) as opened:
        yield opened


def take(source: Source, wants: frozenset[str], **changes: Any) -> Iterator[Batch]:
    """Of the 700 samples for training: the last microbatch of a batch and the last batch are uneven."""
    given: dict[str, Any] = {
        "seed": 3, "epoch": 1, "batch_size": 60, "microbatch_size": 8, "replica": 0, "replicas": 1,
        "memory_bytes": 500_000,
    }  # fmt: skip
    split = Split(source.length, 0.2, 0.1, 5)
    return batches(source, split, "train", Transform(classification=False), wants=wants, **(given | changes))


def flat(found: Iterator[Batch]) -> list[tuple[int, int, Microbatch]]:
    return [(batch.step, batch.size, microbatch) for batch in found for microbatch in batch.microbatches]


@pytest.mark.parametrize("memory_bytes", [200_000, 500_000, 20_000_000])
@pytest.mark.parametrize("start_step", [0, 5])
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_inputs_and_targets_read_apart_belong_together(
    source: Source, shuffle: bool, replicas: int, start_step: int, memory_bytes: int
) -> None:
    given = {"shuffle": shuffle, "replicas": replicas, "start_step": start_step, "memory_bytes": memory_bytes}
    for replica in range(replicas):
        both, inputs, targets, nothing = (
            flat(take(source, wants, replica=replica, **given)) for wants in (BOTH, INPUTS, TARGETS, NOTHING)
        )
        for whole, first, last, middle in zip(both, inputs, targets, nothing, strict=True):
            assert whole[:2] == first[:2] == last[:2] == middle[:2]
            number, size, wanted_inputs, wanted_targets, samples = whole[2]
            assert len(wanted_inputs) == len(wanted_targets) == len(samples) == size
            assert middle[2] == (number, size, None, None, None)
            assert first[2][:2] == last[2][:2] == (number, size)
            assert (first[2].targets, last[2].inputs) == (None, None)
            torch.testing.assert_close(first[2].inputs, wanted_inputs, rtol=0, atol=0)
            torch.testing.assert_close(last[2].targets, wanted_targets, rtol=0, atol=0)
            np.testing.assert_array_equal(first[2].samples, samples)
            np.testing.assert_array_equal(last[2].samples, samples)


def test_parts_are_of_their_samples(source: Source, files: list[Path]) -> None:
    stored: dict[str, np.ndarray] = {}
    for name in "xy":
        parts = []
        for file in files:
            with h5py.File(file) as h5:
                parts.append(h5[name][:])
        stored[name] = np.concatenate(parts)
    for _, _, microbatch in flat(take(source, INPUTS)):
        np.testing.assert_array_equal(microbatch.inputs, stored["x"][microbatch.samples])
    for _, _, microbatch in flat(take(source, TARGETS)):
        np.testing.assert_array_equal(microbatch.targets, stored["y"][microbatch.samples])


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
@pytest.mark.parametrize(("wants", "names"), [(BOTH, {"x", "y"}), (INPUTS, {"x"}), (TARGETS, {"y"}), (NOTHING, set())])
def test_only_what_is_wanted_is_opened(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, wants: frozenset[str], names: set[str], cache_bytes: int
) -> None:
    opened: set[str] = set()
    original = joined.open_rows

    def noting(file: Path, dataset: str, **options: Any) -> Any:
        opened.add(dataset)
        return original(file, dataset, **options)

    monkeypatch.setattr(joined, "open_rows", noting)
    with open_source(files, "x", "y", cache_bytes=cache_bytes) as source:
        found = take(source, wants)
        next(found)
        threads = [thread for thread in threading.enumerate() if thread.name == "reading"]
        assert len(threads) == bool(wants)
        assert sum(1 for _ in found) > 5
    assert opened == names


@pytest.mark.parametrize(("damaged", "other", "hit"), [("x", TARGETS, INPUTS), ("y", INPUTS, TARGETS)])
def test_damage_of_the_other_part_is_not_met(tmp_path: Path, damaged: str, other: frozenset, hit: frozenset) -> None:
    values = np.random.default_rng(0).normal(size=(300, 30)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        for name in "xy":
            h5.create_dataset(name, data=values, chunks=(10, 30), compression="gzip")
        chunk = h5[damaged].id.get_chunk_info(20)
    with (tmp_path / "a.h5").open("r+b") as raw:
        raw.seek(chunk.byte_offset + 100)
        raw.write(b"\xff\x00" * 20)
    with open_source([tmp_path / "a.h5"], "x", "y") as source:
        assert sum(microbatch.size for _, _, microbatch in flat(take(source, other))) == 210
        with pytest.raises(DataError, match=f"of '{damaged}' could not be read"):
            flat(take(source, hit))


def test_large_inputs_cost_a_reader_of_targets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk_bytes, memory_bytes = 16 * 2**20, 2**20
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("x", data=np.zeros((512, 16384), np.float32), chunks=(256, 16384), compression="gzip")
        h5["y"] = np.arange(512)
    lent: list[int] = []
    original = Memory.lend
    monkeypatch.setattr(Memory, "lend", lambda self, size: (lent.append(size), original(self, size))[1])
    sizes: dict[str, Any] = {"batch_size": 32, "microbatch_size": 8, "replica": 0, "replicas": 1, "shuffle": True}
    with open_source([tmp_path / "a.h5"], "x", "y") as source:
        for wants in (BOTH, INPUTS):
            with pytest.raises(DataError, match="'x' is read in blocks of 16.0 MiB"):
                reading(source, wants=wants, memory_bytes=memory_bytes, **sizes)
        with pytest.raises(DataError, match="'y' is read in blocks of"):
            reading(source, wants=TARGETS, memory_bytes=1000, **sizes)
        assert reading(source, wants=NOTHING, memory_bytes=1, **sizes).peak_bytes == 0
        plan = reading(source, wants=TARGETS, memory_bytes=memory_bytes, **sizes)
        tracemalloc.start()
        found = flat(take(source, TARGETS, memory_bytes=memory_bytes, **sizes))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(found) > 40
    assert lent.pop() <= plan.peak_bytes <= memory_bytes
    assert used < memory_bytes < chunk_bytes


def test_no_target_to_want(source: Source) -> None:
    with open_source(source.files, "x", None) as alone:
        assert all(microbatch[2:] == (None, None, None) for _, _, microbatch in flat(take(alone, TARGETS)))


def test_unknown_wishes(source: Source) -> None:
    with pytest.raises(ValueError, match="labels"):
        next(take(source, frozenset({"labels"})))
