"""A file of the run folder: one tree in HDF5, written whole or not at all, checked as a whole before it is read."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import ArtifactError
from app.storage import atomic_write, header
from app.storage.tree import Tree, read_tree, write_tree

_ATTRIBUTES = ("creator", "version", "kind", "input", "run_id", "phase", "written")
_ROOM = 1 << 20  # for HDF5's own tables; the image grows when they need more


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


def write(path: Path, tree: Tree, *, kind: str, provenance: Provenance) -> None:
    """Write a tree as a file of this kind; whatever happens, `path` is afterwards the older file or the new one, whole.

    Needs twice the tree's bytes of memory for a moment. Collective over: none (one rank writes).
    Raises MachineError (full disk, quota, permission), TypeError for what a tree cannot hold.
    """
    image = _image(tree, kind, provenance)
    atomic_write.make_folder(path.parent)
    atomic_write.replace(path, [header.make(kind, image), image])


def read(path: Path, *, kind: str) -> StoredTree:
    """Read a file of this kind after checking its length and sha256; the checked bytes are the ones that are read.

    Collective over: none. Raises ArtifactError: missing, truncated, damaged, not Phalanx, another kind, newer format.
    """
    with opened(path, kind=kind) as (root, found):
        try:
            return StoredTree(read_tree(root), found)
        except (ValueError, OSError, KeyError, RuntimeError, TypeError) as error:
            raise ArtifactError(f"{path}: its checksum is right, but Phalanx did not write it so: {error}") from error


@contextlib.contextmanager
def opened(path: Path, *, kind: str | None = None) -> Iterator[tuple[Any, Header]]:
    """The h5py root group and the header of a checked file, read-only and from memory."""
    content = read_bytes(path)
    block = header.check(path, content)
    if kind is not None and block.kind != kind:
        raise ArtifactError(
            f"{path}: kind is {block.kind!r}, expected {kind!r}. What to try: name a file that holds a {kind}."
        )
    import h5py

    try:
        file = h5py.File(_Memory(content[header.SIZE :]), "r")
    except OSError as error:
        raise ArtifactError(f"{path}: its checksum is right, but HDF5 cannot open it: {error}") from error
    with file:
        yield file, _stored_header(path, file, block)


def read_bytes(path: Path) -> memoryview:
    """The content of a regular file, read once; ArtifactError when it cannot be."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file. What to try: run the phase that writes it.") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be opened: {error.strerror}.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{path}: not a regular file.")
        return _read_whole(descriptor, status.st_size)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}.") from error
    finally:
        os.close(descriptor)


def _read_whole(descriptor: int, size: int) -> memoryview:
    import numpy as np

    content = memoryview(np.empty(size, np.uint8))  # type: ignore[arg-type]
    got = 0
    while got < size and (count := os.readv(descriptor, [content[got:]])):
        got += count
    return content[:got]


def _image(tree: Tree, kind: str, provenance: Provenance) -> bytes:
    """The bytes of an HDF5 file, built in memory: HDF5 writing to a full disk crashes or leaves zeros."""
    import h5py
    from h5py import h5f, h5p

    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fapl_core(_block(tree), False)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    rules = h5p.create(h5p.FILE_CREATE)
    rules.set_obj_track_times(False)
    rules.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
    with h5py.File(h5f.create(b"phalanx", h5f.ACC_TRUNC, rules, access)) as file:
        _describe(file.attrs, kind, provenance)
        write_tree(file, tree)
        h5f.flush(file.id)
        return file.id.get_file_image()


def _block(tree: Tree) -> int:
    """The step in which the image grows: the whole of it at once, else each step copies what is there."""
    return _ROOM + _array_bytes(tree)


def _array_bytes(tree: Tree, depth: int = 0) -> int:
    if depth > 64:
        return 0
    total = 0
    for value in tree.values():
        total += _array_bytes(value, depth + 1) if isinstance(value, dict) else int(getattr(value, "nbytes", 0))
    return total


def _describe(attributes: Any, kind: str, provenance: Provenance) -> None:
    words = {
        "creator": provenance.creator,
        "version": provenance.version,
        "kind": kind,
        "input": provenance.input_text,
        "run_id": provenance.run_id,
        "phase": provenance.phase,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for name, text in words.items():
        attributes[name] = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _stored_header(path: Path, file: Any, block: header.Block) -> Header:
    try:
        words = {name: str(file.attrs[name]) for name in _ATTRIBUTES}
    except (KeyError, OSError) as error:
        raise ArtifactError(f"{path}: its checksum is right, but it says not who wrote it: {error}") from error
    if words["kind"] != block.kind:
        raise ArtifactError(f"{path}: damaged: its header says kind {block.kind!r}, its attributes {words['kind']!r}.")
    provenance = Provenance(words["creator"], words["version"], words["input"], words["run_id"], words["phase"])
    return Header(block.kind, provenance, words["written"], header.SIZE + block.bytes)


class _Memory:
    """Bytes in memory as the file object that h5py reads from, without copying them first."""

    def __init__(self, content: memoryview) -> None:
        self.content, self.place = content, 0

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self.place = place + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: len(self.content)}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, target: Any) -> int:
        part = self.content[self.place : self.place + len(target)]
        target[: len(part)] = part
        self.place += len(part)
        return len(part)

    def read(self, size: int = -1) -> bytes:
        stop = len(self.content) if size < 0 else self.place + size
        part = bytes(self.content[self.place : stop])
        self.place += len(part)
        return part

    def write(self, _: Any) -> int:
        raise OSError("opened for reading")

    def flush(self) -> None:
        pass
