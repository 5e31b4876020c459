"""Parquet: row groups, lists, structs, what is missing, and row groups that are damaged."""

import base64
import zlib
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import DataError
from app.storage.raw import Piece, parquet, pieces, read

RANDOM = np.random.default_rng(5)
COUNT = 40


# 292 bytes of pyarrow 26 with one bit turned over: Parquet C++ calls std::terminate when its metadata is looked at.
CRASHING = (
    "c-nnX&5FV>5T3*#_9`+ZfgruKR8U!k${u>zi>DsMHz*RYP_?#o^$C0$U&r@x{8{j{kohtn^L?3_EPqy00*Waf5ptqPS&b3^Gzvx^"
    ";t$sAF+3=~up{1_&}0c{)vPyeo0Eh@YH=n>DoeSXpvJOjS}u?brS7`YZQZU72idjnJs$PZSYsowBu%Kme2eqb@uwtK_!q$^^3s0?"
    "G?v%kHjobI2xjq|mUV2#$m0v*pvvpR(Y51sRgLqy-k*YBS2x9e7tH39ugTO{%a$9*lK<xp)7B`j"
)


def split(file: Path, piece_bytes: int = 1 << 20) -> list[Piece]:
    """As `pieces` of a file that its process has found good, which would take seconds in all."""
    return parquet.pieces(file, "parquet", piece_bytes)


def made(file: Path, columns: dict | pa.Table, **settings: object) -> Path:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, file, **{"row_group_size": 10, **settings})
    return file


def joined(file: Path, piece_bytes: int = 1) -> dict[str, np.ndarray]:
    found = [read(piece) for piece in split(file, piece_bytes)]
    assert not any(part.bad for part in found)
    return {name: np.concatenate([part.columns[name] for part in found]) for name in found[0].columns}


def test_columns_of_each_type(tmp_path: Path) -> None:
    image = RANDOM.normal(size=(COUNT, 3, 2)).astype(np.float32)
    nested = pa.array(image.tolist(), pa.list_(pa.list_(pa.float32())))
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(COUNT * 4)), 4)
    start = np.datetime64("2024-01-01T00:00:00", "ms")
    file = made(
        tmp_path / "a.parquet",
        {
            "n": pa.array(range(COUNT), pa.uint16()),
            "ok": pa.array([n % 2 == 0 for n in range(COUNT)]),
            "image": nested,
            "fixed": fixed,
            "kind": pa.array([f"k{n % 3}" for n in range(COUNT)]).dictionary_encode(),
            "when": pa.array(start + np.arange(COUNT), pa.timestamp("ms")),
            "place": pa.array([{"x": n / 2, "deep": {"y": n}} for n in range(COUNT)]),
            "price": pa.array([Decimal(n) / 4 for n in range(COUNT)], pa.decimal128(9, 2)),
            "a.b": pa.array([n * 2.0 for n in range(COUNT)]),
        },
    )
    found = joined(file)
    assert found["n"].dtype == np.uint16
    assert found["ok"].dtype == np.bool_
    assert found["ok"].tolist() == [n % 2 == 0 for n in range(COUNT)]
    np.testing.assert_array_equal(found["image"], image)
    assert found["fixed"].tolist() == np.arange(COUNT * 4).reshape(COUNT, 4).tolist()
    assert found["kind"].tolist() == [f"k{n % 3}" for n in range(COUNT)]
    assert found["when"].tolist() == (start + np.arange(COUNT)).astype("M8[ns]").astype(np.int64).tolist()
    assert found["place/x"].tolist() == [n / 2 for n in range(COUNT)]
    assert found["place/deep/y"].tolist() == list(range(COUNT))
    assert found["price"].tolist() == [n / 4 for n in range(COUNT)]
    assert found["a.b"].tolist() == [n * 2.0 for n in range(COUNT)]


def test_pieces_are_row_groups(tmp_path: Path) -> None:
    file = made(tmp_path / "a.parquet", {"x": np.arange(95)})
    assert [(piece.start, piece.stop) for piece in split(file, 1)] == [(n, min(n + 10, 95)) for n in range(0, 95, 10)]
    (piece,) = split(file)
    assert read(piece).columns["x"].tolist() == list(range(95))


def test_what_is_missing(tmp_path: Path) -> None:
    whole = list(range(COUNT))
    file = made(
        tmp_path / "a.parquet",
        {
            "n": pa.array([None if n == 25 else n for n in whole]),
            "word": pa.array([None if n == 3 else "w" for n in whole]),
            "when": pa.array([None if n == 7 else n for n in whole], pa.timestamp("s")),
            "pair": pa.array([None if n == 8 else [1.0] if n == 9 else [1.0, None] for n in whole]),
        },
    )
    found = [read(piece) for piece in split(file, 1)]
    assert {part.columns["n"].dtype for part in found} == {np.dtype(np.float64)}  # in pieces without gaps as well
    assert np.isnan(found[2].columns["n"][5])
    assert found[0].columns["word"].tolist() == ["w", "w", "w", "", "w", "w", "w"]
    assert found[0].rows.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert found[0].bad == (
        (7, "'when' has no time"),
        (8, "'pair' is missing"),
        (9, "'pair' has 1 values, expected 2"),
    )
    np.testing.assert_array_equal(found[1].columns["pair"], [[1, np.nan]] * 10)


def test_columns_by_name(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2], "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64()))})
    (piece,) = split(made(tmp_path / "a.pq", table))
    assert list(read(piece).columns) == ["x"]
    assert read(piece, ["not there"]).columns == {}
    assert read(piece, ["not there"]).count == 2
    with pytest.raises(DataError, match=r"'map' holds values of type map"):
        read(piece, ["map"])


def test_a_damaged_row_group_is_bad_records(tmp_path: Path) -> None:
    settings = {"compression": "zstd", "use_dictionary": False, "write_page_checksum": True}
    file = made(tmp_path / "a.parquet", {"x": RANDOM.normal(size=COUNT)}, **settings)
    part = pq.ParquetFile(file).metadata.row_group(2).column(0)
    stored = bytearray(file.read_bytes())
    at = part.data_page_offset + part.total_compressed_size - 9
    stored[at] ^= 255
    file.write_bytes(stored)
    (piece,) = split(file)
    found = read(piece)
    assert found.rows.tolist() == [*range(20), *range(30, 40)]
    assert [bad.row for bad in found.bad] == list(range(20, 30))
    assert found.bad[0].why.startswith("its row group cannot be read (")
    assert len(found.columns["x"]) == 30


def test_files_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more than this")
    (tmp_path / "b.parquet").write_bytes(b"\0\0\0\0\4\0\0\0PARE")
    for name, words in (("a", "is damaged, or no Parquet file"), ("b", "is encrypted, which is not read")):
        with pytest.raises(DataError, match=rf"{name}\.parquet: {words}"):
            split(tmp_path / f"{name}.parquet")


def test_a_file_that_crashes_its_library_is_found_before_it_is_opened(tmp_path: Path) -> None:
    good = made(tmp_path / "a.parquet", {"x": [1]})
    (tmp_path / "b.parquet").write_bytes(zlib.decompress(base64.b85decode(CRASHING)))
    with pytest.raises(DataError, match=r"b\.parquet: is damaged") as caught:
        pieces([tmp_path / "b.parquet", good], 1 << 20)
    assert len(caught.value.problems) == 1
