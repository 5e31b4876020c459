"""Training beside a plain torch loop on one process, which shares nothing with ours but the order of the samples."""

import json

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.launch import ALONE, completed
from tests.runs import made, outcome

BATCH, MICRO, EPOCHS = 20, 6, 3

# The first layer writes down which samples it sees: their number is the last feature, which it takes away.
OWN = """
import json
import os

import torch
from torch import nn


class Recorder(nn.Module):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def forward(self, inputs):
        if self.training and torch.is_grad_enabled() and self.folder:  # not when only shapes are looked at
            rank = os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("PMI_RANK") or "0"
            with open(os.path.join(self.folder, "samples" + rank), "a") as file:
                file.write(json.dumps(inputs[:, -1].int().tolist()) + "\\n")
        return inputs[:, :-1]


def network(sample_shape, outputs, folder=""):
    features = sample_shape[0] - 1
    layers = [
        Recorder(folder), nn.Linear(features, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 9), nn.ReLU(),
        nn.Linear(9, outputs),
    ]
    generator = torch.Generator().manual_seed(17)
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters() if isinstance(layer, nn.Linear) else ():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return nn.Sequential(*layers)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The user's network and the data of both tasks; the last feature is the sample's number."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "own.py").write_text(OWN)
    inputs = made.features(6)
    numbered = np.concatenate([inputs, np.arange(len(inputs), dtype=np.float32)[:, None]], axis=1)
    made.write_data(folder / "classification.h5", numbered, made.labels(inputs))
    made.write_data(folder / "regression.h5", numbered, made.values(inputs))
    return folder


@pytest.fixture(scope="module")
def order(folder):
    """The microbatches of samples of every step of 1, 2 and 3 ranks, as the network saw them."""
    found = {}
    for ranks in (ALONE, 2, 3):
        here = folder / f"seen{ranks}"
        here.mkdir()
        ours(folder, f"order{ranks}", "classification", {}, ranks, standardise="none", options={"folder": str(here)})
        lines = [path.read_text().splitlines() for path in sorted(here.glob("samples*"))]
        found[ranks] = in_steps([[json.loads(line) for line in one] for one in lines])
    return found


def in_steps(seen):
    """Microbatches by step and number; replica r of n played those with number % n == r."""
    trained = sum(len(samples) for one in seen for samples in one) // EPOCHS
    queues = [iter(one) for one in seen]
    steps = []
    for start in [*range(0, trained, BATCH)] * EPOCHS:
        count = -(-min(BATCH, trained - start) // MICRO)
        steps.append([next(queues[number % len(queues)]) for number in range(count)])
    assert all(next(queue, None) is None for queue in queues)
    return steps


def ours(folder, name, task, train, ranks=ALONE, standardise="feature", options=None):
    """Losses of the steps of a run of the program."""
    network = {"kind": "own.py:network", "options": options or {}}
    data = {"file": f"{task}.h5", "task": task, "standardise": standardise}
    train = {"epochs": EPOCHS, "batch_size": BATCH, "microbatch_size": MICRO, **train}
    file = made.write_input(folder / f"{name}.toml", network, train, data)
    completed(file, ranks)
    return outcome.losses(file.with_suffix(""))


def test_every_number_of_ranks_plays_the_same_microbatches(order):
    assert order[2] == order[ALONE]
    assert order[3] == order[ALONE]
    epochs = np.array_split(np.arange(len(order[ALONE])), EPOCHS)
    seen = [[sample for step in steps for micro in order[ALONE][step] for sample in micro] for steps in epochs]
    assert all(len(set(one)) == len(one) for one in seen), "each sample once an epoch"
    assert all(set(one) == set(seen[0]) for one in seen), "the training part, the same in every epoch"
    assert all(one != other for number, one in enumerate(seen) for other in seen[:number]), "shuffled anew"


def sgd(decayed, others):
    return torch.optim.SGD(groups(decayed, others), lr=0.05, momentum=0.8, nesterov=True)


def adam(decayed, others):
    return torch.optim.Adam(groups(decayed, others), lr=0.01, betas=(0.8, 0.99))


def adamw(decayed, others):
    return torch.optim.AdamW(groups(decayed, others), lr=0.01)


def groups(decayed, others):
    return [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


CASES = {
    "sgd": ("classification", {"optimizer": "sgd", "rate": 0.05, "momentum": 0.8, "nesterov": True}, sgd),
    "adam": ("regression", {"optimizer": "adam", "rate": 0.01, "betas": [0.8, 0.99], "clip_norm": 0.05}, adam),
    "adamw": ("classification", {"optimizer": "adamw", "rate": 0.01, "label_smoothing": 0.1}, adamw),
}


@pytest.mark.parametrize("ranks", [ALONE, 2])
@pytest.mark.parametrize("name", CASES)
def test_same_losses_as_a_plain_loop(name, ranks, folder, order):
    task, train, optimizer = CASES[name]
    found = ours(folder, f"{name}{ranks}", task, {**train, "weight_decay": 0.1}, ranks)
    expected = plain(folder, task, order[ALONE], optimizer, train)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def plain(folder, task, steps, make_optimizer, train):
    """The losses of a loop as one writes it by hand."""
    inputs, targets = samples(folder, task, steps)
    network = starting_network(folder, inputs.shape[1], 3 if task == "classification" else 2)
    parameters = list(network.parameters())
    optimizer = make_optimizer([p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() == 1])
    losses = []
    for step in steps:
        size = sum(map(len, step))
        optimizer.zero_grad()
        total = 0.0
        for micro in step:
            outputs = network(inputs[micro])
            if task == "classification":
                smoothing = train.get("label_smoothing", 0.0)
                loss = functional.cross_entropy(outputs, targets[micro], label_smoothing=smoothing)
            else:
                loss = functional.mse_loss(outputs, targets[micro])
            (loss * len(micro) / size).backward()
            total += loss.item() * len(micro) / size
        if "clip_norm" in train:
            nn.utils.clip_grad_norm_(parameters, train["clip_norm"])
        optimizer.step()
        losses.append(total)
    return losses


def samples(folder, task, steps):
    """All inputs, standardised by the training part, and all targets."""
    with h5py.File(folder / f"{task}.h5") as file:
        inputs, targets = file["x"][:].astype(np.float64), file["y"][:]
    trained = sorted({sample for step in steps for micro in step for sample in micro})
    inputs = (inputs - inputs[trained].mean(0)) / inputs[trained].std(0)
    return torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(targets)


def starting_network(folder, features, outputs):
    own: dict = {}
    exec((folder / "own.py").read_text(), own)
    return own["network"]((features,), outputs).train()
