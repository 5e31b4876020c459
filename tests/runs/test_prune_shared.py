"""Pruning of networks whose layers share weights, on stages that hold a copy each; numbers are those of one rank."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.launch import ALONE, completed
from tests.runs import made, outcome

OWN = """
from torch import nn


def shared(sample_shape, outputs):
    again, act = nn.Linear(10, 10), nn.Tanh()
    return nn.Sequential(nn.Linear(sample_shape[0], 10), act, again, act, again, act, nn.Linear(10, outputs))
"""
TRAINS = {"batch_size": 20, "microbatch_size": 7, "optimizer": "sgd", "epochs": 1, "round_to": 1}
TRANSFORMER = {
    "kind": "transformer",
    "width": 8,
    "heads": 2,
    "blocks": 2,
    "dropout": 0.1,
    "vocabulary": 11,
    "causal": True,
    "pooling": "none",
    "tied": True,
}
METHODS = {
    "lasso": {"method": "sparsity", "penalty_epochs": 1, "strength": 0.1, "remove": 0.4},
    "taylor": {"method": "effect", "batches": 2, "remove": 0.4},
    "scan": {"method": "effect", "measure": "scan", "levels": 2, "remove": 0.4, "rounds": 2},
}
NETWORKS = {"transformer, tied": (TRANSFORMER, 0.2), "own, shared": ({"kind": "own.py:shared"}, 0.05)}
GRIDS = {"1x1": (ALONE, 1), "1x2": (2, 2)}


def play(folder: Path, name: str, grid: str) -> Path:
    (network, rate), (ranks, stages) = NETWORKS[name], GRIDS[grid]
    tokens, rows = made.tokens(7, 11), made.features(6)
    data = (tokens, (3 * tokens + 1) % 11) if "vocabulary" in network else (rows, made.labels(rows))
    made.write_data(folder / "data.h5", *data)
    (folder / "own.py").write_text(OWN)
    phases = [
        {"kind": "prune", "name": method, "network": "net", "rate": rate, **TRAINS, **keys}
        for method, keys in METHODS.items()
    ]
    train = {"optimizer": "sgd", "rate": rate, "epochs": 1}
    file = made.write_input(folder / f"{grid}.toml", network, train, {"file": "data.h5"}, after=phases)
    file.write_text(file.read_text().replace('name = "test"', 'name = "test"\nnetwork = "all"\npart = "validation"'))
    completed(file, ranks, f"grid.stages={stages}", "run.measure=0")
    return file.with_suffix("")


def numbers(folder: Path, *place: str) -> dict[str, np.ndarray]:
    with h5py.File(folder / "run.h5") as file:
        return outcome.numbers(file["/".join(("phases", *place))])


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_prune_as_one_rank_does(name, tmp_path):
    alone, stages = play(tmp_path, name, "1x1"), play(tmp_path, name, "1x2")
    for method in METHODS:
        own, expected = outcome.weights(stages, method), outcome.weights(alone, method)
        assert {n: w.shape for n, w in own.items()} == {n: w.shape for n, w in expected.items()}
        assert sum(w.size for w in own.values()) < sum(w.size for w in outcome.weights(alone, "net").values())
        same = ("2.weight", "4.weight") if "own" in name else ("embedding.elements.weight", "head.linear.weight")
        np.testing.assert_array_equal(*(own[tensor] for tensor in same))
        for tensor, values in own.items():
            np.testing.assert_allclose(values, expected[tensor], rtol=1e-3, atol=1e-5, err_msg=tensor)
        rounds, wanted = numbers(stages, method, "rounds"), numbers(alone, method, "rounds")
        for column in wanted.keys() - {"samples_per_s"}:
            np.testing.assert_allclose(rounds[column], wanted[column], rtol=1e-4, atol=1e-6, err_msg=column)
        appraised = numbers(stages, method, "appraisal", "after")
        assert appraised["operations"] == rounds["operations"][-1]
        assert appraised["parameters"] == rounds["parameters"][-1]
        found = numbers(stages, "test", "networks", method, "metrics")
        assert found["loss"] == pytest.approx(appraised["loss"], rel=1e-6)
