"""The log of a run: `2026-11-22 15:04:05 info    text` on the console and in run.log."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TextIO

from app.report import terminal

_COLOURS = {"debug": "2", "warning": "33", "error": "1;31"}
_INDENT = " " * len("2026-11-22 15:04:05 warning ")
# Direction marks can make a line read as something else; U+2028 and U+2029 break lines in some viewers.
_HIDDEN = set("\u2028\u2029\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Log:
    """Writes lines on rank 0: to the console, and to the file at `path` (appended, whole lines).

    A text of several lines stays one block, aligned under its first line. Control characters come out escaped. When
    the file cannot be written the console says so once and the run goes on. Any thread may call.
    """

    def __init__(self, path: Path | None, *, rank: int = 0, console: bool = True, verbose: bool = False) -> None:
        self.path, self.rank, self.console, self.verbose = path, rank, console, verbose
        self._lock = threading.Lock()
        self._file: int | None = None
        self._failed = False
        self._torn = False

    def debug(self, text: str) -> None:
        """A line for `-v`."""
        if self.verbose and self.rank == 0:
            self._say("debug", text)

    def info(self, text: str) -> None:
        """A line on what happens."""
        if self.rank == 0:
            self._say("info", text)

    def note(self, text: str) -> None:
        """A line for the file alone, where the console shows the same in another way."""
        if self.rank == 0:
            with self._locked():
                self._append(block("info", text))

    def warn(self, text: str) -> None:
        """A line on what the user may want to change."""
        if self.rank == 0:
            self._say("warning", text)

    def error(self, text: str) -> None:
        """A line on what ends the run."""
        if self.rank == 0:
            self._say("error", text)

    def error_here(self, text: str) -> None:
        """A line of this rank, whichever it is: names the rank and goes to stderr; on rank 0 to the file as well."""
        lines = block("error", f"rank {self.rank}: {text}")
        with self._locked():
            _print(lines, "error", sys.stderr)
            if self.rank == 0:
                self._append(lines)

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        with self._locked():
            if self._file is not None:
                with contextlib.suppress(OSError):
                    os.close(self._file)
                self._file = None

    def _say(self, level: str, text: str) -> None:
        lines = block(level, text)
        with self._locked():
            if self.console:
                _print(lines, level, sys.stdout)
            self._append(lines)

    def _append(self, lines: str) -> None:
        if self.path is None:
            return
        data = lines.encode("utf-8", "backslashreplace") + b"\n"
        try:
            if self._file is None:
                self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
                size = os.fstat(self._file).st_size
                self._torn = self._torn or (size > 0 and os.pread(self._file, 1, size - 1) != b"\n")
            # A line that a full disk or a kill cut short is ended before the next one.
            rest = memoryview(b"\n" + data if self._torn else data)
            while rest:
                count = os.write(self._file, rest)
                self._torn = rest[count - 1] != ord("\n")
                rest = rest[count:]
        except OSError as error:
            if not self._failed:
                self._failed = True
                why = f"{self.path}: cannot be written: {error.strerror}; the run goes on, lines may be missing there"
                _print(block("warning", why), "warning", sys.stdout)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # A watchdog must be heard even when the thread that holds the lock hangs in a write.
        held = self._lock.acquire(timeout=5)
        try:
            yield
        finally:
            if held:
                self._lock.release()


def block(level: str, text: str) -> str:
    """A text as lines of the log, without the last line break."""
    now = datetime.now().isoformat(" ", "seconds")
    first, *others = (escaped(line) for line in text.expandtabs(4).rstrip("\n").split("\n"))
    return "\n".join([f"{now} {level:<7} {first}", *((_INDENT + line).rstrip() for line in others)])


def escaped(line: str) -> str:
    """A line in which no character moves the cursor, rings, colours, or hides."""
    if line.isascii() and line.isprintable():
        return line
    return "".join(_visible(character) for character in line)


def _visible(character: str) -> str:
    if character in _HIDDEN or unicodedata.category(character) in ("Cc", "Cs"):
        return character.encode("unicode_escape").decode()
    return character


def _print(lines: str, level: str, stream: TextIO) -> None:
    if level in _COLOURS and terminal.coloured(stream):
        start = len("2026-11-22 15:04:05 ")
        stop = start + len(level)
        lines = f"{lines[:start]}\x1b[{_COLOURS[level]}m{lines[start:stop]}\x1b[0m{lines[stop:]}"
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # A console that is gone (closed pipe, full disk under a batch job's output) does not end a run.
    with contextlib.suppress(OSError, ValueError):
        stream.write(lines.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
