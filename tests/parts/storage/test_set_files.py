"""Part files and the set they are joined to: the same values in every form, readable as any data file."""

import json

import h5py
import numpy as np
import pytest

from app.storage import set_files
from app.storage.rows import open_rows
from app.storage.set_files import (
    COMPRESSIONS,
    clear_set,
    describe,
    join_chunks,
    join_virtual,
    layout,
    small_file,
    whole_file,
)
from app.storage.set_pieces import Piece, piece_is_good, write_piece

SAMPLES = 1000


@pytest.fixture
def columns(monkeypatch):
    """Columns of several types, stored in several part files."""
    monkeypatch.setattr(set_files, "PART_BYTES", 1 << 14)
    random = np.random.default_rng(1)
    return {
        "x": random.normal(size=(SAMPLES, 5)).astype(np.float32),
        "deep/label": np.arange(SAMPLES),
        "word": np.array([b"word %d" % number for number in range(SAMPLES)]),
        "flag": np.arange(SAMPLES) % 3 == 0,
    }


def parts_of(folder, columns, compression):
    found = layout([(name, one.dtype, one.shape[1:]) for name, one in columns.items()], SAMPLES, 1024, compression)
    files = [folder / "set" / f"part-{number:05}.h5" for number in range(found.parts)]
    for number, file in enumerate(files):
        rows = slice(number * found.rows, (number + 1) * found.rows)
        set_files.write_part(file, found, number, {name: one[rows] for name, one in columns.items()}, {})
    assert len(files) > 2
    return found, files


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("join", ["file", "virtual"])
def test_joined(tmp_path, columns, compression, join):
    found, files = parts_of(tmp_path, columns, compression)

    def fill(file):
        if join == "file":
            join_chunks(file, found, files, lambda number: None)
        else:
            join_virtual(file, found, files)

    target = tmp_path / "set.h5"
    if join == "file":
        whole_file(target, fill, 1 << 16)
    else:
        small_file(target, fill)
    if join == "file":
        set_files.clear_parts(files)
    for name in ("x", "deep/label"):
        rows = open_rows(target, name)
        out = np.empty((SAMPLES, *rows.shape), rows.dtype)
        rows.read_into(0, out)
        rows.close()
        assert rows.note is None  # no chunk cuts through samples, none is missing
        assert np.array_equal(out, columns[name])
    with h5py.File(target) as file:
        assert all(np.array_equal(file[name][:], one) for name, one in columns.items())


def test_constants_of_any_size(tmp_path, columns):
    found, files = parts_of(tmp_path, columns, "none")
    large, small = np.arange(20_000.0), np.array(3.0)

    def fill(file):
        join_virtual(file, found, files)
        describe(file, {"steps": [{"kind": "select"}]}, {"x": {"mean": large, "std": small, "steps": [1]}})

    small_file(tmp_path / "set.h5", fill)
    with h5py.File(tmp_path / "set.h5") as file:
        place = file["x"].attrs["mean"].removeprefix("in the dataset ")
        assert np.array_equal(file[place][:], large)
        assert file["x"].attrs["std"] == 3.0
        assert json.loads(file.attrs["steps"]) == [{"kind": "select"}]


def test_only_our_own_sets_are_deleted(tmp_path, columns):
    found, files = parts_of(tmp_path, columns, "none")
    small_file(tmp_path / "set.h5", lambda file: file.attrs.update({"creator": "phalanx", "kind": "dataset"}))
    (tmp_path / "set" / "mine.txt").write_text("a note")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1, 2]
    assert clear_set(tmp_path / "other.h5") == []
    assert set(clear_set(tmp_path / "set.h5")) == {tmp_path / "set.h5", *files}
    assert (tmp_path / "set" / "mine.txt").exists()


def test_pieces_that_are_cut_or_of_something_else_are_not_good(tmp_path):
    path = tmp_path / "piece-000000"
    columns = {"key": np.arange(10, dtype=np.uint64), "x": np.ones((10, 3)), "w": np.array([b"a", b"bc"] * 5)}
    write_piece(path, "one", columns, {"records": 12})
    assert piece_is_good(path, "one")
    assert not piece_is_good(path, "other")
    with Piece(path) as piece:
        assert piece.facts == {"records": 12}
        assert piece.take("w", np.array([9, 0, 3])).tolist() == [b"bc", b"a", b"bc"]
        assert [piece.search("key", value) for value in (0, 4, 11)] == [0, 4, 10]
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:30], whole.replace(b'"facts"', b'"farts"'), b""):
        path.write_bytes(damaged)
        assert not piece_is_good(path, "one")
