"""Batches: the same microbatches for any number of replicas, every sample once, bounded memory, threads that end."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.data import order
from app.data.batches import Batch, batches, reading
from app.data.memory import Memory
from app.data.source import Source, open_source
from app.data.split import Split
from app.data.transform import Transform
from app.errors import DataError
from app.plan.microbatches import steps_per_epoch

LENGTHS = (501, 64, 1, 438)
TOTAL = sum(LENGTHS)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """Four files, each laid out in another way; a sample's values and target are its number."""
    folder, files, start = tmp_path_factory.mktemp("set"), [], 0
    layouts: tuple[dict[str, Any], ...] = (
        {"chunks": (10, 2, 30), "compression": "gzip"},
        {},
        {"chunks": (1, 2, 30)},
        {"chunks": (7, 2, 8), "compression": "lzf"},
    )
    for number, (length, layout) in enumerate(zip(LENGTHS, layouts, strict=True)):
        values = np.arange(start, start + length)
        with h5py.File(folder / f"{number}.h5", "w") as h5:
            h5.create_dataset("x", data=np.tile(values[:, None, None], (1, 2, 30)).astype(np.float32), **layout)
            h5["y"] = values
        files.append(folder / f"{number}.h5")
        start += length
    with open_source(files, "x", "y") as opened:
        yield opened


def take(source: Source, part: str = "train", held: float = 0.2, **changes: Any) -> Iterator[Batch]:
    wanted: dict[str, Any] = {
        "seed": 1, "epoch": 0, "batch_size": 50, "microbatch_size": 8, "replica": 0, "replicas": 1,
        "memory_bytes": 120_000,
    }  # fmt: skip
    return batches(source, Split(TOTAL, held, 0.1, 5), part, Transform(), **(wanted | changes))


def samples(found: Iterator[Batch]) -> dict[tuple[int, int], list[int]]:
    """Sample numbers by (step, microbatch), after checking that tensors hold those samples."""
    result = {}
    for batch in found:
        for number, size, inputs, targets, numbers in batch.microbatches:
            assert inputs is not None
            assert targets is not None
            assert numbers is not None
            assert size == len(numbers)
            assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
            assert inputs.shape == (len(numbers), 2, 30)
            np.testing.assert_array_equal(inputs.numpy(), np.tile(numbers[:, None, None], (1, 2, 30)))
            np.testing.assert_array_equal(targets.numpy(), numbers)
            assert (batch.step, number) not in result
            result[batch.step, number] = numbers.tolist()
    return result


