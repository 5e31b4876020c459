"""Progress: a timed line of the log, or a bar on a terminal; the last step is always said."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import pytest

from app.report import progress as module
from app.report.log import Log
from app.report.progress import Progress, clock, number


@pytest.fixture
def hands(monkeypatch):
    """A clock that goes on by hand."""

    class Hands:
        now = 100.0

        def __call__(self):
            return self.now

    hands = Hands()
    monkeypatch.setattr(module, "perf_counter", hands)
    return hands


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.log"


def texts(path):
    return [line[28:] for line in path.read_text().splitlines()] if path.exists() else []


def test_lines_come_at_their_time_and_the_last_step_always(hands, path):
    with Progress(Log(path, console=False), "train teacher", steps=10, epochs=2, every_s=5.0) as progress:
        for epoch in range(2):
            for step in range(10):
                hands.now += 1
                progress.update(epoch, step, 64, 1 / (1 + step))
    assert texts(path) == [
        "train teacher epoch 1/2 step 5/10  64 samples/s  loss 0.2  ETA 00:15",
        "train teacher epoch 1/2 step 10/10  64 samples/s  loss 0.1  ETA 00:10",
        "train teacher epoch 2/2 step 5/10  64 samples/s  loss 0.2  ETA 00:05",
        "train teacher epoch 2/2 step 10/10  64 samples/s  loss 0.1  ETA 00:00",
    ]


def test_a_quick_phase_says_its_last_step_once(hands, path):
    with Progress(Log(path, console=False), "evaluate teacher", steps=3) as progress:
        for step in range(3):
            hands.now += 0.001
            progress.update(0, step, 100)
    progress.close()
    assert texts(path) == ["evaluate teacher step 3/3  100,000 samples/s  ETA 00:00"]


def test_an_early_end_says_where(hands, path):
    def stopped_run():
        with Progress(Log(path, console=False), "train a", steps=5, epochs=9) as progress:
            hands.now += 1
            progress.update(0, 0, 64, 0.5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stopped_run()
    assert texts(path) == ["train a epoch 1/9 step 1/5  64 samples/s  loss 0.5  ETA 00:44"]


def test_a_phase_without_steps_says_nothing(path):
    with Progress(Log(path, console=False), "train a", steps=0):
        pass
    assert texts(path) == []


def test_after_a_restart_the_time_left_counts_the_steps_of_this_run(hands, path):
    with Progress(Log(path, console=False), "train a", steps=10, epochs=10, done=90) as progress:
        hands.now += 2
        progress.update(9, 0, 64)
    assert texts(path)[0].endswith("ETA 00:18")


def test_a_loss_that_is_a_function_is_called_only_to_be_said(hands, path):
    calls = []

    def loss():
        calls.append(1)
        return 0.5

    with Progress(Log(path, console=False), "train a", steps=100, every_s=10.0) as progress:
        for step in range(100):
            hands.now += 0.01
            progress.update(0, step, 64, loss)
    assert len(calls) == 1
    assert "loss 0.5" in texts(path)[0]


def test_other_ranks_say_nothing(hands, path, capsys):
    def loss():
        raise AssertionError("a rank that says nothing shall not wait for its loss")

    with Progress(Log(path, rank=1), "train a", steps=2, every_s=1.0) as progress:
        hands.now += 60
        progress.update(0, 0, 64, loss)
    assert texts(path) == []
    assert capsys.readouterr().out == ""


PROGRAM = """
import sys, time
from pathlib import Path
from app.report.log import Log
from app.report.progress import Progress
log = Log(Path(sys.argv[1]))
with Progress(log, "train [bold]teacher", steps=3, epochs=2, every_s=0.0) as progress:
    for epoch in range(2):
        for step in range(3):
            progress.update(epoch, step, 64, 0.25)
        log.info(f"epoch {epoch} ended")
log.info("rich was " + ("used" if "rich" in sys.modules else "not loaded"))
"""


def test_a_bar_on_a_terminal_and_lines_in_the_file(path):
    reader, writer = pty.openpty()
    ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    environment = os.environ | {"TERM": "xterm"}
    subprocess.run([sys.executable, "-c", PROGRAM, path], stdout=writer, check=True, timeout=60, env=environment)
    os.close(writer)
    shown = b""
    try:
        while part := os.read(reader, 65536):
            shown += part
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(reader)
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "━" in screen
    assert "train [bold]teacher" in screen
    assert screen.count("epoch 0 ended") == 1
    assert "rich was used" in screen
    assert "epoch 2/2 step 3/3" in screen.splitlines()[-2]
    said = texts(path)
    assert said[0].startswith("train [bold]teacher epoch 1/2 step 1/3")
    assert said.count("epoch 1 ended") == 1
    assert "\x1b" not in path.read_text()


def test_rich_is_not_loaded_without_a_terminal(path):
    out = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=True, timeout=60)
    assert "rich was not loaded" in out.stdout
    assert "\x1b" not in out.stdout
    assert out.stdout == path.read_text()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00"), (12.4, "00:12"), (59.9, "01:00"), (3723, "1:02:03"), (2 * 86400 + 3723, "2d 01:02:03")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (12.34, "12.3"), (0.01234, "0.0123"), (0, "0")])
def test_number(value, text):
    assert number(value) == text
