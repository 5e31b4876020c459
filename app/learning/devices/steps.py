"""Where a device that collects operations before it runs them is told to run them."""

import importlib
from collections.abc import Callable

import torch


def step_end(device: torch.device) -> None:
    """The end of a microbatch, or of the optimizer's step: what was collected runs now, as one graph.

    For XLA and Gaudi, whose graphs would grow over the whole run otherwise; nothing on others. Collective over: none.
    """
    run = _RUN.get(device.type)
    if run is not None:
        run()


def _xla() -> None:
    module = importlib.import_module("torch_xla")
    if hasattr(module, "sync"):
        module.sync()
    else:  # before 2.4
        importlib.import_module("torch_xla.core.xla_model").mark_step()


def _hpu() -> None:
    importlib.import_module("habana_frameworks.torch.core").mark_step()


_RUN: dict[str, Callable[[], None]] = {"xla": _xla, "hpu": _hpu}
