"""Finished networks: weights by name, architecture, and what is needed to use them (constants, class names)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from app.errors import ArtifactError
from app.storage import artifact_file
from app.storage.artifact_file import Header, Provenance
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
    path: Path, weights: dict[str, torch.Tensor], architecture: Tree, extras: Tree, provenance: Provenance
) -> None:
    """Write a network: in the file `/weights/NAME` is one dataset per name, `/architecture` and `/extras` are trees.

    Collective over: none. Raises MachineError, and TypeError for a weight that is not a dense tensor.
    """
    import torch

    for name, weight in weights.items():
        if not isinstance(weight, torch.Tensor):
            raise TypeError(f"weights/{name}: a {type(weight).__name__}, expected a tensor")
    tree: Tree = {"architecture": architecture, "weights": dict(weights), "extras": extras}
    artifact_file.write(path, tree, kind=KIND, provenance=provenance)


def read_network(path: Path) -> StoredNetwork:
    """Read a network. Collective over: none. Raises ArtifactError: missing, damaged, or not a network."""
    stored = artifact_file.read(path, kind=KIND)
    parts = [stored.tree.get(name) for name in ("weights", "architecture", "extras")]
    if not all(isinstance(part, dict) for part in parts):
        raise ArtifactError(f"{path}: its checksum is right, but it lacks weights, architecture or extras.")
    weights, architecture, extras = parts
    return StoredNetwork(weights, architecture, extras, stored.header)  # type: ignore[arg-type]
