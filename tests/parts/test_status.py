"""Where a run is: the word that batch scripts take for progress."""

import numpy as np
import pytest

from app.status import brief, find
from app.storage import predictions
from app.storage.progress import RunProgress, write_progress
from app.storage.run_folder import RunFolder
from app.storage.set_pieces import Pieces, write_piece


@pytest.fixture
def folder(tmp_path):
    """Of a run in its second phase."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    write_progress(folder.progress, RunProgress("run", {}, ("first", "second"), {"first": {}}))
    return folder


def place(folder):
    return brief(find(folder.path, []))


def test_each_piece_of_predictions_is_progress_and_worth_keeping(folder):
    assert not folder.has_checkpoints("second")
    seen = {place(folder)}
    for number in range(3):
        path = predictions.piece_path(folder.work("second"), number)
        path.parent.mkdir(parents=True, exist_ok=True)
        predictions.write_piece(path, "key", {predictions.SAMPLE: np.arange(number, number + 1)}, {})
        seen.add(place(folder))
    assert len(seen) == 4
    assert folder.has_checkpoints("second")


def test_each_piece_of_a_set_is_progress(folder):
    before = place(folder)
    pieces = Pieces(folder.work("second"))
    pieces.folder.mkdir(parents=True)
    write_piece(pieces.path(0), "made of", {"x": np.zeros(3)}, {})
    assert place(folder) != before
    assert not folder.has_checkpoints("second")
