"""The preprocess phase: the same set on any number of ranks, whatever is killed on the way, and training on it."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.launch import ALONE, Job, completed
from tests.runs import outcome

CLASSES = ("blue", "green", "red")
INPUT = """\
[run]
name = "prepared"
seed = 5
folder = "{folder}/run"
device = "cpu"

[data]
phase = "made"
inputs = "x"
targets = "colour"

[network]
kind = "mlp"
widths = [8]

[[phase]]
kind = "preprocess"
name = "made"
file = "raw/*"
bad = "leave_out"
deduplicate = "id"
shuffle = true
validation = 0.1
test = 0.2
compression = "gzip"
piece = "64 KiB"
steps = [
  {{ kind = "filter", where = "quality > 0 and not colour in ['grey']" }},
  {{ kind = "stack", columns = ["a", "b"], to = "x" }},
  {{ kind = "encode", column = "colour" }},
  {{ kind = "select", columns = ["id", "x", "colour"] }},
  {{ kind = "standardise", columns = "x" }},
]

[[phase]]
kind = "train"
name = "net"
epochs = 2
rate = 0.02

[[phase]]
kind = "evaluate"
name = "test"
"""
# Loaded by every Python of a job before anything else: the process ends itself at a chosen place.
KILLER = """
import json, os, signal, sys
from pathlib import Path

FILE = Path(__file__).with_name("kill.json")
PLACE = json.loads(FILE.read_text()) if FILE.exists() else None
RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("PMI_RANK") or 0)
SEEN = [0]


def audit(event, arguments):
    if event == PLACE["event"]:
        path = Path(os.fsdecode(arguments[1] if event == "os.rename" else arguments[0]))
        if path.match(PLACE["file"]):
            SEEN[0] += 1
            if SEEN[0] == PLACE["count"]:
                os.kill(os.getpid(), getattr(signal, PLACE["signal"]))


if PLACE and PLACE["rank"] == RANK:
    sys.addaudithook(audit)
