"""One or more HDF5 files seen as one run of samples with their targets."""

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.data.blocks import Blocks, Layout, block_rows, undone_times
from app.data.joined import OPEN_FILES, Joined
from app.data.memory import Memory
from app.errors import DataError
from app.storage.rows import CACHE_BYTES, Rows, open_rows

INPUTS_CACHE = 2**20  # of a file: inputs are read in whole chunks, which need no cache


class Pair(NamedTuple):
    """The open datasets of one file."""

    inputs: Rows
    targets: Rows | None

    def close(self) -> None:
        self.inputs.close()
        if self.targets is not None:
            self.targets.close()


class Part(NamedTuple):
    """What is remembered of one file."""

    file: Path
    length: int
    inputs: Layout
    targets: Layout | None


class Source:
    """Samples 0..length-1 of all files, in the order given; made by `open_source`. Safe to read from several threads.

    `sample_shape`, `dtype` are of a stored sample, `target_shape` (() for one number), `target_dtype` of its target
    (None without targets). `notes` are sentences for the user's log, `memory` is what readers borrow for their windows.
    Collective over: none.
    """

    def __init__(
        self, parts: Sequence[Part], names: tuple[str, str | None], first: Pair, notes: Sequence[str], cache_bytes: int
    ) -> None:
        self.files = tuple(part.file for part in parts)
        self.inputs_name, self.targets_name = names
        self.sample_shape, self.dtype = first.inputs.shape, first.inputs.dtype
        self.target_shape = first.targets.shape if first.targets else None
        self.target_dtype = first.targets.dtype if first.targets else None
        self.notes = tuple(notes)
        self._parts = tuple(parts)
        lengths = [part.length for part in parts]
        self.length = sum(lengths)
        self.memory = Memory()
        self._lock = threading.Lock()
        # Few targets stay in memory once read: then their chunks are undone once, whatever the blocks are.
        self._keeps_targets = self.length * self.target_bytes <= cache_bytes and len(parts) <= OPEN_FILES
        cache = INPUTS_CACHE * min(len(parts), OPEN_FILES)
        self._inputs = Joined(self.inputs_name, self.files, lengths, cache_bytes=cache, keeps=False)
        self._targets = (
            None
            if self.targets_name is None
            else Joined(self.targets_name, self.files, lengths, cache_bytes=cache_bytes, keeps=self._keeps_targets)
        )
        self.fingerprint = fingerprint(self.files)

    @property
    def input_bytes(self) -> int:
        """Bytes of the inputs of one stored sample."""
        return self._parts[0].inputs.row_bytes

    @property
    def target_bytes(self) -> int:
        """Bytes of its target; 0 without targets."""
        return self._parts[0].targets.row_bytes if self._parts[0].targets else 0

    @property
    def sample_bytes(self) -> int:
        """Bytes of both."""
        return self.input_bytes + self.target_bytes

    def bytes_of(self, wants: frozenset[str]) -> tuple[int, int]:
        """Bytes of the inputs and of the target of one stored sample; 0 for what is not of `wants`."""
        return self.input_bytes * ("inputs" in wants), self.target_bytes * ("targets" in wants)

    def blocks(self, limit_bytes: int) -> Blocks:
        """The blocks to read in, of about `limit_bytes` at most; depends on the files and the limit alone."""
        size = self.length * self.sample_bytes
        rows = tuple(block_rows(part.inputs, self._pressing(part), limit_bytes, size) for part in self._parts)
        return Blocks(tuple(part.length for part in self._parts), rows)

    def block_notes(self, limit_bytes: int) -> tuple[str, ...]:
        """What the user should know about chunks of the targets that blocks within the limit cannot follow."""
        notes = []
        for part, rows in zip(self._parts, self.blocks(limit_bytes).rows, strict=True):
            times = undone_times(part.inputs, self._pressing(part), rows)
            if part.targets and times > 2:
                notes.append(
                    f"{part.file}: each chunk of '{self.targets_name}' ({part.targets.chunk_rows} samples) is read "
                    f"about {times:.0f} times an epoch, because blocks of {rows} samples are what the memory allows; "
                    f"give data more memory, or write '{self.targets_name}' "
                    f"with chunks of {part.inputs.chunk_rows or rows} samples."
                )
        return tuple(notes)

    def read(self, start: int, inputs_out: np.ndarray | None, targets_out: np.ndarray | None = None) -> None:
        """Fill `inputs_out` (n, ...) and `targets_out` (n, ...) with the samples start:start+n. Raises DataError.

        A dataset for which None is given is not opened.
        """
        with self._lock:
            if inputs_out is not None:
                self._inputs.read_into(start, inputs_out)
            if targets_out is not None and self._targets is not None:
                self._targets.read_into(start, targets_out)

    def where(self, sample: int) -> tuple[Path, int]:
        """The file of a sample and its row there."""
        file, row = self._inputs.place(sample)
        return self.files[file], row

    def empty_targets(self, samples: int) -> np.ndarray | None:
        """Fresh memory for the targets of so many samples; None without targets."""
        if self.target_dtype is None or self.target_shape is None:
            return None
        return np.empty((samples, *self.target_shape), self.target_dtype)

    def close(self) -> None:
        """Close all files; reading opens them again."""
        with self._lock:
            self._inputs.close()
            if self._targets is not None:
                self._targets.close()

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _pressing(self, part: Part) -> Layout | None:
        """The targets' layout where it matters for the choice of blocks."""
        return part.targets and part.targets._replace(whole=part.targets.whole and not self._keeps_targets)


