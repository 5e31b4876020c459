"""Pruning, stopped between stages and within them: in pieces and straight through give the same."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.launch import ALONE, completed, run
from tests.runs import fragile, made, outcome

GRIDS = {"1x1": (ALONE, 1), "2x1": (2, 1), "1x2": (2, 2)}
PRUNE = {
    "kind": "prune",
    "name": "thin",
    "network": "net",
    "round_to": 1,
    "batch_size": 20,
    "microbatch_size": 6,
    "optimizer": "sgd",
    "rate": 0.02,
    "epochs": 1,
    "checkpoint_steps": 2,
}
SPARSE = {"method": "sparsity", "penalty": "growing", "penalty_epochs": 1, "remove": 0.6, "rounds": 2}
GIVES_UP = {
    "method": "random",
    "optimizer": "adam",
    "rate": 0.01,
    "remove": 0.9,
    "rounds": 4,
    "growth": "linear",
    "accuracy_loss": 0.1,
}


def write(folder: Path, **keys: Any) -> Path:
    """One phase of training and one of pruning; six stages for SPARSE: penalise, cut, fine-tune and again."""
    inputs = made.features(6)
    made.write_data(folder / "data.h5", inputs, made.labels(inputs))
    (folder / "own.py").write_text(fragile.OWN)
    network = {"kind": "own.py:network", "options": {"sleep_s": 0.0}}
    train = {"epochs": 15, "rate": 0.02} if "accuracy_loss" in keys else {"epochs": 1, "optimizer": "sgd", "rate": 0.05}
    return made.write_input(folder / "input.toml", network, train, {"file": "data.h5"}, after=[{**PRUNE, **keys}])


def on(grid):
    """Ranks and settings of a launch."""
    ranks, stages = GRIDS[grid]
    return ranks, f"grid.stages={stages}", "run.measure=0"


def killed(file, grid, rank, place, count=1):
    """What a launch said that has lost a rank."""
    fragile.kill(file.parent, rank, place, count)
    ended = run(file, *on(grid))
    assert ended.code in (fragile.KILLED, -9), ended.text
    fragile.spare(file.parent)
    return ended.text


def goes_on(text):
    """The stage that a launch went on after, and its place within the next one."""
    stages = [int(number) for number in re.findall(r"thin: goes on after stage (\d+) of", text)]
    return stages, re.findall(r"goes on from its checkpoint at epoch (\d+, step \d+)", text)


def tables(folder):
    """What run.h5 says of the prune phase but for times, by full name."""
    found = {}

    def note(name, one):
        if isinstance(one, h5py.Dataset) and not re.search("timings|samples_per_s|latency|joules|gradients", name):
            found[name] = one[()]

    with h5py.File(folder / "run.h5") as file:
        file["phases/thin"].visititems(note)
    return found


def assert_equal(found, straight):
    outcome.assert_same_bits(outcome.weights(found, "thin"), outcome.weights(straight, "thin"))
    outcome.assert_same_bits(outcome.metrics(found), outcome.metrics(straight))
    outcome.assert_same_bits(tables(found), tables(straight))
    assert not list(found.rglob("*.part"))
    assert not any(path.is_file() for path in (found / "checkpoints").rglob("*"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Runs that nothing stops, each made once: straight(grid, KEY=VALUE...) is the run folder."""

    @cache
    def once(grid, **keys):
        file = write(tmp_path_factory.mktemp("straight"), **keys)
        completed(file, *on(grid))
        return file.with_suffix("")

    return once


def test_stopped_in_every_kind_of_place(tmp_path, straight):
    file = write(tmp_path, **SPARSE)
    folder = file.with_suffix("")
    assert goes_on(killed(file, "1x1", 0, "training", 29)) == ([], [])  # within the penalty; an epoch has 19 passes
    # The newest checkpoint may not have been written when the kill came: training does not wait for it.
    assert goes_on(killed(file, "1x1", 0, "before rename of after-2.h5")) in (([], ["1, step 2"]), ([], []))
    assert [path.name for path in (folder / "checkpoints" / "thin").glob("*.h5")] == ["after-1.h5"]
    assert goes_on(killed(file, "1x1", 0, "training", 12)) == ([1], [])  # the cut again, and within fine-tuning
    assert goes_on(killed(file, "1x1", 0, "before rename of thin.h5")) in (([2], ["1, step 2"]), ([2], []))
    assert goes_on(killed(file, "1x1", 0, "before rename of progress.json")) == ([6], [])
    assert goes_on(completed(file, *on("1x1"))) == ([6], [])
    assert_equal(folder, straight("1x1", **SPARSE))


