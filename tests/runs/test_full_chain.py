"""inputs/full_chain.toml, from raw files in three formats to watched predictions: the same on 1, 2 and 3 ranks."""

import json
import shutil

import h5py
import numpy as np
import pytest

from tests.launch import ALONE, TREE, completed

FILE = TREE / "inputs" / "full_chain.toml"
SHORT = ("phase.classifier.epochs=2", "run.measure=0", "run.threads=1")
MADE = 20_000  # records of the raw files


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The folder of the whole run on two ranks."""
    folder = tmp_path_factory.mktemp("chain") / "two"
    completed(FILE, 2, *SHORT, f"run.folder={folder}")
    return folder


def predicted(folder):
    """Ids, labels and probabilities."""
    with h5py.File(folder / "predictions" / "particles.h5") as file:
        return {name: file[name][:] for name in ("sample", "event", "labels", "probabilities")}


def predicted_again(chain, tmp_path, ranks, *settings):
    """The predictions alone, by the networks of the chain."""
    folder = tmp_path / "again"
    shutil.copytree(chain, folder)
    (folder / "predictions" / "particles.h5").unlink()
    completed(FILE, ranks, *SHORT, f"run.folder={folder}", *settings)
    return predicted(folder)


def test_what_the_chain_leaves(chain):
    found = predicted(chain)
    np.testing.assert_array_equal(found["sample"], np.arange(3000))
    raw = np.genfromtxt(TREE / "inputs/raw/new.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(found["event"], raw["event"])
    np.testing.assert_allclose(found["probabilities"].sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(found["labels"], found["probabilities"].argmax(1))
    with h5py.File(chain / "data" / "events.h5") as file:
        counts = {name: int(file.attrs[name]) for name in ("records", "bad", "filtered", "repeated", "samples")}
        assert json.loads(file["particle"].attrs["class_names"]) == ["gamma", "hadron", "muon"]
        assert sum(file.attrs["parts"]) == len(file["event"]) == len(np.unique(file["event"]))
    assert counts["records"] == MADE == sum(counts[name] for name in ("bad", "filtered", "repeated", "samples"))
    with h5py.File(chain / "run.h5") as file:
        assert file["phases/accuracy/metrics/accuracy"][()] > 0.9
        assert not file["phases/particles/monitor/drift/inputs/drifted"][:].any()


@pytest.mark.parametrize("ranks", [ALONE, 3])
def test_predictions_on_other_ranks(chain, tmp_path, ranks):
    one, other = predicted(chain), predicted_again(chain, tmp_path, ranks)
    np.testing.assert_array_equal(other["event"], one["event"])
    np.testing.assert_allclose(other["probabilities"], one["probabilities"], atol=1e-5)


@pytest.mark.parametrize(("network", "difference", "agree"), [("classifier", 1e-5, 1.0), ("deployed.int8", 0.3, 0.97)])
def test_predictions_by_the_network_and_in_whole_numbers(chain, tmp_path, network, difference, agree):
    settings = (f"phase.particles.network={network}", "phase.particles.monitor={}")
    one, other = predicted(chain), predicted_again(chain, tmp_path, 2, *settings)
    np.testing.assert_allclose(other["probabilities"], one["probabilities"], atol=difference)
    assert np.mean(other["labels"] == one["labels"]) >= agree


def test_the_same_set_from_three_ranks(chain, tmp_path):
    folder = tmp_path / "three"
    completed(FILE, 3, *SHORT, f"run.folder={folder}", options=("--until", "events"))
    with h5py.File(chain / "data" / "events.h5") as one, h5py.File(folder / "data" / "events.h5") as other:
        assert one.attrs["digest"] == other.attrs["digest"]
        for name in ("event", "image", "particle"):
            np.testing.assert_array_equal(one[name][:], other[name][:])
