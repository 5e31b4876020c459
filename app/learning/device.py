"""Which device a rank computes on, with how many threads, in which precision."""

from typing import NamedTuple

import torch

from app.errors import MachineError


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


def supports_bf16(device: torch.device) -> bool:
    """Whether bf16 autocast works and is worth having: any CPU that torch runs on, and accelerators that say so."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type in ("cpu", "xpu")
