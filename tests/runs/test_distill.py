"""Whole runs with a distill phase: every kind of student and teacher, the same numbers on every grid, restarts."""

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional

from app.data.split import Split
from app.networks.build import build, from_architecture
from app.storage.networks import read_network
from tests.launch import ALONE, completed, run
from tests.runs import fragile, made, outcome

IMAGES = made.features(3, 8, 8)
LABELS = made.labels(IMAGES)
TRAINING = Split(made.SAMPLES, 0.1, 0.1, made.SEED).members("train", 0, made.SAMPLES)
OTHER, OWN = "other/networks/net.h5", "own.py:loaded"
GRIDS = {"1x1": (ALONE, 1), "2x1": (2, 1), "1x2": (2, 2), "2x2": (4, 2)}

FUNCTION = """
from pathlib import Path

import torch
from torch import nn


def loaded(sample_shape, outputs):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, outputs))
    network.load_state_dict(torch.load(Path(__file__).with_name("weights.pt")))
    return network
"""
SGD = {"optimizer": "sgd", "rate": 0.02}
LENET = {"kind": "lenet", "widths": [12, 12], "dropout": 0.2}
HINTS = {"stem": "convolution1", "group2block1": "convolution2", "head": "dense1"}
RESNET = {"kind": "resnet", "blocks": [1, 1], "width": 4, "norm": "batch"}


def phase(name: str, teacher: Any, **keys: Any) -> dict[str, Any]:
    plan = {"kind": "distill", "name": name, "teacher": teacher, "epochs": 2, "batch_size": 20, "microbatch_size": 6}
    return {**plan, "rate": 0.01, **keys}


BEFORE = [
    {"kind": "train", "name": "teacher", "epochs": 2, "batch_size": 20, "microbatch_size": 6, "rate": 0.01},
    phase("soft", "teacher", student={"kind": "mlp", "widths": [12]}),
    phase("still", "teacher", network="soft", temperature=3.0, soft=0.6, rate=1e-30, epochs=1, keep="last"),
    phase("several", ["teacher", OTHER, OWN], student={"kind": "mlp", "widths": [12]}, temperature=2.0, soft=0.5),
    phase("hinted", "teacher", student=RESNET, hints=HINTS, hint_weight=0.5, **SGD),
    phase("parts", "teacher", layers=["convolution1", "convolution2", "dense1", "output"], soft=1.0, rate=1e-30),
]
LAST = {
    **phase("net", OTHER, network="parts", hints={"convolution2": "dense1"}, hint_weight=0.0),
    "label_smoothing": 0.1,
}
PHASES = [one["name"] for one in (*BEFORE, LAST)]


def write(folder: Path, before: list[dict[str, Any]], last: dict[str, Any]) -> Path:
    made.write_data(folder / "data.h5", IMAGES, LABELS)
    (folder / "own.py").write_text(FUNCTION)
    torch.manual_seed(1)
    torch.save({"1.weight": torch.randn(7, 192) / 9, "1.bias": torch.randn(7), "4.weight": torch.randn(3, 7),
                "4.bias": torch.randn(3)}, folder / "weights.pt")  # fmt: skip
    return made.write_input(folder / "input.toml", LENET, last, {"file": "data.h5"}, before)


def other_run(folder: Path, **run: Any) -> None:
    """A network of another run, whose data are standardised otherwise: all numbers alike, after a shift."""
    (folder / "there").mkdir(exist_ok=True)
    made.write_data(folder / "there" / "data.h5", 3 * IMAGES + 5, LABELS)
    data = {"file": "data.h5", "standardise": "all"}
    network = {"kind": "lenet", "channels": [3, 5], "widths": [12, 12]}
    file = made.write_input(folder / "there" / "input.toml", network, {"epochs": 1}, data)
    settings = [f"run.{key}={value}" for key, value in {"folder": folder / "other", "measure": 0, **run}.items()]
    completed(file, ALONE, *settings, options=["--fresh"])


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """The runs of BEFORE and LAST on a grid, each made once: play(grid) is the run folder."""
    folder = tmp_path_factory.mktemp("distill")
    other_run(folder)
    file = write(folder, BEFORE, LAST)
    folders: dict[str, Path] = {}

    def once(grid):
        if grid not in folders:
            folders[grid], (ranks, stages) = folder / grid, GRIDS[grid]
            completed(file, ranks, f"run.folder={folders[grid]}", f"grid.stages={stages}", "run.measure=0")
        return folders[grid]

    return once


@pytest.mark.parametrize("grid", ["2x1", "1x2", "2x2"])
def test_the_numbers_of_one_rank(grid, play):
    found, alone = play(grid), play("1x1")
    for name in PHASES:
        expected = outcome.losses(alone, name)
        assert len(set(expected)) > 1
        # a divergence near 0 is what is left of larger numbers
        np.testing.assert_allclose(outcome.losses(found, name), expected, rtol=1e-4, atol=1e-6, err_msg=name)
        others = outcome.weights(found, name)
        for tensor, weight in outcome.weights(alone, name).items():
            np.testing.assert_allclose(others[tensor], weight, rtol=1e-3, atol=1e-4, err_msg=f"{name} {tensor}")
    assert outcome.metrics(found)["accuracy"] == outcome.metrics(alone)["accuracy"]


