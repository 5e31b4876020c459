"""Operations counted on the modules against those of the plan's formulas."""

import pytest
import torch

from app.networks.build import build, layers
from app.networks.shapes import Boundary, in_evaluation, operations_of_sample
from app.plan.costs import layer_costs

TRANSFORMER = {
    "width": 24,
    "heads": 3,
    "blocks": 2,
    "feedforward": 50,
    "dropout": 0.1,
    "causal": True,
    "pooling": "mean",
    "vocabulary": None,
}
CASES = {
    "mlp": ("mlp", {"widths": (50, 30), "activation": "gelu", "dropout": 0.1, "norm": "layer"}, (3, 4, 2)),
    "lenet": ("lenet", {"channels": (6, 16), "widths": (20, 12), "activation": "relu", "dropout": 0.1}, (3, 16, 17)),
    "resnet": ("resnet", {"depth": 8, "blocks": None, "width": 6, "norm": "batch"}, (3, 16, 15)),
    "resnet of large images": ("resnet", {"depth": None, "blocks": (1, 1), "width": 4, "norm": "group"}, (1, 128, 131)),
    "transformer on features": ("transformer", TRANSFORMER, (7, 5)),
    "transformer on numbers": ("transformer", TRANSFORMER, (13,)),
    "transformer on tokens": ("transformer", {**TRANSFORMER, "vocabulary": 11, "pooling": "none"}, (13,)),
    "tied": ("transformer", {**TRANSFORMER, "vocabulary": 5, "pooling": "none", "tied": True}, (13,)),
}


@pytest.mark.parametrize("name", CASES)
def test_modules_and_formulas_agree(name):
    kind, options, shape = CASES[name]
    costs = layer_costs(kind, options, shape, 5)
    network = build(layers(kind, options, shape, 5), seed=1)
    dtype = torch.int64 if options.get("vocabulary") else torch.float32
    before = {key: value.clone() for key, value in network.state_dict().items()}
    counted = operations_of_sample(network, Boundary(shape, dtype), torch.device("cpu"))
    assert counted == 2 * sum(cost.operations for cost in costs)
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items()), "statistics moved"


def test_what_enters_in_bf16_is_counted_too():
    network = torch.nn.Sequential(torch.nn.Linear(4, 3))
    assert operations_of_sample(network, Boundary((4,), torch.bfloat16), torch.device("cpu")) == 2 * 12


def test_modules_are_afterwards_as_they_were():
    network = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout()))
    network[1].eval()
    with in_evaluation([network]):
        assert not any(part.training for part in network.modules())
    assert [part.training for part in network.modules()] == [True, True, False, False]
