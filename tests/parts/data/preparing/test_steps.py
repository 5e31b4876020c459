"""The steps of a preprocess phase on a few records, beside what one would do by hand."""

import numpy as np
import pytest

from app.data.preparing.records import block_of
from app.data.preparing.steps import apply, categories_of, finite, needed
from app.errors import DataError
from app.inputfile.preparing import Cast, Encode, Filter, OneHot, Rename, Reshape, Select, Stack


def block(**columns):
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    return block_of("f.csv", arrays, np.arange(len(next(iter(arrays.values())))), [])


def rows_where(where, **columns):
    return apply(Filter(kind="filter", where=where), block(**columns)).rows.tolist()


def test_conditions():
    columns = {"x": [1.0, np.nan, 3.0, 4.0], "n": np.array([1, 2, 250, 4], np.uint8), "word": ["a", "b", "a b", "ä"]}
    assert rows_where("x > 1", **columns) == [2, 3]
    assert rows_where("not x > 1", **columns) == [0, 1]
    assert rows_where("1 <= x < 4 or word == 'ä'", **columns) == [0, 2, 3]
    assert rows_where("n + n > 300", **columns) == [2]  # 8 bits are not enough for the sum
    assert rows_where("n % 2 == 0 and n / 4 != 1", **columns) == [1, 2]
    assert rows_where("word in ['a', 'ä'] and -n < -1", **columns) == [3]
    assert rows_where("word not in ['a b']", **columns) == [0, 1, 3]
    assert rows_where("`word` > 'a'", **columns) == [1, 2, 3]


def test_names_in_backticks():
    assert apply(Filter(kind="filter", where='`a/b c` > 1 and col("in") == 0'), block_of(
        "f", {"a/b c": np.array([1, 2, 3]), "in": np.array([0, 0, 1])}, np.arange(3), []
    )).rows.tolist() == [1]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "wanted", "good"),
    [
        ([0.0, 1.5, -1.0, 255.0, 256.0, np.nan, np.inf], "uint8", [0, 3]),
        (np.array([2**63, 5], np.uint64), "int64", [1]),
        ([9.3e18, 9.2e18], "int64", [1]),
        ([1e300, 1.0, np.inf], "float32", [1, 2]),  # what is not finite is found later
        ([0, 1, 2], "bool", [0, 1]),
        (["1", " 2.5", "x", ""], "float64", [0, 1, 3]),
        (["9007199254740993", "-4"], "int64", [0, 1]),
    ],
)
def test_casts(values, wanted, good):
    found = apply(Cast(kind="cast", columns="x", type=wanted), block(x=values))
    assert found.rows.tolist() == good
    assert found.columns["x"].dtype == wanted
    assert [one.row for one in found.bad] == sorted(set(range(len(values))) - set(good))
    if wanted == "int64" and good == [0, 1]:
        assert found.columns["x"].tolist() == [9007199254740993, -4]


def test_categories():
    step = Encode(kind="encode", column="word")
    words = block(word=["b", "a", "c", "b"])
    assert categories_of(step, words) == ("a", "b", "c")
    labelled = apply(step, words, ("c", "b"))
    assert labelled.columns["word"].tolist() == [1, 0, 1]
    assert labelled.names == {"word": ("c", "b")}
    assert [(one.row, one.why) for one in labelled.bad] == [(1, "word is 'a', none of c, b")]
    numbers = apply(OneHot(kind="onehot", column="n"), block(n=[30.0, 10.0]), (10, 20, 30))
    assert numbers.columns["n"].tolist() == [[0, 0, 1], [1, 0, 0]]


def test_columns_are_chosen_renamed_and_joined():
    start = block(a1=[1, 2], a2=[0.5, 1.5], other=[[1, 2, 3, 4], [5, 6, 7, 8]])
    assert list(apply(Select(kind="select", columns=["other", "a*"]), start).columns) == ["other", "a1", "a2"]
    renamed = apply(Rename(kind="rename", columns=["x", "a1"], to="first"), start)
    assert list(renamed.columns) == ["first", "a2", "other"]
    assert apply(Stack(kind="stack", columns="a*", to="a"), start).columns["a"].tolist() == [[1, 0.5], [2, 1.5]]
    shaped = apply(Reshape(kind="reshape", column="other", shape=[2, 2]), start)
    assert shaped.columns["other"][1].tolist() == [[5, 6], [7, 8]]
    with pytest.raises(DataError, match="are there both"):
        apply(Rename(kind="rename", columns=["a1", "a2"], to="first"), start)


def test_numbers_that_are_not_finite_make_bad_records():
    found = finite(block(x=[[1.0, 2.0], [np.inf, 0.0], [0.0, 0.0]], y=[1.0, 1.0, np.nan], n=[1, 2, 3]))
    assert found.rows.tolist() == [0]
    assert [(one.row, one.why) for one in found.bad] == [(1, "x is inf"), (2, "y is nan")]


def test_columns_that_have_to_be_read():
    steps = [
        Rename(kind="rename", columns=["old", "older"], to="new"),
        Filter(kind="filter", where="q > 0"),
        Stack(kind="stack", columns=["new", "b"], to="v"),
        Select(kind="select", columns=["v"]),
    ]
    assert needed(steps) == {"old", "older", "new", "q", "b"}
    assert needed(steps[:3]) is None
    assert needed([Select(kind="select", columns="a*")]) is None
