"""Save, stop, restart: straight through and in pieces give the same."""

import re

import numpy as np
import pytest

from tests.launch import ALONE, completed, run
from tests.runs import fragile, outcome

GOES_ON = "goes on from its checkpoint at epoch"


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Runs that nothing stops, each made once: straight(ranks, KEY=VALUE...) is the run folder."""
    folders = {}

    def once(ranks, **train):
        key = (ranks, *train.items())
        if key not in folders:
            folder = tmp_path_factory.mktemp("straight")
            completed(fragile.write(folder, **train), ranks)
            folders[key] = folder / "input"
        return folders[key]

    return once


def killed(folder, ranks, rank, place, count, **train):
    """The input file of a run that has lost a rank."""
    file = fragile.write(folder, **train)
    fragile.kill(folder, rank, place, count)
    ended = run(file, ranks)
    assert ended.code in (fragile.KILLED, -9), ended.text
    fragile.spare(folder)
    return file


def assert_equal(folder, straight):
    outcome.assert_same_run(folder, straight)
    outcome.assert_same_bits(outcome.metrics(folder), outcome.metrics(straight))


# The rank, and the forward pass of its own that it does not survive. Steps have 4 microbatches, the fifth has 3. The
# newest checkpoint may not be written yet: training does not wait for it.
@pytest.mark.parametrize(
    ("ranks", "rank", "forward", "goes_on"),
    [
        (ALONE, 0, 45, ("epoch 2, step 5", "epoch 2, step 3")),
        (2, 1, 2, ()),  # before the first checkpoint
        (2, 0, 16, ("epoch 2, step 1", "epoch 1, step 4")),
        (3, 2, 20, ("epoch 4, step 3", "epoch 4, step 1")),
    ],
)
def test_killed_in_a_step(ranks, rank, forward, goes_on, tmp_path, straight):
    file = killed(tmp_path, ranks, rank, "training", forward)
    text = completed(file, ranks)
    found = re.findall(r"goes on from its checkpoint at (epoch \d+, step \d+)", text)
    assert len(found) == bool(goes_on)
    assert set(found) <= set(goes_on)
    assert_equal(tmp_path / "input", straight(ranks))


@pytest.mark.parametrize(
    ("place", "count", "said"),
    [
        ("validation", 2, "goes on from its checkpoint at epoch 1, step [24]"),  # a validation has 2 microbatches
        ("validation", 3, "goes on from its checkpoint at epoch 2, step [35]"),
        ("before rename of a checkpoint", 4, "goes on from its checkpoint at epoch 2, step 1"),
        ("before rename of net.h5", 1, "goes on from its checkpoint at epoch 4, step 5"),
        ("before rename of progress.json", 1, "goes on from its checkpoint at epoch 4, step 5"),
        ("evaluation", 1, "net: done on an earlier start, skipped"),
        ("before rename of progress.json", 3, "net: done on an earlier start, skipped"),
    ],
)
def test_killed_between_steps(place, count, said, tmp_path, straight):
    file = killed(tmp_path, ALONE, 0, place, count)
    assert re.search(said, completed(file, ALONE))
    assert_equal(tmp_path / "input", straight(ALONE))
    assert not list((tmp_path / "input").rglob("*.part"))
    assert not (tmp_path / "input" / "checkpoints" / "net").exists()


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, ALONE)])
def test_goes_on_with_another_number_of_ranks(before, after, tmp_path, straight):
    file = killed(tmp_path, before, 1, "training", 12)
    assert GOES_ON in completed(file, after)
    np.testing.assert_allclose(outcome.losses(tmp_path / "input"), outcome.losses(straight(before)), rtol=1e-4)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, straight):
    file = killed(tmp_path, 2, 0, "training", 26)
    older, newest = sorted((tmp_path / "input" / "checkpoints" / "net").glob("*.h5"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    text = completed(file, 2)
    assert re.search(rf"warning a damaged checkpoint is passed over: .*{newest.name}", text)
    epoch, step = map(int, older.stem.split("-"))
    assert f"{GOES_ON} {epoch + 1}, step {step}" in text
    assert_equal(tmp_path / "input", straight(2))


def test_no_whole_checkpoint_is_a_refusal(tmp_path):
    file = killed(tmp_path, 2, 0, "training", 26)
    for path in (tmp_path / "input" / "checkpoints" / "net").glob("*.h5"):
        path.write_bytes(path.read_bytes()[:-100])
    refused = run(file, 2)
    assert refused.code == 2
    assert "none of its 2 checkpoints is whole" in refused.text
    assert "Traceback" not in refused.text


def test_fresh_starts_over(tmp_path, straight):
    file = killed(tmp_path, 2, 0, "training", 26)
    text = completed(file, 2, options=["--fresh"])
    assert GOES_ON not in text
    assert_equal(tmp_path / "input", straight(2))


def test_a_second_call_skips_what_is_done(tmp_path, straight):
    file = fragile.write(tmp_path)
    completed(file, 2)
    network = (tmp_path / "input" / "networks" / "net.h5").read_bytes()
    text = completed(file, 3)
    for phase in ("net", "test"):
        assert f"{phase}: done on an earlier start, skipped" in text
    assert (tmp_path / "input" / "networks" / "net.h5").read_bytes() == network
    assert_equal(tmp_path / "input", straight(2))


def test_another_input_is_refused(tmp_path):
    file = killed(tmp_path, 2, 0, "training", 26)
    refused = run(file, 2, "phase.net.rate=0.5")
    assert refused.code == 2
    assert "rate" in refused.text
    assert "--fresh" in refused.text


def test_early_stopping_survives_a_restart(tmp_path, straight):
    train = {"epochs": 40, "patience": 2, "rate": 0.1}
    expected = straight(2, **train)
    epochs = len(outcome.epochs(expected)["loss"])
    best = int(np.argmin(outcome.epochs(expected)["validation_loss"])) + 1
    assert 2 < epochs == best + 2 < 40
    file = killed(tmp_path, 2, 1, "training", 9 * (epochs - 1) + 7, **train)  # 9 of an epoch: 4 x 2 and 1
    text = completed(file, 2)
    assert f"{GOES_ON} {epochs}, step 2" in text or f"{GOES_ON} {epochs}, step 3" in text
    assert_equal(tmp_path / "input", expected)
