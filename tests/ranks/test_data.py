"""Data over ranks: the same constants to the bit, and replicas whose microbatches together are the epoch."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from app.data.batches import BOTH, batches
from app.data.source import Source, open_source
from app.data.split import Split
from app.data.statistics import scan
from app.data.transform import Transform
from app.errors import DataError
from app.parallel import world
from app.plan.microbatches import steps_per_epoch

pytestmark = pytest.mark.mpi

COUNT = 1203
SPLIT = Split(COUNT, 0.15, 0.1, 7)


@pytest.fixture(scope="module")
def here():
    return world.start()


@pytest.fixture
def file(here, tmp_path):
    """A file that all ranks read, made by rank 0."""
    found = Path(here.bcast(str(tmp_path / "set.h5")))
    if here.rank == 0:
        values = np.random.default_rng(0)
        with h5py.File(found, "w") as h5:
            inputs = values.normal(3, 2, (COUNT, 3, 4, 4)).astype(np.float32)
            h5.create_dataset("x", data=inputs, chunks=(16, 3, 4, 4), compression="gzip")
            h5["y"] = values.integers(0, 10, COUNT)
    here.barrier()
    yield found
    here.barrier()


def scanned(source: Source, member, members, gather):
    return scan(
        source, SPLIT, axis="channel", channel_axis=0, classification=True,
        member=member, members=members, gather=gather, memory_bytes=2**20,
    )  # fmt: skip


def test_constants_are_the_same_bits_as_on_one_rank(here, file):
    with open_source([file], "x", "y") as source:
        alone = scanned(source, 0, 1, lambda share: [share])
        together = scanned(source, here.rank, here.size, here.allgather)
    for name, value in alone.to_tree().items():
        np.testing.assert_array_equal(getattr(together, name), value, strict=True)


def test_a_bad_value_is_told_on_every_rank(here, file):
    if here.rank == 0:
        with h5py.File(file, "a") as h5:
            h5["x"][1000, 1, 2, 3] = np.nan
    here.barrier()
    with open_source([file], "x", "y") as source, pytest.raises(DataError) as caught:
        scanned(source, here.rank, here.size, here.allgather)
    texts = here.allgather(str(caught.value))
    assert len(set(texts)) == 1
    assert f"{os.path.basename(file)}: 'x' holds nan in sample 1000" in texts[0]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("part", ["train", "test"])
def test_replicas_together_are_the_epoch(here, file, shuffle, part):
    wanted = {
        "seed": 7,
        "epoch": 2,
        "batch_size": 100,
        "microbatch_size": 16,
        "shuffle": shuffle,
        "memory_bytes": 2**20,
    }
    with open_source([file], "x", "y") as source:
        alone, mine = (
            [
                (
                    batch.step,
                    micro.number,
                    micro.inputs.numpy().tobytes(),
                    micro.targets.tolist(),
                    micro.samples.tolist(),
                )
                for batch in batches(source, SPLIT, part, Transform(), replica=rank, replicas=size, **wanted)
                for micro in batch.microbatches
            ]
            for rank, size in ((0, 1), (here.rank, here.size))
        )
    together = sorted(micro for share in here.allgather(mine) for micro in share)
    assert together == sorted(alone)
    assert sorted(n for micro in together for n in micro[4]) == SPLIT.members(part, 0, COUNT).tolist()
    assert {micro[0] for micro in together} == set(range(steps_per_epoch(SPLIT.count(part), 100)))


@pytest.mark.parametrize("shuffle", [True, False])
def test_stages_read_apart_what_belongs_together(here, file, shuffle):
    """The world as one pipeline: the first rank reads inputs, the last targets, those between nothing."""
    wants = frozenset({"inputs"} if here.rank == 0 else ()) | frozenset(
        {"targets"} if here.rank == here.size - 1 else ()
    )
    given = {
        "seed": 7,
        "epoch": 2,
        "batch_size": 100,
        "microbatch_size": 16,
        "replica": 0,
        "replicas": 1,
        "shuffle": shuffle,
        "memory_bytes": 2**18,
    }
    with open_source([file], "x", "y") as source:
        alone, mine = (
            [
                (
                    batch.step,
                    micro.number,
                    micro.size,
                    None if micro.inputs is None else micro.inputs.numpy().tobytes(),
                    None if micro.targets is None else micro.targets.tolist(),
                    None if micro.samples is None else micro.samples.tolist(),
                )
                for batch in batches(source, SPLIT, "train", Transform(), wants=wanted, **given)
                for micro in batch.microbatches
            ]
            for wanted in (BOTH, wants)
        )
    for whole, *stages in zip(alone, *here.allgather(mine), strict=True):
        assert all(stage[:3] == whole[:3] for stage in stages)
        assert (stages[0][3], stages[0][5]) == (whole[3], whole[5])
        assert stages[-1][4:] == whole[4:]
        assert all(stage[3:] == (None, None, None) for stage in stages[1:-1])
