"""Which device a rank computes on, with how many threads, in which precision."""

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from app.errors import MachineError
from app.report.finding import Finding

# Of malloc.h: M_MMAP_THRESHOLD (the largest that glibc would choose), M_TRIM_THRESHOLD, M_TOP_PAD, in bytes.
_MALLOC = {-3: 32 << 20, -1: (1 << 31) - 1, -2: 64 << 20}


class Device(NamedTuple):
    """A rank's device and why it is that one."""

    device: torch.device
    reason: str

    @property
    def name(self) -> str:
        """The device in words: "cpu" or "cuda:0 (NVIDIA H100)"."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        return str(self.device)


def choose_device(wanted: str, precision: str, local_rank: int) -> Device:
    """`wanted` is "auto" or a device type; ranks of a host take its devices in turn.

    Raises MachineError when a named device is not there, or does not compute in `precision`.
    """
    chosen = _choose(wanted, local_rank)
    if precision == "bf16" and not supports_bf16(chosen.device):
        raise MachineError(f'[run] precision = "bf16", but {chosen.name} does not compute in it; say "float32".')
    return chosen


def _choose(wanted: str, local_rank: int) -> Device:
    if wanted == "cpu":
        return Device(torch.device("cpu"), "asked for")
    if not torch.accelerator.is_available():
        if wanted == "auto":
            return Device(torch.device("cpu"), "torch sees no accelerator")
        raise MachineError(
            f'[run] device = "{wanted}", but this torch ({torch.__version__}) sees no accelerator;'
            ' say "cpu" or "auto", or install a torch built for it.'
        )
    accelerator = torch.accelerator.current_accelerator()
    assert accelerator is not None  # there is one, as asked above
    kind = accelerator.type
    if wanted not in ("auto", kind):
        raise MachineError(f'[run] device = "{wanted}", but the accelerator here is "{kind}"; say "{kind}" or "auto".')
    count = torch.accelerator.device_count()
    device = torch.device(kind, local_rank % count)
    torch.accelerator.set_device_index(device.index)
    return Device(device, f"{count} {kind} device{'s' if count > 1 else ''} on this host")


def set_threads(threads: int) -> int:
    """Threads of this rank's torch; the number in force. Never left to luck: it changes the last bits of sums."""
    torch.set_num_threads(threads)
    return torch.get_num_threads()


def keep_freed_memory() -> None:
    """Let this process use freed memory again instead of giving it back: every step allocates the same tensors.

    By itself glibc gives back what is free at the end of its heap, and the kernel clears every page that comes again.
    Does nothing without glibc. Collective over: none.
    """
    mallopt = _of_libc("mallopt")
    for parameter, size in _MALLOC.items():
        mallopt(parameter, size)


def give_freed_memory_back() -> None:
    """Between phases, which allocate other tensors. Does nothing without glibc. Collective over: none."""
    _of_libc("malloc_trim")(0)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that there was no memory left, on the host or on the device."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _of_libc(name: str) -> Callable[..., object]:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return lambda *_: None


def supports_bf16(device: torch.device) -> bool:
    """Whether bf16 autocast works and is worth having: any CPU that torch runs on, and accelerators that say so."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type in ("cpu", "xpu")


def multiple_of_widths(device: torch.device) -> int:
    """Channels that the device computes at once: layers whose widths are multiples of them waste nothing.

    16 on CPUs: oneDNN's blocks are 16 channels with AVX-512 and 8 with AVX2, where 16 is no slower; on GPUs 8, which
    tensor cores ask for.
    """
    return 16 if device.type == "cpu" else 8


def examine() -> list[Finding]:
    """Torch, its accelerators and bf16, for `phalanx doctor`. Collective over: none."""
    found = [Finding("torch", f"{torch.__version__}, {torch.get_num_threads()} threads in this process")]
    if torch.accelerator.is_available():
        kind, count = torch.accelerator.current_accelerator(), torch.accelerator.device_count()
        first = _choose("auto", 0)
        bf16 = "bf16" if supports_bf16(first.device) else "no bf16"
        return [*found, Finding("accelerators", f"{count} x {kind.type if kind else '?'}: {first.name}, {bf16}")]
    if shutil.which("nvidia-smi") or Path("/dev/kfd").exists():
        advice = 'this machine seems to have a GPU: install the torch built for it (pytorch.org), or say device = "cpu"'
        return [*found, Finding("accelerators", "torch sees none", advice), _cpu_bf16()]
    return [*found, Finding("accelerators", "none: ranks compute on the CPU"), _cpu_bf16()]


def _cpu_bf16() -> Finding:
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        words = set()
    native = sorted(words & {"avx512_bf16", "amx_bf16", "bf16"})
    capability = torch.backends.cpu.get_cpu_capability()
    if native:
        return Finding("bf16", f"computed by the CPU ({', '.join(native)}; torch uses {capability})")
    return Finding(
        "bf16", f"works, but this CPU has no instructions for it (torch uses {capability}): slower than float32"
    )
