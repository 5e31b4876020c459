"""The state of a training: everything that changes from step to step, and how it becomes a checkpoint."""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from app.errors import ArtifactError
from app.learning.optimizers import Optimizer

LOWER_IS_BETTER = {"loss": True, "accuracy": False}


class Training:
    """A network, its optimizer, the position in the data, the history, and the best network so far.

    `epoch` and `step` are those of the next step to play. On a stage of a pipeline the network is its layers; the
    trees of all stages together are the tree of the whole network, which does not depend on the grid.
    """

    def __init__(self, network: nn.Sequential, optimizer: Optimizer, monitor: str) -> None:
        self.network = network
        self.optimizer = optimizer
        self.epoch = 0
        self.step = 0
        self.step_losses: list[float] = []
        self.rows: list[dict[str, float]] = []
        self.timings: list[dict[str, float]] = []
        self.best_epoch = -1
        self._monitor = monitor
        self._best_value = math.nan
        self._best: dict[str, torch.Tensor] = {}

    def weights(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by name, not copied."""
        return {name: tensor.detach() for name, tensor in self.network.state_dict().items()}

    def names(self) -> set[str]:
        """Of all tensors here: weights, and those of the optimizer, which has the names of parameters."""
        return {*self.network.state_dict(), *self.optimizer.names}

    def tables(self) -> set[str]:
        """Names of the tables in `tree` that hold tensors by name."""
        return {"weights", *self.optimizer.MOMENTS}

    def best_weights(self) -> dict[str, torch.Tensor]:
        """Those of the best epoch; of the last one where nothing was compared."""
        return self._best or self.weights()

    def finish_epoch(self, row: dict[str, float]) -> bool:
        """Note the epoch's metrics and go to the next; True when its network is the best so far."""
        self.rows.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        value = row.get(f"validation_{self._monitor}")
        if value is None:
            return False
        lower = LOWER_IS_BETTER[self._monitor]
        better = math.isnan(self._best_value) or (value < self._best_value if lower else value > self._best_value)
        if better:
            self._best_value, self.best_epoch = value, self.epoch - 1
            self._best = {name: tensor.clone() for name, tensor in self.weights().items()}
        return better

    def out_of_patience(self, patience: int) -> bool:
        """True when no epoch of the last `patience` was the best; patience 0 never ends."""
        return bool(patience) and self.best_epoch >= 0 and self.epoch - 1 - self.best_epoch >= patience

    def tree(self) -> dict[str, Any]:
        """All of it as names, numbers and tensors."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "step_losses": _padded(self.step_losses),
            "rows": columns(self.rows),
            "timings": columns(self.timings),
            "best": {"epoch": self.best_epoch, "value": self._best_value, "weights": self._best},
            "weights": self.weights(),
            "optimizer": self.optimizer.state_tree(),
        }

    def copy(self, kept: dict[str, torch.Tensor]) -> dict[str, Any]:
        """`tree` with its own memory, on the CPU, for a thread to write while training goes on.

        kept: the tensors of the copy before, empty at first; they are overwritten and handed out again.
        """
        tree = self.tree()
        for table in ("weights", "optimizer"):
            tree[table] = _copied(tree[table], table, kept)
        return tree

    def load_(self, tree: Mapping[str, Any]) -> None:
        """Go on from a tree. Raises ArtifactError when it is of another network."""
        load_weights_(self.network, tree["weights"])
        self.optimizer.load_(tree["optimizer"])
        self.epoch, self.step = tree["epoch"], tree["step"]
        losses = tree["step_losses"]
        self.step_losses = losses[~np.isnan(losses)].tolist()
        self.rows, self.timings = rows(tree["rows"]), rows(tree["timings"])
        best = tree["best"]
        self.best_epoch, self._best_value = best["epoch"], best["value"]
        self._best = {name: tensor.to(self._device()) for name, tensor in best["weights"].items()}

    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def _padded(losses: list[float]) -> np.ndarray:
    """With NaN to a multiple of 1,000: a checkpoint of the same shapes as the last one is written in less time."""
    return np.array(losses + [math.nan] * (-len(losses) % 1000))


def _copied(value: Any, place: str, kept: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(inner, f"{place}/{name}", kept) for name, inner in value.items()}
    if not isinstance(value, torch.Tensor):
        return value
    if place not in kept:
        kept[place] = torch.empty(value.shape, dtype=value.dtype)
    return kept[place].copy_(value.detach())


def checksum(weights: Mapping[str, torch.Tensor]) -> int:
    """A number (CRC-32) that differs when any bit of the weights does. Collective over: none."""
    value = 0
    for tensor in weights.values():
        flat = tensor.detach().cpu().contiguous().view(-1)
        if flat.numel():
            value = zlib.crc32(flat.view(torch.uint8).numpy(), value)  # type: ignore[arg-type] # arrays are buffers
    return value


def load_weights_(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights by name into a network of the same layers. Raises ArtifactError naming what differs."""
    own = network.state_dict()
    problems = [f"{name} is missing" for name in own if name not in weights]
    problems += [f"{name} belongs to no layer" for name in weights if name not in own]
    problems += [
        f"{name} has the shape {tuple(weights[name].shape)}, the network's is {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if problems:
        raise ArtifactError(f"the stored weights do not fit the network: {'; '.join(problems[:5])}.")
    network.load_state_dict(weights)


def columns(table: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """Rows as one float64 column a name; a value that a row does not have is NaN."""
    names = dict.fromkeys(name for row in table for name in row)
    return {name: np.array([row.get(name, math.nan) for row in table]) for name in names}


def rows(table: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    """The inverse of `columns`."""
    lists = {name: column.tolist() for name, column in table.items()}
    length = max(map(len, lists.values()), default=0)
    return [{name: values[i] for name, values in lists.items() if not math.isnan(values[i])} for i in range(length)]
