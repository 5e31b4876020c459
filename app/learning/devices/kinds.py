"""The kinds of devices that torch can compute on, and the plug-ins that bring those it does not know by itself."""

import importlib
import importlib.util
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from app.errors import MachineError

# A TPU process would take all chips of its host. Each of ours takes one, and gradients are summed over MPI.
ONE_CHIP = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}


class Kind(NamedTuple):
    """A kind of device. plugin: the module that brings it to torch; "": torch itself. install: what to install.

    shared: whether several processes can compute on one device. visible: variables by which the user picks devices.
    """

    chips: str
    plugin: str
    install: str
    shared: bool
    visible: tuple[str, ...]


KINDS = {
    "cuda": Kind(
        "NVIDIA or AMD GPU",
        "",
        "the torch built for CUDA or ROCm (pytorch.org) and the driver of the GPU",
        True,
        ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    ),
    "xpu": Kind(
        "Intel GPU", "", "the torch built for XPU (pytorch.org) and the driver of the GPU", True, ("ZE_AFFINITY_MASK",)
    ),
    "mps": Kind("Apple GPU", "", "macOS 14 or newer on Apple silicon, with the torch of PyPI", True, ()),
    "hpu": Kind(
        "Intel Gaudi",
        "habana_frameworks.torch.core",
        "habana-torch-plugin, of the Gaudi software suite that fits this torch",
        False,
        ("HABANA_VISIBLE_MODULES", "HLS_MODULE_ID"),
    ),
    "npu": Kind(
        "Huawei Ascend",
        "torch_npu",
        "torch-npu of this torch's version, and CANN",
        True,
        ("ASCEND_RT_VISIBLE_DEVICES",),
    ),
    "xla": Kind("TPU", "torch_xla", "torch_xla[tpu] of this torch's version", False, ("TPU_VISIBLE_CHIPS",)),
}
_UNKNOWN = Kind("accelerator", "", "the plug-in of torch that brings it", True, ())


def kind_of(name: str) -> Kind:
    """What is known of a kind; little of one that some other plug-in brought to torch."""
    return KINDS.get(name, _UNKNOWN)


def torchs_own() -> str:
    """The kind of the accelerator that torch sees by itself, plug-ins that load with it included; "" for none."""
    if not torch.accelerator.is_available():
        return ""
    found = torch.accelerator.current_accelerator()
    return found.type if found is not None else ""


def installed(name: str) -> bool:
    """Whether a kind's plug-in is there, which is found out without importing it; False for kinds without one."""
    package = kind_of(name).plugin.partition(".")[0]
    return bool(package) and importlib.util.find_spec(package) is not None


def load(name: str, local_rank: int, environ: MutableMapping[str, str] = os.environ) -> None:
    """Import a kind's plug-in, and let this process have one device where they are not shared.

    Collective over: none. Raises MachineError: it is not installed, or does not go with this torch.
    """
    kind = kind_of(name)
    if not kind.plugin:
        return
    if not installed(name):
        raise MachineError(
            f'device "{name}" ({kind.chips}) needs the package {kind.plugin.partition(".")[0]}, which is not'
            f" installed; install {kind.install}."
        )
    _take_one(name, local_rank, environ)
    try:
        importlib.import_module(kind.plugin)
    except Exception as error:  # of another torch, or without its driver, plug-ins fail in ways of their own
        raise MachineError(
            f'device "{name}": the plug-in {kind.plugin} cannot be loaded beside torch {torch.__version__}:'
            f" {type(error).__name__}: {' '.join(str(error).split())[:300]}. What to try: {kind.install}."
        ) from error


def _take_one(name: str, local_rank: int, environ: MutableMapping[str, str]) -> None:
    """Which device this process takes, for plug-ins that ask the environment; what the user has set stays.

    Source: torch_xla._internal.tpu.configure_one_chip_topology; Intel Gaudi, PyTorch multi-card documentation.
    """
    if name == "xla" and not any(one in environ for one in (*ONE_CHIP, "TPU_VISIBLE_CHIPS")):
        environ.update(ONE_CHIP, TPU_VISIBLE_CHIPS=str(local_rank))
    if name == "hpu":
        modules = environ.get("HABANA_VISIBLE_MODULES", "")
        listed = [word.strip() for word in modules.split(",") if word.strip().isdigit()]
        if local_rank < len(listed) or not listed:
            environ.setdefault("HLS_MODULE_ID", listed[local_rank] if listed else str(local_rank))


def count(name: str) -> int:
    """Devices of a kind that this process sees; its plug-in is loaded. Collective over: none."""
    if name == "xla":
        return int(importlib.import_module("torch_xla.runtime").addressable_device_count())
    if name == torchs_own():
        return torch.accelerator.device_count()
    module = _module(name)
    return int(module.device_count()) if module is not None and module.is_available() else 0


def hardware(name: str) -> str:
    """What is behind "xla", which may be the CPU: "TPU", "CPU", "CUDA". Of other kinds their chips."""
    if name == "xla":
        return str(importlib.import_module("torch_xla.runtime").device_type())
    return kind_of(name).chips


def take(name: str, index: int) -> torch.device:
    """Make a device the current one of this process. Collective over: none."""
    if name == "xla":
        return torch.device(importlib.import_module("torch_xla").device(index))
    if not kind_of(name).shared:
        return torch.device(name)  # the plug-in has taken one for this process
    device = torch.device(name, index)
    if name == torchs_own():
        torch.accelerator.set_device_index(index)
    elif hasattr(_module(name), "set_device"):
        _module(name).set_device(index)
    return device


def model(device: torch.device) -> str:
    """The name that the maker gave it: "NVIDIA H100 80GB HBM3"; "" where torch does not tell."""
    if device.type == "xla":
        return hardware("xla")
    ask = getattr(_module(device.type), "get_device_name", None)
    try:
        return str(ask(device)) if ask else ""
    except (RuntimeError, AssertionError, TypeError, ValueError):
        return ""


def identity(device: torch.device, environ: MutableMapping[str, str] = os.environ) -> str:
    """Differs for two devices of one host: ranks may see different ones under the same number."""
    ask = getattr(_module(device.type), "get_device_properties", None)
    try:
        uuid = getattr(ask(device), "uuid", None) if ask else None
    except (RuntimeError, AssertionError, TypeError, ValueError):
        uuid = None
    kind = kind_of(device.type)
    if uuid is not None:
        return f"{device.type} {uuid}"
    if not kind.shared:
        return f"{device.type} of process {os.getpid()}"
    return " ".join([str(device), *(f"{name}={environ.get(name, '')}" for name in kind.visible)])


def seems_there() -> bool:
    """Whether the host looks as if it had a GPU that this torch does not see."""
    places = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    return any(Path(place).exists() for place in places)


def _module(name: str) -> Any:
    """torch.cuda and the like; None where torch has none."""
    try:
        return torch.get_device_module(name)
    except RuntimeError:
        return None
