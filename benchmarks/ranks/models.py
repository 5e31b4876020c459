"""The three networks of the data-parallel benchmark, and one step of training on them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from app.data.batches import Batch, Microbatch
from app.learning.losses import loss
from app.learning.optimizers import Optimizer, OptimizerOptions, make
from app.learning.pipeline import Arrangement, Pipeline
from app.learning.randomness import LayerRandomness
from app.learning.step import Sums, TrainStep
from app.networks.shapes import Boundary
from app.parallel.sums.gradients import GradientSum
from app.parallel.watchdog import Watchdog
from app.report.timers import Timers

RATE, MOMENTUM = 0.01, 0.9


class Case(NamedTuple):
    """A network, the shape of a sample, samples per rank and step."""

    build: Callable[[], nn.Module]
    sample: tuple[int, ...]
    batch: int


def lenet() -> nn.Module:
    """The classic PyTorch CIFAR example: 62,006 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


class Block(nn.Module):
    """The basic block of a residual network (He et al. 2016, arXiv:1512.03385), group normalised."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU()),
            *(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.GroupNorm(8, outputs)),
        )
        same = stride == 1 and inputs == outputs
        self.way = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.way(x))


def resnet(width: int = 32) -> nn.Module:
    """ResNet-18 for 32x32 images, half as wide: 2.8 M parameters in 62 tensors."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.GroupNorm(8, width), nn.ReLU()]
    before = width
    for level in range(4):
        after = width * 2**level
        layers += [Block(before, after, 1 if level == 0 else 2), Block(after, after, 1)]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def mlp() -> nn.Module:
    """20.0 M parameters, 80 MB of gradients."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(3072, 4096), nn.ReLU(), nn.Linear(4096, 1536), nn.ReLU()),
        *(nn.Linear(1536, 736), nn.ReLU(), nn.Linear(736, 10)),
    )


CASES = {
    "LeNet": Case(lenet, (3, 32, 32), 64),
    "ResNet": Case(resnet, (3, 32, 32), 16),
    "MLP": Case(mlp, (3, 32, 32), 64),
}


def data(case: Case, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (B, ...) float32 and class numbers (B,) int64, others on each rank."""
    torch.manual_seed(100 + rank)
    return torch.randn(case.batch, *case.sample), torch.randint(0, 10, (case.batch,))


class Trainer(NamedTuple):
    """A step as the trainer plays it, and what it moves."""

    step: Callable[[], object]
    network: nn.Sequential
    optimizer: Optimizer


def training_step(case: Case, engine: GradientSum, rank: int, ranks: int) -> Callable[[], object]:
    """A step as the trainer plays it: one microbatch a rank, watchdog and timers included."""
    return trainer(case, engine, rank, ranks, "sgd").step


def trainer(case: Case, engine: GradientSum, rank: int, ranks: int, optimizer_name: str) -> Trainer:
    """The same, with any optimizer."""
    torch.manual_seed(7)
    network = case.build()
    assert isinstance(network, nn.Sequential)
    timers = Timers()
    pipeline = Pipeline(
        {0: network},
        loss("cross_entropy"),
        torch.device("cpu"),
        entering={0: Boundary(case.sample, torch.float32)},
        bf16=False,
        arrangement=Arrangement(),
        inbox=None,
        timers=timers,
    )
    optimizer = make(optimizer_name, list(network.named_parameters()), OptimizerOptions(momentum=MOMENTUM))
    step = TrainStep(
        pipeline,
        optimizer,
        Sums({0: engine}, (), None),
        LayerRandomness(network, 7, "benchmark"),
        None,
        timers,
        Watchdog(rank, ranks, "", Path(), 0, print, sys.exit),
    )
    inputs, targets = data(case, rank)
    microbatch = Microbatch(rank, len(inputs), inputs, targets, np.arange(len(inputs)))
    batch = Batch(0, case.batch * ranks, (microbatch,))
    return Trainer(lambda: step(batch, 0, RATE), network, optimizer)
