"""run.h5 grows by merging; a table is one dataset per column."""

import h5py
import numpy as np
import pytest

from app.errors import ArtifactError
from app.storage.artifact_file import Provenance
from app.storage.results import Results

PROVENANCE = Provenance("phalanx", "0.1.0", "", "run", "teacher")
EPOCHS = ("teacher", "epochs")


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "run.h5")


def test_nothing_yet(results):
    assert results.read() == {}


def test_changes_are_merged_into_what_is_there(results):
    results.update({"teacher": {"state": "begun", "timing": {"read": 1.0}}, "seed": 7}, PROVENANCE)
    results.update({"teacher": {"state": "done", "timing": {"compute": 2.0}}}, PROVENANCE)
    expected = {"teacher": {"state": "done", "timing": {"read": 1.0, "compute": 2.0}}, "seed": 7}
    assert results.read() == expected
    fresh = Results(results.path).read()
    assert fresh == expected
    assert list(fresh) == ["teacher", "seed"]


def test_a_value_may_become_a_group_and_back(results):
    results.update({"a": 1, "b": {"c": 1}}, PROVENANCE)
    results.update({"a": {"d": 2}, "b": 3}, PROVENANCE)
    assert results.read() == {"a": {"d": 2}, "b": 3}


def test_rows_are_read_as_columns_in_one_line(results):
    results.append(EPOCHS, {"epoch": 0, "loss": 0.5}, PROVENANCE)
    results.append(EPOCHS, {"epoch": [1, 2], "loss": np.array([0.25, 0.125])}, PROVENANCE)
    assert h5py.File(results.path)["teacher/epochs/loss"][:].tolist() == [0.5, 0.25, 0.125]
    assert h5py.File(results.path)["teacher/epochs/epoch"].dtype == np.int64


def test_rows_are_written_again_after_going_back(results):
    results.append(EPOCHS, {"loss": [1.0, 2.0, 3.0]}, PROVENANCE)
    results.append(EPOCHS, {"loss": 9.0}, PROVENANCE, start=1)
    assert results.read()["teacher"]["epochs"]["loss"].tolist() == [1.0, 9.0]
    results.append(EPOCHS, {"loss": 4.0}, PROVENANCE, start=0)
    assert results.read()["teacher"]["epochs"]["loss"].tolist() == [4.0]


@pytest.mark.parametrize(
    ("columns", "start"),
    [({"loss": 1.0, "extra": 1.0}, None), ({"extra": 1.0}, None), ({"loss": 1.0}, 5), ({"loss": [[1.0]]}, None)],
)
def test_rows_that_do_not_fit_are_refused(results, columns, start):
    results.append(EPOCHS, {"loss": 1.0}, PROVENANCE)
    with pytest.raises(ValueError, match="table|columns"):
        results.append(EPOCHS, columns, PROVENANCE, start=start)
    assert results.read()["teacher"]["epochs"]["loss"].tolist() == [1.0]


def test_columns_of_different_lengths_are_refused(results):
    with pytest.raises(ValueError, match="one length"):
        results.append(EPOCHS, {"a": [1, 2], "b": 1}, PROVENANCE)


def test_what_another_process_wrote_is_seen(results):
    results.update({"a": 1}, PROVENANCE)
    Results(results.path).update({"b": 2}, PROVENANCE)
    results.update({"c": 3}, PROVENANCE)
    assert results.read() == {"a": 1, "b": 2, "c": 3}
    results.path.unlink()
    assert results.read() == {}


def test_a_reader_cannot_change_what_is_kept(results):
    results.update({"a": {"b": 1}}, PROVENANCE)
    results.read()["a"]["b"] = 2
    results.read().clear()
    assert results.read() == {"a": {"b": 1}}


def test_a_damaged_file_is_refused(results):
    results.update({"a": 1}, PROVENANCE)
    results.path.write_bytes(results.path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="truncated"):
        results.read()
    with pytest.raises(ArtifactError, match="truncated"):
        results.update({"b": 1}, PROVENANCE)
