"""What a network takes and gives, as it travels with a network's file and with exported ones."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.data.statistics import Statistics
from app.data.transform import Transform


@dataclass(frozen=True)
class Signature:
    """Enough to apply a network without the run that made it.

    inputs        path of the dataset that it was trained on
    stored_shape  of a sample in that dataset, before `transform` makes it an input of the network
    outputs       of the network: classes, or values of a target
    class_names   of the classes 0, 1, 2, ..., () where they are not known
    """

    inputs: str
    stored_shape: tuple[int, ...]
    transform: Transform
    outputs: int
    class_names: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of a sample as the network takes it."""
        return self.transform.sample_shape(self.stored_shape)

    def to_tree(self) -> dict[str, Any]:
        """A tree that storage can write."""
        t = self.transform
        return {
            "inputs": self.inputs,
            "stored_shape": list(self.stored_shape),
            "layout": t.layout,
            "add_channel": t.add_channel,
            "tokens": t.tokens,
            "classification": t.classification,
            "statistics": None if t.statistics is None else t.statistics.to_tree(),
            "outputs": self.outputs,
            "class_names": list(self.class_names),
        }

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "Signature":
        """The inverse of to_tree. Raises KeyError, TypeError, ValueError for another tree."""
        found = tree["statistics"]
        transform = Transform(
            layout=str(tree["layout"]),
            add_channel=bool(tree["add_channel"]),
            statistics=None if found is None else Statistics.from_tree(found),
            tokens=bool(tree["tokens"]),
            classification=bool(tree["classification"]),
        )
        shape = tuple(int(n) for n in tree["stored_shape"])
        return cls(str(tree["inputs"]), shape, transform, int(tree["outputs"]), tuple(map(str, tree["class_names"])))

    def to_json(self) -> str:
        """One line of text, for files that hold texts alone."""
        return json.dumps(_listed(self.to_tree()), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Signature":
        """The inverse of to_json. Raises ValueError, KeyError, TypeError for another text."""
        tree = json.loads(text)
        if tree["statistics"] is not None:
            tree["statistics"] = {name: _array(value) for name, value in tree["statistics"].items()}
        return cls.from_tree(tree)


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _listed(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "values": value.tolist()}
    return value


def _array(value: Any) -> Any:
    return np.asarray(value["values"], value["dtype"]) if isinstance(value, dict) else value
