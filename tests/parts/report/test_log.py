"""What the log looks like, and that it never ends a run."""

import io
import os
import re
import stat
import sys
import threading

import pytest

from app.report import terminal
from app.report.log import Log, block

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.log"


def test_a_line_on_the_console_and_in_the_file(path, capsys):
    log = Log(path)
    log.info("begun")
    log.warn("slow")
    log.error("gone")
    shown = capsys.readouterr().out
    assert re.fullmatch(f"{TIME} info    begun\n{TIME} warning slow\n{TIME} error   gone\n", shown)
    assert path.read_text() == shown


def test_each_line_is_in_the_file_at_once_and_restarts_append(path):
    Log(path, console=False).info("first")
    assert path.read_text().endswith("first\n")
    Log(path, console=False).info("second")
    assert len(path.read_text().splitlines()) == 2


def test_debug_lines_need_verbose(path, capsys):
    Log(path).debug("hidden")
    Log(path, verbose=True).debug("shown")
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["shown"]


def test_a_note_goes_to_the_file_alone(path, capsys):
    Log(path).note("step 3")
    assert capsys.readouterr().out == ""
    assert path.read_text().endswith("info    step 3\n")


def test_only_rank_0_writes(path, capsys):
    log = Log(path, rank=1, verbose=True)
    for say in (log.debug, log.info, log.note, log.warn, log.error):
        say("text")
    assert capsys.readouterr() == ("", "")
    assert not path.exists()


def test_an_error_of_any_rank_names_it(path, capsys):
    Log(path, rank=3).error_here("lost\nTraceback")
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"{TIME} error   rank 3: lost\n {{28}}Traceback\n", err)
    assert not path.exists()
    Log(path, rank=0).error_here("lost")
    assert "rank 0: lost" in path.read_text()


def test_blocks_are_aligned(path):
    Log(path, console=False).info("phases\n  a  1\n\n  b  2\n")
    first, *others = path.read_text().splitlines()
    start = first.index("phases")
    assert others == [" " * start + "  a  1", "", " " * start + "  b  2"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\rb\bc\x07", r"a\rb\x08c\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("user\u202egpj.exe", r"user\u202egpj.exe"),
        ("a\u2028b\x85c\x0bd", r"a\u2028b\x85c\x0bd"),
        ("bad \ud800", r"bad \ud800"),
        ("a\tb", "a   b"),
        ("Größe 東京 \N{DEGREE SIGN}C", "Größe 東京 °C"),
    ],
)
def test_no_character_moves_the_cursor_or_hides(path, text, shown):
    Log(path, console=False).info(text)
    assert path.read_text().splitlines()[0].endswith(f"info    {shown}")
    assert len(path.read_text().splitlines()) == 1


def test_a_text_cannot_forge_a_line(path):
    Log(path, console=False).info("file a\n2026-01-01 00:00:00 info    all is well")
    assert not any(line.startswith("2026-01-01") for line in path.read_text().splitlines())


def test_a_console_without_the_letters(monkeypatch, path):
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", console)
    Log(path).info("Größe")
    assert console.buffer.getvalue().endswith(rb"Gr\xf6\xdfe" + b"\n")
    assert path.read_text().endswith("Größe\n")


class Terminal(io.StringIO):
    encoding = "utf-8"


@pytest.mark.parametrize(("variable", "coloured"), [(None, True), ("NO_COLOR", False), ("TERM", False)])
def test_colour_only_on_a_terminal(monkeypatch, path, variable, coloured):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "dumb")
    monkeypatch.setattr(terminal, "width", lambda stream: 80 if isinstance(stream, Terminal) else 0)
    monkeypatch.setattr(sys, "stdout", Terminal())
    Log(path).warn("slow")
    assert ("\x1b[33mwarning\x1b[0m slow" in sys.stdout.getvalue()) is coloured
    assert "\x1b" not in path.read_text()


def test_a_file_that_cannot_be_opened_is_said_once(tmp_path, capsys):
    log = Log(tmp_path / "none" / "run.log")
    log.info("one")
    log.info("two")
    shown = capsys.readouterr().out
    assert shown.count("cannot be written: No such file") == 1
    assert "one" in shown
    assert "two" in shown


def test_a_full_disk_is_said_once_and_a_torn_line_is_ended(path, capsys, monkeypatch):
    log = Log(path)
    log.info("one")
    real = os.write
    room = [10]

    def full(descriptor, data):
        if descriptor <= 2:
            return real(descriptor, data)
        if room[0] == 0:
            raise OSError(28, "No space left on device")
        part, room[0] = data[: room[0]], max(0, room[0] - len(data))
        return real(descriptor, part)

    monkeypatch.setattr(os, "write", full)
    log.info("two")
    log.info("three")
    monkeypatch.undo()
    log.info("four")
    assert capsys.readouterr().out.count("No space left on device") == 1
    lines = path.read_text().splitlines()
    assert [lines[0][28:], lines[-1][28:]] == ["one", "four"]
    assert len(lines) == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device /dev/full of Linux")
def test_a_console_that_is_full_does_not_end_a_run(path, monkeypatch):
    with open("/dev/full", "w") as console:
        monkeypatch.setattr(sys, "stdout", console)
        Log(path).info("begun")
        monkeypatch.undo()
        assert path.read_text().endswith("begun\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), console.fileno())


def test_a_closed_pipe_does_not_end_a_run(path, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    console = open(writer, "w")  # noqa: SIM115  closing it fails, which is the point
    monkeypatch.setattr(sys, "stdout", console)
    Log(path).info("begun")
    monkeypatch.undo()
    assert path.read_text().endswith("begun\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    console.close()


def test_threads_do_not_tear_lines(path):
    log = Log(path, console=False)
    threads = [threading.Thread(target=lambda: [log.info("x" * 500) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = path.read_text().splitlines()
    assert len(lines) == 200
    assert all(re.fullmatch(f"{TIME} info    x{{500}}", line) for line in lines)


def test_a_watchdog_is_heard_when_another_thread_hangs_in_the_log(path, monkeypatch):
    log = Log(path, console=False)
    monkeypatch.setattr(log, "_lock", StuckLock())
    log.error("rank 2 has not arrived")
    assert "rank 2" in path.read_text()


class StuckLock:
    def acquire(self, timeout=-1):
        assert timeout > 0
        return False


def test_the_first_line_is_recognised_by_the_run_folder():
    assert re.match(f"{TIME} (debug|info|warning|error) ", block("warning", "x"))


def test_a_line_that_a_kill_cut_short_is_ended(tmp_path):
    path = tmp_path / "run.log"
    path.write_text("2026-11-22 15:04:05 info    half a li")
    log = Log(path, console=False)
    log.info("the next start")
    log.close()
    log.info("and again")
    first, second, third = path.read_text().splitlines()
    assert first.endswith("half a li")
    assert second.endswith("the next start")
    assert third.endswith("and again")


def test_nobody_else_may_write_to_it(tmp_path):
    before = os.umask(0)
    try:
        Log(tmp_path / "run.log", console=False).info("a")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "run.log").st_mode) == 0o644
