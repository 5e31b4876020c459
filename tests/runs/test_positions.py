"""Networks with an output for each position: language models and values a position, on any grid as in a plain loop."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional

from app.data.batches import batches
from app.data.source import open_source
from app.data.split import Split
from app.data.transform import Transform
from app.networks.build import build, layers
from tests.launch import ALONE, completed
from tests.runs import made, outcome

LENGTH, VOCABULARY, EPOCHS = 6, 11, 6
RATE = 0.03  # from 0.05 on rounding in the last digit of the weights grows to more than 1e-4 of a loss
GRIDS = {"2x1": (2, 1), "1x2": (2, 2), "2x2": (4, 2)}
TRANSFORMER = {
    "kind": "transformer",
    "width": 8,
    "heads": 2,
    "blocks": 2,
    "feedforward": 16,
    "dropout": 0.0,
    "causal": True,
    "pooling": "none",
}
HEAD, EMBEDDING = "head.linear.weight", "embedding.elements.weight"


class Case(NamedTuple):
    """A network, what it is trained on, and the numbers of a position that it puts out."""

    network: dict[str, Any]
    inputs: np.ndarray
    targets: np.ndarray
    task: str
    outputs: int


def sentences() -> np.ndarray:
    """Tokens (N, T + 1), in which the next one follows from the last; token 10 is never there."""
    found = [np.random.default_rng(6).integers(0, 10, made.SAMPLES)]
    for _ in range(LENGTH):
        found.append((3 * found[-1] + 1) % 10)
    return np.stack(found, axis=1)


def values(inputs: np.ndarray) -> np.ndarray:
    """Two values a position (N, T, 2): means of all inputs up to it."""
    means = inputs.cumsum(1) / np.arange(1, inputs.shape[1] + 1)[:, None]
    return np.stack([means[..., 0] + 5, means[..., 1] - means[..., 2]], axis=2).astype(np.float32)


SENTENCES, FEATURES = sentences(), made.features(LENGTH, 3)
TOKENS = {**TRANSFORMER, "vocabulary": VOCABULARY}
CASES = {
    "language": Case(TOKENS, SENTENCES[:, :-1], SENTENCES[:, 1:].astype(np.uint16), "classification", 10),
    "tied": Case({**TOKENS, "tied": True}, SENTENCES[:, :-1], SENTENCES[:, 1:], "classification", VOCABULARY),
    "values": Case(TRANSFORMER, FEATURES, values(FEATURES), "regression", 2),
}


@pytest.fixture(scope="module", params=CASES)
def ran(request, tmp_path_factory):
    """A case, its data file and the run folder of one rank."""
    folder = tmp_path_factory.mktemp(request.param)
    case = CASES[request.param]
    data = made.write_data(folder / "data.h5", case.inputs, case.targets)
    keys = {"file": "data.h5", "task": case.task, "standardise": "none"}
    train = {"optimizer": "sgd", "rate": RATE, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
    train |= {"epochs": EPOCHS, "keep": "last"}
    file = made.write_input(folder / "input.toml", case.network, train, keys)
    completed(file, ALONE)
    return case, data, file


@pytest.mark.parametrize("grid", GRIDS)
def test_same_numbers_on_any_grid(ran, grid):
    _, _, file = ran
    ranks, stages = GRIDS[grid]
    alone, folder = file.with_suffix(""), file.with_name(grid)
    completed(file, ranks, f"run.folder={folder}", f"grid.stages={stages}")
    np.testing.assert_allclose(outcome.losses(folder), outcome.losses(alone), rtol=1e-4)
    expected, found = outcome.metrics(alone), outcome.metrics(folder)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    for name, value in outcome.weights(alone).items():
        np.testing.assert_allclose(outcome.weights(folder)[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_losses_and_weights_of_a_plain_loop(ran):
    case, data, file = ran
    losses, network = plain(case, data)
    np.testing.assert_allclose(outcome.losses(file.with_suffix("")), losses, rtol=1e-4)
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5]), "there is something to compare"
    found = outcome.weights(file.with_suffix(""))
    for name, value in network.state_dict().items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_evaluation_counts_positions(ran):
    """The metrics of the test part, computed anew from the stored weights."""
    case, data, file = ran
    found = outcome.metrics(file.with_suffix(""))
    network = built(case)
    weights = outcome.weights(file.with_suffix(""))
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    (batch,) = read(case, data, "test", 100, 100)
    micro = batch.microbatches[0]
    with torch.no_grad():
        outputs = network.eval()(micro.inputs)
    assert (found["samples"], found["positions"]) == (12, 12 * LENGTH)
    assert found["loss"] == pytest.approx(float(loss(case, outputs, micro.targets)), rel=1e-5)
    if case.task == "classification":
        right = outputs.argmax(-1) == micro.targets
        assert found["accuracy"] == pytest.approx(float(right.double().mean()))
        assert found["confusion"].shape == (case.outputs, case.outputs)
        assert found["confusion"].trace() == int(right.sum())
    else:
        errors = outputs.double() - micro.targets
        assert found["rmses"] == pytest.approx((errors**2).mean((0, 1)).sqrt().numpy(), rel=1e-5)


def test_tied_weights_stay_the_embeddings(ran):
    case, _, file = ran
    found = outcome.weights(file.with_suffix(""))
    assert np.array_equal(found[HEAD], found.get(EMBEDDING)) == case.network.get("tied", False)


OWN = """
from torch import nn