"""


def records(first, count, seed):
    """Two numbers that say what colour it is; 5 % of no quality."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, count)).astype(np.float32)
    colour = np.array(CLASSES)[(a > 0).astype(int) + (b > 0.3)]
    return {
        "id": np.arange(first, first + count),
        "quality": random.integers(0, 20, count),
        "a": a,
        "b": b,
        "colour": colour,
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Raw files in three formats: 4000 records, 3 of them not finite, 1 damaged, 20 twice."""
    folder = tmp_path_factory.mktemp("raw") / "raw"
    folder.mkdir()
    first, second, third = records(0, 2500, 1), records(2500, 1000, 2), records(3500, 500, 3)
    lines = [",".join(map(str, row)) for row in zip(*first.values(), strict=True)]
    lines[7] = lines[7].rpartition(",")[0]  # a field is missing
    (folder / "1.csv").write_text("\n".join([",".join(first), *lines]) + "\n")
    second["a"][[3, 500, 999]] = np.nan
    second["quality"][[3, 500, 999]] = 1
    np.savez(folder / "2.npz", **second)
    again = {name: np.concatenate([values, values[:20]]) for name, values in third.items()}
    with h5py.File(folder / "3.h5", "w") as file:
        for name, values in again.items():
            file[name] = values.astype("S") if name == "colour" else values
    return folder


def write(folder, raw):
    """An input file beside the raw files."""
    folder.mkdir()
    (folder / "raw").symlink_to(raw)
    (folder / "input.toml").write_text(INPUT.format(folder=folder))
    return folder / "input.toml"


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    """A run on one rank that nobody disturbed: its folder."""
    file = write(tmp_path_factory.mktemp("whole") / "1", raw)
    completed(file, ALONE)
    return file.parent / "run"


def content(run):
    """The whole set, values and what it says about itself; not when it was written and by which run."""
    with h5py.File(run / "data" / "made.h5") as file:
        found = {name: value for name, value in file.attrs.items() if name not in ("written", "run_id", "input")}

        def visit(name, thing):
            if isinstance(thing, h5py.Dataset):
                found[name] = (thing[()].tolist(), thing.dtype, thing.chunks)
            found.update({f"{name}: {key}": value for key, value in thing.attrs.items()})

        file.visititems(visit)
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}


def test_what_is_in_it(whole, raw):
    with h5py.File(whole / "data" / "made.h5") as file:
        ids, x, colour = file["id"][:], file["x"][:], file["colour"][:]
        train, validation, test = file.attrs["parts"]
        names = json.loads(file["colour"].attrs["class_names"])
        bad = list(zip(file["bad/file"].asstr()[:], file["bad/row"][:], strict=True))
        mean, std = file["x"].attrs["mean"], file["x"].attrs["std"]
        steps = [step["kind"] for step in json.loads(file["x"].attrs["steps"])]
    every = [records(0, 2500, 1), records(2500, 1000, 2), records(3500, 500, 3)]
    every = {name: np.concatenate([one[name] for one in every]) for name in every[0]}
    every["quality"][[2503, 3000, 3499]] = 0  # the ones that are not finite
    good = every["quality"] > 0
    good[7] = False
    assert sorted(ids) == np.flatnonzero(good).tolist()
    assert bad == [("raw/1.csv", 7), ("raw/2.npz", 3), ("raw/2.npz", 500), ("raw/2.npz", 999)]
    assert [names[label] for label in colour] == every["colour"][ids].tolist()
    assert (train + validation + test, validation, test) == (len(ids), round(0.1 * len(ids)), round(0.2 * len(ids)))
    original = np.stack([every["a"], every["b"]], axis=1).astype(np.float64)[ids]
    np.testing.assert_allclose(mean, original[:train].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, original[:train].std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(x, (original - mean) / std, atol=1e-5)
    assert steps == ["stack", "standardise"]
    assert abs(np.corrcoef(np.arange(train), ids[:train])[0, 1]) < 0.1  # shuffled over all files


def test_a_network_learns_from_it(whole):
    assert float(outcome.metrics(whole, "test")["accuracy"]) > 0.8


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_same_on_any_number_of_ranks(whole, raw, tmp_path, ranks):
    file = write(tmp_path / "job", raw)
    completed(file, ranks, options=["--until", "made"])
    assert content(tmp_path / "job" / "run") == content(whole)


def test_stopped_and_killed_and_gone_on(whole, raw, tmp_path):
    file = write(tmp_path / "job", raw)
    run = tmp_path / "job" / "run"
    environ = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "sitecustomize.py").write_text(KILLER)
    begun = {"event": "os.rename", "file": "piece-*", "rank": 0}
    places = [
        (ALONE, 75, begun | {"count": 2, "signal": "SIGTERM"}),
        (ALONE, -9, begun | {"count": 1}),
        (2, 137, begun | {"file": "part-00000.h5", "count": 1}),
        (ALONE, -9, begun | {"file": "made.h5", "count": 1}),
        (ALONE, -9, begun | {"event": "os.remove", "count": 2}),
    ]
    pieces: dict[Path, int] = {}
    for ranks, code, place in places:
        (tmp_path / "kill.json").write_text(json.dumps({"signal": "SIGKILL"} | place))
        with Job(file, ranks, options=["--until", "made"], environ=environ) as job:
            assert job.wait().code == code, job.text()
        kept = {path: path.stat().st_mtime_ns for path in (run / "work" / "made").glob("piece-??????")}
        assert kept
        assert place["event"] == "os.remove" or pieces.items() <= kept.items()  # none is made twice
        pieces = kept
    (tmp_path / "kill.json").unlink()
    completed(file, ALONE, options=["--until", "made"])
    assert content(run) == content(whole)
    assert not (run / "work").exists()
    assert [path.name for path in (run / "data").iterdir()] == ["made.h5"]
