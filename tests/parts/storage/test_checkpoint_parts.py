"""A checkpoint of several files is used when all of them are there and whole, whoever was killed when."""

import pytest
import torch

from app.errors import ArtifactError
from app.storage.artifact_file import Provenance
from app.storage.checkpoints import Checkpoints, merge_parts

PROVENANCE = Provenance("phalanx", "0.1.0", "", "run", "teacher")


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints" / "teacher")


def write(checkpoints, step, part, parts, epoch=0):
    """One part, as a stage would: its layer, and what all of them know."""
    tree = {"weights": {f"layer{part}": torch.full((3,), float(step))}, "step": step}
    return checkpoints.write(
        tree, provenance=PROVENANCE, phase="teacher", epoch=epoch, step=step, part=part, parts=parts
    )


def write_set(checkpoints, step, parts, epoch=0):
    paths = [write(checkpoints, step, part, parts, epoch) for part in range(parts)]
    checkpoints.drop(epoch, step)
    return paths


def names(checkpoints):
    return sorted(path.name.removeprefix("000000-000000").removesuffix(".h5") for path in checkpoints.folder.iterdir())


def damage(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def test_the_parts_are_merged(checkpoints):
    paths = write_set(checkpoints, 5, 3)
    assert [path.name for path in paths] == [f"000000-00000005.{part}of3.h5" for part in (1, 2, 3)]
    found = checkpoints.newest()
    assert list(found.tree["weights"]) == ["layer0", "layer1", "layer2"]
    assert found.tree["weights"]["layer2"].tolist() == [5, 5, 5]
    assert found.tree["step"] == 5
    assert (found.epoch, found.step, found.path) == (0, 5, paths[0])
    assert found.header.provenance == PROVENANCE


def test_more_than_nine_parts_are_in_order(checkpoints):
    write_set(checkpoints, 1, 12)
    assert list(checkpoints.newest().tree["weights"]) == [f"layer{part}" for part in range(12)]


def test_combine_gets_one_after_the_other(checkpoints):
    write_set(checkpoints, 5, 3)

    def combine(states):
        sums = []
        for number, state in enumerate(states):
            if number == 0:  # not read yet: a later part may still change, and is then found damaged
                damage(checkpoints.folder / "000000-00000005.3of3.h5")
            sums.append(float(sum(weight.sum() for weight in state["weights"].values())))
        return {"sums": sums}

    with pytest.raises(ArtifactError, match="3of3.h5: damaged"):
        checkpoints.newest(combine)
    write(checkpoints, 5, 2, 3)
    assert checkpoints.newest(lambda states: {"sums": [s["step"] for s in states]}).tree == {"sums": [5, 5, 5]}


def test_a_part_that_combine_does_not_ask_for_is_checked_too(checkpoints):
    write_set(checkpoints, 1, 2)
    damage(write_set(checkpoints, 2, 2)[1])
    assert checkpoints.newest(next).tree["step"] == 1


def test_what_combine_finds_wrong_is_not_taken_for_damage(checkpoints):
    write_set(checkpoints, 1, 2)
    write_set(checkpoints, 2, 2)

    def combine(states):
        raise ArtifactError("of another network")

    with pytest.raises(ArtifactError, match="of another network"):
        checkpoints.newest(combine)
    assert checkpoints.passed_over == ()


def test_only_what_is_kept_comes(checkpoints):
    write_set(checkpoints, 5, 3)
    found = checkpoints.newest(keep=lambda place: place in [("weights", "layer1"), ("step",)])
    assert list(found.tree["weights"]) == ["layer1"]
    assert (found.tree["step"], found.step) == (5, 5)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("harm", ["damage", "empty", "lose"])
def test_harm_to_any_part_leads_to_the_older_set(checkpoints, part, harm):
    write_set(checkpoints, 1, 2)
    path = write_set(checkpoints, 2, 3)[part]
    {"damage": damage, "empty": lambda path: path.write_bytes(b""), "lose": lambda path: path.unlink()}[harm](path)
    assert checkpoints.newest().step == 1
    (passed,) = checkpoints.passed_over
    assert passed.path == path
    words = {"damage": "checksum", "empty": "the file is empty", "lose": f"part {part + 1} of 3 is missing"}[harm]
    assert words in passed.reason
    assert str(path) in passed.reason


def test_when_each_set_has_a_damaged_part_all_are_listed(checkpoints):
    damage(write_set(checkpoints, 1, 2)[0])
    damage(write_set(checkpoints, 2, 2)[1])
    write(checkpoints, 3, 1, 3)
    with pytest.raises(ArtifactError, match="none of its 3 checkpoints is whole") as caught:
        checkpoints.newest()
    assert "part 1 of 3 is missing (and 1 more)" in caught.value.problems[1]
    assert "2of2.h5: damaged" in caught.value.problems[2]
    assert "1of2.h5: damaged" in caught.value.problems[3]


def test_a_kill_within_the_first_set_is_no_damage(checkpoints):
    write(checkpoints, 1, 1, 2)
    assert checkpoints.newest() is None
    (passed,) = checkpoints.passed_over
    assert "part 1 of 2 is missing: it was never finished" in passed.reason


def test_a_kill_between_parts_loses_nothing(checkpoints):
    write_set(checkpoints, 1, 2)
    write_set(checkpoints, 2, 2)
    for part in range(2):
        write(checkpoints, 3, part, 2)
        assert {"01.1of2", "01.2of2", "02.1of2", "02.2of2"} < set(names(checkpoints))
        assert checkpoints.newest().step == 2 + part
    checkpoints.drop(0, 3)
    assert names(checkpoints) == ["02.1of2", "02.2of2", "03.1of2", "03.2of2"]


def test_what_a_killed_run_left_of_a_set_is_not_completed_by_the_next_run(checkpoints):
    write_set(checkpoints, 1, 2)
    write(checkpoints, 2, 0, 2)
    found = checkpoints.newest()
    checkpoints.drop(found.epoch, found.step)
    assert names(checkpoints) == ["01.1of2", "01.2of2"]
    write(checkpoints, 2, 1, 2)
    assert checkpoints.newest().step == 1


def test_without_a_place_the_newest_whole_set_is_meant(checkpoints):
    for step in (1, 2, 3):
        for part in range(2):
            write(checkpoints, step, part, 2)
    write(checkpoints, 4, 0, 2)
    checkpoints.drop()
    assert names(checkpoints) == ["02.1of2", "02.2of2", "03.1of2", "03.2of2"]
    for path in checkpoints.folder.glob("*.2of2.h5"):
        path.unlink()
    checkpoints.drop()
    assert names(checkpoints) == []


def test_other_numbers_of_stages_follow_each_other(checkpoints):
    write_set(checkpoints, 1, 4)
    write(checkpoints, 2, 0, 1)
    assert names(checkpoints) == ["01.1of4", "01.2of4", "01.3of4", "01.4of4", "02"]
    assert checkpoints.newest().step == 2
    write_set(checkpoints, 3, 2)
    assert names(checkpoints) == ["02", "03.1of2", "03.2of2"]
    assert list(checkpoints.newest().tree["weights"]) == ["layer0", "layer1"]
    damage(checkpoints.folder / "000000-00000003.1of2.h5")
    assert list(checkpoints.newest().tree["weights"]) == ["layer0"]


def test_the_same_place_in_another_number_of_parts_replaces(checkpoints):
    write_set(checkpoints, 1, 2)
    damage(write_set(checkpoints, 2, 2)[0])
    write(checkpoints, 2, 0, 1)
    assert names(checkpoints) == ["01.1of2", "01.2of2", "02"]
    for part in range(3):
        write(checkpoints, 2, part, 3)
    checkpoints.drop(0, 2, parts=3)
    assert names(checkpoints) == ["01.1of2", "01.2of2", "02.1of3", "02.2of3", "02.3of3"]


def test_after_going_back_the_later_ones_go(checkpoints):
    write_set(checkpoints, 10, 2)
    damage(write_set(checkpoints, 20, 2)[0])
    write_set(checkpoints, 15, 2)
    assert names(checkpoints) == ["10.1of2", "10.2of2", "15.1of2", "15.2of2"]


def test_a_part_under_the_name_of_another_is_found(checkpoints):
    first, second = write_set(checkpoints, 1, 2)
    second.write_bytes(first.read_bytes())
    with pytest.raises(ArtifactError, match="its name does not say what it holds"):
        checkpoints.newest()


def test_clearing_takes_all_parts(checkpoints):
    write_set(checkpoints, 1, 2)
    write(checkpoints, 2, 1, 3)
    assert len(checkpoints.clear()) == 3
    assert not checkpoints.folder.exists()


@pytest.mark.parametrize(("part", "parts"), [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_cannot_be(checkpoints, part, parts):
    with pytest.raises(ValueError, match="part"):
        write(checkpoints, 1, part, parts)


def test_merging_nothing_and_one():
    assert merge_parts([]) == {}
    assert merge_parts([{"a": {"b": 1}}, {"a": {"c": 2}, "d": 3}]) == {"a": {"b": 1, "c": 2}, "d": 3}
