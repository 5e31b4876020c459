"""Signals that ask a run to stop: noted at once, even while this rank waits inside MPI, and acted on between steps."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

ASK = (signal.SIGUSR1, signal.SIGTERM)  # what batch systems and mpirun send ahead of a kill


class Requests:
    """Takes SIGUSR1 and SIGTERM from now on; `asked` is the name of the first that came.

    Python runs a signal's handler only between its own instructions, and so not while a call of MPI waits. What
    arrives at the wake-up descriptor is read by a thread instead.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """tell: called with a signal's name, from another thread, each time one arrives. Main thread only."""
        self.asked: str | None = None
        self._tell = tell
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        for number in ASK:
            signal.signal(number, _left_to_the_thread)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def ignore(self) -> None:
        """From now on the signals do nothing. Main thread only."""
        signal.set_wakeup_fd(-1)
        for number in ASK:
            signal.signal(number, signal.SIG_IGN)
        os.close(self._write)  # the thread finds the end of its pipe

    def _listen(self) -> None:
        names = {int(number): number.name for number in ASK}
        while arrived := os.read(self._read, 64):
            for name in (names[number] for number in arrived if number in names):
                self.asked = self.asked or name
                self._tell(name)
        os.close(self._read)


def _left_to_the_thread(number: int, frame: object) -> None:
    """Does nothing; without a handler of Python's the signal would end the process."""


def to_stderr(line: str) -> None:
    """One line, in one write, past Python's own buffers, which another thread may hold."""
    if sys.__stderr__ is not None:
        with contextlib.suppress(OSError, ValueError):
            os.write(sys.__stderr__.fileno(), f"{line}\n".encode(errors="backslashreplace"))
