"""Replace a file as a whole or not at all: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from app.errors import MachineError

_ADVICE = {
    errno.ENOSPC: "free space there, or choose another [run] folder; a run goes on from its last checkpoint",
    errno.EDQUOT: "free some of your quota, or choose another [run] folder; a run goes on from its last checkpoint",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f) or choose a file system that takes larger files",
    errno.EROFS: "the file system is mounted read-only; choose another [run] folder",
    errno.EACCES: "ask for the permission to write there, or choose another [run] folder",
    errno.EPERM: "ask for the permission to write there, or choose another [run] folder",
    errno.EIO: "the device failed; look at the system log, and choose another file system",
}
FILE_MODE, FOLDER_MODE = 0o644, 0o755  # never writable for others, whatever the umask
_LEFTOVER = re.compile(r"^\.(?P<name>.+)\.(?P<pid>\d+)\.part$")


def replace(path: Path, pieces: Sequence[bytes | memoryview]) -> None:
    """Make `pieces`, one after the other, the content of `path`; as `replace_by`."""

    def fill(descriptor: int) -> None:
        for piece in pieces:
            write_all(descriptor, piece)

    replace_by(path, sum(memoryview(piece).nbytes for piece in pieces), fill)


def replace_by(path: Path, size: int, fill: Callable[[int], None]) -> None:
    """Make the `size` bytes that `fill` writes to a descriptor the content of `path`; after a crash, those or the old.

    MachineError (full disk, quota, limit of file sizes, read-only) names the file, why, and how many bytes were
    needed; the old content is then left whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    _survive_file_size_limit()
    try:
        clean_leftovers(path.parent, path.name)
        _write(temporary, size, fill)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise MachineError(explain(error, path, size)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_all(descriptor: int, piece: bytes | bytearray | memoryview) -> None:
    """Write a piece where the descriptor stands, however many calls that takes."""
    rest = memoryview(piece).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some network file systems know no fsync of a folder
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, that survive a power cut; MachineError when it cannot be made."""
    if folder.is_dir():
        return
    missing = [folder, *(one for one in folder.parents if not one.exists())]
    try:
        for one in reversed(missing):  # mkdir(parents=True) would give those above the umask's mode
            one.mkdir(FOLDER_MODE, exist_ok=True)
            sync_folder(one.parent)
    except OSError as error:
        raise MachineError(explain_folder(error, folder)) from error


def make_empty(path: Path) -> None:
    """Make an empty file, or empty the one that is there. Raises OSError: no permission, a symbolic link."""
    os.close(_open(path))


def clean_leftovers(folder: Path, name: str | None = None) -> None:
    """Delete the temporary files of killed processes, for one file name or for all of a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _LEFTOVER.match(entry.name)
            if match and name in (None, match["name"]) and not _runs(int(match["pid"])):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def explain(error: OSError, path: Path, size: int) -> str:
    """The sentence for a file that could not be written."""
    why = os.strerror(error.errno) if error.errno else str(error)
    advice = _ADVICE.get(error.errno or 0, "see whether the folder exists and can be written")
    return f"{path}: cannot be written: {why}; {size:,} bytes were needed{_free(path.parent)}. What to try: {advice}."


def explain_folder(error: OSError, folder: Path) -> str:
    """The sentence for a folder that could not be made or used."""
    why = os.strerror(error.errno) if error.errno else str(error)
    advice = _ADVICE.get(error.errno or 0, "choose another [run] folder")
    return f"{folder}: cannot be made or written in: {why}. What to try: {advice}."


def _write(temporary: Path, size: int, fill: Callable[[int], None]) -> None:
    descriptor = _open(temporary)
    try:
        _reserve(descriptor, size)
        fill(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """For writing. A name that was made a symbolic link is refused: it may lead to any file of this user."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


def _reserve(descriptor: int, size: int) -> None:
    """Learn of a full disk before anything is written."""
    if not hasattr(os, "posix_fallocate") or size == 0:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # not every file system can
            raise


def _survive_file_size_limit() -> None:
    """A write beyond RLIMIT_FSIZE shall be an error, not the end of the process."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGXFSZ) == signal.SIG_DFL:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _runs(pid: int) -> bool:
    if pid == os.getpid():
        return False  # a leftover of an earlier process with this number; the name is about to be written again
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _free(folder: Path) -> str:
    try:
        state = os.statvfs(folder)
    except OSError:
        return ""
    return f", {state.f_bavail * state.f_frsize:,} bytes are free there"
