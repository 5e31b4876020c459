"""Networks cut into stages: the numbers of one rank on every grid, under every schedule, for every kind of network.

Each grid meets each schedule, and each network some of both; not all of the product, which would take an hour.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.launch import ALONE, completed
from tests.runs import made, outcome

RATE = 16.0
STEPS = 5  # of an epoch: 96 samples to train on in batches of 20

OWN = """
from torch import nn


def tied(sample_shape, outputs):
    middle, last = nn.Linear(10, 10), nn.Linear(10, 10)
    last.weight = middle.weight
    first, output = nn.Linear(sample_shape[0], 10), nn.Linear(10, outputs)
    return nn.Sequential(first, nn.Tanh(), middle, nn.Dropout(0.2), last, nn.Tanh(), output)


def functions(sample_shape, outputs, width):
    return [
        lambda: nn.Linear(sample_shape[0], width, bias=False),
        lambda: nn.BatchNorm1d(width),
        lambda: nn.ReLU(inplace=True),
        lambda: nn.Dropout(0.2),
        lambda: nn.Linear(width, width),
        lambda: nn.ReLU(inplace=True),
        lambda: nn.LayerNorm(width),
        lambda: nn.Linear(width, outputs),
    ]
"""


class Case(NamedTuple):
    """A network, its data and how it is trained."""

    network: dict[str, Any]
    inputs: np.ndarray
    targets: np.ndarray
    train: dict[str, Any] = {}  # noqa: RUF012 - never changed
    task: str = "classification"


RESNET = {"kind": "resnet", "blocks": [3, 3], "width": 4}  # 8 layers
TRANSFORMER = {"kind": "transformer", "width": 8, "heads": 2, "blocks": 6, "dropout": 0.1}
SGD = {"optimizer": "sgd", "rate": 0.02}
IMAGES, ROWS, SERIES, TOKENS = made.features(3, 8, 8), made.features(6), made.features(5, 4), made.tokens(7, 11)
CASES = {
    "lenet": Case({"kind": "lenet", "dropout": 0.2}, IMAGES, made.labels(IMAGES), {"clip_norm": 0.05}),
    "group norm": Case({**RESNET, "norm": "group"}, IMAGES, made.labels(IMAGES), {**SGD, "clip_norm": 0.5}),
    "batch norm": Case({**RESNET, "norm": "batch"}, IMAGES, made.labels(IMAGES), SGD),
    "tied tokens": Case(
        {**TRANSFORMER, "vocabulary": 11, "causal": True, "pooling": "none", "tied": True},
        TOKENS,
        (3 * TOKENS + 1) % 11,
        {"optimizer": "sgd", "rate": 0.5, "weight_decay": 0.01, "clip_norm": 1.0},
    ),
    "features": Case(TRANSFORMER, SERIES, made.values(SERIES), {"loss": "huber"}, "regression"),
    "own, tied": Case({"kind": "own.py:tied"}, ROWS, made.labels(ROWS), {"clip_norm": 0.1}),
    "own, functions": Case({"kind": "own.py:functions", "options": {"width": 12}}, ROWS, made.labels(ROWS), SGD),
}
GRIDS = {"1x1": (ALONE, 1), "2x1": (2, 1), "1x2": (2, 2), "1x3": (3, 3), "2x2": (4, 2), "1x4": (4, 4)}
AGAIN, MEASURED = "grid.recompute=true", 'grid.cut="measured"'
RUNS = [
    ("lenet", "2x1", "1f1b"),
    ("lenet", "1x2", "interleaved"),
    ("lenet", "1x3", "1f1b", 'grid.cut=["dense1", "output"]'),
    ("lenet", "1x4", "gpipe"),
    ("group norm", "1x2", "gpipe", AGAIN),
    ("group norm", "2x2", "interleaved"),
    ("group norm", "1x4", "interleaved"),
    ("batch norm", "1x2", "interleaved", AGAIN),
    ("batch norm", "1x3", "gpipe"),
    ("batch norm", "2x2", "1f1b"),
    ("tied tokens", "2x1", "1f1b"),
    ("tied tokens", "1x2", "1f1b", AGAIN),
    ("tied tokens", "1x3", "interleaved"),
    ("tied tokens", "2x2", "gpipe", AGAIN),
    ("features", "1x2", "1f1b", MEASURED),
    ("features", "1x4", "1f1b"),
    ("own, tied", "1x3", "1f1b"),
    ("own, tied", "2x2", "interleaved", 'grid.cut=["1", "4", "6"]'),
    ("own, functions", "1x2", "gpipe", 'grid.cut=["layer3"]'),
    ("own, functions", "1x4", "interleaved"),
]


def phase(name: str, rate: float) -> dict[str, Any]:
    """One step of plain gradient descent with all samples, in 13 microbatches of 7 and one of 5."""
    return {
        "kind": "train",
        "name": name,
        "network": "new",
        "epochs": 1,
        "batch_size": 96,
        "microbatch_size": 7,
        "optimizer": "sgd",
        "momentum": 0.0,
        "rate": rate,
        "keep": "last",
    }


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Runs, each made once: play(case, grid, schedule, KEY=VALUE...) is the run folder."""
    folders: dict[tuple[str, ...], Path] = {}

    def once(name, grid, schedule, *settings):
        key = (name, grid, schedule, *settings)
        if key not in folders:
            folders[key] = launched(tmp_path_factory.mktemp("stages"), *key)
        return folders[key]

    return once


