"""The state of a training becomes a tree, and comes back."""

import numpy as np
import torch
from torch import nn

from app.learning.optimizers import OptimizerOptions, make
from app.learning.training import Training


def training(seed=1):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return Training(network, make("adam", list(network.named_parameters()), OptimizerOptions()), "loss")


def step_(one):
    gradients = [torch.randn_like(parameter) for parameter in one.network.parameters()]
    one.optimizer.step_(gradients, 0.1)
    one.step_losses.append(float(len(one.step_losses)))
    one.step += 1


def tensors(tree):
    for value in tree.values():
        if isinstance(value, dict):
            yield from tensors(value)
        elif isinstance(value, torch.Tensor):
            yield value


def same(one, other):
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    assert pairs
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_copy_stays_while_training_goes_on():
    one, kept = training(), {}
    step_(one)
    before = {name: tensor.clone() for name, tensor in one.weights().items()}
    copied = one.copy(kept)
    assert same(copied, one.tree())
    step_(one)
    assert not same(copied, one.tree())
    assert all(torch.equal(copied["weights"][name], tensor) for name, tensor in before.items())
    assert (copied["step"], one.step) == (1, 2)


def test_the_next_copy_takes_no_new_memory():
    one, kept = training(), {}
    first = one.copy(kept)
    step_(one)
    second = one.copy(kept)
    assert [t.data_ptr() for t in tensors(first)] == [t.data_ptr() for t in tensors(second)]
    assert same(second, one.tree())


def test_a_tree_comes_back():
    one, other = training(), training(2)
    for _ in range(3):
        step_(one)
    one.finish_epoch({"epoch": 1, "loss": 0.5, "validation_loss": 0.25})
    step_(one)
    other.load_(one.tree())
    assert same(one.tree(), other.tree())
    assert other.step_losses == [0.0, 1.0, 2.0, 3.0]
    assert (other.epoch, other.step, other.best_epoch) == (1, 1, 0)
    assert other.rows == one.rows


def test_losses_change_their_shape_once_in_a_thousand_steps():
    one = training()
    shapes = set()
    for _ in range(1500):
        one.step_losses.append(0.5)
        shapes.add(one.tree()["step_losses"].shape)
    assert shapes == {(1000,), (2000,)}
    assert np.nansum(one.tree()["step_losses"]) == 750
