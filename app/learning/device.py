"""What a rank asks of its host and its device while it computes: threads, memory, widths of layers."""

import ctypes
from collections.abc import Callable

import torch

# Of malloc.h: M_MMAP_THRESHOLD (the largest that glibc would choose), M_TRIM_THRESHOLD, M_TOP_PAD, in bytes.
_MALLOC = {-3: 32 << 20, -1: (1 << 31) - 1, -2: 64 << 20}


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


def multiple_of_widths(device: torch.device) -> int:
    """Channels that the device computes at once: layers whose widths are multiples of them waste nothing.

    16 on CPUs: oneDNN's blocks are 16 channels with AVX-512 and 8 with AVX2, where 16 is no slower; on GPUs 8, which
    tensor cores ask for.
    """
    return 16 if device.type == "cpu" else 8
