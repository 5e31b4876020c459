"""What passes between the rounds of a prune phase and those who cut."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch


class Place(NamedTuple):
    """A round: its title in the log and of its random numbers, its group in run.h5, the share that is gone after it.

    share: of the dense network; None: what went to zero.
    """

    title: str
    table: tuple[str, ...]
    share: float | None
    round: int


class CutResult(NamedTuple):
    """This rank's weights after a cut, the architecture they go with, numbers for the table, a sentence for the log."""

    weights: Mapping[str, torch.Tensor]
    architecture: dict[str, Any]
    row: dict[str, float]
    sentence: str