def open_source(files: Sequence[Path], inputs: str, targets: str | None, *, cache_bytes: int = CACHE_BYTES) -> Source:
    """Look at every file and make them one set. `cache_bytes` bounds what is kept of the targets: all when they
    are so few, else HDF5's cache of undone chunks.

    Collective over: none. Raises DataError for what a file may be (see storage.rows), lengths of inputs and targets
    that differ, files that disagree in shape or type; every bad file is named.
    """
    if not files:
        raise DataError("The data table names no file, expected at least one HDF5 file.")
    parts: list[Part] = []
    first: Pair | None = None
    notes: list[str] = []
    problems: list[str] = []
    for file in map(Path, files):
        try:
            pair = open_pair(file, inputs, targets, cache_bytes)
        except DataError as error:
            problems.extend(error.problems)
            continue
        pair.close()
        if first and (problem := disagreement(first, pair)):
            problems.append(problem)
        first = first or pair
        parts.append(part_of(pair))
        notes += [rows.note for rows in pair[:2] if rows is not None and rows.note]
    if problems or first is None:
        raise DataError(*problems)
    if len(notes) > 4:
        notes[3:] = [f"{len(notes) - 3} more datasets have the same kind of note."]
    return Source(parts, (inputs, targets), first, notes, cache_bytes)


def open_pair(file: Path, inputs: str, targets: str | None, cache_bytes: int) -> Pair:
    """Open both datasets of one file and compare their lengths."""
    found = open_rows(file, inputs, cache_bytes=INPUTS_CACHE)
    if targets is None:
        return Pair(found, None)
    try:
        wanted = open_rows(file, targets, cache_bytes=cache_bytes)
    except DataError:
        found.close()
        raise
    pair = Pair(found, wanted)
    if found.length != wanted.length:
        pair.close()
        raise DataError(
            f"{file}: '{inputs}' has {found.length} samples but '{targets}' has {wanted.length}; "
            "axis 0 must be the sample in both and they must have the same length."
        )
    return pair


def part_of(pair: Pair) -> Part:
    layouts = [
        Layout(rows.block_rows if rows.chunked else 0, rows.row_bytes, rows.compressed) if rows is not None else None
        for rows in pair[:2]
    ]
    assert layouts[0] is not None
    return Part(pair.inputs.file, pair.inputs.length, layouts[0], layouts[1])


def disagreement(first: Pair, other: Pair) -> str | None:
    """What makes a file unfit to be one set with the first."""
    for a, b in zip(first[:2], other[:2], strict=True):
        if a is not None and b is not None and (a.shape, a.dtype) != (b.shape, b.dtype):
            return (
                f"{b.file}: '{b.name}' has samples of shape {b.shape} and type {b.dtype}, "
                f"but {a.file} has {a.shape} and {a.dtype}; files of one set must agree."
            )
    return None


def fingerprint(files: Sequence[Path]) -> str:
    """A short text that changes when a file is replaced, grows or is written to."""
    digest = hashlib.sha256()
    for file in files:
        found = file.stat()
        digest.update(f"{file.resolve()}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]
