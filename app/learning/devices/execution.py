"""How the chunks of a rank are executed on its device: as they are, in another order of memory, compiled."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from app.learning.devices import compiling, layout

MemoryFormat = Literal["auto", "contiguous", "channels_last"]


class Execution(NamedTuple):
    """channels_last: the chunks whose images are reordered. compiled: by torch. graphs: replayed as CUDA graphs."""

    channels_last: frozenset[int] = frozenset()
    compiled: bool = False
    graphs: bool = False

    def of(self, number: int, chunk: nn.Sequential) -> Callable[[Tensor], Tensor]:
        """What computes the outputs of a chunk."""
        run = compiling.Compiled(chunk, graphs=self.graphs) if self.compiled else chunk
        if number not in self.channels_last:
            return run
        return lambda inputs: run(layout.channels_last(inputs))


PLAIN = Execution()


def choose_execution(
    chunks: Mapping[int, nn.Module],
    device: torch.device,
    *,
    precision: str,
    memory_format: MemoryFormat,
    compile: bool,
    graphs: bool,
    stages: int,
) -> Execution:
    """What the input file asks for, as far as the device has it. Collective over: none.

    Graphs are replayed with one stage alone: between stages the host moves what goes from one to the next.
    """
    pays = memory_format == "auto" and layout.pays(device, precision)
    reordered = frozenset(
        number
        for number, chunk in chunks.items()
        if layout.convolves(chunk) and (memory_format == "channels_last" or (pays and layout.known(chunk)))
    )
    compiled = compile and not compiling.trouble(device)
    return Execution(reordered, compiled, compiled and graphs and device.type == "cuda" and stages == 1)
