"""Files of several formats one after the other, and files of none."""

from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from app.storage.raw import formats, pieces, read


def test_files_in_the_order_in_which_they_are_given(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("x\n1\n2\n")
    np.save(tmp_path / "x.npy", np.array([3, 4]))
    np.savez(tmp_path / "a.npz", x=np.array([5]))
    found = pieces([tmp_path / name for name in ("b.csv", "x.npy", "a.npz")], 1 << 20)
    assert [read(piece).columns["x"].tolist() for piece in found] == [[1, 2], [3, 4], [5]]
    assert [piece.file.name for piece in found] == ["b.csv", "x.npy", "a.npz"]


def test_a_suffix_that_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(
        DataError, match=r"notes\.docx: its suffix '\.docx' is of no format that is read; known are"
    ) as caught:
        pieces([tmp_path / "notes.docx"], 1)
    assert formats() in caught.value.problems[0]
    assert "Parquet (.parquet .pq)" in formats()


@pytest.mark.parametrize("name", ["a.h5", "a.csv", "a.npz", "a.parquet", "a.png"])
def test_files_that_are_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name}: there is no such file"):
        pieces([tmp_path / name], 1)
