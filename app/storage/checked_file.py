"""A file of ours open for reading: all of it checked first, then read where it is asked for, in little memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import ArtifactError
from app.storage import header

_BLOCK = 1 << 20


class CheckedFile(NamedTuple):
    """The HDF5 part of a file as the file object that h5py reads from, and what its header says."""

    content: Window
    block: header.Block


@contextlib.contextmanager
def open_checked(path: Path) -> Iterator[CheckedFile]:
    """Open a regular file that carries our header, when all of it is as it was written; else ArtifactError.

    The checked file is the one that is read, also when another takes its name meanwhile.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file. What to try: run the phase that writes it.") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be opened: {error.strerror}.") from error
    try:
        yield _checked(path, descriptor)
    finally:
        os.close(descriptor)


def _checked(path: Path, descriptor: int) -> CheckedFile:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{path}: not a regular file.")
    try:
        start = os.read(descriptor, header.SIZE)
        block = header.check_length(path, start, status.st_size)
        header.check_sum(path, block, _sha256(descriptor))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}.") from error
    return CheckedFile(Window(descriptor, header.SIZE, block.bytes), block)


def _sha256(descriptor: int) -> str:
    """Of what follows in the file."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    while count := os.readv(descriptor, [buffer]):
        digest.update(buffer[:count])
    return digest.hexdigest()


class Window:
    """A part of an open file as a file object, for reading only."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self.descriptor, self.start, self.size = descriptor, start, size
        self.place = 0

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self.place = place + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, target: Any) -> int:
        rest = memoryview(target)
        while rest:
            count = os.preadv(self.descriptor, [rest], self.start + self.place)
            if count == 0:  # HDF5 would take what lay in its memory for what it asked
                raise OSError("the file is shorter than it was a moment ago")
            self.place += count
            rest = rest[count:]
        return len(target)

    def read(self, size: int = -1) -> bytes:
        content = bytearray(size if size >= 0 else self.size - self.place)
        self.readinto(content)
        return bytes(content)

    def write(self, _: Any) -> int:
        raise OSError("opened for reading")

    def flush(self) -> None:
        pass
