"""What a network has seen: distributions of its training inputs and of its outputs, which travel with its file."""

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.data.features import Features
from app.data.profile import Profile

MOST_BYTES = 64 * 2**20  # of an array in a text of a stranger's
EVENLY = 64  # values of a regression that are compared, at most


@dataclass(frozen=True)
class Reference:
    """What new samples are compared with.

    inputs   of the training part
    outputs  by name: "class" and "confidence" of a classification, "value" of a regression
    part     of which the outputs are: "validation", or "train" where there is none
    """

    inputs: Profile
    outputs: Mapping[str, Profile]
    part: str

    def to_tree(self) -> dict[str, Any]:
        """A tree that storage can write."""
        outputs = {name: profile.to_tree() for name, profile in self.outputs.items()}
        return {"inputs": self.inputs.to_tree(), "outputs": outputs, "part": self.part}

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "Reference":
        """The inverse of to_tree. Raises KeyError, TypeError, ValueError, AttributeError for another tree."""
        outputs = {str(name): Profile.from_tree(profile) for name, profile in tree["outputs"].items()}
        if not outputs.keys() <= {"class", "confidence", "value"}:
            raise ValueError(f"a reference of outputs {sorted(outputs)}")
        return cls(Profile.from_tree(tree["inputs"]), outputs, str(tree["part"]))

    def to_json(self) -> str:
        """One line of text, for files that hold texts alone; arrays are compressed."""
        return json.dumps(_packed(self.to_tree()), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Reference":
        """The inverse of to_json. Raises ValueError, KeyError, TypeError, AttributeError for another text."""
        return cls.from_tree(_unpacked(json.loads(text)))


def output_features(classification: bool, outputs: int) -> dict[str, Features]:
    """Which numbers of a network's K outputs are compared, by name."""
    if classification:
        return {"class": Features("class", 1, 1, 1, (0,)), "confidence": Features("confidence", 1, 1, 1, (0,))}
    return {"value": Features("value", 1, outputs, 1, tuple(range(outputs))).limited(EVENLY)}


def output_values(features: Mapping[str, Features], outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Of outputs (M, ...): predicted classes and the confidence in them, (1, N) each, or values (F, N)."""
    if "class" in features:
        rows = outputs.reshape(-1, outputs.shape[-1])
        return {"class": rows.argmax(axis=1)[None], "confidence": confidence(rows)[None]}
    rows = outputs.reshape(-1, features["value"].along)
    return {"value": np.ascontiguousarray(rows[:, list(features["value"].chosen)].T)}


def confidence(logits: np.ndarray) -> np.ndarray:
    """The largest probability (N,) of each row of logits (N, K)."""
    return 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)


def _packed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _packed(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        word = value.dtype.newbyteorder("<").str
        content = zlib.compress(value.astype(word, copy=False).tobytes(), 9)
        return {"dtype": word, "dims": list(value.shape), "zlib": base64.b64encode(content).decode()}
    return value


def _unpacked(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value.keys() != {"dtype", "dims", "zlib"}:
        return {name: _unpacked(one) for name, one in value.items()}
    dims = [int(n) for n in value["dims"]]
    if value["dtype"] not in ("<f8", "<i8") or min(dims, default=0) < 0 or 8 * math.prod(dims) > MOST_BYTES:
        raise ValueError(f"an array of type {value['dtype']!r} and shape {dims}")
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(base64.b64decode(value["zlib"], validate=True), 8 * math.prod(dims) + 1)
    except zlib.error as error:
        raise ValueError(f"a damaged array ({error})") from error
    if len(content) != 8 * math.prod(dims):
        raise ValueError(f"an array of shape {dims} with {len(content)} bytes")
    return np.frombuffer(content, value["dtype"]).reshape(dims).copy()  # torch wants it writable
