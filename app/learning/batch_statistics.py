"""Running statistics of batch normalisation that do not depend on the grid.

Each microbatch is normalised by its own statistics; the running ones move once per optimizer step, by the mean of the
statistics of the batch's microbatches over all replicas.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase


@torch.no_grad()
def needs_two_samples(network: nn.Module, sample: Tensor) -> list[str]:
    """Names of the batch-norm layers that get one value a channel from one sample, of which there are no statistics.

    `sample` is a batch of one, (1, ...). The network is left as it was. Collective over: none.
    """
    found: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].numel() == inputs[0].shape[1] and name not in found:
                found.append(name)

        return look

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, _BatchNorm)]
    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers]
    training = network.training
    try:
        if layers:
            network.eval()(sample)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def recalibrate_(network: nn.Module, play: Callable[[], None], sum_: Callable[[np.ndarray], None]) -> None:
    """Take the running statistics anew: the mean over the microbatches that `play` sends through the network.

    After units were cut away what comes into a normalisation is distributed otherwise. sum_: adds a float64 array over
    the replicas, in place. The network is left in evaluation mode. Collective over: data, through `sum_`.
    Source: Li et al., EagleEye, ECCV 2020.
    """
    network.eval()
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all microbatches
        layer.train()
    play()
    for layer, momentum in zip(layers, momenta, strict=True):
        count = float(_there(layer.num_batches_tracked))
        buffers = [_there(layer.running_mean), _there(layer.running_var)]
        sums = np.concatenate([[count], *(buffer.double().cpu().numpy() * count for buffer in buffers)])
        sum_(sums)
        for buffer, mean in zip(buffers, np.split(sums[1:] / sums[0], 2), strict=True):
            buffer.copy_(torch.from_numpy(mean))
        _there(layer.num_batches_tracked).fill_(int(sums[0]))
        layer.momentum = momentum
        layer.eval()


class BatchStatistics:
    """Collects the statistics of microbatches in a network whose running ones are kept by its normalisation layers.

    While this is in charge the layers have momentum 1, so that after a forward pass in training mode their running
    statistics are those of the microbatch. Between `apply_` and the next forward pass they hold the proper values.
    Without such layers everything here does nothing.
    """

    def __init__(self, network: nn.Module) -> None:
        # Batch norm, and instance norm that tracks: both keep running statistics in the same way.
        self._layers = [m for m in network.modules() if isinstance(m, _NormBase) and m.running_mean is not None]
        self._momenta = [layer.momentum for layer in self._layers]
        self._buffers = [_there(one) for layer in self._layers for one in (layer.running_mean, layer.running_var)]
        sizes = [buffer.numel() for buffer in self._buffers]
        # One flat tensor: a single small all-reduce. The last element counts the microbatches.
        self._sums = torch.zeros(sum(sizes) + 1, device=self._buffers[0].device if sizes else None)
        views = self._sums[:-1].split(sizes)
        self._views = [view.view_as(buffer) for view, buffer in zip(views, self._buffers, strict=True)]
        self.restart_()
        for layer in self._layers:
            layer.momentum = 1.0

    def restart_(self) -> None:
        """Take the running statistics from the layers: call this after weights are loaded into the network."""
        self._running = [buffer.clone() for buffer in self._buffers]
        self._counters = [_there(layer.num_batches_tracked) for layer in self._layers]
        self._steps = [int(counter) for counter in self._counters]
        self._sums.zero_()

    @torch.no_grad()
    def collect_(self) -> None:
        """Add the statistics of the microbatch whose forward pass was the last. Collective over: none."""
        if self._layers:
            torch._foreach_add_(self._views, self._buffers)
            self._sums[-1] += 1

    def tensors(self) -> list[Tensor]:
        """What replicas add up before `apply_`: nothing, or one flat float32 tensor. Its memory is used again."""
        return [self._sums] if self._layers else []

    @torch.no_grad()
    def apply_(self) -> None:
        """Move the running statistics by the collected sums, put them into the layers, and start anew.

        running = (1 - momentum) * running + momentum * mean; momentum None is the mean over all steps, as in torch.
        Collective over: none.
        """
        if not self._layers:
            return
        count = self._sums[-1].clone()
        moved = float(count) > 0
        for number, momentum in enumerate(self._momenta):
            self._steps[number] += moved
            self._counters[number].fill_(self._steps[number])
            weight = 1 / max(self._steps[number], 1) if momentum is None else momentum
            for place in (2 * number, 2 * number + 1):
                if moved:
                    self._running[place].lerp_(self._views[place] / count, weight)
                self._buffers[place].copy_(self._running[place])
        self._sums.zero_()

    @torch.no_grad()
    def discard_(self) -> None:
        """Forget what was collected; the layers get the proper values back. Collective over: none."""
        for buffer, proper in zip(self._buffers, self._running, strict=True):
            buffer.copy_(proper)
        self._sums.zero_()

    def close_(self) -> None:
        """Give the layers their own momentum back."""
        for layer, momentum in zip(self._layers, self._momenta, strict=True):
            layer.momentum = momentum


def _there(buffer: Tensor | None) -> Tensor:
    """A buffer of a layer that tracks; torch's types allow None for those that do not."""
    assert buffer is not None
    return buffer
