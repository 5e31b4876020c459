"""Finished networks: weights by name, architecture, and what is needed to use them (constants, class names)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from app.errors import ArtifactError
from app.storage import artifact_file
from app.storage.artifact_file import Header, Provenance
from app.storage.leaves import Later
from app.storage.tree import Tree

if TYPE_CHECKING:
    import torch

KIND = "network"


class StoredNetwork(NamedTuple):
    """Weights named and ordered as in `state_dict`, on the CPU; the shapes are the stored ones, also after pruning."""

    weights: dict[str, torch.Tensor]
    architecture: Tree
    extras: Tree
    header: Header


def write_network(
    path: Path, weights: Mapping[str, torch.Tensor | Later], architecture: Tree, extras: Tree, provenance: Provenance
) -> None:
    """Write a network: in the file `/weights/NAME` is one dataset per name, `/architecture` and `/extras` are trees.

    A weight may be a Later of a torch dtype. Collective over: none. Raises MachineError, and TypeError for a weight
    that is not a dense tensor.
    """
    import torch

    for name, weight in weights.items():
        later = isinstance(weight, Later) and isinstance(weight.dtype, torch.dtype)
        if not later and not isinstance(weight, torch.Tensor):
            raise TypeError(f"weights/{name}: a {type(weight).__name__}, expected a tensor")
    tree: Tree = {"architecture": architecture, "weights": dict(weights), "extras": extras}
    artifact_file.write(path, tree, kind=KIND, provenance=provenance)


def stored_bytes(weights: Mapping[str, torch.Tensor], sparse: Collection[str] = ()) -> int:
    """Bytes that weights take in a file of a network, without its head. Collective over: none."""
    return sum(weight.numel() * weight.element_size() for weight in weights.values())


def read_network(path: Path, keep: Callable[[str], bool] | None = None) -> StoredNetwork:
    """Read a network, of its weights those whose name `keep` takes; the others take no memory.

    Collective over: none. Raises ArtifactError: missing, damaged, or not a network.
    """
    kept = None if keep is None else lambda place: place[0] != "weights" or keep(place[-1])
    stored = artifact_file.read(path, kind=KIND, keep=kept)
    parts = [stored.tree.get(name) for name in ("weights", "architecture", "extras")]
    if not all(isinstance(part, dict) for part in parts):
        raise ArtifactError(f"{path}: its checksum is right, but it lacks weights, architecture or extras.")
    weights, architecture, extras = parts
    return StoredNetwork(weights, architecture, extras, stored.header)  # type: ignore[arg-type]


def read_architecture(path: Path) -> StoredNetwork:
    """Read all of a network but its weights, which are then {}; as `read_network`."""
    return read_network(path, keep=lambda _: False)
