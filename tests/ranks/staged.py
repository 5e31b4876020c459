"""Small networks cut over the ranks of a group, and what a stage sees of a batch, for the tests of pipelines."""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from app.data.batches import Batch, Microbatch
from app.learning.inbox import Inbox
from app.learning.losses import loss
from app.learning.pipeline import Arrangement, Pipeline, precision
from app.networks.shapes import Boundary
from app.parallel.links import Links
from app.parallel.watchdog import Watchdog
from app.report.timers import Timers

CPU = torch.device("cpu")
SIZES = {1: [5], 2: [6, 4], 5: [6, 6, 6, 6, 2], 8: [6] * 7 + [5]}  # of microbatches, by their number


class Mean(nn.Module):
    """The mean over the positions (M, T, F); waits as long as `seconds` says, to be late in a pipeline."""

    def __init__(self, seconds=lambda: 0.0):
        super().__init__()
        self.seconds = seconds

    def forward(self, inputs):
        time.sleep(self.seconds())
        return inputs.mean(1)


class Late(nn.Module):
    """Hands on what it gets, after a while."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, inputs):
        time.sleep(self.seconds())
        return inputs.view_as(inputs)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(2, channels)

    def forward(self, inputs):
        return torch.relu(inputs + self.norm(self.conv(inputs)))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


def sequences():
    """In-place layers and views begin chunks; 64 positions a sample, so that weights are formed in several groups."""
    return [
        *(nn.Linear(8, 16), nn.Linear(16, 16), nn.LeakyReLU(0.1, inplace=True), nn.Linear(16, 12)),
        *(nn.Unflatten(2, (3, 4)), nn.LeakyReLU(0.1, inplace=True), nn.Flatten(2)),
        nn.Sequential(nn.Linear(12, 3), Mean()),
    ]


def images():
    return [
        *(nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ELU(inplace=True), nn.Conv2d(4, 6, 3, stride=2)),
        *(nn.Tanh(), Block(6), nn.Flatten(), nn.Linear(54, 3)),
    ]


def tokens():
    """Token numbers cross the first cut where chunks are short."""
    return [
        *(nn.Identity(), nn.Embedding(11, 8), nn.Linear(8, 8), nn.LeakyReLU(0.1, inplace=True), nn.Linear(8, 8)),
        *(nn.Flatten(), nn.Linear(40, 8), nn.Linear(8, 3)),
    ]


def without_weights_first():
    return [
        *(nn.Flatten(), nn.LeakyReLU(0.1, inplace=True), nn.Softplus(), nn.Flatten()),
        *(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3), nn.LeakyReLU(0.1, inplace=True)),
    ]


def complex_numbers():
    return [
        *(nn.Linear(6, 8), Apply(lambda x: torch.complex(x, x.sin())), Apply(torch.conj), Apply(lambda z: z * z)),
        *(nn.Identity(), Apply(torch.conj), Apply(lambda z: z.imag), nn.Linear(8, 3)),
    ]


class Case(NamedTuple):
    """The layers, at least eight; the shape of a sample; the number of tokens, 0 where inputs are numbers."""

    layers: Callable[[], list[nn.Module]]
    shape: tuple[int, ...]
    tokens: int = 0


CASES = {
    "sequences": Case(sequences, (64, 8)),
    "images": Case(images, (2, 7, 8)),
    "tokens": Case(tokens, (5,), 11),
    "without weights first": Case(without_weights_first, (2, 5)),
    "complex numbers": Case(complex_numbers, (6,)),
}


def built(case):
    torch.manual_seed(0)
    return nn.Sequential(*case.layers())


def batch_of(case, sizes, *, step=0, replica=0, replicas=1):
    """A replica's share of the batch; the microbatches are numbered over all replicas."""
    make_numbers = torch.Generator().manual_seed(5 + step)

    def one(number, size):
        numbers = torch.randn(size, *case.shape, generator=make_numbers)
        inputs = torch.randint(case.tokens, numbers.shape, generator=make_numbers) if case.tokens else numbers
        targets = torch.randint(3, (size,), generator=make_numbers)
        return Microbatch(number, size, inputs, targets, np.arange(size))

    whole = [one(number, size) for number, size in enumerate(sizes)]
    return Batch(step, sum(sizes), tuple(whole[replica::replicas]))


def seen_by(batch, arrangement):
    """What a stage reads of a batch: nobody but the first has inputs, nobody but the last targets."""
    first, last = arrangement.stage == 0, arrangement.stage == arrangement.stages - 1

    def cut(micro):
        return micro._replace(inputs=micro.inputs if first else None, targets=micro.targets if last else None)

    return batch._replace(microbatches=tuple(cut(micro) for micro in batch.microbatches))


class Staged(NamedTuple):
    """This rank's part of a network: its pipeline, its layers with the names and numbers of the whole network's."""

    pipeline: Pipeline
    numbers: list[int]
    network: nn.Sequential

    def close(self):
        self.pipeline.close()

    def named(self):
        """The parameters of this rank, as the whole network calls them."""
        places = (name.partition(".") for name, _ in self.network.named_parameters())
        names = [f"{self.numbers[int(place)]}.{rest}" for place, _, rest in places]
        return list(zip(names, self.network.parameters(), strict=True))


def staged(group, network, case, *, schedule="1f1b", chunks=1, recompute=False, bf16=False):
    """The network cut evenly over the ranks of the group, as one pipeline. Collective over: the group."""
    arrangement = Arrangement(group.rank, group.size, chunks if group.size > 1 else 1, schedule, recompute)
    count = arrangement.stages * arrangement.chunks
    cut = [range(len(network) * v // count, len(network) * (v + 1) // count) for v in range(count)]
    entering, values = {}, torch.zeros(2, *case.shape, dtype=torch.int64 if case.tokens else torch.float32)
    with torch.no_grad(), precision(CPU, bf16), torch.random.fork_rng([]):
        for number, layers in enumerate(cut):
            entering[number] = Boundary(tuple(values.shape[1:]), values.dtype)
            for layer in network[layers.start : layers.stop]:
                values = copy.deepcopy(layer).eval()(values)
    own = {number: network[cut[number].start : cut[number].stop] for number in arrangement.held}
    watchdog = Watchdog(group.rank, group.size, "", Path(), 0, print, pytest.fail)
    inbox = Inbox(Links(group, CPU), entering, group.size, watchdog) if group.size > 1 else None
    pipeline = Pipeline(
        own,
        loss("cross_entropy"),
        CPU,
        entering=entering,
        bf16=bf16,
        arrangement=arrangement,
        inbox=inbox,
        timers=Timers(),
    )
    numbers = [number for chunk in arrangement.held for number in cut[chunk]]
    return Staged(pipeline, numbers, nn.Sequential(*(network[number] for number in numbers)))