def expected(part: str, held: float = 0.2) -> list[int]:
    return Split(TOTAL, held, 0.1, 5).members(part, 0, TOTAL).tolist()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(1, 300),
    microbatch_size=st.integers(1, 90),
    replicas=st.integers(2, 5),
    memory_bytes=st.sampled_from([200_000, 1_000_000, 100_000_000]),
    shuffle=st.booleans(),
    part=st.sampled_from(["train", "validation", "test", "all"]),
)
def test_replicas_share_the_same_microbatches(source: Source, replicas: int, part: str, **given_: Any) -> None:
    given_["memory_bytes"] += 4000 * -(-given_["batch_size"] // given_["microbatch_size"])  # a chunk a lane must fit
    alone = samples(take(source, part, **given_))
    shares = [samples(take(source, part, replica=r, replicas=replicas, **given_)) for r in range(replicas)]
    together = {key: numbers for share in shares for key, numbers in share.items()}
    assert sum(map(len, shares)) == len(together)
    assert together == alone
    assert all(number % replicas == r for r, share in enumerate(shares) for _, number in share)
    assert sorted(n for numbers in alone.values() for n in numbers) == expected(part)
    count, size, micro = len(expected(part)), given_["batch_size"], given_["microbatch_size"]
    for (step, number), numbers in alone.items():
        full = min(size, count - step * size)
        assert len(numbers) == min(micro, full - number * micro)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("replicas", [1, 3])
def test_an_epoch_goes_on_where_it_stopped(source: Source, shuffle: bool, replicas: int) -> None:
    for replica in range(replicas):
        where = {"shuffle": shuffle, "replica": replica, "replicas": replicas}
        whole = samples(take(source, **where))
        for start in range(steps_per_epoch(len(expected("train")), 50) + 1):
            rest = samples(take(source, start_step=start, **where))
            assert rest == {key: numbers for key, numbers in whole.items() if key[0] >= start}


def test_file_order(source: Source) -> None:
    found = samples(take(source, shuffle=False))
    assert [n for key in sorted(found) for n in found[key]] == expected("train")


def test_order_depends_on_seed_and_epoch_and_is_mixed(source: Source) -> None:
    first = samples(take(source, memory_bytes=2**24))
    assert samples(take(source, memory_bytes=2**24)) == first
    for changes in ({"seed": 2}, {"epoch": 1}):
        other = samples(take(source, memory_bytes=2**24, **changes))
        assert sum(numbers == first[key] for key, numbers in other.items()) == 0
    places = np.array([n for key in sorted(first) for n in first[key]])
    assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.15


def test_every_replica_gets_every_batch(source: Source) -> None:
    count = len(expected("train"))
    for replica in range(9):
        found = list(take(source, replica=replica, replicas=9))  # seven lanes: two replicas own none
        assert [batch.step for batch in found] == list(range(-(-count // 50)))
        assert sum(batch.size for batch in found) == count


def test_an_empty_part_has_no_batches(source: Source) -> None:
    assert list(take(source, "validation", held=0.0)) == []


def test_tensors_stay_when_the_epoch_goes_on(source: Source) -> None:
    kept = list(take(source))
    assert samples(iter(kept)).keys() == samples(take(source)).keys()


@pytest.mark.parametrize("shuffle", [True, False])
def test_replicas_read_only_their_blocks(source: Source, monkeypatch: pytest.MonkeyPatch, shuffle: bool) -> None:
    read: list[tuple[int, int]] = []
    original = Source.read

    def counting(self: Source, start: int, inputs: np.ndarray, targets: np.ndarray | None = None) -> None:
        read.append((start, start + len(inputs)))
        original(self, start, inputs, targets)

    monkeypatch.setattr(Source, "read", counting)
    sizes = {"batch_size": 400, "microbatch_size": 100, "memory_bytes": 400_000, "shuffle": shuffle}
    blocks = reading(source, replica=0, replicas=1, **sizes).blocks
    starts, stops = blocks.bounds(np.arange(blocks.count))
    for replica in range(4):
        read.clear()
        found = samples(take(source, replica=replica, replicas=4, **sizes))
        mine = np.searchsorted(stops, [n for numbers in found.values() for n in numbers], side="right")
        assert set(read) == {(int(starts[b]), int(stops[b])) for b in mine}
        assert len(read) <= len(set(read)) + (2 if not shuffle else 0)  # a block at a window's end may be read again


@pytest.mark.parametrize("memory_bytes", [100_000, 300_000, 10_000_000])
@pytest.mark.parametrize(("batch_size", "microbatch_size"), [(8, 8), (64, 8), (64, 64)])
def test_memory_is_bounded(
    source: Source, monkeypatch: pytest.MonkeyPatch, memory_bytes: int, batch_size: int, microbatch_size: int
) -> None:
    lent: list[int] = []
    original = Memory.lend
    monkeypatch.setattr(Memory, "lend", lambda self, size: (lent.append(size), original(self, size))[1])
    sizes = {"batch_size": batch_size, "microbatch_size": microbatch_size, "memory_bytes": memory_bytes}
    for replicas in (1, 2, 4):
        plan = reading(source, replica=0, replicas=replicas, shuffle=True, **sizes)
        samples(take(source, replicas=replicas, **sizes))
        assert lent.pop() <= plan.peak_bytes <= memory_bytes


@pytest.mark.parametrize("memory_bytes", [300_000, 10_000_000])
def test_memory_is_used_again(source: Source, monkeypatch: pytest.MonkeyPatch, memory_bytes: int) -> None:
    made: list[int] = []
    original = np.empty

    def counting(*args: Any, **kwargs: Any) -> np.ndarray:
        found = original(*args, **kwargs)
        if found.nbytes > memory_bytes // 10:
            made.append(found.nbytes)
        return found

    fresh = open_source(source.files, "x", "y")
    monkeypatch.setattr("app.data.memory.np.empty", counting)
    for epoch in range(4):
        for batch in take(fresh, batch_size=8, microbatch_size=4, epoch=epoch, memory_bytes=memory_bytes):
            assert batch.microbatches
    assert len(made) == 1
    fresh.close()


def test_chunks_too_large_for_the_memory(source: Source) -> None:
    with pytest.raises(DataError) as caught:
        next(take(source, batch_size=800, memory_bytes=100_000))
    assert "is read in blocks of" in str(caught.value)
    assert "but 0.1 MiB are allowed; allow more memory" in str(caught.value)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reading"]


def test_an_epoch_left_behind_ends_its_thread(source: Source) -> None:
    assert reading_threads() == []
    found = take(source)
    next(found)
    assert len(reading_threads()) == 1
    begin = time.monotonic()
    found.close()  # type: ignore[attr-defined]
    assert reading_threads() == []
    assert time.monotonic() - begin < 5
    found = take(source)
    next(found)
    del found
    assert reading_threads() == []


def test_damage_met_by_the_thread_reaches_the_consumer(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        values = np.random.default_rng(0).normal(size=(TOTAL, 2, 30)).astype(np.float32)
        h5.create_dataset("x", data=values, chunks=(10, 2, 30), compression="gzip")
        h5["y"] = np.arange(TOTAL)
        chunk = h5["x"].id.get_chunk_info(60)
    with (tmp_path / "a.h5").open("r+b") as raw:
        raw.seek(chunk.byte_offset + 100)
        raw.write(b"\xff\x00" * 20)
    with open_source([tmp_path / "a.h5"], "x", "y") as damaged:
        with pytest.raises(DataError, match="of 'x' could not be read"):
            list(take(damaged))
        assert reading_threads() == []


def test_without_targets(source: Source) -> None:
    with open_source(source.files, "x", None) as alone:
        first = next(take(alone)).microbatches[0]
        assert first.targets is None
        assert first.inputs is not None
        np.testing.assert_array_equal(first.inputs[:, 0, 0].numpy(), first.samples)


def test_huge_sets_need_no_array_of_their_length() -> None:
    """A hundred million samples: the plan of an epoch touches blocks and windows only."""
    from app.data.blocks import Blocks

    blocks = Blocks((100_000_000,), (4096,))
    split = Split(100_000_000, 0.0, 0.0, 0)
    epoch = order.epoch_order(blocks, split, "train", split.before("train", blocks.edges()), 0, 0, True)
    lanes = order.lanes(100_000_000, 1000, 100)
    window = next(order.shuffled_windows(epoch, lanes[7], 50_000, 4, 2, 0, 0))
    assert len(window.samples) <= 4 * 4096
    assert window.place.step == 50_000
    assert len(np.unique(window.samples)) == len(window.samples)
