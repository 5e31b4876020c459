"""How long this process has been there."""

import os
import time
from pathlib import Path

_IMPORTED = time.monotonic()


def age_s() -> float:
    """Seconds since this process was started, to 0.01 s; where /proc does not say it, since this module was imported.

    Collective over: none. Source: proc(5), field 22 of /proc/self/stat, in clock ticks after boot.
    """
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED
