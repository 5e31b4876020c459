"""What a teacher gives for samples, kept in shards: each a whole file of some samples, looked up by sample number.

In a shard `/samples` are numbers of samples, ascending, and `/rows` one dataset a subject with a row for each of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.errors import ArtifactError
from app.storage import artifact_file, atomic_write, header
from app.storage.artifact_file import Provenance
from app.storage.tree import Tree, unescape

KIND = "teacher"
SHARD_BYTES = 64 << 20  # a rank holds no more of what it has not written yet


class Stored(NamedTuple):
    """Where an array lies in its file: bytes from the start, shape, numpy's word for the type."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Shard(NamedTuple):
    """A whole file. key: of what its rows depend on."""

    path: Path
    key: str
    samples: Stored
    rows: dict[str, Stored]

    @property
    def size(self) -> int:
        """Number of its samples."""
        return self.samples.shape[0]


class ShardWriter:
    """Collects rows on one rank, and writes a file whenever they are many. Collective over: none."""

    def __init__(self, folder: Path, rank: int, key: str, provenance: Provenance, limit: int = SHARD_BYTES) -> None:
        """limit: bytes of rows that are held at most, unless one piece is larger."""
        self._folder, self._rank, self._key, self._provenance, self._limit = folder, rank, key, provenance, limit
        self._samples: list[np.ndarray] = []
        self._rows: list[Mapping[str, np.ndarray]] = []
        self._bytes = self._files = 0

    def add(self, samples: np.ndarray, rows: Mapping[str, np.ndarray]) -> None:
        """Rows (n, ...) of each subject, always the same ones, for samples (n,) that come after those before.

        Raises MachineError.
        """
        self._samples.append(samples)
        self._rows.append(rows)
        self._bytes += sum(array.nbytes for array in rows.values())
        if self._bytes >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected. Raises MachineError."""
        if not self._samples:
            return
        samples = np.concatenate(self._samples)
        order = np.argsort(samples, kind="stable")
        rows: Tree = {
            subject: np.concatenate([piece[subject] for piece in self._rows])[order] for subject in self._rows[0]
        }
        path = self._folder / f"{self._rank:05d}-{self._files:05d}.h5"
        tree: Tree = {"key": self._key, "samples": samples[order], "rows": rows}
        artifact_file.write(path, tree, kind=KIND, provenance=self._provenance)
        self._samples, self._rows, self._bytes = [], [], 0
        self._files += 1


def shard_paths(folder: Path) -> list[Path]:
    """The files of a folder, whole or not."""
    return sorted(folder.glob("[0-9]*-[0-9]*.h5"))


def clear(folder: Path) -> None:
    """Delete the files of a folder that another try, or another teacher, has left. Raises MachineError."""
    atomic_write.make_folder(folder)
    atomic_write.clean_leftovers(folder)
    for path in shard_paths(folder):
        with contextlib.suppress(OSError):  # one that stays is of another key, or is written over
            path.unlink()


def examine(path: Path) -> Shard | None:
    """A shard whose checksum is right, or None. Collective over: none."""
    try:
        with artifact_file.opened(path, kind=KIND) as (root, _):
            rows = {unescape(name): _stored(dataset) for name, dataset in root["rows"].items()}
            return Shard(path, root["key"][()].decode(), _stored(root["samples"]), rows)
    except (ArtifactError, OSError, KeyError, ValueError, AttributeError, RuntimeError, TypeError):
        return None


def _stored(dataset: Any) -> Stored:
    offset, shape = dataset.id.get_offset(), tuple(dataset.shape)
    if offset is None or not shape:
        raise ValueError("not stored in one piece")
    return Stored(header.SIZE + offset, shape, dataset.dtype.str)


class Rows:
    """The rows of one subject in all shards, in memory or mapped from the files. Collective over: none."""

    def __init__(self, shards: Sequence[Shard], subject: str, in_memory: bool) -> None:
        """Raises ArtifactError when a file is gone."""
        pieces = [(_mapped(one.path, one.samples), _mapped(one.path, one.rows[subject])) for one in shards]
        if in_memory:  # as one piece, which is found faster
            samples = np.concatenate([numbers for numbers, _ in pieces])
            order = np.argsort(samples)
            pieces = [(samples[order], np.concatenate([rows for _, rows in pieces])[order])]
        self._pieces = [(int(numbers[0]), int(numbers[-1]), numbers, rows) for numbers, rows in pieces]
        self.shape, self._dtype = tuple(pieces[0][1].shape[1:]), pieces[0][1].dtype

    def take(self, samples: np.ndarray) -> np.ndarray:
        """The rows (M, ...) of samples (M,) int64. Raises ArtifactError for a sample that no shard has."""
        taken = np.empty((len(samples), *self.shape), self._dtype)
        missing = np.ones(len(samples), bool)
        low, high = int(samples.min()), int(samples.max())
        for first, last, numbers, rows in self._pieces:
            if first > high or last < low:
                continue
            at = np.minimum(np.searchsorted(numbers, samples), len(numbers) - 1)
            here = numbers[at] == samples
            taken[here] = rows[at[here]]
            missing &= ~here
        if missing.any():
            raise ArtifactError(f"of sample {samples[missing][0]} it is not stored what its teacher gives.")
        return taken


def open_rows(wanted: Sequence[tuple[Sequence[Shard], str]], memory_bytes: int) -> list[Rows]:
    """The rows of subjects, each of some shards: all in memory where all together need no more than that, else mapped.

    Collective over: none. Raises ArtifactError when a file is gone.
    """
    having = [([shard for shard in shards if subject in shard.rows], subject) for shards, subject in wanted]
    size = sum(one.rows[subject].bytes + one.samples.bytes for shards, subject in having for one in shards)
    return [Rows(shards, subject, in_memory=size <= memory_bytes) for shards, subject in having]


def _mapped(path: Path, stored: Stored) -> np.ndarray:
    try:
        return np.memmap(path, np.dtype(stored.dtype), "r", stored.offset, stored.shape)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: was whole a moment ago and cannot be read any more: {error}.") from error