def test_stopped_on_stages(tmp_path, straight):
    file = write(tmp_path, **SPARSE)
    killed(file, "1x2", 0, "training", 29 + 20)
    text = completed(file, *on("1x2"))
    assert goes_on(text)[0] in ([2], [3])
    assert_equal(file.with_suffix(""), straight("1x2", **SPARSE))


def test_goes_on_on_another_grid(tmp_path, straight):
    file = write(tmp_path, **SPARSE)
    killed(file, "1x2", 0, "training", 49)
    assert goes_on(completed(file, *on("2x1")))[0]
    found, alone = tables(file.with_suffix("")), tables(straight("1x1", **SPARSE))
    assert found.keys() == alone.keys()
    for name, numbers in alone.items():
        if isinstance(numbers, bytes):
            assert found[name] == numbers
        else:
            np.testing.assert_allclose(found[name], numbers, rtol=1e-4, atol=1e-6, err_msg=name)
    weights, expected = (outcome.weights(one, "thin") for one in (file.with_suffix(""), straight("1x1", **SPARSE)))
    assert {n: w.shape for n, w in weights.items()} == {n: w.shape for n, w in expected.items()}


def test_the_last_network_that_was_good_enough_is_handed_on(straight):
    folder = straight("1x1", **GIVES_UP)
    with h5py.File(folder / "run.h5") as file:
        rounds = outcome.numbers(file["phases/thin/rounds"])
        tried = [name for name in file["phases/thin"] if re.fullmatch(r"round\d+", name)]
        after = outcome.numbers(file["phases/thin/appraisal/after"])
        before = outcome.numbers(file["phases/thin/appraisal/before"])
    assert rounds["round"].tolist() == [1, 2], "the third lost too much"
    assert sorted(tried) == ["round1", "round2", "round3"]
    assert before["accuracy"] - after["accuracy"] <= 0.1
    assert after["operations"] == rounds["operations"][-1]
    assert after["accuracy"] == rounds["validation_accuracy"][-1]


@pytest.mark.parametrize("epochs", [1, 0])
def test_the_last_good_network_survives_a_restart(epochs, tmp_path, straight):
    """Stopped in the round that loses too much, and when it was found out."""
    keys = {**GIVES_UP, "epochs": epochs, **({} if epochs else {"method": "magnitude"})}
    file = write(tmp_path, **keys)
    per_round = 2 if epochs else 1
    if epochs:
        text = killed(file, "1x1", 0, "before rename of after-6.h5")
        assert "round 3 loses" not in text
    text = killed(file, "1x1", 0, "before rename of thin.h5")
    assert "thin: round 3 loses" in text
    text = completed(file, *on("1x1"))
    assert goes_on(text)[0] == [3 * per_round]
    assert "thin: round 3 loses" in text
    assert_equal(file.with_suffix(""), straight("1x1", **keys))


def test_a_network_that_loses_at_once_is_handed_on_as_it_was(tmp_path):
    keys = {**GIVES_UP, "remove": 0.95, "most": 0.95, "rounds": 2, "growth": "cubic", "accuracy_loss": 0.0}
    file = write(tmp_path, **keys)
    text = completed(file, *on("1x1"))
    assert "the network before it is handed on, which is the one it began with" in text
    folder = file.with_suffix("")
    outcome.assert_same_bits(outcome.weights(folder, "thin"), outcome.weights(folder, "net"))


def test_another_share_is_refused_and_a_fresh_start_forgets_the_stages(tmp_path, straight):
    file = write(tmp_path, **SPARSE)
    killed(file, "1x1", 0, "before rename of after-3.h5")
    refused = run(file, *on("1x1"), "phase.thin.remove=0.3")
    assert refused.code == 2
    assert "phase.thin.remove: was 0.6, is 0.3" in refused.text
    assert "--fresh" in refused.text
    text = completed(file, *on("1x1"), options=["--fresh"])
    assert goes_on(text) == ([], [])
    assert_equal(file.with_suffix(""), straight("1x1", **SPARSE))
