"""The user's own network: "file.py:function" returning an nn.Module."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from app.errors import InputError
from app.networks.layers import Layer

WHOLE = "network"  # name of the one layer of a network that cannot be cut


def is_user_kind(kind: str) -> bool:
    """Whether a network kind names a function of the user's: "file.py:function"."""
    return ":" in kind


def user_layers(kind: str, *, options: Mapping[str, Any], sample_shape: Sequence[int], outputs: int) -> list[Layer]:
    """Layers of function(sample_shape, outputs, **options): the children of an nn.Sequential, else one layer.

    `kind` is the absolute path of the file, a colon, and the function's name. A Sequential whose children share a
    parameter is one layer, since its stages could not keep the shared parameter equal. The function is called once
    here without memory for weights to learn the names, and once when the network is built.
    Collective over: none. Raises InputError.
    """
    path, _, name = kind.rpartition(":")
    function = _load(Path(path), name)

    def whole() -> dict[str, nn.Module]:
        return _children(_call(kind, function, options, tuple(sample_shape), outputs))

    names = _names(whole)
    return [Layer(layer, partial(_child, whole, layer), whole) for layer in names]


def _child(whole: Callable[[], dict[str, nn.Module]], name: str) -> nn.Module:
    return whole()[name]


def _load(path: Path, name: str) -> Callable[..., object]:
    if not path.is_file():
        raise InputError(f"network: there is no file {path}; kind = 'file.py:function' needs a Python file")
    module = _run_file(path)
    function = getattr(module, name, None)
    if function is None:
        defined = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise InputError(f"network: {path} has no function {name!r}; it has {', '.join(defined) or 'none'}")
    if not callable(function):
        raise InputError(f"network: {name!r} in {path} is {type(function).__name__}, not a function")
    return function


def _run_file(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"phalanx_user_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise InputError(f"network: {path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(specification)
    # As for a script, modules beside the file can be imported; last, so that they hide nothing of ours.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[specification.name] = module  # dataclasses look their own module up
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"network: reading {path} failed{_where(error, path)}: {_text(error)}") from error
    return module


def _call(
    kind: str, function: Callable[..., object], options: Mapping[str, Any], sample_shape: tuple[int, ...], outputs: int
) -> nn.Module:
    try:
        network = function(sample_shape, outputs, **options)
    except (Exception, SystemExit) as error:
        where = _where(error, Path(kind.rpartition(":")[0]))
        given = ", ".join((f"{sample_shape}", f"{outputs}", *(f"{key}={value!r}" for key, value in options.items())))
        raise InputError(f"network {kind} failed when called with ({given}){where}: {_text(error)}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"network {kind} returned {type(network).__name__}, but an nn.Module is expected")
    if any(is_lazy(parameter) for parameter in network.parameters()):
        raise InputError(f"network {kind} has lazy modules, whose sizes are unknown; give every size in nn.Linear etc.")
    return network


def _where(error: BaseException, path: Path) -> str:
    """The line of the user's own file where an exception arose, for a message without a traceback."""
    line, trace = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" in line {line}" if line else ""


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _children(network: nn.Module) -> dict[str, nn.Module]:
    """Children of a plain Sequential by name, or the network itself under one name."""
    # A subclass with a forward of its own does more than play its children in order.
    if not isinstance(network, nn.Sequential) or type(network).forward is not nn.Sequential.forward:
        return {WHOLE: network}
    # named_children() leaves out a module that appears twice, e.g. one ReLU used everywhere.
    children = {name: child for name, child in network._modules.items() if child is not None}
    owned = [{id(parameter) for parameter in child.parameters()} for child in children.values()]
    shared = sum(len(ids) for ids in owned) != len(set().union(*owned))
    return {WHOLE: network} if shared or not children else children


def _names(whole: Callable[[], dict[str, nn.Module]]) -> list[str]:
    """Names of the children; the function runs with weights of no memory, or for real where it cannot."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return list(whole())
        except InputError:
            return list(whole())
