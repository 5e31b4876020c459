"""A file of the run folder: one tree in HDF5, written whole or not at all, checked as a whole before it is read."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import ArtifactError
from app.storage import atomic_write, header
from app.storage.checked_file import open_checked
from app.storage.image import Image
from app.storage.tree import Keep, Tree, check_tree, read_tree

_ATTRIBUTES = ("creator", "version", "kind", "input", "run_id", "phase", "written")
_BLOCK = 1 << 20
_SMALL = 1 << 16


@dataclass(frozen=True)
class Provenance:
    """Where a file comes from: `creator` is "phalanx", `input_text` the resolved input file."""

    creator: str
    version: str
    input_text: str
    run_id: str
    phase: str


@dataclass(frozen=True)
class Header:
    """What a file says about itself; `written` is UTC, ISO 8601; `bytes` the size of the whole file."""

    kind: str
    provenance: Provenance
    written: str
    bytes: int


class StoredTree(NamedTuple):
    """What `read` gives."""

    tree: Tree
    header: Header


def write(path: Path, tree: Tree, *, kind: str, provenance: Provenance, like: Image | None = None) -> Image:
    """Write a tree as a file of this kind; whatever happens, `path` is afterwards the older file or the new one, whole.

    The arrays go from where they are to the file: of those that a Later gives, or that lie on an accelerator, one at a
    time is held. What is returned may be given as `like` to the next write of a tree of the same names and shapes, and
    makes it quicker. Collective over: none (one rank writes). Raises MachineError (full disk, quota, permission),
    TypeError for what a tree cannot hold.
    """
    image = Image(tree, _words(kind, provenance), like)
    atomic_write.make_folder(path.parent)

    def fill(descriptor: int) -> None:
        atomic_write.write_all(descriptor, bytes(header.SIZE))
        sink = _Sink(descriptor)
        image.stream(sink.write)
        sink.flush()
        os.lseek(descriptor, 0, os.SEEK_SET)
        atomic_write.write_all(descriptor, header.make(kind, sink.digest.hexdigest(), image.size))

    atomic_write.replace_by(path, header.SIZE + image.size, fill)
    return image


def read(path: Path, *, kind: str, keep: Keep | None = None) -> StoredTree:
    """Read a file of this kind after checking its length and sha256; its leaves, or those whose place `keep` takes.

    `keep` is asked with the keys from the root down, as in ("weights", "0.bias"); a list is one leaf, and what is left
    out takes no memory. Collective over: none. Raises ArtifactError: missing, truncated, damaged, not Phalanx, another
    kind, newer format.
    """
    with _opened(path, kind) as (root, found), _as_written(path):
        return StoredTree(read_tree(root, keep), found)


def stored_checksum(path: Path) -> str:
    """The sha256 in a file's header, of all that follows; the file is not read. Raises ArtifactError as `read`."""
    try:
        with path.open("rb") as file:
            start, size = file.read(header.SIZE), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be opened: {error.strerror}.") from error
    return header.check_length(path, start, size).sha256


@contextlib.contextmanager
def opened(path: Path, *, kind: str | None = None) -> Iterator[tuple[Any, Header]]:
    """The h5py root group and the header of a checked file, read-only, in which nothing leads to another file."""
    with _opened(path, kind) as (root, found):
        # A stranger can compute a checksum too.
        with _as_written(path):
            check_tree(root)
        yield root, found


@contextlib.contextmanager
def _opened(path: Path, kind: str | None) -> Iterator[tuple[Any, Header]]:
    with open_checked(path) as (content, block):
        if kind is not None and block.kind != kind:
            raise ArtifactError(
                f"{path}: kind is {block.kind!r}, expected {kind!r}. What to try: name a file that holds a {kind}."
            )
        import h5py

        try:
            file = h5py.File(content, "r")
        except OSError as error:
            raise ArtifactError(f"{path}: its checksum is right, but HDF5 cannot open it: {error}") from error
        with file:
            yield file, _stored_header(path, file, block)


@contextlib.contextmanager
def _as_written(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, KeyError, RuntimeError, TypeError) as error:
        raise ArtifactError(f"{path}: its checksum is right, but Phalanx did not write it so: {error}") from error


class _Sink:
    """Writes pieces to a file, small ones together, and takes the checksum of them all."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.digest = descriptor, hashlib.sha256()
        self.small = bytearray()

    def write(self, piece: memoryview) -> None:
        if len(piece) < _SMALL:
            self.small += piece
            if len(self.small) >= _BLOCK:
                self.flush()
            return
        self.flush()
        for start in range(0, len(piece), _BLOCK):  # taken and written while it is in the processor's cache
            self._out(piece[start : start + _BLOCK])

    def flush(self) -> None:
        self._out(self.small)
        self.small = bytearray()

    def _out(self, block: bytearray | memoryview) -> None:
        self.digest.update(block)
        atomic_write.write_all(self.descriptor, block)


def _words(kind: str, provenance: Provenance) -> dict[str, str]:
    """The attributes of the root, each a text that HDF5 holds."""
    words = {
        "creator": provenance.creator,
        "version": provenance.version,
        "kind": kind,
        "input": provenance.input_text,
        "run_id": provenance.run_id,
        "phase": provenance.phase,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {n: text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode() for n, text in words.items()}


def _stored_header(path: Path, file: Any, block: header.Block) -> Header:
    try:
        words = {name: str(file.attrs[name]) for name in _ATTRIBUTES}
    except (KeyError, OSError) as error:
        raise ArtifactError(f"{path}: its checksum is right, but it says not who wrote it: {error}") from error
    if words["kind"] != block.kind:
        raise ArtifactError(f"{path}: damaged: its header says kind {block.kind!r}, its attributes {words['kind']!r}.")
    provenance = Provenance(words["creator"], words["version"], words["input"], words["run_id"], words["phase"])
    return Header(block.kind, provenance, words["written"], header.SIZE + block.bytes)
