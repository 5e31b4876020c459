"""Training in two stages beside a plain torch loop on one process, which shares nothing with ours but the samples."""

import json

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.launch import completed
from tests.runs import made, outcome

BATCH, MICRO, EPOCHS = 20, 6, 3

# The first layer writes down which samples it sees: their number is the last feature, which it takes away.
OWN = """
import json
from pathlib import Path

import torch
from torch import nn


class Recorder(nn.Module):
    def forward(self, inputs):
        if self.training and torch.is_grad_enabled():  # not when only shapes are looked at
            with Path(__file__).with_name("samples").open("a") as file:
                file.write(json.dumps(inputs[:, -1].int().tolist()) + "\\n")
        return inputs[:, :-1]


def network(sample_shape, outputs):
    # No bias before batch norm: its gradient is rounding alone, which Adam blows up to whole steps.
    first, norm = nn.Linear(sample_shape[0] - 1, 12, bias=False), nn.BatchNorm1d(12)
    middle, last, head = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, outputs)
    generator = torch.Generator().manual_seed(17)
    with torch.no_grad():
        for layer in (first, middle, last, head):
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    last.weight = middle.weight  # one on the first stage, one on the second
    return nn.Sequential(Recorder(), first, norm, nn.Tanh(), middle, nn.ReLU(), last, nn.LayerNorm(12), head)
"""


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved"])
def test_same_losses_as_a_plain_loop(schedule, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    inputs = made.features(6)
    numbered = np.concatenate([inputs, np.arange(len(inputs), dtype=np.float32)[:, None]], axis=1)
    made.write_data(tmp_path / "data.h5", numbered, made.labels(inputs))
    train = {"epochs": EPOCHS, "batch_size": BATCH, "microbatch_size": MICRO, "rate": 0.01, "clip_norm": 0.2}
    data = {"file": "data.h5", "standardise": "none"}
    file = made.write_input(tmp_path / "input.toml", {"kind": "own.py:network"}, {**train, "keep": "last"}, data)
    cut = '["2", "5", "7"]' if schedule == "interleaved" else '["5"]'
    completed(file, 2, "grid.stages=2", f'grid.schedule="{schedule}"', f"grid.cut={cut}")
    losses, network = plain(tmp_path)
    np.testing.assert_allclose(outcome.losses(tmp_path / "input"), losses, rtol=1e-5)
    found = outcome.weights(tmp_path / "input")
    assert list(found) == list(network.state_dict())
    for name, weight in network.named_parameters(remove_duplicate=False):
        np.testing.assert_allclose(found[name], weight.detach().numpy(), rtol=1e-3, atol=1e-4, err_msg=name)


def plain(folder):
    """The losses of a loop as one writes it by hand, and the network it has trained."""
    steps = played(folder)
    with h5py.File(folder / "data.h5") as file:
        inputs, targets = torch.from_numpy(file["x"][:]), torch.from_numpy(file["y"][:])
    own: dict = {"__file__": str(folder / "plain" / "own.py")}
    exec((folder / "own.py").read_text(), own)
    network = own["network"]((inputs.shape[1],), 3).train()
    network[0].eval()  # it need not write
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for step in steps:
        size = sum(map(len, step))
        optimizer.zero_grad()
        total = 0.0
        for micro in step:
            loss = functional.cross_entropy(network(inputs[micro]), targets[micro])
            (loss * len(micro) / size).backward()
            total += loss.item() * len(micro) / size
        nn.utils.clip_grad_norm_(network.parameters(), 0.2)
        optimizer.step()
        losses.append(total)
    return losses, network


def played(folder):
    """The microbatches of each step, as the first stage has played them."""
    seen = iter([json.loads(line) for line in (folder / "samples").read_text().splitlines()])
    sizes = [20, 20, 20, 20, 16] * EPOCHS
    steps = [[next(seen) for _ in range(-(-size // MICRO))] for size in sizes]
    assert next(seen, None) is None
    assert [sum(map(len, step)) for step in steps] == sizes
    return steps
