"""Finished networks: weights by name, architecture, and what is needed to use them (constants, class names)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from app.errors import ArtifactError
from app.storage import artifact_file
from app.storage.artifact_file import Header, Provenance
from app.storage.leaves import Later
from app.storage.sparse import Csr, packed, packed_bytes, unpacked
from app.storage.tree import Tree, Value

if TYPE_CHECKING:
    import torch

KIND = "network"
Weight: TypeAlias = "torch.Tensor | Later | Csr"


class StoredNetwork(NamedTuple):
    """Weights named and ordered as in `state_dict`, on the CPU; the shapes are the stored ones, also after pruning."""

    weights: dict[str, torch.Tensor]
    architecture: Tree
    extras: Tree
    header: Header


def write_network(
    path: Path, weights: Mapping[str, Weight], architecture: Tree, extras: Tree, provenance: Provenance
) -> None:
    """Write a network: in the file `/weights/NAME` is one dataset per name, `/architecture` and `/extras` are trees.

    A weight may be a Later of a torch dtype. One that is named in architecture["sparse"] is a group of four datasets
    where that takes fewer bytes (storage.sparse.Csr); of a Later its sender has to decide that, by giving a Csr.
    Collective over: none. Raises MachineError, and TypeError for a weight that is not a dense tensor.
    """
    import torch

    for name, weight in weights.items():
        for part in weight if isinstance(weight, Csr) else (weight,):
            later = isinstance(part, Later) and isinstance(part.dtype, torch.dtype)
            if not later and not isinstance(part, torch.Tensor):
                raise TypeError(f"weights/{name}: a {type(part).__name__}, expected a tensor")
    stored = {name: _stored(name, weight, architecture) for name, weight in weights.items()}
    tree: Tree = {"architecture": architecture, "weights": stored, "extras": extras}
    artifact_file.write(path, tree, kind=KIND, provenance=provenance)


def stored_bytes(weights: Mapping[str, torch.Tensor], sparse: Collection[str] = ()) -> int:
    """Bytes that weights take in a file of a network, without its head. Collective over: none."""
    return packed_bytes(weights, sparse)


def read_network(path: Path, keep: Callable[[str], bool] | None = None) -> StoredNetwork:
    """Read a network, of its weights those whose name `keep` takes; the others take no memory.

    Collective over: none. Raises ArtifactError: missing, damaged, or not a network.
    """
    kept = None if keep is None else lambda place: place[0] != "weights" or keep(place[1])
    stored = artifact_file.read(path, kind=KIND, keep=kept)
    parts = [stored.tree.get(name) for name in ("weights", "architecture", "extras")]
    if not all(isinstance(part, dict) for part in parts):
        raise ArtifactError(f"{path}: its checksum is right, but it lacks weights, architecture or extras.")
    weights, architecture, extras = parts
    return StoredNetwork(_dense(path, weights), architecture, extras, stored.header)  # type: ignore[arg-type]


def read_architecture(path: Path) -> StoredNetwork:
    """Read all of a network but its weights, which are then {}; as `read_network`."""
    return read_network(path, keep=lambda _: False)


def _stored(name: str, weight: Weight, architecture: Tree) -> Value:
    sparse = architecture.get("sparse")
    if not isinstance(weight, Csr | Later) and isinstance(sparse, list) and name in sparse:
        weight = packed({name: weight}, {name})[name]
    return dict(weight._asdict()) if isinstance(weight, Csr) else weight


def _dense(path: Path, weights: Any) -> dict[str, torch.Tensor]:
    """Weights as a reader wants them; of those that were left out a group may be there, empty."""
    try:
        return {
            name: unpacked(stored, f"weights/{name}") if isinstance(stored, dict) else stored
            for name, stored in weights.items()
            if not isinstance(stored, dict) or stored
        }
    except ValueError as error:
        raise ArtifactError(f"{path}: its checksum is right, but Phalanx did not write it so: {error}") from error
