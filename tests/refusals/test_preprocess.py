"""Raw files and steps that a preprocess phase cannot work with: what is said about each."""

import json

import h5py
import numpy as np
import pytest

CSV = "id,x,kind\n1,0.5,a\n2,1.5,b\n3,2.5,a\n"
PHASE = """\
[run]
name = "job"
folder = "{results}"
device = "cpu"

[[phase]]
kind = "preprocess"
name = "made"
file = {file}
{keys}
"""


@pytest.fixture
def prepare(job):
    """Run a preprocess phase: prepare(keys, steps, FILE=content) with texts, or arrays for an HDF5 file."""

    def prepare(keys="", *steps, file='"raw/*"', **files):
        (job.folder / "raw").mkdir(exist_ok=True)
        for name, content in (files or {"a_csv": CSV}).items():
            path = job.folder / "raw" / name.replace("_", ".")
            if isinstance(content, dict):
                with h5py.File(path, "w") as handle:
                    for column, values in content.items():
                        handle[column] = values
            else:
                path.write_text(content)
        text = f"{keys}\nsteps = [{', '.join(steps)}]" if steps else keys
        job.input.write_text(PHASE.format(results=job.results, file=file, keys=text))
        return job.run()

    return prepare


def filtering(where):
    return f"{{ kind = 'filter', where = {json.dumps(where)} }}"


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("__import__('os').system('true') == 0", ["no call of a function", 'col("NAME")']),
        ("x >", ["expected a condition, which this is not"]),
        ("x.real > 1", ["no Attribute in a condition"]),
        ("x in kind", ['a list of numbers or words after "in"']),
        ("1 < 2", ["a condition that names a column"]),
        ("x + 1", ["a condition, not a number"]),
    ],
)
def test_conditions_that_are_none(prepare, refused, where, words):
    refused(prepare("", filtering(where)), "step 1, filter: where = ", *words)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (filtering("y > 1"), ["raw/a.csv", "no column 'y'", "id, x, kind"]),
        (filtering("kid == 'a'"), ["no column 'kid'", "did you mean 'kind'"]),
        (filtering("kind > 1"), ["compares text with numbers"]),
        (filtering("x and id > 1"), ["a number or a word for a condition"]),
        ('{ kind = "select", columns = ["z*"] }', ["raw/a.csv", "select", "'z*'"]),
        ('{ kind = "stack", columns = ["x", "kind"], to = "v" }', ["'kind' holds text", "encode"]),
        ('{ kind = "reshape", column = "x", shape = [2] }', ["not as many numbers as [2]"]),
        ('{ kind = "encode", column = "x" }', ["holds float64, expected words or whole numbers"]),
        ('{ kind = "encode", column = "id", categories = ["a"] }', ["the categories are words", "numbers"]),
        ('{ kind = "standardise", columns = "kind" }', ["'kind' holds text"]),
        ('{ kind = "minmax", columns = "z" }', ["no column 'z'"]),
        (filtering("x > 100"), ["no samples are left", "3 were left out by filters"]),
        ('{ kind = "window", length = 9, columns = "x" }', ["no samples are left", "9 rows that follow one another"]),
        ('{ kind = "rename", columns = "x", to = "bad/x" }', ["'bad/x'", "rename it"]),
    ],
)
def test_steps_that_do_not_fit(prepare, refused, step, words):
    refused(prepare("", step), *words)


def test_steps_that_contradict_each_other(prepare, refused):
    scale = '{ kind = "standardise", columns = "x" }'
    refused(prepare("", scale, '{ kind = "minmax", columns = "x" }'), "minmax", "'x' is scaled twice")
    refused(prepare("", scale, filtering("x > 0")), "standardise and minmax come last")
    windows = ['{ kind = "window", length = 2, columns = "x" }'] * 2
    refused(prepare("", *windows), "window may be there once")
    categories = '{ kind = "encode", column = "kind", categories = ["a", "a"] }'
    refused(prepare("", categories), "'a' is there twice")


def test_columns_that_files_do_not_share(prepare, refused):
    refused(prepare("", a_csv=CSV, b_csv="id,y,kind\n4,1,a\n"), "raw/b.csv", "no column 'x'", "raw/a.csv", lines=2)
    refused(prepare("", a_csv=CSV, b_csv="id,x,kind\n4,1,7\n"), "raw/b.csv: 'kind' holds numbers", "cast")


def test_shapes_that_files_do_not_share(prepare, refused):
    one, other = {"x": np.zeros((3, 4))}, {"x": np.zeros((3, 5))}
    refused(prepare("", a_h5=one, b_h5=other), "raw/b.h5", "[5]", "raw/a.h5 [4]")


def test_bad_records_are_named(prepare, refused):
    values = {"x": np.array([1.0, np.nan, 3.0, np.inf]), "n": np.array([1, 2, 300, 4])}
    cast = '{ kind = "cast", columns = "n", type = "uint8" }'
    told = prepare("", cast, a_h5=values)
    refused(
        told,
        "3 of 4 records cannot be used",
        'bad = "leave_out"',
        "record 1 (from 0): x is nan",
        "record 2 (from 0): n is '300', which uint8 cannot hold",
        "record 3 (from 0): x is inf",
        lines=4,
    )
    assert prepare('bad = "leave_out"', cast, a_h5=values).code == 0


def test_all_are_bad(prepare, refused):
    told = prepare('bad = "leave_out"', a_h5={"x": np.full(5, np.nan)})
    refused(told, "no samples are left", "of 5 records 5 are bad", "x is nan")


def test_no_training_part_to_measure(prepare, refused):
    keys = 'split_by = "id"\nvalidation = 0.4\ntest = 0.5'
    told = prepare(keys, '{ kind = "standardise", columns = "x" }', a_csv="id,x\n1,2\n1,3\n1,4\n")
    refused(told, "training part is empty", "less for validation and test")


def test_files_that_are_none(prepare, refused):
    refused(prepare("", a_txt="nothing"), "a.txt", "suffix", "CSV")
    refused(prepare("", file='"elsewhere/*"'), "no file matches")


def test_one_mistake_of_several_ranks_is_said_once(prepare, job, refused):
    prepare("", filtering("y > 1"), a_csv=CSV, b_csv=CSV)
    refused(job.launch(2), "raw/", "no column 'y'")
