"""Whether a person is looking, and how wide their terminal is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TextIO


def width(stream: TextIO) -> int:
    """Columns of the terminal that shows `stream`, 0 where none does.

    mpirun gives every rank a pseudo terminal of no size, also when its own output goes to a file: there the launcher's
    standard output decides.
    """
    try:
        if not stream.isatty():
            return 0
        own = os.get_terminal_size(stream.fileno()).columns
    except (AttributeError, OSError, ValueError):
        return 0
    return own or _launcher_width()


def coloured(stream: TextIO) -> bool:
    """Whether colours are welcome there (https://no-color.org)."""
    return width(stream) > 0 and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _launcher_width() -> int:
    with contextlib.suppress(OSError):
        target = Path(f"/proc/{os.getppid()}/fd/1").resolve()
        if target.is_relative_to("/dev/pts") or target.name.startswith("tty"):
            descriptor = os.open(target, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                return os.get_terminal_size(descriptor).columns
            finally:
                os.close(descriptor)
    return 0