def network(sample_shape, outputs):
    return nn.Sequential(nn.Linear(sample_shape[-1], 8), nn.Tanh(), nn.Linear(8, outputs))
"""


def test_a_users_network_may_have_labels_of_positions(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    labels = (FEATURES.sum(2) > 1.5).astype(np.uint8)
    made.write_data(tmp_path / "data.h5", FEATURES, labels)
    file = made.write_input(
        tmp_path / "input.toml", {"kind": "own.py:network"}, {"rate": 0.05, "epochs": 5}, {"file": "data.h5"}
    )
    completed(file, ALONE)
    found = outcome.metrics(file.with_suffix(""))
    assert (found["samples"], found["positions"], found["confusion"].sum()) == (12, 12 * LENGTH, 12 * LENGTH)
    assert found["accuracy"] > 0.85


def built(case):
    """The whole network as it starts."""
    sizes = {"vocabulary": None, "tied": False, **{key: value for key, value in case.network.items() if key != "kind"}}
    return build(layers("transformer", sizes, case.inputs.shape[1:], case.outputs), made.SEED)


def read(case, data, part, size, micro, epoch=0):
    """The program's batches, for the order of the samples."""
    source, split = open_source([data], "x", "y"), Split(made.SAMPLES, 0.1, 0.1, made.SEED)
    transform = Transform(tokens="vocabulary" in case.network, classification=case.task == "classification")
    found = batches(
        source, split, part, transform, seed=made.SEED, epoch=epoch, batch_size=size, microbatch_size=micro,
        replica=0, replicas=1, shuffle=part == "train", memory_bytes=256 << 20,
    )  # fmt: skip
    for batch in found:
        assert all(np.array_equal(one.targets, case.targets[one.samples]) for one in batch.microbatches)
        yield batch


def loss(case, outputs, targets):
    """Torch's own mean over all positions."""
    if case.task == "regression":
        return functional.mse_loss(outputs, targets)
    return functional.cross_entropy(outputs.reshape(-1, case.outputs), targets.reshape(-1))


def forward(case, network, inputs):
    """The network, whose tied head is written out: the embedding's weights are used a second time."""
    if not case.network.get("tied"):
        return network(inputs)
    head = network.head
    return head.norm(network[:-1](inputs)) @ network.embedding.elements.weight.T


def plain(case, data):
    """Losses and the network of a loop as one writes it by hand, whole batches at once."""
    network = built(case)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    losses = []
    for epoch in range(EPOCHS):
        for batch in read(case, data, "train", 20, 6, epoch):
            inputs, targets = (torch.cat([one[place] for one in batch.microbatches]) for place in (2, 3))
            optimizer.zero_grad()
            found = loss(case, forward(case, network, inputs), targets)
            found.backward()
            optimizer.step()
            losses.append(found.item())
    return losses, network
