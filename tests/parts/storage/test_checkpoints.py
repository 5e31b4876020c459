"""The newest whole checkpoint is found, whatever happened to the others."""

import pytest
import torch

from app.errors import ArtifactError
from app.storage.artifact_file import Provenance
from app.storage.checkpoints import Checkpoints

PROVENANCE = Provenance("phalanx", "0.1.0", "", "run", "teacher")


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints" / "teacher")


def write(checkpoints, epoch, step):
    tree = {"w": torch.full((3,), float(step)), "epoch": "a key of the user's"}
    return checkpoints.write(tree, provenance=PROVENANCE, phase="teacher", epoch=epoch, step=step)


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def damage(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def test_none_before_the_first(checkpoints):
    assert checkpoints.newest() is None
    checkpoints.folder.mkdir(parents=True)
    assert checkpoints.newest() is None
    assert checkpoints.passed_over == ()


def test_the_newest_two_are_kept(checkpoints):
    for epoch, step in [(0, 5), (0, 10), (1, 0), (10, 3)]:
        assert write(checkpoints, epoch, step).name == f"{epoch:06d}-{step:08d}.h5"
    assert names(checkpoints) == ["000001-00000000.h5", "000010-00000003.h5"]
    found = checkpoints.newest()
    assert (found.epoch, found.step) == (10, 3)
    assert found.tree["w"].tolist() == [3, 3, 3]
    assert found.tree["epoch"] == "a key of the user's"
    assert found.header.provenance == PROVENANCE


def test_numbers_beyond_the_width_of_a_name_are_still_in_order(checkpoints):
    write(checkpoints, 999_999, 1)
    write(checkpoints, 1_000_000, 0)
    assert checkpoints.newest().epoch == 1_000_000


def test_a_damaged_one_is_passed_over(checkpoints):
    write(checkpoints, 0, 1)
    damage(write(checkpoints, 0, 2))
    assert checkpoints.newest().step == 1
    (passed,) = checkpoints.passed_over
    assert passed.path.name == "000000-00000002.h5"
    assert "checksum" in passed.reason


def test_an_empty_and_a_foreign_file_are_passed_over(checkpoints):
    write(checkpoints, 0, 1)
    (checkpoints.folder / "000000-00000007.h5").write_bytes(b"")
    (checkpoints.folder / "000000-00000009.h5").mkdir()
    assert checkpoints.newest().step == 1
    assert [passed.path.name for passed in checkpoints.passed_over] == ["000000-00000007.h5"]


def test_when_all_are_damaged_all_are_listed(checkpoints):
    damage(write(checkpoints, 0, 1))
    damage(write(checkpoints, 0, 2))
    with pytest.raises(ArtifactError) as caught:
        checkpoints.newest()
    assert len(caught.value.problems) == 3
    assert "none of its 2 checkpoints is whole" in caught.value.problems[0]
    assert "000000-00000001.h5" in caught.value.problems[2]
    assert len(checkpoints.passed_over) == 2


def test_after_going_back_the_next_one_written_is_the_newest(checkpoints):
    write(checkpoints, 0, 10)
    damage(write(checkpoints, 0, 20))
    assert checkpoints.newest().step == 10
    write(checkpoints, 0, 15)
    assert names(checkpoints) == ["000000-00000010.h5", "000000-00000015.h5"]
    assert checkpoints.newest().step == 15
    assert checkpoints.passed_over == ()


def test_the_same_place_again_replaces(checkpoints):
    write(checkpoints, 0, 1)
    write(checkpoints, 0, 1)
    assert names(checkpoints) == ["000000-00000001.h5"]


def test_clearing_leaves_what_is_not_a_checkpoint(checkpoints):
    write(checkpoints, 0, 1)
    (checkpoints.folder / "notes.txt").write_text("mine")
    assert [path.name for path in checkpoints.clear()] == ["000000-00000001.h5"]
    assert names(checkpoints) == ["notes.txt"]
    (checkpoints.folder / "notes.txt").unlink()
    checkpoints.clear()
    assert not checkpoints.folder.exists()
    assert checkpoints.clear() == ()