def network(path: Path) -> torch.nn.Sequential:
    """A finished network, built by hand, in evaluation."""
    stored = read_network(path)
    built = build(from_architecture(stored.architecture), seed=0)
    built.load_state_dict(stored.weights)
    return built.eval()


def inputs(path: Path) -> torch.Tensor:
    """The training part as the network in a file was trained on it."""
    with h5py.File(path) as file:
        mean, std = (file[f"extras/data/{name}"][()].astype(np.float64) for name in ("mean", "std"))
    return torch.from_numpy(((IMAGES[TRAINING] - mean) / std).astype(np.float32))


def given(folder: Path, teacher: str, subject: str = "outputs") -> np.ndarray:
    """What is kept of a teacher: rows of the training part, in the order of the samples."""
    rows, samples = [], []
    for path in sorted((folder / "teachers").glob(f"{teacher}-*/*.h5")):
        with h5py.File(path) as file:
            if subject in file["rows"]:
                rows.append(file["rows"][subject][:])
                samples.append(file["samples"][:])
    order = np.argsort(np.concatenate(samples), kind="stable")
    found, numbers = np.concatenate(rows)[order], np.concatenate(samples)[order]
    first = np.unique(numbers, return_index=True)[1]  # outputs are kept once more beside those of layers
    assert np.array_equal(numbers[first], TRAINING)
    return found[first]


