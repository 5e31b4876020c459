"""Save, stop, restart with the network cut into stages, on the same grid and on others."""

import re

import numpy as np
import pytest

from tests.launch import ALONE, completed, run
from tests.runs import fragile, outcome

STAGES = {"1x1": (ALONE, 1), "1x2": (2, 2), "2x2": (4, 2), "1x4": (4, 4)}
GOES_ON = r"goes on from its checkpoint at (epoch \d+, step \d+)"


def on(grid):
    """Ranks and settings of a launch."""
    ranks, stages = STAGES[grid]
    return ranks, f"grid.stages={stages}"


def killed(file, grid, rank, place, count):
    """What a launch said that has lost a rank."""
    fragile.kill(file.parent, rank, place, count)
    ended = run(file, *on(grid))
    assert ended.code in (fragile.KILLED, -9), ended.text
    fragile.spare(file.parent)
    return ended.text


def parts(file):
    """What a killed launch has left: the names of its checkpoints, without their places."""
    names = [path.name for path in (file.with_suffix("") / "checkpoints" / "net").iterdir()]
    return {name.partition(".")[2] for name in names if not name.endswith(".part")}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Runs that nothing stops, each made once: straight(grid) is the run folder."""
    folders = {}

    def once(grid):
        if grid not in folders:
            folder = tmp_path_factory.mktemp("straight")
            completed(fragile.write(folder), *on(grid))
            folders[grid] = folder / "input"
        return folders[grid]

    return once


def test_one_run_on_three_grids(tmp_path, straight):
    """Killed on 2x2, killed on 1x4, ended on 1x1: the loss curve of 1x1 alone."""
    file = fragile.write(tmp_path)
    killed(file, "2x2", 2, "training", 14)  # of 9 forward passes an epoch: 4 x 2 and 1
    assert parts(file) == {"1of2.h5", "2of2.h5"}
    text = killed(file, "1x4", 0, "training", 24)
    assert re.findall(GOES_ON, text)
    assert {"1of4.h5", "2of4.h5", "3of4.h5", "4of4.h5"} <= parts(file)
    text = completed(file, *on("1x1"))
    (place,) = re.findall(GOES_ON, text)
    assert place >= "epoch 2, step 5", "the second launch has gone on, and not from the beginning"
    np.testing.assert_allclose(outcome.losses(tmp_path / "input"), outcome.losses(straight("1x1")), rtol=1e-4)
    assert list(outcome.weights(tmp_path / "input")) == list(outcome.weights(straight("1x1")))
    assert not (tmp_path / "input" / "checkpoints" / "net").exists()


def test_alone_first_and_in_stages_then(tmp_path, straight):
    file = fragile.write(tmp_path)
    killed(file, "1x1", 0, "training", 30)
    assert parts(file) == {"h5"}
    assert re.findall(GOES_ON, completed(file, *on("2x2"))) == ["epoch 2, step 1"]
    np.testing.assert_allclose(outcome.losses(tmp_path / "input"), outcome.losses(straight("1x1")), rtol=1e-4)


@pytest.mark.parametrize(
    ("rank", "place", "count", "goes_on"),
    [
        (0, "training", 30, None),  # wherever stage 1 was by then
        (1, "before rename of a checkpoint", 4, "epoch 2, step 1"),  # one part of the fourth is there, one is not
        (0, "before remove of a checkpoint", 5, "epoch 2, step 1"),  # the third is written, half of the first is gone
        (0, "before rename of net.h5", 1, "epoch 4, step 5"),
    ],
)
def test_the_same_bits_on_the_same_grid(rank, place, count, goes_on, tmp_path, straight):
    file = fragile.write(tmp_path)
    killed(file, "1x2", rank, place, count)
    found = re.findall(GOES_ON, completed(file, *on("1x2")))
    assert len(found) == 1
    assert goes_on in (None, *found)
    outcome.assert_same_run(tmp_path / "input", straight("1x2"))
    outcome.assert_same_bits(outcome.metrics(tmp_path / "input"), outcome.metrics(straight("1x2")))
    assert not list((tmp_path / "input").rglob("*.part"))


def test_a_damaged_part_spoils_its_checkpoint(tmp_path, straight):
    file = fragile.write(tmp_path)
    killed(file, "1x2", 0, "training", 34)
    older, newest = sorted((tmp_path / "input" / "checkpoints" / "net").glob("*.2of2.h5"))[-2:]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    text = completed(file, *on("1x2"))
    assert re.search(rf"warning a damaged checkpoint is passed over: .*{newest.name}", text)
    epoch, step = map(int, older.name.partition(".")[0].split("-"))
    assert re.findall(GOES_ON, text) == [f"epoch {epoch + 1}, step {step}"]
    outcome.assert_same_run(tmp_path / "input", straight("1x2"))
