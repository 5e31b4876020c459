"""CSV: types are the same in all pieces, a line that is wrong is one bad record, and every record is there once."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from app.storage.raw import csv_layout, csv_tables, pieces, read


def made(file: Path, text: str | bytes) -> Path:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def whole(file: Path, piece_bytes: int = 1 << 20) -> tuple[dict[str, list], list[int], list[tuple[int, str]]]:
    """Columns, numbers of the good records and the bad ones, with rows counted through all pieces."""
    columns: dict[str, list] = {}
    rows: list[int] = []
    bad: list[tuple[int, str]] = []
    first = 0
    for piece in pieces([file], piece_bytes):
        found = read(piece)
        for name, values in found.columns.items():
            columns.setdefault(name, []).extend(values.tolist())
            assert len(values) == len(found.rows)
        rows += (found.rows + first).tolist()
        bad += [(row + first, why) for row, why in found.bad]
        first += found.count
    assert sorted([*rows, *(row for row, _ in bad)]) == list(range(first))
    return columns, rows, bad


TRAPS = (
    'n,x,word,day\n1,0.5,"a, b",2024-01-01\n\n2,,"say ""hi""",2024-01-02\r\n3,nan,,2024-01-03\n4,-inf\n'
    '5,1,"two\nlines",2024-01-05\n6,1,5" pipe,2024-01-06\n7,1,x,2024-01-07,8\n 8 ,1e3,in"ch"es,2024-01-08'
)


