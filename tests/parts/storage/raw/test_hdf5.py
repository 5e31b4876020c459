"""HDF5 and netCDF-4: each dataset of the common length is a column, in any layout; a stranger's file leads nowhere."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from app.errors import DataError
from app.storage.raw import Piece, hdf5, netcdf, pieces, read

RANDOM = np.random.default_rng(5)
COUNT = 45
IMAGES = RANDOM.integers(0, 255, (COUNT, 4, 3)).astype(np.uint8)
WORDS = [f"w{n}é" * (n % 3) for n in range(COUNT)]


def made(file: Path, fill: Callable[[h5py.File], object]) -> Path:
    with h5py.File(file, "w") as h5:
        fill(h5)
    return file


def split(file: Path, piece_bytes: int = 1 << 20) -> list[Piece]:
    """As `pieces` of a file that its process has found good, which would take seconds in all."""
    return hdf5.pieces(file, "netcdf" if file.suffix == ".nc" else "hdf5", piece_bytes)


def joined(file: Path, piece_bytes: int = 300) -> dict[str, np.ndarray]:
    found = [read(piece) for piece in split(file, piece_bytes)]
    assert not any(part.bad for part in found)
    assert sum(part.count for part in found) == len(np.concatenate([part.rows for part in found]))
    return {name: np.concatenate([part.columns[name] for part in found]) for name in found[0].columns}


def refused(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        split(file)
    return caught.value.problems[0]


def fill_all(h5: h5py.File) -> None:
    h5.create_dataset("images", data=IMAGES, chunks=(7, 4, 3), compression="gzip", shuffle=True)
    h5.create_dataset("deep/er/cut", data=IMAGES, chunks=(8, 2, 3), compression="lzf")
    h5["deep/swapped"] = np.arange(COUNT, dtype=">f4")
    h5["flags"] = np.arange(COUNT) % 2 == 0
    h5.create_dataset("words", data=WORDS, dtype=h5py.string_dtype(), chunks=(9,), compression="gzip")
    h5["codes"] = np.array([f"c{n}".encode() for n in range(COUNT)])
    h5["mean"], h5["version"], h5["wave"] = np.zeros(3), "2.1", np.zeros(COUNT, np.complex64)
    h5["elsewhere"] = h5py.ExternalLink("other.h5", "/x")


def test_columns_of_any_layout(tmp_path: Path) -> None:
    found = joined(made(tmp_path / "a.h5", fill_all))
    assert set(found) == {"images", "deep/er/cut", "deep/swapped", "flags", "words", "codes"}
    np.testing.assert_array_equal(found["images"], IMAGES)
    np.testing.assert_array_equal(found["deep/er/cut"], IMAGES)
    assert found["deep/swapped"].dtype == np.dtype("=f4")
    assert found["deep/swapped"].tolist() == list(range(COUNT))
    assert found["flags"].dtype == np.bool_
    assert found["words"].tolist() == WORDS
    assert found["codes"].tolist() == [f"c{n}" for n in range(COUNT)]


def test_columns_by_name(tmp_path: Path) -> None:
    file = made(tmp_path / "a.h5", fill_all)
    piece = split(file, 300)[1]
    found = read(piece, ["flags", "not there"])
    assert (list(found.columns), found.count) == (["flags"], piece.stop - piece.start)
    for name, why in (
        ("mean", "has 3 rows, the file has 45 records"),
        ("version", "is a single value"),
        ("wave", "holds complex numbers, expected numbers or texts"),
    ):
        with pytest.raises(DataError, match=f"'{name}' {why}"):
            read(piece, [name])


def test_pieces_are_of_whole_chunks(tmp_path: Path) -> None:
    file = made(tmp_path / "a.h5", lambda h5: h5.create_dataset("x", data=IMAGES, chunks=(7, 4, 3)))
    assert [piece.start for piece in split(file, 10 * 12)] == list(range(0, COUNT, 7))
    assert [piece.start for piece in split(file, 20 * 12)] == list(range(0, COUNT, 14))


def test_a_virtual_dataset_of_files_in_the_folder(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((COUNT, 4, 3), np.uint8)
    for start in range(0, COUNT, 15):
        made(tmp_path / f"part{start}.h5", lambda h5, at=start: h5.__setitem__("x", IMAGES[at : at + 15]))
        layout[start : start + 15] = h5py.VirtualSource(f"part{start}.h5", "x", (15, 4, 3))
    file = made(tmp_path / "a.h5", lambda h5: h5.create_virtual_dataset("all", layout))
    np.testing.assert_array_equal(joined(file)["all"], IMAGES)
    (tmp_path / "part15.h5").unlink()
    with pytest.raises(DataError, match=r"takes rows from part15\.h5, which is not there"):
        read(split(file)[0])


def test_a_damaged_chunk_is_bad_records(tmp_path: Path) -> None:
    def fill(h5: h5py.File) -> None:
        data = h5.create_dataset("x", data=RANDOM.normal(size=(COUNT, 2)), chunks=(9, 2), fletcher32=True)
        h5["y"] = np.arange(COUNT)
        h5.flush()
        places.append(data.id.get_chunk_info(2).byte_offset)

    places: list[int] = []
    file = made(tmp_path / "a.h5", fill)
    stored = bytearray(file.read_bytes())
    stored[places[0] + 20] ^= 255
    file.write_bytes(stored)
    (piece,) = split(file)
    found = read(piece)
    assert found.rows.tolist() == [*range(18), *range(27, COUNT)]
    assert found.bad[0] == (18, "'x' cannot be read there, the file is damaged")
    assert found.columns["y"].tolist() == found.rows.tolist()


def test_lengths_that_differ(tmp_path: Path) -> None:
    def fill(h5: h5py.File) -> None:
        h5["train/x"], h5["train/y"], h5["test/x"], h5["test/y"] = (np.zeros(n) for n in (9, 9, 4, 4))

    assert "differ in length: 9 ('train/x', 'train/y'), 4 (" in refused(made(tmp_path / "a.h5", fill))


@pytest.mark.parametrize("settings", [{}, {"chunks": (7,)}, {"chunks": (7,), "compression": "gzip", "shuffle": True}])
def test_texts_of_any_length_are_no_more_than_the_memory_holds(
    tmp_path: Path, settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as h5:
        h5.create_dataset("w", data=WORDS, dtype=h5py.string_dtype(), **settings)
    assert joined(tmp_path / "a.h5")["w"].tolist() == WORDS
    (piece,) = split(tmp_path / "a.h5")
    size = sum(len(word.encode()) for word in WORDS)
    monkeypatch.setattr(hdf5, "TEXTS_BYTES", size)
    assert read(piece).columns["w"].tolist() == WORDS
    monkeypatch.setattr(hdf5, "TEXTS_BYTES", size - 1)
    with pytest.raises(DataError, match=f"'w' has more than {size - 1} bytes of text in a piece"):
        read(piece)


def test_fixed_texts_of_utf8(tmp_path: Path) -> None:
    kind = h5py.string_dtype("utf-8", 12)
    file = made(
        tmp_path / "a.h5", lambda h5: h5.__setitem__("w", np.array([w.encode() for w in WORDS], "S12").astype(kind))
    )
    assert joined(file)["w"].tolist() == WORDS


def test_texts_that_are_not_utf8(tmp_path: Path) -> None:
    file = made(tmp_path / "a.h5", lambda h5: h5.__setitem__("w", np.array([b"a", b"\xff", b"b"])))
    (piece,) = split(file)
    assert read(piece).columns["w"].tolist() == ["a", "b"]
    assert read(piece).bad == ((1, "'w' is no text of UTF-8: b'\\xff'"),)


def fill_netcdf(h5: h5py.File) -> None:
    def variable(name: str, values: np.ndarray, **attributes: object) -> None:
        h5[name] = values
        h5[name].attrs.update(attributes)

    time = np.arange(6.0)
    h5["time"], h5["lat"] = time, np.arange(3.0)
    for name in ("time", "lat"):
        h5[name].make_scale(name)
    h5["station"] = np.zeros(6)
    h5["station"].make_scale("This is a netCDF dimension but not a netCDF variable.         6")
    variable(
        "packed", np.array([0, 1, -99, 3, 4, 5], np.int16), scale_factor=np.float32(0.5), add_offset=np.float32(10)
    )
    h5["packed"].attrs["_FillValue"] = np.array([-99], np.int16)
    variable("counts", np.arange(6, dtype=np.int32), _FillValue=np.int32(-1))
    variable("gaps", np.array([0, 1, -1, 3, 4, 5], np.int32), missing_value=np.int32(-1))
    variable("field", np.where(np.eye(6, 3) > 0, 1e20, 2.0).astype(np.float32), _FillValue=np.float32(1e20))
    h5["code"] = np.array([list("ab "), list("cd\0")] * 3, "S1")


def test_netcdf_variables(tmp_path: Path) -> None:
    found = joined(made(tmp_path / "a.nc", fill_netcdf), 1 << 20)
    assert set(found) == {"time", "packed", "counts", "gaps", "field", "code"}
    np.testing.assert_array_equal(found["packed"], np.float32([10, 10.5, np.nan, 11.5, 12, 12.5]))
    assert found["packed"].dtype == np.float32
    assert found["counts"].dtype == np.int32
    np.testing.assert_array_equal(found["gaps"], [0, 1, np.nan, 3, 4, 5])
    np.testing.assert_array_equal(np.isnan(found["field"]), np.eye(6, 3) > 0)
    assert found["code"].tolist() == ["ab ", "cd"] * 3
    (piece,) = split(tmp_path / "a.nc")
    with pytest.raises(DataError, match="'station' is a netCDF dimension without values"):
        read(piece, ["station"])


def test_unsigned_numbers_of_netcdf() -> None:
    how = netcdf.Packing((), None, None, unsigned=True)
    assert netcdf.unpacked(np.array([-1, 1], np.int8), how).tolist() == [255, 1]


def test_files_of_strangers_are_all_looked_at_before_one_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0" * 9)
    outside = made(tmp_path.parent / f"{tmp_path.name}.h5", lambda h5: h5.__setitem__("x", np.zeros(4)))
    layout = h5py.VirtualLayout((4,), np.float64)
    layout[:] = h5py.VirtualSource(outside, "x", (4,))
    files = [
        made(tmp_path / "a.h5", lambda h5: h5.create_dataset("x", (64,), "u1", external=[(str(secret), 0, 64)])),
        made(tmp_path / "b.h5", lambda h5: h5.create_dataset("x", (1 << 50,), "u1", chunks=(1 << 20,))),
        made(tmp_path / "c.h5", lambda h5: h5.create_virtual_dataset("x", layout)),
        made(tmp_path / "d.h5", lambda h5: h5.create_group("empty")),
    ]
    told = [refused(file) for file in files]
    assert f"keeps its values in another file ({secret})" in told[0]
    assert "claims 1,125,899,906,842,624 bytes" in told[1]
    assert "is outside of its own folder" in told[2]
    assert "holds no dataset with records" in told[3]


def test_damaged_files_are_found_by_a_process_of_its_own(tmp_path: Path) -> None:
    good = made(tmp_path / "a\x1b[2J.h5", lambda h5: h5.__setitem__("x", np.zeros(500)))
    (tmp_path / "b\x1b[2J.h5").write_bytes(good.read_bytes()[:-500])
    (tmp_path / "c.h5").write_text("no HDF5 at all")
    with pytest.raises(DataError) as caught:
        pieces(sorted(tmp_path.glob("*.h5")), 300)
    cut, other = caught.value.problems
    assert "b\\x1b[2J.h5: " in cut
    assert "truncated" in cut
    assert "c.h5: is not an HDF5 file" in other


def test_the_older_netcdf_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.nc").write_bytes(b"CDF\x01" + bytes(200))
    with pytest.raises(DataError, match=r"is a file of netCDF-3, expected netCDF-4\. What to try: nccopy -k nc4 a\.nc"):
        pieces([tmp_path / "a.nc"], 300)
