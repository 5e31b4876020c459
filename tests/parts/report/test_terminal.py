"""A terminal is what a person looks at: not a file, not a pipe, not the pseudo terminal of a launcher."""

import io
import os
import pty
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import pytest

from app.report import terminal

# As mpirun does: the rank's standard output is a pseudo terminal of no size, whatever the launcher's own is.
LAUNCHER = """
import os, pty, subprocess, sys
reader, writer = pty.openpty()
subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=writer, check=True)
"""
RANK = """
import sys
from app.report import terminal
open(sys.argv[1], "w").write(str(terminal.width(sys.stdout)))
"""


@pytest.fixture
def screen():
    """A terminal of 93 columns."""
    reader, writer = pty.openpty()
    ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 93, 0, 0))
    yield writer
    os.close(reader)
    os.close(writer)


def width_of_a_rank(launcher_output, tmp_path):
    command = [sys.executable, "-c", LAUNCHER, RANK, str(tmp_path / "width")]
    subprocess.run(command, stdout=launcher_output, check=True, timeout=60)
    return int((tmp_path / "width").read_text())


def test_a_terminal_has_its_columns(screen):
    with os.fdopen(os.dup(screen), "w") as stream:
        assert terminal.width(stream) == 93


def test_colours_only_where_they_are_welcome(screen, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(os.dup(screen), "w") as stream:
        assert terminal.coloured(stream)
        monkeypatch.setenv("TERM", "dumb")
        assert not terminal.coloured(stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")
        assert not terminal.coloured(stream)


def test_a_launcher_that_writes_to_a_file_or_pipe_is_no_terminal(tmp_path):
    with open(tmp_path / "slurm.out", "w") as file:
        assert width_of_a_rank(file, tmp_path) == 0
    assert width_of_a_rank(subprocess.DEVNULL, tmp_path) == 0


def test_a_launcher_on_a_terminal_is_one(tmp_path, screen):
    assert width_of_a_rank(screen, tmp_path) == 93


def test_neither_files_nor_pipes_nor_odd_streams(tmp_path):
    with open(tmp_path / "a", "w") as file:
        assert terminal.width(file) == 0
        assert not terminal.coloured(file)
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe:
        assert terminal.width(pipe) == 0
    os.close(reader)
    closed = io.StringIO()
    closed.close()
    for odd in (io.StringIO(), None, closed):
        assert terminal.width(odd) == 0
