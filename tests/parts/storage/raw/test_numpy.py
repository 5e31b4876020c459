"""NumPy's files: the rows of a piece, whether the array lies there as it is or compressed; never a pickle."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from app.storage.raw import arrays, pieces, read

RANDOM = np.random.default_rng(5)
ARRAYS = {
    "x": RANDOM.normal(size=(50, 3, 2)),
    "turned": np.asfortranarray(RANDOM.normal(size=(50, 4)).astype(np.float32)),
    "swapped": RANDOM.integers(0, 99, 50).astype(">i4"),
    "wide": np.arange(50, dtype=np.longdouble),
    "words": np.array([f"w{n}é" for n in range(50)]),
    "bytes": np.array([f"b{n}".encode() for n in range(50)]),
    "times": np.datetime64("2024-01-01") + np.arange(50),
    "flags": np.arange(50) % 3 == 0,
}


def joined(file: Path, piece_bytes: int) -> dict[str, np.ndarray]:
    found = [read(piece) for piece in pieces([file], piece_bytes)]
    return {name: np.concatenate([part.columns[name] for part in found]) for name in found[0].columns}


def refused(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        pieces([file], 1 << 20)
    return caught.value.problems[0]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_of_each_array_of_an_archive(tmp_path: Path, save) -> None:
    save(tmp_path / "a.npz", scalar=3, other=np.zeros(7), **ARRAYS)
    assert len(pieces([tmp_path / "a.npz"], 500)) > 5
    found = joined(tmp_path / "a.npz", 500)
    assert set(found) == set(ARRAYS)
    for name in ("x", "turned", "swapped", "wide", "words", "flags"):
        np.testing.assert_array_equal(found[name], ARRAYS[name])
        assert found[name].dtype.isnative
        assert found[name].dtype.kind == "U" or found[name].dtype.itemsize <= 8
    assert found["bytes"].tolist() == [f"b{n}" for n in range(50)]
    assert found["times"].tolist() == ARRAYS["times"].astype("M8[ns]").astype(np.int64).tolist()


def test_pieces_of_a_compressed_array_in_any_order(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=ARRAYS["x"])
    parts = pieces([tmp_path / "a.npz"], 500)
    whole = parts[0]._replace(stop=50)
    for start, stop in [*((part.start, part.stop) for part in reversed(parts)), (5, 20), (18, 22), (10, 30), (30, 50)]:
        found = read(whole._replace(start=start, stop=stop))
        np.testing.assert_array_equal(found.columns["x"], ARRAYS["x"][start:stop])


def test_one_array_has_the_name_of_its_file(tmp_path: Path) -> None:
    for name in ("x", "turned", "words"):
        np.save(tmp_path / f"{name}.npy", ARRAYS[name])
        found = joined(tmp_path / f"{name}.npy", 400)
        assert list(found) == [name]
        np.testing.assert_array_equal(found[name], ARRAYS[name])


def test_fields_are_columns(tmp_path: Path) -> None:
    fields = np.zeros(20, [("id", "<i8"), ("p", ">f4", (3,)), ("tag", "U4"), ("z", "c8")])
    fields["id"], fields["p"], fields["tag"] = np.arange(20), RANDOM.normal(size=(20, 3)), "ab"
    np.save(tmp_path / "a.npy", fields)
    np.savez(tmp_path / "b.npz", t=fields, y=np.arange(20))
    for file, prefix in ((tmp_path / "a.npy", ""), (tmp_path / "b.npz", "t/")):
        found = joined(file, 200)
        for name in ("id", "p", "tag"):
            np.testing.assert_array_equal(found[f"{prefix}{name}"], fields[name])
        (piece, *_) = pieces([file], 1 << 20)
        with pytest.raises(DataError, match=f"'{prefix}z' holds values of type complex64"):
            read(piece, [f"{prefix}z"])


def test_lengths_that_differ(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((9, 2)), y=np.zeros(9), mean=np.zeros(2), scalar=1.0)
    (piece,) = pieces([tmp_path / "a.npz"], 1 << 20)
    assert set(read(piece).columns) == {"x", "y"}
    for name, why in (("mean", "has 2 rows, the file has 9 records"), ("scalar", "has no rows")):
        with pytest.raises(DataError, match=f"'{name}' {why}"):
            read(piece, ["x", name])
    np.savez(tmp_path / "b.npz", x=np.zeros(9), y=np.zeros(9), s=np.zeros(4), t=np.zeros(4))
    assert "its columns differ in length: 9 ('x', 'y'), 4 ('s', 't')" in refused(tmp_path / "b.npz")


class Trap:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was loaded",))


def test_nothing_pickled_is_loaded(tmp_path: Path) -> None:
    objects = np.array([Trap(), None], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=objects)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Trap()))
    assert "holds Python objects (pickled), which are never loaded" in refused(tmp_path / "a.npy")
    assert "'x' holds Python objects (pickled)" in refused(tmp_path / "b.npz")
    assert "is damaged, or no file of NumPy" in refused(tmp_path / "c.npy")


def test_damaged_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(1000))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-9])
    assert "the file is cut short" in refused(tmp_path / "a.npy")
    np.savez_compressed(tmp_path / "b.npz", x=RANDOM.normal(size=1000))
    stored = bytearray((tmp_path / "b.npz").read_bytes())
    stored[4000:4010] = bytes(10)
    (tmp_path / "b.npz").write_bytes(stored)
    (piece,) = pieces([tmp_path / "b.npz"], 1 << 20)
    with pytest.raises(DataError, match="is damaged"):
        read(piece)
    (tmp_path / "c.npz").write_bytes(stored[:3000])
    assert "is damaged, or no file of NumPy" in refused(tmp_path / "c.npz")


def test_sizes_that_a_member_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 2)))
    text = (tmp_path / "x.npy").read_bytes().replace(b"(4, 2)", b"(9, 9)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", text)
    assert "'x.npy' has 192 bytes, which does not go with its shape" in refused(tmp_path / "a.npz")
    monkeypatch.setattr(arrays, "TURNED_BYTES", 100)
    np.savez_compressed(tmp_path / "b.npz", x=np.asfortranarray(np.zeros((20, 3))))
    assert "is compressed and in Fortran order" in refused(tmp_path / "b.npz")
