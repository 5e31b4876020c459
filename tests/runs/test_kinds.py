"""Every kind of network and of data: the same numbers on 1, 2 and 3 ranks."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.launch import ALONE, completed
from tests.runs import made, outcome

OWN = """
from torch import nn


def network(sample_shape, outputs, width):
    # No bias before batch norm: its gradient is rounding alone, which Adam blows up to whole steps.
    first = nn.Linear(sample_shape[0], width, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, outputs))
"""


class Case(NamedTuple):
    """A network, its data and how it is trained."""

    network: dict[str, Any]
    inputs: np.ndarray
    task: str = "classification"
    train: dict[str, Any] = {}  # noqa: RUF012 - never changed
    data: dict[str, Any] = {}  # noqa: RUF012 - never changed
    files: int = 1


RESNET = {"kind": "resnet", "blocks": [1, 1], "width": 4}
TRANSFORMER = {"kind": "transformer", "width": 8, "heads": 2, "blocks": 2, "dropout": 0.1}
CASES = {
    "mlp with dropout": Case({"kind": "mlp", "widths": [16, 8], "dropout": 0.4}, made.features(6)),
    "mlp, regression, several files": Case(
        {"kind": "mlp", "widths": [16], "norm": "layer"},
        made.features(6),
        "regression",
        {"optimizer": "sgd", "clip_norm": 0.1},
        files=3,
    ),
    "resnet with group norm": Case({**RESNET, "norm": "group"}, made.features(3, 8, 8), train={"optimizer": "lamb"}),
    "resnet with batch norm": Case({**RESNET, "norm": "batch"}, made.features(3, 8, 8), train={"rate": 0.001}),
    "lenet, channels last": Case(
        {"kind": "lenet", "dropout": 0.2},
        made.features(8, 8, 3),
        train={"label_smoothing": 0.1},
        data={"layout": "channels_last"},
    ),
    "transformer on features": Case(
        TRANSFORMER, made.features(5, 4), "regression", {"loss": "huber", "schedule": "cosine", "warmup_epochs": 0.5}
    ),
    "transformer on tokens": Case({**TRANSFORMER, "vocabulary": 11, "causal": True}, made.tokens(7, 11)),
    "the user's own": Case({"kind": "own.py:network", "options": {"width": 12}}, made.features(6)),
}


def input_file(folder: Path, case: Case) -> Path:
    """The data, the user's network and the input file in a folder."""
    targets = made.labels(case.inputs) if case.task == "classification" else made.values(case.inputs)
    parts = zip(np.array_split(case.inputs, case.files), np.array_split(targets, case.files), strict=True)
    for number, part in enumerate(parts):
        made.write_data(folder / f"part{number}.h5", *part)
    (folder / "own.py").write_text(OWN)
    data = {"file": "part*.h5" if case.files > 1 else "part0.h5", "task": case.task, **case.data}
    return made.write_input(folder / "input.toml", case.network, case.train, data)


@pytest.mark.parametrize("name", CASES)
def test_same_numbers_on_any_number_of_ranks(name, tmp_path):
    file = input_file(tmp_path, CASES[name])
    folders = {ranks: tmp_path / f"on{ranks}" for ranks in (ALONE, 2, 3)}
    for ranks, folder in folders.items():
        completed(file, ranks, f"run.folder={folder}")
    alone = folders.pop(ALONE)
    first, found = outcome.losses(alone), outcome.metrics(alone)
    assert len(first) == 2 * 5, "96 samples to train on make 5 steps of an epoch, the last one with 16"
    assert len(set(first)) == len(first)
    for ranks, folder in folders.items():
        np.testing.assert_allclose(outcome.losses(folder), first, rtol=1e-4, err_msg=f"{ranks} ranks")
        others = outcome.metrics(folder)
        assert others.keys() == found.keys()
        for metric, value in found.items():
            np.testing.assert_allclose(others[metric], value, rtol=1e-3, atol=1e-6, err_msg=f"{metric}, {ranks} ranks")