@pytest.mark.parametrize("piece_bytes", [1, 17, 60, 1 << 20])
def test_each_line_is_a_record_however_the_file_is_cut(tmp_path: Path, piece_bytes: int) -> None:
    columns, rows, bad = whole(made(tmp_path / "a.csv", TRAPS), piece_bytes)
    assert rows == [0, 1, 2, 8]
    assert columns["n"] == [1, 2, 3, 8]
    np.testing.assert_array_equal(columns["x"], [0.5, np.nan, np.nan, 1000])
    assert columns["word"] == ["a, b", 'say "hi"', "", 'in"ch"es']
    days = np.array(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-08"], "M8[ns]").astype(np.int64)
    assert columns["day"] == days.tolist()
    assert [row for row, _ in bad] == [3, 4, 5, 6, 7]
    assert bad[0][1] == "has 2 fields, expected 4"
    assert all("quotation mark without its partner" in why for _, why in bad[1:4])
    assert bad[4][1] == "has 5 fields, expected 4"


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types are inferred from 64 bytes at the beginning and 16 places of 16 bytes."""
    monkeypatch.setattr(csv_layout, "SAMPLE_BYTES", 64)
    monkeypatch.setattr(csv_layout, "PLACE_BYTES", 16)
    csv_layout.layout.cache_clear()


@pytest.mark.usefixtures("small_samples")
@pytest.mark.parametrize("piece_bytes", [50, 1 << 20])
def test_values_that_do_not_fit_are_bad_records(tmp_path: Path, piece_bytes: int) -> None:
    lines = [f"{n},{n / 2},w{n},{'true' if n % 2 else 'false'}\n".encode() for n in range(2000)]
    lines[1000:1004] = [b"x,1,a,true\n", b"1,1..5,b,true\n", b",1,c,true\n", b"1,1,d\xff,maybe\n"]
    columns, _, bad = whole(made(tmp_path / "a.csv", b"n,x,word,ok\n" + b"".join(lines)), piece_bytes)
    assert bad == [
        (1000, "'n' is 'x', expected a whole number"),
        (1001, "'x' is '1..5', expected a number"),
        (1002, "'n' is empty, expected a whole number"),
        (1003, "is no text of UTF-8: b'1,1,d\\xff,maybe'"),
    ]
    kept = [n for n in range(2000) if not 1000 <= n < 1004]
    assert columns["n"] == kept
    assert columns["x"] == [n / 2 for n in kept]
    assert columns["word"] == [f"w{n}" for n in kept]
    assert columns["ok"] == [bool(n % 2) for n in kept]


@pytest.mark.usefixtures("small_samples")
def test_types_come_from_all_over_the_file(tmp_path: Path) -> None:
    lines = [f"{n if n < 900 else n + 0.5},{'' if n < 900 else 'late'}\n" for n in range(1000)]
    file = made(tmp_path / "a.csv", "x,note\n" + "".join(lines))
    types = {tuple(values.dtype.kind for values in read(piece).columns.values()) for piece in pieces([file], 500)}
    assert types == {("f", "U")}
    assert whole(file)[0]["x"] == [n if n < 900 else n + 0.5 for n in range(1000)]


def test_a_column_of_choice(tmp_path: Path) -> None:
    file = made(tmp_path / "a.tsv", "a\tb\n1\t2\n3\t4\t5\n6\t7\n")
    (piece,) = pieces([file], 1 << 20)
    found = read(piece, ["b", "not there"])
    assert list(found.columns) == ["b"]
    assert found.columns["b"].tolist() == [2, 7]
    nothing = read(piece, ["not there"])
    assert (nothing.columns, nothing.count, nothing.rows.tolist(), len(nothing.bad)) == ({}, 3, [0, 2], 1)


def test_numbers_among_which_some_are_damaged_are_numbers(tmp_path: Path) -> None:
    lines = [f"{n},{n + 0.5},{n if n % 4 else 'A'}\n" for n in range(40)]
    lines[5], lines[7] = "1O,5.5,5\n", "7,7..5,7\n"
    columns, _, bad = whole(made(tmp_path / "a.csv", "n,x,code\n" + "".join(lines)), 100)
    assert bad == [(5, "'n' is '1O', expected a whole number"), (7, "'x' is '7..5', expected a number")]
    kept = [n for n in range(40) if n not in (5, 7)]
    assert columns["n"] == kept
    assert columns["x"] == [n + 0.5 for n in kept]
    assert columns["code"] == [str(n) if n % 4 else "A" for n in kept]


def test_columns_without_a_name(tmp_path: Path) -> None:
    """The index that pandas writes is one; a delimiter at the end of each line is not."""
    assert whole(made(tmp_path / "a.csv", ",x,\n0,a,\n1,b,\n"))[0] == {"column 1": [0, 1], "x": ["a", "b"]}


def test_compressed_is_one_piece_of_the_same_records(tmp_path: Path) -> None:
    text = "﻿a;b\n" + "".join(f"{n};x{n}\n" for n in range(50))
    packed, plain = made(tmp_path / "a.csv.gz", gzip.compress(text.encode())), made(tmp_path / "a.csv", text)
    assert len(pieces([packed], 10)) == 1
    assert len(pieces([plain], 10)) > 10
    assert whole(packed) == whole(plain, 10)
    assert whole(plain)[0]["a"] == list(range(50))


def test_names_alone_are_no_records(tmp_path: Path) -> None:
    assert pieces([made(tmp_path / "a.csv", "a,b\n")], 100) == []
    (piece,) = pieces([made(tmp_path / "b.csv.gz", gzip.compress(b"a,b\n"))], 100)
    assert (read(piece).count, set(read(piece).columns)) == (0, {"a", "b"})


def test_a_file_that_grew_is_read_anew(tmp_path: Path) -> None:
    file = made(tmp_path / "a.csv", "a\n1\n")
    assert whole(file)[0] == {"a": [1]}
    assert whole(made(file, "b,c\n1.5,x\n"))[0] == {"b": [1.5], "c": ["x"]}


REFUSED = {
    "no names": (b"1,2.5\n3,4\n", "has no names of columns: its first line is 1, 2.5"),
    "a name twice": (b"a,b,a\n1,2,3\n", "has the name 'a' twice in the first line"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "is no text of UTF-8"),
    "not text": (b"a\0\1\2" * 50, "is no text of UTF-8"),
    "names not UTF-8": (b"gr\xf6\xdfe,b\n1,2\n", "the names of the columns in the first line cannot be read"),
    "empty": (b"", "is empty (0 bytes)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_table(tmp_path: Path, what: str) -> None:
    text, words = REFUSED[what]
    file = made(tmp_path / "a.csv", text)
    with pytest.raises(DataError) as caught:
        pieces([file], 1 << 20)
    assert caught.value.problems[0].startswith(f"{file}: {words}")


def test_damaged_and_huge_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(b"a\n" + b"1\n" * 5000)
    with pytest.raises(DataError, match=r"cannot be read .* copy or make it again"):
        pieces([made(tmp_path / "a.csv.gz", packed[:-20])], 1000)
    (piece,) = pieces([made(tmp_path / "b.csv.gz", packed)], 1000)
    monkeypatch.setattr(csv_tables, "UNPACKED_BYTES", 5000)
    with pytest.raises(DataError, match=r"unpacks to more than 5,000 bytes.*gunzip"):
        read(piece)
