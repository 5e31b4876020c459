"""Messages between the stages of one replica: receives posted ahead into buffers used again, sends that do not wait."""

import ctypes
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from app.parallel.group import Group
from app.parallel.memory import aligned

if TYPE_CHECKING:
    from mpi4py import MPI


class Message(NamedTuple):
    """What is sent: the stage it comes from or goes to, a tag, shape (M, ...) and type."""

    stage: int
    tag: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Receipt(NamedTuple):
    """A receive that was posted; `host` is the memory that MPI fills."""

    request: "MPI.Request"
    host: torch.Tensor


class Links:
    """Point-to-point messages of this rank with the other stages of its replica.

    Tensors on the CPU are sent from where they are. Those of an accelerator go through pinned host memory, unless MPI
    reads its memory itself. Messages with one tag between two stages arrive in the order in which they were sent.
    """

    def __init__(self, group: Group, device: torch.device) -> None:
        """group: the stages of one replica. Collective over: pipeline."""
        self._comm = group.comm.Dup()
        self._device = device
        self._direct = device.type == "cpu" or (device.type == "cuda" and cuda_aware())
        self._memory = _Memory(device)
        self._sends: deque[tuple[MPI.Request, torch.Tensor]] = deque()

    def post(self, message: Message) -> Receipt:
        """Begin to receive. Collective over: none."""
        host = self._memory.take(message.shape, message.dtype, on_device=self._direct)
        return Receipt(self._comm.Irecv(_buffer(host), message.stage, message.tag), host)

    def arrived(self, receipt: Receipt) -> bool:
        """Whether the message is there; also lets MPI go on with whatever is under way. Collective over: none."""
        return receipt.request.Test()

    def take(self, receipt: Receipt) -> torch.Tensor:
        """The message, on the device, waiting for it. Its memory is used again once nothing looks at it."""
        receipt.request.Wait()
        return receipt.host if self._direct else receipt.host.to(self._device)

    def send(self, tensor: torch.Tensor, stage: int, tag: int) -> None:
        """Begin to send; the tensor must not be changed afterwards. Collective over: none."""
        self._forget_sent()
        source = tensor.detach().resolve_conj().resolve_neg().contiguous()
        if self._device.type != "cpu":
            if not self._direct:
                source = self._memory.take(tuple(source.shape), source.dtype, on_device=False).copy_(source)
            if torch.accelerator.is_available():  # of XLA torch knows no streams: its copies wait by themselves
                torch.accelerator.current_stream().synchronize()  # MPI does not know of streams
        self._sends.append((self._comm.Isend(_buffer(source), stage, tag), source))

    def finish(self) -> None:
        """Wait until everything sent has left. Collective over: none."""
        while self._sends:
            self._sends.popleft()[0].Wait()

    def close(self) -> None:
        """Collective over: pipeline."""
        self.finish()
        self._comm.Free()

    def _forget_sent(self) -> None:
        while self._sends and self._sends[0][0].Test():
            self._sends.popleft()


def cuda_aware() -> bool:
    """Whether this MPI library says that it takes CUDA memory (Open MPI, MPICH and Intel MPI can be asked).

    Collective over: none.
    """
    try:
        from mpi4py import MPI

        library = ctypes.CDLL(MPI.__file__)  # linked against the MPI library in use
        return bool(library.MPIX_Query_cuda_support())
    except (ImportError, OSError, AttributeError):
        return False


class _Memory:
    """Buffers by size; one is free again when no tensor looks at it any more."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pinned = device.type == "cuda"
        self._free: dict[int, list[np.ndarray]] = {}

    def take(self, shape: tuple[int, ...], dtype: torch.dtype, *, on_device: bool) -> torch.Tensor:
        """A tensor of any content."""
        if self._pinned or (on_device and self._device.type != "cpu"):  # torch keeps such memory for the next time
            place = self._device if on_device else "cpu"
            return torch.empty(shape, dtype=dtype, device=place, pin_memory=self._pinned and not on_device)
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        arrays = self._free.setdefault(size, [])
        # 2: the list and getrefcount's own argument
        array = next((arrays[n] for n in range(len(arrays)) if sys.getrefcount(arrays[n]) == 2), None)
        if array is None:
            array = aligned(size, np.uint8)
            arrays.append(array)
        return torch.from_numpy(array).view(dtype).view(shape)


def _buffer(tensor: torch.Tensor) -> Any:
    """The tensor's memory as bytes, for mpi4py."""
    if tensor.device.type == "cpu":
        return tensor.view(-1).view(torch.uint8).numpy() if tensor.numel() else np.empty(0, np.uint8)
    return tensor.view(-1).view(torch.uint8)
