"""The three networks of the data-parallel benchmark, and one step of training on them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

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


class Momentum:
    """SGD with momentum on torch._foreach."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self._parameters = list(parameters)
        self._velocities = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters along their gradients."""
        torch._foreach_mul_(self._velocities, MOMENTUM)
        torch._foreach_add_(self._velocities, [parameter.grad for parameter in self._parameters])
        torch._foreach_add_(self._parameters, self._velocities, alpha=-RATE)


def data(case: Case, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (B, ...) float32 and class numbers (B,) int64, others on each rank."""
    torch.manual_seed(100 + rank)
    return torch.randn(case.batch, *case.sample), torch.randint(0, 10, (case.batch,))
