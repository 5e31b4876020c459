"""A network is a list of named layers, each built on its own, so that it can be cut into stages."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Layer:
    """One layer: its name in the network, and how to make it.

    `build` makes one module and is called only for the layers a stage holds. Where the layers come out of one call of
    a user's function, `whole` makes all of them at once and takes the place of `build`.
    """

    name: str
    build: Callable[[], nn.Module]
    whole: Callable[[], dict[str, nn.Module]] | None = None
