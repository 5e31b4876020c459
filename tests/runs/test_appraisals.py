"""What networks cost, on every grid the same but for times; several networks evaluated beside each other."""

import h5py
import numpy as np
import pytest

from tests.launch import completed
from tests.runs import made, outcome

TIMES = {"latency_1_s", "latency_n_s", "samples_per_s", "joules"}
GRIDS = {"1x1": (1, 1), "2x1": (2, 1), "1x2": (2, 2), "2x2": (4, 2)}
FIRST = {"kind": "train", "name": "first", "epochs": 1, "batch_size": 20, "microbatch_size": 6, "rate": 0.01}
THIN = {"kind": "prune", "name": "thin", "units": "connections", "remove": 0.9, "epochs": 1, "microbatch_size": 6}
NEW = {"network": "new", "epochs": 1}


def table(folder, *place):
    """Numbers of a table of run.h5."""
    with h5py.File(folder / "run.h5") as file:
        return outcome.numbers(file["/".join(("phases", *place))])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Two networks and a third with removed connections, then all on the test part."""
    folder = tmp_path_factory.mktemp("appraisals")
    inputs = made.features(6)
    made.write_data(folder / "data.h5", inputs, made.labels(inputs))
    file = made.write_input(
        folder / "input.toml", {"kind": "mlp", "widths": [32, 24]}, NEW, {"file": "data.h5"}, (FIRST, THIN)
    )
    file.write_text(file.read_text().replace('name = "test"', 'name = "test"\nnetwork = "all"'))
    return file


@pytest.fixture(scope="module")
def runs(file):
    """Folder and log of a run on each grid."""
    found = {}
    for name, (ranks, stages) in GRIDS.items():
        folder = file.parent / name
        text = completed(file, ranks, f"run.folder={folder}", f"grid.stages={stages}", "run.measure=0.1")
        found[name] = (folder, text)
    return found


@pytest.mark.parametrize("grid", GRIDS)
def test_the_same_costs_on_every_grid(runs, grid):
    alone, folder = runs["1x1"][0], runs[grid][0]
    for phase in ("first", "thin", "net"):
        expected, found = table(alone, phase, "appraisal", "after"), table(folder, phase, "appraisal", "after")
        assert found.keys() == expected.keys()
        for name in found.keys() - TIMES:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, err_msg=f"{name} of {phase}")
        for name in ("latency_1_s", "latency_n_s"):
            assert 0 < found[name] < 1
        assert found["samples_per_s"] == pytest.approx(16 / found["latency_n_s"])


def test_what_is_counted(runs):
    folder, text = runs["1x1"]
    first, thin = (table(folder, phase, "appraisal", "after") for phase in ("first", "thin"))
    weights = 6 * 32 + 32 * 24 + 24 * 3
    assert first["parameters"] == thin["parameters"] == weights + 32 + 24 + 3
    assert first["operations"] == thin["operations"] == 2 * weights
    assert first["bytes"] == 4 * first["parameters"]
    assert thin["nonzero"] < 0.2 * first["nonzero"]
    assert thin["bytes"] < first["bytes"]
    validated = outcome.epochs(folder, "first")
    assert first["accuracy"] == validated["validation_accuracy"][-1]
    assert first["loss"] == pytest.approx(validated["validation_loss"][-1])
    assert "first: what its network costs and is worth" in text
    assert "linear layers with removed connections ran as sparse products" in text


@pytest.mark.parametrize("grid", GRIDS)
def test_removed_connections_are_stored_in_rows_by_the_stage_that_has_them(runs, grid):
    folder = runs[grid][0]
    with h5py.File(folder / "networks" / "thin.h5") as file:
        in_rows = {name: dict(one) for name, one in file["weights"].items() if isinstance(one, h5py.Group)}
        assert set(in_rows) == {"hidden1.linear.weight", "hidden2.linear.weight", "output.linear.weight"} - _small(file)
        stored = []
        file["weights"].visititems(lambda _, one: stored.append(one.nbytes) if isinstance(one, h5py.Dataset) else None)
        assert sum(stored) == table(folder, "thin", "appraisal", "after")["bytes"]


def _small(file):
    """Weights that take fewer bytes as they are."""
    return {name for name, one in file["weights"].items() if isinstance(one, h5py.Dataset)} - {"hidden2.linear.weight"}


@pytest.mark.parametrize("grid", GRIDS)
def test_all_networks_are_evaluated(runs, grid):
    alone, (folder, text) = runs["1x1"][0], runs[grid]
    for network in ("first", "thin", "net"):
        expected = table(alone, "test", "networks", network, "metrics")
        found = table(folder, "test", "networks", network, "metrics")
        assert found["samples"] == 12
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-6, err_msg=f"{name} of {network}")
    assert "test: 3 networks on the 12 samples of the test part" in text
    rows = [line.split()[:2] for line in text.splitlines()]
    assert ["first", "train"] in rows
    assert ["thin", "prune"] in rows


def test_timing_may_be_turned_off_and_changed_at_a_restart(file, runs, tmp_path):
    folder = tmp_path / "bare"
    completed(file, 1, f"run.folder={folder}", "run.measure=0")
    bare = table(folder, "net", "appraisal", "after")
    assert all(np.isnan(bare[name]) for name in TIMES)
    text = completed(file, 1, f"run.folder={folder}", "run.measure=1", "run.measure_batch=3")
    assert text.count("done on an earlier start, skipped") == 4
    assert text.count("train     skipped") == 2
