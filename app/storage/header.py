"""The first 512 bytes of a Phalanx file: a text that says what follows and how to check it.

HDF5 calls it a user block and skips it, so h5dump and h5py open the file as it is.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from app.errors import ArtifactError

SIZE = 512
FORMAT = 1
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LINES = re.compile(
    rb"PHALANX\nformat (\d{1,9})\nkind ([a-z][a-z0-9_-]{0,31})\nsha256 ([0-9a-f]{64})\nbytes (\d{1,18})\n"
)
_NOTE = "HDF5 follows these 512 bytes: h5dump and h5py open this file as it is.\nphalanx info FILE describes it.\n"


class Block(NamedTuple):
    """What a header says."""

    format: int
    kind: str
    sha256: str
    bytes: int


def make(kind: str, image: bytes | memoryview) -> bytes:
    """The header of a file of this kind whose HDF5 part is `image`."""
    return _text(Block(FORMAT, kind, hashlib.sha256(image).hexdigest(), memoryview(image).nbytes))


def check(path: Path, content: memoryview) -> Block:
    """The header of a file's content, when all of it is as it was written; ArtifactError says what is wrong."""
    block = peek(path, bytes(content[:SIZE]), len(content))
    if len(content) < SIZE + block.bytes:
        raise ArtifactError(f"{path}: truncated: {len(content):,} of {SIZE + block.bytes:,} bytes. {_AGAIN}")
    if len(content) > SIZE + block.bytes:
        more = len(content) - SIZE - block.bytes
        raise ArtifactError(f"{path}: damaged: {more:,} bytes follow its {SIZE + block.bytes:,}. {_AGAIN}")
    if hashlib.sha256(content[SIZE:]).hexdigest() != block.sha256:
        raise ArtifactError(f"{path}: damaged: its checksum (sha256) differs from the one in its header. {_AGAIN}")
    return block


def peek(path: Path, start: bytes, size: int) -> Block:
    """The header alone, from a file's first 512 bytes; `size` is the length of the whole file, for the message."""
    if not start.startswith(b"PHALANX\n"):
        raise ArtifactError(f"{path}: not a Phalanx file: {_looks_like(start)}. {_OTHER}")
    match = _LINES.match(start)
    if match is None:
        if len(start) < SIZE:
            raise ArtifactError(f"{path}: truncated: {size:,} bytes, less than its header. {_AGAIN}")
        raise ArtifactError(f"{path}: damaged: its header cannot be read. {_AGAIN}")
    block = Block(int(match[1]), match[2].decode(), match[3].decode(), int(match[4]))
    if block.format > FORMAT:
        raise ArtifactError(
            f"{path}: written in format {block.format} by a newer Phalanx; this one reads up to format {FORMAT}. "
            "What to try: update Phalanx."
        )
    if len(start) < SIZE:
        raise ArtifactError(f"{path}: truncated: {size:,} of {SIZE + block.bytes:,} bytes. {_AGAIN}")
    if start != _text(block):
        raise ArtifactError(f"{path}: damaged: its header is not as it was written. {_AGAIN}")
    return block


_AGAIN = "What to try: copy it again from where it came, or delete it and run the phase that writes it again."
_OTHER = "What to try: name another file, or move it away where Phalanx should write its own."


def _text(block: Block) -> bytes:
    lines = f"PHALANX\nformat {block.format}\nkind {block.kind}\nsha256 {block.sha256}\nbytes {block.bytes}\n"
    return (lines + _NOTE).ljust(SIZE - 1).encode() + b"\n"


def _looks_like(start: bytes) -> str:
    if not start:
        return "the file is empty"
    if start.startswith(HDF5_SIGNATURE):
        return "it is HDF5, but not written by Phalanx"
    return f"it begins with {start[:8]!r}"
