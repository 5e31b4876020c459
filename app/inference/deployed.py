"""A network in one piece with what makes its inputs of stored samples, as it is exported."""

import copy
import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import numpy as np
import torch
from torch import Tensor, nn

from app.data.signature import Signature
from app.errors import InputError
from app.inference.comparing import Answer
from app.inference.real_circuits import in_real_numbers_
from app.learning.device import out_of_memory
from app.networks.quantum import QuantumLayer
from app.report.log import escaped

EXAMPLE = 4  # samples that a network is followed with; 0 and 1 would be taken for the only ones
_NOISY = (
    "root",
    "onnx_ir",
    "onnxscript",
    "torch.export",
    "torch.fx.experimental.symbolic_shapes",
    "torch.onnx",
    "torch.onnx._internal.exporter._registration",
)


class Deployed(nn.Module):
    """Samples as stored (B, *stored_shape), float32 or int64 for tokens -> (B, ...) logits or values float32.

    Layout, added channel and standardisation are inside; quantum layers are in real numbers. Shares the network's
    weights, and leaves it as it is.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, network: nn.Module, signature: Signature) -> None:
        super().__init__()
        transform = signature.transform
        dims = len(signature.stored_shape)
        self.channels_last = transform.layout == "channels_last" and dims > 1
        self.add_channel = transform.add_channel and dims == 2
        scale = shift = None
        if transform.statistics is not None and not transform.tokens:
            mean, std = (np.asarray(one, np.float64) for one in (transform.statistics.mean, transform.statistics.std))
            std = np.where(std == 0, 1.0, std)
            scale, shift = (torch.from_numpy(one.astype(np.float32)) for one in (1 / std, -mean / std))
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.network = network
        if any(isinstance(part, QuantumLayer) for part in network.modules()):
            self.network = copy.deepcopy(network, {id(one): one for one in network.parameters()})
            in_real_numbers_(self.network)
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        if self.scale is not None and self.shift is not None:
            inputs = inputs * self.scale + self.shift
        if self.channels_last:
            inputs = inputs.movedim(-1, 1)
        if self.add_channel:
            inputs = inputs.unsqueeze(1)
        return self.network(inputs)


def answer_of(network: nn.Module, signature: Signature) -> Answer:
    """The network's own outputs, as the training's code gives them. Collective over: none."""

    def answer(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            # The rows are copied, since the transform may use them up.
            return network(signature.transform.inputs_(np.array(rows))).float().numpy()

    return answer


def program_of(deployed: Deployed, signature: Signature) -> torch.export.ExportedProgram:
    """The network's operations one by one, for any number of samples. Collective over: none. Raises InputError."""
    shape = (EXAMPLE, *signature.stored_shape)
    example = torch.zeros(shape, dtype=torch.int64 if signature.transform.tokens else torch.float32)
    batch = torch.export.Dim("batch", max=1 << 20)
    try:
        # It prints what it has understood so far.
        with torch.no_grad(), quietly(), redirect_stderr(_OtherThreads()):
            program = torch.export.export(deployed, (example,), dynamic_shapes={"inputs": {0: batch}})
    except Exception as error:  # whatever a user's network does may fail here in its own way
        if out_of_memory(error):
            raise
        raise InputError(_reason(error)) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


def _reason(error: Exception) -> str:
    if "Constraints violated" in str(error):
        return (
            "torch.export cannot follow this network for any number of samples, because its forward takes that for a"
            ' fixed number. What to try: x.shape[0] in place of len(x), or formats = ["weights"].'
        )
    return (
        f"torch.export cannot follow this network: {first_line(error)}. What to try: a forward that does not depend on"
        ' values by if or float(), or formats = ["weights"].'
    )


class _OtherThreads(io.TextIOBase):
    """The standard error output of all threads but this one."""

    def __init__(self) -> None:
        self._real, self._own = sys.stderr, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._own else self._real.write(text)

    def flush(self) -> None:
        self._real.flush()


@contextmanager
def quietly() -> Iterator[None]:
    """Inside, the exporters keep to themselves what they would advise their own developers."""
    noisy = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in noisy]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in noisy:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)


def first_line(error: BaseException) -> str:
    """What an exception says first, for a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = escaped(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
    return (text if len(text) <= 300 else f"{text[:297]}...").rstrip(".:")
