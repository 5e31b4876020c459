"""What the stages of a phase leave to go on from, and how it goes."""

import pytest
import torch

from app.storage.artifact_file import Provenance
from app.storage.networks import write_network
from app.storage.run_folder import RunFolder
from app.storage.stages import clear_checkpoints, drop_stages, newest_stage, stage_file

PROVENANCE = Provenance("phalanx", "0", "", "id", "thin")


@pytest.fixture
def folder(tmp_path):
    """Of a phase in a run folder, with five stages and what they were at work on."""
    folder = RunFolder(tmp_path).checkpoints("thin")
    for number in range(1, 6):
        write_network(stage_file(folder, number), {"a": torch.ones(2)}, {"kind": "mlp"}, {}, PROVENANCE)
        (folder / str(number)).mkdir()
        (folder / str(number) / "000000-00000002.h5").write_bytes(b"a state")
    return folder


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_newest_whole_file_counts(folder):
    assert newest_stage(folder) == 5
    assert newest_stage(folder.parent / "other") == 0
    path = stage_file(folder, 5)
    path.write_bytes(path.read_bytes()[:-20])
    assert newest_stage(folder) == 4
    (folder / "after-6.h5").mkdir()
    (folder / "after-x.h5").write_bytes(b"")
    assert newest_stage(folder) == 4


def test_what_is_older_is_dropped(folder):
    (folder / ".after-6.h5.4194305.part").write_bytes(b"half")
    drop_stages(folder, 4, keep=2)
    assert names(folder) == ["5/000000-00000002.h5", "after-3.h5", "after-4.h5", "after-5.h5"]
    assert not (folder / "4").exists()


def test_all_of_it_is_cleared_but_a_strangers_file(folder):
    (folder / "notes.txt").write_text("mine")
    removed = clear_checkpoints(folder)
    assert len(removed) == 10
    assert names(folder) == ["notes.txt"]
    (folder / "notes.txt").unlink()
    clear_checkpoints(folder)
    assert not folder.exists()


def test_a_fresh_start_clears_it(folder, tmp_path):
    run = RunFolder(tmp_path)
    assert run.has_checkpoints("thin")
    run.clear()
    assert not run.has_checkpoints("thin")
    assert not folder.exists()