def launched(folder: Path, name: str, grid: str, schedule: str, *settings: str) -> Path:
    case, (ranks, stages) = CASES[name], GRIDS[grid]
    made.write_data(folder / "data.h5", case.inputs, case.targets)
    (folder / "own.py").write_text(OWN)
    data = {"file": "data.h5", "task": case.task}
    before = (phase("start", 1e-30), phase("first", RATE))
    file = made.write_input(folder / "input.toml", case.network, {"network": "new", **case.train}, data, before)
    text = completed(file, ranks, f"grid.stages={stages}", f'grid.schedule="{schedule}"', *settings)
    assert f"grid {grid} (replicas x stages)" in text or ranks == ALONE
    return file.with_suffix("")


def gradients(folder: Path) -> dict[str, np.ndarray]:
    """Those of the step of phase "first", by parameter."""
    start, first = outcome.weights(folder, "start"), outcome.weights(folder, "first")
    return {name: (start[name] - first[name]) / RATE for name in start if not is_buffer(name)}


def is_buffer(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest number of the tensor."""
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


def deviations(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest of them all; the names must be equal, in order."""
    assert list(found) == list(expected)
    return max(deviation(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: " ".join(run))
def test_the_numbers_of_one_rank(run, play):
    found, alone = play(*run), play(run[0], "1x1", "1f1b")
    steps, expected = outcome.losses(found), outcome.losses(alone)
    assert len(steps) == 2 * STEPS
    assert len(set(expected)) == len(expected), "the loss changes"
    assert all(gradient.any() for gradient in gradients(alone).values()), "there is nothing to compare"
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients(alone).values()))
    assert norm > CASES[run[0]].train.get("clip_norm", 0.0), "clipping clips"
    sizes = {
        "gradients": deviations(gradients(found), gradients(alone)),
        "first epoch": float(np.abs(steps / expected - 1)[:STEPS].max()),
        "both epochs": float(np.abs(steps / expected - 1).max()),
        "weights": deviations(outcome.weights(found), outcome.weights(alone)),
        "validation": deviations(outcome.epochs(found), outcome.epochs(alone)),
        "evaluation": deviations(outcome.metrics(found), outcome.metrics(alone)),
    }
    print({name: f"{size:.1e}" for name, size in sizes.items()})
    limits = {"gradients": 1e-5, "first epoch": 1e-4}
    assert {name: size for name, size in sizes.items() if size > limits.get(name, 1e-3)} == {}


@pytest.mark.parametrize("run", [("group norm", "2x2", "interleaved"), ("own, functions", "1x4", "interleaved")])
def test_the_same_bits_on_the_same_grid(run, play, tmp_path):
    first, second = play(*run), launched(tmp_path, *run)
    for name in ("first", "net"):
        outcome.assert_same_run(first, second, name)
    outcome.assert_same_bits(outcome.metrics(first), outcome.metrics(second))
