"""Whole runs with predict phases: the same predictions on every grid, by torch and by ONNX Runtime, after kills."""

import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.storage.artifact_file import Provenance
from app.storage.networks import read_network, write_network
from tests.launch import ALONE, Job, completed
from tests.runs import made, outcome

IMAGES = made.features(2, 8, 8)
LABELS = made.labels(IMAGES)
NEW = [made.features(2, 8, 8, samples=701, offset=5), made.features(2, 8, 8, samples=300, offset=6)]
GRIDS = {"1x1": (ALONE, 1), "2x2": (4, 2)}
LENET = {"kind": "lenet", "channels": [3, 4], "widths": [12, 12]}


def phase(name: str, **keys: Any) -> dict[str, Any]:
    return {"kind": "predict", "name": name, "batch_size": 24, "microbatch_size": 7, **keys}


AFTER = [
    phase("held-out", outputs=["logits", "labels"]),
    phase("fresh", network="net", file="new*.h5", targets="y", copy_along=["ids/event", "camera"], monitor={}),
]
OTHERS = [
    phase("old", network="old.h5", file="new*.h5", inputs="x", targets="y"),
    phase("stranger", network="stranger.onnx", file="new*.h5", inputs="x", outputs=["logits"]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, new samples with their labels, and columns beside them."""
    path = tmp_path_factory.mktemp("predict")
    made.write_data(path / "data.h5", IMAGES, LABELS)
    for number, images in enumerate(NEW):
        with h5py.File(made.write_data(path / f"new{number}.h5", images, made.labels(images)), "a") as file:
            file["ids/event"] = np.arange(len(images)) * 7 + number
            file["camera"] = np.arange(2 * len(images), dtype=np.uint16).reshape(-1, 2)
    return path


@pytest.fixture(scope="module")
def play(folder):
    """The run on a grid, made once: play(grid) is the run folder."""
    file = made.write_input(folder / "input.toml", LENET, {"epochs": 1}, {"file": "data.h5"}, after=AFTER)
    folders: dict[str, Path] = {}

    def once(grid):
        if grid not in folders:
            folders[grid], (ranks, stages) = folder / grid, GRIDS[grid]
            completed(file, ranks, f"run.folder={folders[grid]}", f"grid.stages={stages}", "run.measure=0")
        return folders[grid]

    return once


def columns(folder: Path, name: str) -> dict[str, np.ndarray]:
    with h5py.File(folder / "predictions" / f"{name}.h5") as file:
        return {key: file[key][:] for key in ("sample", "labels", "probabilities", "logits", "targets") if key in file}


def logits(path: Path, images: np.ndarray) -> np.ndarray:
    """What a stored network gives, computed by hand."""
    import torch

    from app.networks.build import build, from_architecture

    stored = read_network(path)
    built = build(from_architecture(stored.architecture), seed=0)
    built.load_state_dict(stored.weights)
    with h5py.File(path) as file, torch.no_grad():
        mean, std = (file[f"extras/data/{name}"][()] for name in ("mean", "std"))
        return built.eval()(torch.from_numpy((images - mean) / std)).numpy()


def test_each_sample_once_with_what_the_network_says(play, folder):
    found = columns(play("1x1"), "fresh")
    images = np.concatenate(NEW)
    assert found["sample"].tolist() == list(range(len(images)))
    expected = logits(play("1x1") / "networks" / "net.h5", images)
    powers = np.exp(expected - expected.max(1, keepdims=True))
    np.testing.assert_allclose(found["probabilities"], powers / powers.sum(1, keepdims=True), atol=1e-5)
    assert np.array_equal(found["labels"], found["probabilities"].argmax(1))
    with h5py.File(play("1x1") / "predictions" / "fresh.h5") as file:
        ids = [np.arange(len(one)) * 7 + number for number, one in enumerate(NEW)]
        assert np.array_equal(file["ids/event"][:], np.concatenate(ids))
        assert file["camera"].dtype == np.uint16
        assert np.array_equal(file["camera"][701:], np.arange(600).reshape(-1, 2))
        assert file["monitor/new_samples"][()] == len(images)
        assert file["monitor/drift/inputs/psi"].shape == (2,)


def test_metrics_are_those_of_an_evaluate_phase(play):
    """Of the test part, by default, and in its order."""
    with h5py.File(play("1x1") / "run.h5") as file:
        group = file["phases/held-out"]
        evaluated = file["phases/test/metrics"]
        for name in ("loss", "accuracy", "balanced_accuracy", "samples"):
            np.testing.assert_allclose(group[f"metrics/{name}"][()], evaluated[name][()], rtol=1e-5)
        assert np.array_equal(group["confusion"][:], evaluated["confusion"][:])
        assert group["samples_per_s"][()] > 0
    found = columns(play("1x1"), "held-out")
    assert np.array_equal(found["targets"], LABELS[found["sample"]])
    np.testing.assert_allclose(
        found["logits"], logits(play("1x1") / "networks" / "net.h5", IMAGES[found["sample"]]), atol=1e-4
    )


def test_the_same_on_two_replicas_of_two_stages(play):
    grid = "2x2"
    for name in ("held-out", "fresh"):
        found, alone = columns(play(grid), name), columns(play("1x1"), name)
        assert found.keys() == alone.keys()
        assert np.array_equal(found["sample"], alone["sample"])
        for key in ("probabilities", "logits"):
            if key in alone:
                np.testing.assert_allclose(found[key], alone[key], atol=1e-4)
    drift = [outcome_of(play(one), "monitor/drift/inputs/psi") for one in (grid, "1x1")]
    np.testing.assert_allclose(*drift)


def outcome_of(folder: Path, place: str) -> np.ndarray:
    with h5py.File(folder / "run.h5") as file:
        return file[f"phases/fresh/{place}"][()]


def test_networks_of_other_runs_without_data_of_their_own(play, folder):
    """One of an older file, which says not what it takes, and one in an ONNX file of a stranger."""
    net = play("1x1") / "networks" / "net.h5"
    stored = read_network(net)
    extras = {name: tree for name, tree in stored.extras.items() if name != "signature"}
    write_network(
        folder / "old.h5", stored.weights, stored.architecture, extras, Provenance("phalanx", "0", "", "", "")
    )
    stranger(folder / "stranger.onnx")
    file = folder / "others.toml"
    made.write_input(file, LENET, {}, {"file": "data.h5"}, after=OTHERS)
    text = file.read_text()
    kept = [part for part in text.split("\n[") if part.startswith(("[run]", '[phase]]\nkind = "predict"'))]
    file.write_text("\n[".join(kept))
    completed(file, 2, f"run.folder={folder / 'others'}")
    found, known = columns(folder / "others", "old"), columns(play("1x1"), "fresh")
    outcome.assert_same_bits(found, known)
    weight = np.random.default_rng(0).normal(size=(128, 3)).astype(np.float32)
    expected = np.concatenate(NEW).reshape(-1, 128) @ weight
    np.testing.assert_allclose(columns(folder / "others", "stranger")["logits"], expected, atol=1e-3)


def stranger(path: Path) -> None:
    """A network that Phalanx did not write: one product."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.random.default_rng(0).normal(size=(128, 3)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    ports = [
        [helper.make_tensor_value_info(name, kind, shape)] for name, shape in (("x", ["n", 2, 8, 8]), ("y", ["n", 3]))
    ]
    graph = helper.make_graph(nodes, "stranger", *ports, [onnx.numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, path)


SLOW = """
import os
import time

from torch import nn


class Slow(nn.Linear):
    def forward(self, inputs):
        time.sleep(0.0 if self.training else float(os.environ.get("SLEEP_S", 0)))
        return super().forward(inputs)


def network(sample_shape, outputs):
    return nn.Sequential(nn.Flatten(), Slow(128, outputs))
"""


def test_killed_and_stopped_and_continued(folder):
    """A rank of two is killed while pieces are made, then the run is asked to stop; three ranks finish it: nothing is
    lost and nothing there twice.
    """
    (folder / "slow.py").write_text(SLOW)
    file = made.write_input(
        folder / "slow.toml", {"kind": "slow.py:network"}, {"epochs": 1}, {"file": "data.h5"}, after=[AFTER[1]]
    )
    settings = [f"run.folder={folder / 'slow'}", "run.measure=0"]
    work = folder / "slow" / "work" / "fresh"
    with Job(file, 2, *settings, environ={"SLEEP_S": "0.02"}) as job:
        wait_for_pieces(job, work, 2)
        assert job.kill(1)
        assert job.wait().code != 0
    there = len(list(work.glob("piece-*")))
    with Job(file, 2, *settings, environ={"SLEEP_S": "0.08"}) as job:
        wait_for_pieces(job, work, there + 1)
        (folder / "slow" / "stop").touch()
        ended = job.wait()
    assert ended.code == 75, ended.text
    assert "stop was found" in ended.text
    assert "of them there already" in completed(file, 3, *settings)
    assert not work.exists()
    found = columns(folder / "slow", "fresh")
    images = np.concatenate(NEW)
    assert found["sample"].tolist() == list(range(len(images)))
    assert np.array_equal(found["targets"], np.concatenate([made.labels(one) for one in NEW]))
    with h5py.File(folder / "slow" / "networks" / "net.h5") as network:
        inputs = (images - network["extras/data/mean"][()]) / network["extras/data/std"][()]
        weight, bias = (network[f"weights/1.{name}"][:] for name in ("weight", "bias"))
    powers = np.exp(inputs.reshape(len(images), -1) @ weight.T + bias)
    np.testing.assert_allclose(found["probabilities"], powers / powers.sum(1, keepdims=True), atol=1e-5)


def wait_for_pieces(job: Job, work: Path, count: int) -> None:
    end = time.monotonic() + 60
    while len(list(work.glob("piece-*"))) < count:
        assert job.process.poll() is None, job.text()
        assert time.monotonic() < end, job.text()
        time.sleep(0.01)
