"""The energy that a device has taken, where the machine counts it: CPUs through RAPL, NVIDIA GPUs through NVML."""

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

POWERCAP = Path("/sys/class/powercap")
_MICRO, _MILLI = 1e-6, 1e-3  # joules


class Counter(NamedTuple):
    """`read` gives a number that grows with the energy taken; None: it cannot be read now.

    unit: joules. range: where the number starts again from 0; 0: never.
    """

    read: Callable[[], int | None]
    unit: float
    range: int


class Meter:
    """Joules from one reading to the next; nan where the machine does not tell. Collective over: none."""

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = counters
        self._before: list[int | None] = []

    def start(self) -> None:
        self._before = [counter.read() for counter in self._counters]

    def joules(self) -> float:
        """Since `start`; nan also where the counters have not moved, as those of GPUs do only every 0.1 s."""
        found = map(_joules, self._counters, self._before, [counter.read() for counter in self._counters])
        return math.fsum(found) or math.nan


def meter(device: torch.device) -> Meter:
    """Of what computes: all CPUs of this host with their memory, or this rank's GPU with its board.

    It counts for all programs there, and also while nothing is done.
    """
    return Meter(_nvml(device) if device.type == "cuda" else rapl() if device.type == "cpu" else [])


def rapl(folder: Path = POWERCAP) -> list[Counter]:
    """The processor packages and the memory beside each; none where one cannot be read (root alone may, as a rule).

    Source: Linux, Documentation/power/powercap/powercap.rst; AMD's processors come under the same names.
    """
    zones = [
        zone for zone in sorted(folder.glob("intel-rapl:*")) if _word(zone / "name").startswith(("package", "dram"))
    ]
    counters = [Counter(partial(_count, zone / "energy_uj"), _MICRO, _range(zone)) for zone in zones]
    return counters if all(counter.read() is not None for counter in counters) else []


def _joules(counter: Counter, before: int | None, after: int | None) -> float:
    if before is None or after is None:
        return math.nan
    passed = after - before
    if passed < 0:  # it has started again from 0
        passed = passed + counter.range if counter.range else 0
    return counter.unit * passed


def _range(zone: Path) -> int:
    return _count(zone / "max_energy_range_uj") or 0


def _count(file: Path) -> int | None:
    text = _word(file)
    return int(text) if text.isdigit() else None


def _word(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _nvml(device: torch.device) -> list[Counter]:
    """The board's counter; none where the driver has none (before Volta), or for a part of a GPU (MIG)."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        handle = ctypes.c_void_p()
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)):
            return []
    except (OSError, AttributeError, RuntimeError):
        return []
    counter = Counter(partial(_millijoules, library, handle), _MILLI, 0)
    return [] if counter.read() is None else [counter]


def _millijoules(library: Any, handle: ctypes.c_void_p) -> int | None:
    value = ctypes.c_ulonglong()
    return None if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value)) else value.value
