"""Large trees: written without a second copy, leaves fetched one by one in order, read as far as is asked."""

import io
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from app.errors import ArtifactError
from app.storage import artifact_file
from app.storage.artifact_file import Provenance
from app.storage.image import Image
from app.storage.leaves import Later
from app.storage.tree import read_tree

PROVENANCE = Provenance("phalanx", "0.1.0", "", "run", "teacher")
KIND = "state"


def write(path, tree):
    artifact_file.write(path, tree, kind=KIND, provenance=PROVENANCE)


def read(path, keep=None):
    return artifact_file.read(path, kind=KIND, keep=keep).tree


def later(value, asked=None, name=""):
    """A Later that gives `value` and notes that it was asked."""

    def fetch():
        if asked is not None:
            asked.append(name)
        return value

    return Later(tuple(value.shape), value.dtype, fetch)


VALUES = {
    "f32": torch.arange(6.0).reshape(2, 3),
    "bf16": torch.arange(3.0).bfloat16(),
    "scalar tensor": torch.tensor(3),
    "empty": torch.empty(2, 0),
    "strided": torch.arange(24.0).reshape(4, 6)[::2, 1::3],
    "complex": torch.tensor([1 + 2j]).conj(),
    "array": np.arange(4, dtype=np.int16),
    "scalar array": np.array(2.5),
    "big endian": np.arange(3, dtype=">i4"),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_file_is_the_same_as_with_the_value_itself(name):
    contents = [io.BytesIO(), io.BytesIO()]
    for content, value in zip(contents, [VALUES[name], later(VALUES[name])], strict=True):
        Image({"a": {"b": value}, "z": 1}, {}).stream(content.write)
    assert contents[0].getvalue() == contents[1].getvalue()


def test_leaves_are_fetched_once_and_in_the_order_of_the_tree(tmp_path):
    asked: list[str] = []
    chosen = np.random.default_rng(1)
    tree, names = {}, []
    for group in range(20):
        tree[f"z{-group}"] = {}
        for number in range(group):
            name = f"{group}/{'long' * chosen.integers(90)}{number}"
            value = torch.full((int(chosen.integers(1, 3000)),), float(len(names)))
            tree[f"z{-group}"][name] = later(value, asked, name)
            tree[f"z{-group}"][f"{name} kind"] = ["text", 1, None]
            names.append(name)
    write(tmp_path / "a.h5", tree)
    assert asked == names
    found = read(tmp_path / "a.h5")
    values = [value for group in found.values() for value in group.values() if isinstance(value, torch.Tensor)]
    assert [value.unique().tolist() for value in values] == [[float(number)] for number in range(len(names))]


def test_the_order_of_the_tree_holds_where_the_file_has_another(tmp_path):
    asked: list[str] = []
    tree = {name: later(np.full(5, number), asked, name) for number, name in enumerate("abc")}
    image = Image(tree, {})
    first, *others = image._extents  # as if HDF5 had put the first last
    image._extents = [
        first._replace(offset=others[-1].offset),
        *(one._replace(offset=other.offset) for one, other in zip(others, image._extents, strict=False)),
    ]
    content = io.BytesIO()
    image.stream(content.write)
    assert asked == ["a", "b", "c"]
    assert [int(value[0]) for value in read_tree(h5py.File(content, "r")).values()] == [1, 2, 0]


@pytest.mark.parametrize(
    ("promised", "given", "words"),
    [
        (torch.ones(3), torch.ones(4), r"float32 of shape \(4,\) \(tensor\) was given later, expected float32 of .*3"),
        (torch.ones(3), torch.ones(3).double(), "float64"),
        (torch.ones(3).bfloat16(), torch.ones(3).short(), "expected bfloat16"),
        (torch.ones(3), np.ones(3, np.float32), "(array)"),
        (np.ones(3), torch.ones(3).double(), "(tensor)"),
        (np.ones(3), [1.0, 1.0, 1.0], "a list"),
        (torch.ones(2, 2), torch.ones(2, 2).to_sparse(), "sparse"),
    ],
)
def test_what_is_not_as_promised_is_refused_and_leaves_the_older_file(tmp_path, promised, given, words):
    path = tmp_path / "a.h5"
    write(path, {"a": 1})
    with pytest.raises(TypeError, match=rf"w/x: .*{words}"):
        write(path, {"w": {"x": Later(tuple(promised.shape), promised.dtype, lambda: given)}})
    assert read(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.h5"]


def test_an_array_of_texts_cannot_be_promised(tmp_path):
    with pytest.raises(TypeError, match="w: an array of dtype <U3"):
        write(tmp_path / "a.h5", {"w": Later((2,), np.dtype("U3"), lambda: None)})


def test_an_error_of_fetch_comes_out_as_it_is(tmp_path):
    def fetch():
        raise RuntimeError("rank 1 is gone")

    with pytest.raises(RuntimeError, match="rank 1 is gone"):
        write(tmp_path / "a.h5", {"w": Later((2,), torch.float32, fetch)})
    assert os.listdir(tmp_path) == []


def test_only_what_is_kept_is_read(tmp_path):
    tree = {"weights": {"a/b": torch.ones(2), "c": torch.zeros(2)}, "list": [1, {"x": 2}], "seed": 7, "none": None}
    write(tmp_path / "a.h5", tree)
    asked = []

    def keep(place):
        asked.append(place)
        return place in (("weights", "a/b"), ("list",))

    found = read(tmp_path / "a.h5", keep)
    assert list(found) == ["weights", "list"]
    assert list(found["weights"]) == ["a/b"]
    assert found["list"] == [1, {"x": 2}]
    assert asked == [("weights", "a/b"), ("weights", "c"), ("list",), ("seed",), ("none",)]


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "a.h5"
    write(path, {"first": 1, "w": np.arange(100_000)})

    def keep(place):
        if place == ("w",):
            os.truncate(path, 100_000)
        return True

    with pytest.raises(ArtifactError, match="shorter than it was"):
        read(path, keep)


def test_a_file_that_is_replaced_while_it_is_read_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.h5"
    write(path, {"first": 1, "w": np.arange(1000)})

    def keep(_):
        write(path, {"other": 2})
        return True

    assert read(path, keep)["w"][-1] == 999
    assert read(path) == {"other": 2}


# A limit of address space that leaves so many MiB beyond what is in use.
LIMITED = """
import io, resource, sys
from pathlib import Path
import numpy as np, torch
from app.storage import artifact_file
from app.storage.leaves import Later
torch.set_num_threads(1)  # the stacks of threads are address space too
MIB = 1 << 20
path = Path(sys.argv[1])
provenance = artifact_file.Provenance("phalanx", "0", "", "run", "teacher")
def write(tree): artifact_file.write(path, tree, kind="state", provenance=provenance)
def read(keep=None): return artifact_file.read(path, kind="state", keep=keep).tree
def leave(mib):
    used = [line for line in open("/proc/self/status") if line.startswith("VmSize")][0].split()[1]
    limit = int(used) * 1024 + mib * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
write({"a": torch.ones(3), "b": np.ones(3)}); read()
"""


def run(program, path):
    command = [sys.executable, "-c", LIMITED + program, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_large_tree_is_written_without_a_second_copy(tmp_path):
    """64 MiB in one tensor and one array, with 12 MiB of address space to spare."""
    program = (
        "tree = {'t': torch.ones(8 * MIB), 'a': np.ones(4 * MIB)}\n"
        "leave(12)\n"
        "try: copy = tree['t'].clone(); sys.exit('the limit does not hold')\n"
        "except RuntimeError: pass\n"
        "write(tree)\n"
    )
    run(program, tmp_path / "a.h5")
    found = read(tmp_path / "a.h5")
    assert (found["t"] == 1).all()
    assert found["t"].numel() == 8 << 20
    assert (found["a"] == 1).all()


def test_of_what_is_fetched_one_at_a_time_is_held(tmp_path):
    """Three pieces of 36 MiB (malloc keeps smaller ones for itself), with 56 MiB to spare."""
    program = (
        "def piece(n): return Later((9 * MIB,), torch.float32, lambda: torch.full((9 * MIB,), float(n)))\n"
        "leave(56)\n"
        "write({str(n): piece(n) for n in range(3)})\n"
    )
    run(program, tmp_path / "a.h5")
    (found,) = read(tmp_path / "a.h5", lambda place: place == ("2",)).values()
    assert (found == 2).all()


def test_what_is_not_kept_takes_no_memory(tmp_path):
    """4 of 68 MiB, with 12 MiB to spare."""
    write(tmp_path / "a.h5", {"large": torch.zeros(16 << 20), "small": torch.ones(1 << 20)})
    program = (
        "import os; os.unlink(path); os.rename(sys.argv[1] + '.kept', path)\n"
        "leave(12)\n"
        "try: read(); sys.exit('the limit does not hold')\n"
        "except MemoryError: pass\n"
        "print(list(read(lambda place: place == ('small',))))\n"
    )
    os.rename(tmp_path / "a.h5", tmp_path / "a.h5.kept")
    assert run(program, tmp_path / "a.h5") == "['small']\n"


def test_a_program_that_ends_by_such_an_error_ends_as_python_does(tmp_path):
    """h5py crashes when its settings for a file object outlive all else."""
    program = LIMITED + "write({'a': {'b': object()}})"
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "a.h5"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "TypeError: a/b: a object" in done.stderr
