"""Samples on their way to the device: the next microbatch is copied while the one before is computed with."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

STREAMS = ("cuda", "xpu")  # kinds whose copies from pinned memory run beside what is computed


class Streams(NamedTuple):
    """What is needed of a device with streams of work. side: that of copies. current: gives the one that computes."""

    side: Any
    current: Callable[[], Any]
    use: Callable[[Any], AbstractContextManager]


class InputCopies:
    """Brings microbatches to a device in the order in which they are needed, one ahead on a stream of its own.

    Elsewhere than on devices with such streams each is brought when it is asked for. Collective over: none.
    """

    def __init__(self, device: torch.device, streams: Streams | None = None) -> None:
        """streams: of the device; None: found for it."""
        self._device = device
        self._streams = streams or streams_of(device)
        self._order: list[Tensor] = []
        self._moving: dict[int, tuple[Tensor, Any]] = {}  # by place in the order: on the device, and when it is there

    def begin(self, tensors: Sequence[Tensor | None]) -> None:
        """What a batch needs, in this order; the first is on its way when this returns."""
        self._moving.clear()
        self._order = [tensor for tensor in tensors if tensor is not None] if self._streams else []
        self._start(0)

    def take(self, tensor: Tensor) -> Tensor:
        """A tensor on the device; the one after it in the order starts. It may be taken again."""
        place = next((n for n, one in enumerate(self._order) if one is tensor), None)
        if place is None or self._streams is None:
            return tensor.to(self._device, non_blocking=True)
        self._start(place)
        moved, event = self._moving.pop(place)
        now = self._streams.current()
        now.wait_event(event)
        moved.record_stream(now)  # its memory is used again only after what this stream does with it
        self._start(place + 1)
        return moved

    def _start(self, place: int) -> None:
        if self._streams is None or place >= len(self._order) or place in self._moving:
            return
        with self._streams.use(self._streams.side):
            moved = self._order[place].to(self._device, non_blocking=True)
            self._moving[place] = moved, self._streams.side.record_event()


def streams_of(device: torch.device) -> Streams | None:
    """A stream of a device for copies; None for kinds that have none."""
    if device.type not in STREAMS:
        return None
    module = torch.get_device_module(device.type)
    return Streams(module.Stream(device), lambda: module.current_stream(device), module.stream)
