"""Reading users' files: every layout gives the same rows, and every bad file one clear sentence."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from app.errors import DataError
from app.storage.rows import open_rows

LAYOUTS = {
    "contiguous": {},
    "chunks": {"chunks": (7, 3, 4)},
    "gzip": {"chunks": (7, 3, 4), "compression": "gzip"},
    "gzip shuffle": {"chunks": (7, 3, 4), "compression": "gzip", "shuffle": True},
    "shuffle": {"chunks": (7, 3, 4), "shuffle": True},
    "lzf": {"chunks": (7, 3, 4), "compression": "lzf"},
    "fletcher32": {"chunks": (7, 3, 4), "compression": "gzip", "fletcher32": True},
    "chunks across samples": {"chunks": (9, 2, 2), "compression": "gzip"},
}
TYPES = ["u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f4", "<f8", "?"]


def write(file: Path, data: object, name: str = "x", **layout: object) -> Path:
    with h5py.File(file, "a") as h5:
        h5.create_dataset(name, data=data, **layout)
    return file


def problem(file: Path, name: str = "x") -> str:
    with pytest.raises(DataError) as caught:
        open_rows(file, name)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_those_of_the_file(tmp_path: Path, layout: str, dtype: str) -> None:
    data = np.random.default_rng(0).integers(0, 200, (33, 3, 4)).astype(dtype)
    rows = open_rows(write(tmp_path / "a.h5", data, **LAYOUTS[layout]), "x")
    assert (rows.length, rows.shape) == (33, (3, 4))
    assert rows.dtype == np.dtype(dtype).newbyteorder("=")
    for start, stop in ((0, 33), (0, 7), (7, 21), (5, 12), (28, 33), (32, 33)):
        out = np.zeros((stop - start, 3, 4), rows.dtype)
        rows.read_into(start, out)
        np.testing.assert_array_equal(out, data[start:stop])
    rows.close()


def test_layout_is_told(tmp_path: Path) -> None:
    data = np.zeros((100, 8, 8), np.float32)
    write(tmp_path / "a.h5", data, "whole", chunks=(5, 8, 8), compression="gzip")
    write(tmp_path / "a.h5", data, "cut", chunks=(25, 4, 8))
    whole, cut = open_rows(tmp_path / "a.h5", "whole"), open_rows(tmp_path / "a.h5", "cut")
    assert (whole.block_rows, whole.compressed, whole.note) == (5, True, None)
    assert (cut.block_rows, cut.compressed) == (25, False)
    assert cut.note is not None
    assert "cut through samples" in cut.note
    assert "chunks=(64, 8, 8)" in cut.note


def test_chunks_never_written_are_told_and_read_as_the_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        data = h5.create_dataset("x", (20, 3), np.float32, chunks=(5, 3), compression="gzip", fillvalue=7)
        data[:10] = 1
    rows = open_rows(tmp_path / "a.h5", "x")
    assert rows.note is not None
    assert "2 of 4 chunks of 'x' were never written" in rows.note
    out = np.zeros((20, 3), np.float32)
    rows.read_into(0, out)
    assert (out[:10] == 1).all()
    assert (out[10:] == 7).all()


def test_virtual_dataset_is_read_and_its_missing_source_refused(tmp_path: Path) -> None:
    write(tmp_path / "part.h5", np.arange(12.0).reshape(6, 2))
    layout = h5py.VirtualLayout((6, 2), np.float64)
    layout[:] = h5py.VirtualSource("part.h5", "x", (6, 2))
    with h5py.File(tmp_path / "all.h5", "w") as h5:
        h5.create_virtual_dataset("x", layout)
    out = np.zeros((6, 2))
    open_rows(tmp_path / "all.h5", "x").read_into(0, out)
    np.testing.assert_array_equal(out, np.arange(12.0).reshape(6, 2))
    (tmp_path / "part.h5").unlink()
    assert "takes rows from part.h5, which is not there" in problem(tmp_path / "all.h5")


def test_missing_file_names_one_that_is_near(tmp_path: Path) -> None:
    write(tmp_path / "digits.h5", [1])
    assert "there is no such file (did you mean digits.h5?)" in problem(tmp_path / "digit.h5")
    assert "no folder" in problem(tmp_path / "no" / "digits.h5")


def test_what_is_not_a_file(tmp_path: Path) -> None:
    assert "is a folder" in problem(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in problem(tmp_path / "pipe")


def test_what_is_not_hdf5(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.h5").write_text("sepal,petal\n1,2\n" * 100)
    assert "is not an HDF5 file" in problem(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes(b"")
    assert "is empty (0 bytes)" in problem(tmp_path / "a.h5")
    assert capfd.readouterr() == ("", "")


def test_truncated_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.h5", np.ones((1000, 10)))
    size = file.stat().st_size
    os.truncate(file, size // 2)
    assert f"is truncated: it has {size // 2} of {size} bytes" in problem(file)
    assert capfd.readouterr() == ("", "")


def test_missing_dataset_names_near_ones_or_all(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", np.ones(3), "train/images")
    write(tmp_path / "a.h5", np.ones(3), "train/labels")
    assert "has no dataset 'train/image' (did you mean 'train/images'" in problem(tmp_path / "a.h5", "train/image")
    assert "it holds 'train/images', 'train/labels'" in problem(tmp_path / "a.h5", "zzz")
    assert "'train' is a group, expected a dataset" in problem(tmp_path / "a.h5", "train")
    assert "is a group" in problem(tmp_path / "a.h5", "/")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros((0, 4)), "is empty (shape (0, 4))"),
        (np.zeros((4, 0)), "is empty (shape (4, 0))"),
        (h5py.Empty("f4"), "is empty"),
        (3.0, "is a single value"),
        (["a", "b"], "holds text (strings)"),
        (np.array([b"a", b"b"]), "holds text (strings)"),
        (np.zeros(3, [("mass", "f4"), ("charge", "i4")]), "holds records with fields mass, charge"),
        (np.zeros(3, np.complex64), "holds complex numbers"),
    ],
)
def test_what_is_not_samples_of_numbers(tmp_path: Path, data: object, says: str) -> None:
    assert says in problem(write(tmp_path / "a.h5", data))


def test_link_to_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["x"] = h5py.ExternalLink("gone.h5", "x")
        h5["soft"] = h5py.SoftLink("/gone")
    assert "a.h5: " in problem(tmp_path / "a.h5")
    assert "a.h5: " in problem(tmp_path / "a.h5", "soft")
    assert capfd.readouterr() == ("", "")


def test_filter_of_hdf5plugin_is_found(tmp_path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
    data = np.arange(60.0).reshape(20, 3)
    out = np.zeros_like(data)
    open_rows(write(tmp_path / "a.h5", data, chunks=(4, 3), **hdf5plugin.Zstd()), "x").read_into(0, out)
    np.testing.assert_array_equal(out, data)


def test_filter_that_nobody_has_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(1, h5py.h5z.FLAG_OPTIONAL, (6,))  # gzip, whose code is then changed in the file
        h5py.h5d.create(h5.id, b"x", h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((8,)), plist)
        h5["x"][...] = np.arange(8)
    stored = (tmp_path / "a.h5").read_bytes()
    at = stored.index(b"deflate") - 8  # filter code, length of its name, flags, number of values, name
    assert stored[at : at + 2] == b"\x01\x00"
    (tmp_path / "a.h5").write_bytes(stored[:at] + b"\x00\x7f" + stored[at + 2 :])
    assert f"is compressed with HDF5 filter {0x7F00} (deflate), which is not installed here" in problem(
        tmp_path / "a.h5"
    )


@pytest.mark.parametrize("layout", ["gzip", "gzip shuffle", "fletcher32", "chunks across samples"])
def test_damaged_chunk_names_samples(tmp_path: Path, layout: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = np.random.default_rng(0).normal(size=(70, 3, 4)).astype(np.float32)
    file = write(tmp_path / "a.h5", data, **LAYOUTS[layout])
    with h5py.File(file) as h5:
        chunk = h5["x"].id.get_chunk_info(3)
    with file.open("r+b") as raw:
        raw.seek(chunk.byte_offset + chunk.size // 2)
        raw.write(b"\xff\x00\xff\x00\xff\x00")
    rows = open_rows(file, "x")
    with pytest.raises(DataError) as caught:
        rows.read_into(0, np.zeros((70, 3, 4), np.float32))
    assert str(caught.value).startswith(f"{file}: samples 0 to 69 of 'x' could not be read (")
    assert capfd.readouterr() == ("", "")


def test_rows_beyond_the_end(tmp_path: Path) -> None:
    rows = open_rows(write(tmp_path / "a.h5", np.zeros((10, 2))), "x")
    with pytest.raises(DataError, match="samples 8 to 11 of 'x' were asked for, it has 10"):
        rows.read_into(8, np.zeros((4, 2)))


def test_file_cut_while_open(tmp_path: Path) -> None:
    file = write(tmp_path / "a.h5", np.ones((1000, 100)), chunks=(10, 100))
    rows = open_rows(file, "x")
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(DataError, match="was cut from"):
        rows.read_into(0, np.zeros((1000, 100)))
