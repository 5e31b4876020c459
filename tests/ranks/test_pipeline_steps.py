"""Whole steps of pipelines over all ranks, and of replicas of pipelines, against those of one rank."""

import copy
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from app.errors import NumbersError
from app.learning.optimizers import OptimizerOptions, make
from app.learning.randomness import LayerRandomness
from app.learning.step import Sums, Tie, TrainStep
from app.parallel.sums.gradients import NoSum, choose
from app.parallel.watchdog import Watchdog
from app.report.timers import Timers
from tests.ranks.staged import CASES, SIZES, Case, Staged, batch_of, built, seen_by, staged

pytestmark = pytest.mark.mpi


class Setting(NamedTuple):
    """A pipeline with all that a step needs. replica, replicas: which of how many this pipeline is."""

    part: Staged
    step: TrainStep
    replica: int = 0
    replicas: int = 1

    def play(self, case, sizes, number):
        batch = batch_of(case, sizes, step=number, replica=self.replica, replicas=self.replicas)
        return self.step(seen_by(batch, self.part.pipeline.arrangement), 0, 0.1)


def setting(part, *, data=None, stages=None, ties=(), clip_norm=1.0, replica=0):
    """data: the ranks with the same stage, over which gradients are summed."""
    engines = {
        number: choose(data, wanted="mpi", device_type="cpu", hosts=1) if data else NoSum()
        for number in part.pipeline.chunks
    }
    step = TrainStep(
        part.pipeline,
        make("sgd", part.named(), OptimizerOptions()),
        Sums(engines, ties, stages),
        LayerRandomness(part.network, 7, "test", part.numbers),
        clip_norm,
        Timers(),
        Watchdog(0, 1, "", Path(), 0, print, pytest.fail),
    )
    return Setting(part, step, replica, data.size if data else 1)


def alone(here, network, case, **options):
    """The same on one rank, that of a pipeline of one stage; every rank does it for itself."""
    return setting(staged(here.group(here.rank, 0), network, case), **options)


def moody():
    """Layers that draw, layers that keep statistics."""
    return [
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Conv2d(4, 4, 3)),
        *(nn.Dropout2d(0.3), nn.Flatten(), nn.Linear(4 * 3 * 4, 3)),
    ]


MOODY = Case(moody, (2, 7, 8))


def assert_same_steps(ours, theirs, case, counts):
    """Steps of batches with these numbers of microbatches: losses, norms, and in the end all weights and buffers."""
    for number, count in enumerate(counts):
        one, other = ours.play(case, SIZES[count], number), theirs.play(case, SIZES[count], number)
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-5)
    whole = theirs.part.network.state_dict()
    for number, layer in zip(ours.part.numbers, ours.part.network, strict=True):
        for name, tensor in layer.state_dict().items():
            torch.testing.assert_close(tensor, whole[f"{number}.{name}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "computed again"])
def test_steps_do_not_depend_on_the_cut(here, group, scheduled, recompute):
    network = built(MOODY)
    theirs = alone(here, copy.deepcopy(network), MOODY)
    part = staged(group, network, MOODY, recompute=recompute, **scheduled)
    assert_same_steps(setting(part, stages=group if group.size > 1 else None), theirs, MOODY, [8, 5, 1, 2])
    part.close()


@pytest.mark.mpi(min_size=4)
def test_replicas_of_pipelines(here, scheduled):
    """2 x 2; in a batch of one microbatch the second replica has nothing to do."""
    if here.size != 4:
        pytest.skip("a grid of 2 x 2 has four ranks")
    replica, stage = divmod(here.rank, 2)
    stages, data = here.group(replica, stage), here.group(stage, replica)
    network = built(MOODY)
    theirs = alone(here, copy.deepcopy(network), MOODY)
    part = staged(stages, network, MOODY, **scheduled)
    ours = setting(part, data=data, stages=stages, replica=replica)
    assert_same_steps(ours, theirs, MOODY, [8, 5, 1, 2])
    first, *others = data.allgather([p.detach().numpy().tobytes() for _, p in part.named()])
    assert others == [first]
    part.close()


class Words(nn.Module):
    """The likeness of the mean over a sample's positions to each word, by the words' embedding."""

    def __init__(self, words, features):
        super().__init__()
        self.linear = nn.Linear(features, words, bias=False)

    def forward(self, inputs):
        return self.linear(inputs.mean(1))


def tied():
    """The head's weight is the embedding's."""
    layers = [
        *(nn.Embedding(11, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)),
        *(nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), Words(11, 8)),
    ]
    layers[7].linear.weight = layers[0].weight
    return layers


TIED = Case(tied, (5,), 11)


@pytest.mark.parametrize("clip_norm", [0.05, 100.0])
def test_weights_that_two_stages_hold(here, group, scheduled, clip_norm):
    """Their gradients are summed over the stages, and count once in the norm."""
    network = built(TIED)
    theirs = alone(here, copy.deepcopy(network), TIED, clip_norm=clip_norm)
    if group.size > 1:
        network[7].linear.weight = nn.Parameter(network[0].weight.detach().clone())  # on a rank of its own
    part = staged(group, network, TIED, **scheduled)
    mine = network[0].weight if 0 in part.numbers else network[7].linear.weight
    holders = group.split(int(0 in part.numbers or 7 in part.numbers), group.rank)
    ties = []
    if group.size > 1 and (0 in part.numbers or 7 in part.numbers):
        ties = [Tie(mine, choose(holders, wanted="mpi", device_type="cpu", hosts=1), counts=0 in part.numbers)]
    ours = setting(part, stages=group if group.size > 1 else None, ties=ties, clip_norm=clip_norm)
    assert_same_steps(ours, theirs, TIED, [5, 2, 8])
    if ties:
        first, second = holders.allgather(mine.detach().numpy().tobytes())
        assert first == second
    part.close()


def test_a_loss_that_is_not_finite_is_told_on_every_stage(group):
    case = CASES["sequences"]
    part = staged(group, built(case), case)
    with torch.no_grad():
        for name, parameter in part.named():
            if name == "7.0.bias":
                parameter.fill_(torch.nan)
    ours = setting(part, stages=group if group.size > 1 else None, clip_norm=None)
    with pytest.raises(NumbersError, match="the loss is nan in epoch 1, step 1"):
        ours.play(case, SIZES[5], 0)
    part.close()
