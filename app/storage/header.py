"""The first 512 bytes of a Phalanx file: a text that says what follows and how to check it.

HDF5 calls it a user block and skips it, so h5dump and h5py open the file as it is.
"""

from __future__ import annotations

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


def make(kind: str, sha256: str, size: int) -> bytes:
    """The header of a file of this kind whose HDF5 part has this checksum (hexadecimal) and so many bytes."""
    return _text(Block(FORMAT, kind, sha256, size))


def check_length(path: Path, start: bytes, size: int) -> Block:
    """The header of a file of so many bytes that begins with `start`; ArtifactError says what is wrong."""
    block = peek(path, start, size)
    if size < SIZE + block.bytes:
        raise ArtifactError(f"{path}: truncated: {size:,} of {SIZE + block.bytes:,} bytes. {_AGAIN}")
    if size > SIZE + block.bytes:
        more = size - SIZE - block.bytes
        raise ArtifactError(f"{path}: damaged: {more:,} bytes follow its {SIZE + block.bytes:,}. {_AGAIN}")
    return block


def check_sum(path: Path, block: Block, sha256: str) -> None:
    """ArtifactError when the checksum of a file's HDF5 part is not the one in its header."""
    if sha256 != block.sha256:
        raise ArtifactError(f"{path}: damaged: its checksum (sha256) differs from the one in its header. {_AGAIN}")


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
