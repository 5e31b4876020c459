"""The user's own network: "file.py:function" returning an nn.Module, or functions that make one layer each."""

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from app.errors import InputError
from app.networks.layers import Layer

WHOLE = "network"  # name of the one layer of a network that cannot be cut
Makers = dict[str, Callable[[], object]]  # the user's functions that make one layer each, by the layers' names
Seen = WeakValueDictionary[int, nn.Parameter]  # by id


def is_user_kind(kind: str) -> bool:
    """Whether a network kind names a function of the user's: "file.py:function"."""
    return ":" in kind


def user_layers(kind: str, *, options: Mapping[str, Any], sample_shape: Sequence[int], outputs: int) -> list[Layer]:
    """Layers of what function(sample_shape, outputs, **options) returns; `kind` is "/absolute/file.py:function".

    An nn.Sequential: its children are the layers. Parameters that several of them have, also because one child appears
    twice, are tied: they stay equal wherever the network is cut. Every rank makes the whole network and drops the
    layers of the others. Children that share a buffer are one layer, as are all of any other nn.Module: what runs
    write into buffers cannot be kept equal.

    A list of functions without arguments, or a dict of them by the layers' names: each makes one layer (list: layer1,
    layer2, ...), and a rank calls only those of its own layers, so that a network may be larger than a rank's memory.
    Its random numbers depend on the seed and the layer's number; each call must make parameters of its own, so
    nothing is tied.

    The function is called here without memory for weights, to learn the names, and for an nn.Module again when the
    network is built. Collective over: none. Raises InputError.
    """
    path, _, name = kind.rpartition(":")
    call = partial(_call, kind, load_function(Path(path), name), options, tuple(sample_shape), outputs)
    made = _first(call)
    if isinstance(made, nn.Module):
        children = _children(made)
        ties = _ties(children)

        def whole() -> dict[str, nn.Module]:
            return _children(call())  # type: ignore[arg-type]

        return [Layer(layer, partial(_child, whole, layer), whole, ties[layer]) for layer in children]
    seen: Seen = WeakValueDictionary()
    return [Layer(layer, partial(_make, kind, layer, function, seen)) for layer, function in made.items()]


def _child(whole: Callable[[], dict[str, nn.Module]], name: str) -> nn.Module:
    return whole()[name]


def load_function(path: Path, name: str, subject: str = "network") -> Callable[..., object]:
    """The user's function in a file that is run for it. Collective over: none. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{subject}: there is no file {path}; kind = 'file.py:function' needs a Python file")
    module = _run_file(path, subject)
    function = getattr(module, name, None)
    if function is None:
        defined = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise InputError(f"{subject}: {path} has no function {name!r}; it has {', '.join(defined) or 'none'}")
    if not callable(function):
        raise InputError(f"{subject}: {name!r} in {path} is {type(function).__name__}, not a function")
    return function


def _run_file(path: Path, subject: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"phalanx_user_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise InputError(f"{subject}: {path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(specification)
    # As for a script, modules beside the file can be imported; last, so that they hide nothing of ours.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[specification.name] = module  # dataclasses look their own module up
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{subject}: reading {path} failed{_where(error, path)}: {_text(error)}") from error
    return module


def _call(
    kind: str, function: Callable[..., object], options: Mapping[str, Any], sample_shape: tuple[int, ...], outputs: int
) -> nn.Module | Makers:
    try:
        network = function(sample_shape, outputs, **options)
    except (Exception, SystemExit) as error:
        where = _where(error, Path(kind.rpartition(":")[0]))
        given = ", ".join((f"{sample_shape}", f"{outputs}", *(f"{key}={value!r}" for key, value in options.items())))
        raise InputError(f"network {kind} failed when called with ({given}){where}: {_text(error)}") from error
    if isinstance(network, Mapping):
        return _makers(kind, network)
    if isinstance(network, list | tuple):
        return _makers(kind, {f"layer{number + 1}": function for number, function in enumerate(network)})
    if not isinstance(network, nn.Module):
        raise InputError(
            f"network {kind} returned {type(network).__name__}, but an nn.Module is expected, "
            f"or a list or dict of functions that make one layer each"
        )
    _refuse_lazy(f"network {kind}", network)
    return network


def _makers(kind: str, functions: Mapping[Any, object]) -> Makers:
    """The user's list or dict of functions, checked. Raises InputError with all that is wrong."""
    taken = nn.Sequential()
    names = [n for n in functions if not isinstance(n, str) or not n or "." in n or hasattr(taken, n)]
    others = [
        f"{name!r} is {type(function).__name__}"
        for name, function in functions.items()
        if isinstance(function, nn.Module) or not callable(function)
    ]
    problems = [] if functions else [f"network {kind} returned no functions; one for each layer is expected"]
    if names:
        problems.append(
            f"network {kind}: {_some(map(repr, names))} cannot be the name of a layer; give words without '.' that "
            f"nn.Sequential does not use itself"
        )
    if others:
        problems.append(
            f"network {kind}: {_some(others)}, but a function without arguments that makes one layer is expected, "
            f"e.g. lambda: nn.Linear(8, 8); layers themselves go into an nn.Sequential"
        )
    if problems:
        raise InputError(*problems)
    return dict(functions)


def _some(texts: Iterable[str]) -> str:
    """The first three, for a message that stays readable."""
    listed = list(texts)
    return ", ".join([*listed[:3], *(["..."] if len(listed) > 3 else [])])


def _make(kind: str, layer: str, function: Callable[[], object], seen: Seen) -> nn.Module:
    """One layer by the user's own function. Raises InputError."""
    subject = f"network {kind}: the function of layer {layer!r}"
    try:
        module = function()
    except (Exception, SystemExit) as error:
        where = _where(error, Path(kind.rpartition(":")[0]))
        raise InputError(f"{subject} failed when called without arguments{where}: {_text(error)}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{subject} returned {type(module).__name__}, but an nn.Module is expected")
    _refuse_lazy(subject, module)
    if any(seen.get(id(parameter)) is parameter for parameter in module.parameters()):
        raise InputError(
            f"{subject} returned a parameter that an earlier call returned; each call must make its own, "
            f"and layers that share weights go into an nn.Sequential"
        )
    seen.update({id(parameter): parameter for parameter in module.parameters()})
    return module


def _refuse_lazy(subject: str, module: nn.Module) -> None:
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise InputError(f"{subject} has lazy modules, whose sizes are unknown; give every size in nn.Linear etc.")


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
    buffers = [{id(buffer) for buffer in child.buffers()} for child in children.values()]
    shared = sum(map(len, buffers)) != len(set().union(*buffers))
    return {WHOLE: network} if shared or not children else children


def _ties(children: Mapping[str, nn.Module]) -> dict[str, dict[str, str]]:
    """By child: its parameters that an earlier child has too -> their full names there."""
    first: dict[int, tuple[str, str]] = {}
    ties: dict[str, dict[str, str]] = {child: {} for child in children}
    for child, module in children.items():
        for name, parameter in module.named_parameters(remove_duplicate=False):
            holder, full = first.setdefault(id(parameter), (child, f"{child}.{name}"))
            if holder != child:
                ties[child][name] = full
    return ties


def _first(call: Callable[[], nn.Module | Makers]) -> nn.Module | Makers:
    """The function's first result: a module with weights of no memory where it can, or functions of layers."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                made = call()
            if isinstance(made, nn.Module):
                return made
        except InputError:
            pass
        # Functions of layers may hold tensors made beside them: for real, and on every rank the same.
        torch.default_generator.manual_seed(0)
        return call()
