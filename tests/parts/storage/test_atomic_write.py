"""Replacing a file: what is left behind by others, and what it says when it cannot."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import MachineError
from app.storage import atomic_write


def dead_pid():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_pieces_follow_each_other(tmp_path):
    atomic_write.replace(tmp_path / "a", [b"one", memoryview(b"two"), b""])
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert os.listdir(tmp_path) == ["a"]


def test_the_order_that_survives_a_power_cut(tmp_path, monkeypatch):
    calls = []

    def note(name):
        real = getattr(os, name)

        def noted(first, *others):
            target = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else str(first)
            calls.append((name, Path(target).name))
            return real(first, *others)

        monkeypatch.setattr(os, name, noted)

    for name in ("posix_fallocate", "write", "fsync", "replace"):
        note(name)
    atomic_write.replace(tmp_path / "a", [b"content"])
    monkeypatch.undo()
    temporary = f".a.{os.getpid()}.part"
    assert calls == [
        *[(name, temporary) for name in ("posix_fallocate", "write", "fsync", "replace")],
        ("fsync", tmp_path.name),
    ]


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a").symlink_to(tmp_path / "precious")
    atomic_write.replace(tmp_path / "a", [b"new"])
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "a").read_text() == "new"


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_nothing_is_writable_for_others_whatever_the_umask(tmp_path, no_umask):
    atomic_write.make_folder(tmp_path / "a" / "b" / "c")
    atomic_write.replace(tmp_path / "a" / "b" / "file", [b"x"])
    atomic_write.make_empty(tmp_path / "a" / "empty")
    made = list((tmp_path / "a").rglob("*"))
    assert len(made) == 4
    assert not any(path.stat().st_mode & 0o022 for path in (tmp_path / "a", *made))


def test_a_temporary_name_that_is_a_link_is_refused(tmp_path):
    """Somebody else made it, for this user to write over what it leads to."""
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / f".a.{os.getpid()}.part").symlink_to(tmp_path / "precious")
    # as a leftover of a process with this number it is taken away first
    atomic_write.replace(tmp_path / "a", [b"new"])
    assert (tmp_path / "precious").read_bytes() == b"mine"
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        atomic_write.make_empty(tmp_path / "link")
    assert (tmp_path / "precious").read_bytes() == b"mine"


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    dead, alive = dead_pid(), os.getppid()
    names = [f".a.h5.{dead}.part", f".a.h5.{alive}.part", f".b.h5.{dead}.part", ".a.h5.part", "a.h5.1.part"]
    for name in names:
        (tmp_path / name).write_text("half")
    atomic_write.replace(tmp_path / "a.h5", [b"whole"])
    assert sorted(os.listdir(tmp_path)) == sorted([*names[1:], "a.h5"])
    atomic_write.clean_leftovers(tmp_path)
    assert f".b.h5.{dead}.part" not in os.listdir(tmp_path)


def test_what_goes_wrong_while_it_is_filled_leaves_the_older_file(tmp_path):
    (tmp_path / "a").write_text("older")

    def fill(descriptor):
        atomic_write.write_all(descriptor, b"half")
        raise RuntimeError("the rest is gone")

    with pytest.raises(RuntimeError, match="the rest is gone"):
        atomic_write.replace_by(tmp_path / "a", 8, fill)
    assert (tmp_path / "a").read_text() == "older"
    assert os.listdir(tmp_path) == ["a"]


def test_a_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(MachineError, match=r"none/a: cannot be written: No such file.*3 bytes were needed"):
        atomic_write.replace(tmp_path / "none" / "a", [b"abc"])


@pytest.mark.parametrize(
    ("number", "why", "advice"),
    [
        (errno.ENOSPC, "No space left on device", "free space"),
        (errno.EDQUOT, "Disk quota exceeded", "quota"),
        (errno.EFBIG, "File too large", "ulimit -f"),
        (errno.EROFS, "Read-only file system", "read-only"),
        (errno.EACCES, "Permission denied", "permission"),
        (errno.EIO, "Input/output error", "device"),
    ],
)
@pytest.mark.parametrize("call", ["posix_fallocate", "write", "fsync", "replace"])
def test_each_failing_call_is_explained_and_leaves_the_older_file(tmp_path, monkeypatch, call, number, why, advice):
    path = tmp_path / "a.h5"
    path.write_text("older")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(MachineError) as caught:
        atomic_write.replace(path, [b"x" * 12345])
    monkeypatch.undo()
    text = str(caught.value)
    assert all(words in text for words in (str(path), why, advice, "12,345 bytes were needed", "bytes are free there"))
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["a.h5"]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_reserves_nothing_is_fine(tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    atomic_write.replace(tmp_path / "a", [b"abc"])
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_short_writes_are_continued(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:7])))
    content = bytes(range(256)) * 3
    atomic_write.replace(tmp_path / "a", [content])
    assert (tmp_path / "a").read_bytes() == content


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="file/folder: cannot be made or written in: Not a directory"):
        atomic_write.make_folder(tmp_path / "file" / "folder")