@pytest.mark.parametrize("grid", ["1x1", "2x2"])
def test_what_is_kept_is_what_the_teachers_give(grid, play):
    """That of another run by the constants of its own data; a function of the user's by this run's."""
    folder = play(grid)
    teacher, other = folder / "networks" / "teacher.h5", folder.parent / OTHER
    own = torch.load(folder.parent / "weights.pt")
    with torch.no_grad():
        values = inputs(teacher)
        for layer, module in network(teacher).named_children():
            values = module(values)
            if layer in HINTS.values():
                found = given(folder, "teacher", f"layer {layer}")
                np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(given(folder, "teacher"), values, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(given(folder, "net"), network(other)(inputs(other)), rtol=1e-4, atol=1e-5)
        hidden = torch.tanh(functional.linear(inputs(teacher).flatten(1), own["1.weight"], own["1.bias"]))
        expected = functional.linear(hidden, own["4.weight"], own["4.bias"])
        np.testing.assert_allclose(given(folder, "own"), expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_that_of_the_formula(play):
    """Of phase "still", whose weights do not move: over the whole training part, in one piece."""
    folder = play("1x1")
    student, teacher = folder / "networks" / "soft.h5", folder / "networks" / "teacher.h5"
    with torch.no_grad():
        outputs, wanted = network(student)(inputs(student)), network(teacher)(inputs(teacher))
        p, q = (wanted / 3).softmax(1), (outputs / 3).softmax(1)
        divergence = (p * (p / q).log()).sum(1).mean()
        expected = 0.4 * functional.cross_entropy(outputs, torch.from_numpy(LABELS[TRAINING])) + 0.6 * 9 * divergence
    assert outcome.epochs(folder, "still")["loss"][0] == pytest.approx(expected.item(), rel=1e-4)


def test_handed_over_layers_start_from_the_teachers_weights(play):
    folder = play("2x2")
    whole, parts = outcome.weights(folder, "teacher"), outcome.weights(folder, "parts")
    names = ["convolution1", "convolution2", "dense1", "output"]
    assert list(dict.fromkeys(name.partition(".")[0] for name in parts)) == names
    outcome.assert_same_bits(parts, {name: whole[name] for name in parts})
    assert not any("hint" in name for name in outcome.weights(folder, "hinted"))


def test_the_tables_say_who_taught(play):
    with h5py.File(play("1x2") / "run.h5") as file:
        several = file["phases/several"]
        assert [name.decode() for name in several["teacher"]] == ["teacher", OTHER, OWN]
        assert (several["temperature"][()], several["soft"][()]) == (2.0, 0.5)
        assert file["phases/hinted/hints/head"][()].decode() == "dense1"
        assert "appraisal" in file["phases/hinted"]


def digests(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((folder / "teachers").rglob("*.h5"))}


def again(file: Path, ranks: int, *settings: str) -> list[str]:
    """Run after the network of the last phase has gone: what is said of its teachers."""
    (file.with_suffix("") / "networks" / "net.h5").unlink()
    text = completed(file, ranks, "run.measure=0", *settings)
    return [line.rpartition(", ")[2] for line in text.splitlines() if "gives for 96 training samples" in line]


def test_what_teachers_give_is_computed_once(tmp_path):
    other_run(tmp_path)
    last = phase("net", [OTHER, OWN], student={"kind": "mlp", "widths": [5]}, epochs=1)
    before = [{**last, "name": "first"}]
    file = write(tmp_path, before, last)
    text = completed(file, 2, "run.measure=0")
    assert text.count("took") == text.count("is there already") == 2, "the second phase has the same teachers"
    folder, kept = file.with_suffix(""), digests(file.with_suffix(""))
    first = outcome.losses(folder)

    assert again(file, ALONE) == ["is there already"] * 2
    assert digests(folder) == kept
    np.testing.assert_allclose(outcome.losses(folder), first, rtol=1e-4)

    damaged = sorted(kept)[0]
    content = bytearray(Path(damaged).read_bytes())
    content[-9] ^= 1
    Path(damaged).write_bytes(content)
    assert sorted(word[:4] for word in again(file, ALONE)) == ["is t", "took"]
    assert len(digests(folder)) == 3, "two of the teacher whose two shards are whole, one of the other"
    np.testing.assert_allclose(outcome.losses(folder), first, rtol=1e-4)

    other_run(tmp_path, seed=99)  # another teacher in the same place
    torch.save({**torch.load(tmp_path / "weights.pt"), "4.bias": torch.ones(3)}, tmp_path / "weights.pt")
    assert [word[:4] for word in again(file, ALONE)] == ["took"] * 2
    assert np.abs(outcome.losses(folder) / first - 1).max() > 1e-3

    completed(file, ALONE, "phase.net.soft=0.0", "run.measure=0", options=["--fresh"])
    assert len(list((folder / "teachers").iterdir())) == 2, "of the first phase; the second plays none"


POSITIONS = made.tokens(7, 11)
CASES = {
    "positions": (
        {"kind": "transformer", "width": 8, "heads": 2, "blocks": 2, "vocabulary": 11, "pooling": "none"},
        {"kind": "transformer", "width": 4, "heads": 1, "blocks": 1, "vocabulary": 11, "pooling": "none"},
        POSITIONS,
        (3 * POSITIONS + 1) % 11,
        {"hints": {"block1": "block2"}},
        {},
    ),
    "values": (
        {"kind": "mlp", "widths": [16]},
        {"kind": "mlp", "widths": [4, 4]},
        made.features(6),
        made.values(made.features(6)),
        {"hints": {"hidden2": "hidden1"}, "loss": "huber"},
        {"task": "regression"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_other_tasks(name, tmp_path):
    teacher, student, x, y, keys, data = CASES[name]
    made.write_data(tmp_path / "data.h5", x, y)
    train = {"kind": "train", "name": "teacher", "epochs": 1, "batch_size": 20, "rate": 0.01}
    last = phase("net", "teacher", student=student, **keys)
    file = made.write_input(tmp_path / "input.toml", teacher, last, {"file": "data.h5", **data}, [train])
    for grid in ("1x1", "1x2"):
        ranks, stages = GRIDS[grid]
        settings = [f"run.folder={tmp_path / grid}", f"grid.stages={stages}", "run.measure=0"]
        settings += ["grid.recompute=true"] if stages > 1 else []
        completed(file, ranks, *settings)
    expected = outcome.losses(tmp_path / "1x1")
    assert len(set(expected)) == 2 * 5
    np.testing.assert_allclose(outcome.losses(tmp_path / "1x2"), expected, rtol=1e-4)


TEACHER = """
import torch
from torch import nn


def network(sample_shape, outputs):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(sample_shape[0], 9), nn.Tanh(), nn.Linear(9, outputs))
"""
TAUGHT = {
    "kind": "distill",
    "teacher": "teacher.py:network",
    "student": {"kind": "own.py:network", "options": {"sleep_s": 0.0}},
    "hints": {"1": "0", "4": "1"},
}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    completed(taught(folder), 2)
    return folder / "input"


def taught(folder: Path) -> Path:
    (folder / "teacher.py").write_text(TEACHER)
    file = fragile.write(folder, **TAUGHT)
    file.write_text(file.read_text().replace("[data]", "[grid]\nstages = 2\n\n[data]", 1))
    return file


@pytest.mark.parametrize(
    ("place", "count", "said"),
    [
        ("before rename of 00000-00000.h5", 1, "took"),  # no shard of the first rank
        ("training", 45, "is there already"),
    ],
)
def test_killed_and_started_again(place, count, said, tmp_path, straight):
    """Straight through, bit for bit on the same grid."""
    file = taught(tmp_path)
    fragile.kill(tmp_path, 0, place, count)
    ended = run(file, 2)
    assert ended.code in (fragile.KILLED, -9), ended.text
    fragile.spare(tmp_path)
    text = completed(file, 2)
    assert said in text
    assert ("goes on from its checkpoint" in text) == (place == "training")
    outcome.assert_same_run(tmp_path / "input", straight)
    outcome.assert_same_bits(outcome.metrics(tmp_path / "input"), outcome.metrics(straight))
