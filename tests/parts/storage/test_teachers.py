"""What teachers give: written in shards by several ranks, found by sample number, whoever reads."""

import numpy as np
import pytest

from app.errors import ArtifactError
from app.storage import teachers
from app.storage.artifact_file import Provenance
from app.storage.run_folder import RunFolder
from app.storage.teachers import ShardWriter, examine, open_rows, shard_paths

PROVENANCE = Provenance("phalanx", "0.1.0", "", "run", "student")
SAMPLES = np.random.default_rng(0).permutation(1000)[:90]  # 90 of a thousand are for training


def outputs(samples):
    return np.stack([samples, -samples], 1).astype(np.float32)


def layer(samples):
    return (samples[:, None, None] * np.ones((1, 3, 2))).astype(np.float32)


def written(folder, ranks, limit=1 << 20, key="key"):
    """Every rank writes what it has, in ascending pieces; the odd ones have the layer as well."""
    for rank in range(ranks):
        writer = ShardWriter(folder, rank, key, PROVENANCE, limit)
        for piece in np.array_split(np.sort(SAMPLES)[rank::ranks], 4):
            writer.add(piece, {"outputs": outputs(piece)} | ({"layer a/b": layer(piece)} if rank % 2 else {}))
        writer.flush()
    return [examine(path) for path in shard_paths(folder)]


@pytest.mark.parametrize("memory", [0, 1 << 30])
@pytest.mark.parametrize("limit", [1, 100, 1 << 20])
@pytest.mark.parametrize("ranks", [1, 3])
def test_rows_are_found_in_any_order(tmp_path, ranks, limit, memory):
    shards = written(tmp_path, ranks, limit)
    assert len(shards) >= (ranks if limit == 1 << 20 else 2 * ranks)
    (rows,) = open_rows([(shards, "outputs")], memory)
    assert rows.shape == (2,)
    for wanted in (SAMPLES, SAMPLES[:7], np.repeat(SAMPLES[5:6], 3)):
        found = rows.take(wanted)
        assert found.dtype == np.float32
        assert np.array_equal(found, outputs(wanted))


def test_a_subject_comes_from_the_shards_that_have_it(tmp_path):
    shards = written(tmp_path, 2)
    here = np.sort(SAMPLES)[1::2]
    (rows,) = open_rows([(shards, "layer a/b")], 0)
    assert np.array_equal(rows.take(here[::-1]), layer(here[::-1]))
    with pytest.raises(ArtifactError, match=f"of sample {np.sort(SAMPLES)[0]} it is not stored"):
        rows.take(np.sort(SAMPLES)[:2])


def test_little_memory_maps_the_files(tmp_path):
    shards = written(tmp_path, 2)
    size = sum(one.rows["outputs"].bytes + one.samples.bytes for one in shards)
    assert size == 90 * (2 * 4 + 8)
    pieces = [open_rows([(shards, "outputs")], memory)[0]._pieces for memory in (size, size - 1)]
    assert [isinstance(piece[0][3], np.memmap) for piece in pieces] == [False, True]
    assert [len(piece) for piece in pieces] == [1, 2]


def test_what_is_not_whole_is_no_shard(tmp_path):
    written(tmp_path, 2)
    first, second = shard_paths(tmp_path)
    content = bytearray(first.read_bytes())
    content[-20] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:-1])
    (tmp_path / "00007-00000.h5").write_bytes(b"something else")
    assert [examine(path) for path in shard_paths(tmp_path)] == [None] * 3


def test_a_file_that_is_gone_is_said(tmp_path):
    shards = written(tmp_path, 1)
    shards[0].path.unlink()
    with pytest.raises(ArtifactError, match=r"00000-00000\.h5: was whole a moment ago"):
        open_rows([(shards, "outputs")], 0)


def test_clear_deletes_shards_alone(tmp_path):
    written(tmp_path / "one", 2)
    (tmp_path / "one" / "mine.h5").write_bytes(b"")
    teachers.clear(tmp_path / "one")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["mine.h5"]


def test_a_fresh_start_takes_the_shards_along(tmp_path):
    folder = RunFolder(tmp_path / "run")
    written(folder.teacher("one"), 2)
    written(folder.teacher("two"), 1)
    (folder.teacher("two") / "mine.txt").write_text("text")
    removed, left = folder.clear()
    assert len(removed) == 3
    assert left == (folder.teacher("two"),)
    assert not folder.teacher("one").exists()
