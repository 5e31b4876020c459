"""Which channels, neurons and heads of a network can only go together, over residual and concatenated paths.

The dependencies are found by torch-pruning (Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023), on
tensors without memory where the network is large: no rank holds all of it.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from app.errors import InputError
from app.learning.pruning.units import Member, UnitGroup, cut_shapes
from app.networks.build import build
from app.networks.layers import Layer
from app.networks.resizing import resized
from app.networks.transformer import Attention

SAMPLES = 2
SMALL = 1 << 20  # parameters of a network that is held for it, as torch takes two seconds to begin without memory


class Found(NamedTuple):
    """The groups of a network; names of those that cannot be cut; the shapes of all tensors.

    uses: operations of a sample that each number of a tensor takes part in, a multiplication and an addition each time.
    products: by the name of a group of heads, how many there are, and the operations of each that no tensor takes part
    in: of attention itself. aliases: names of tensors that an earlier name has already.
    """

    groups: tuple[UnitGroup, ...]
    refused: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    uses: dict[str, int]
    products: dict[str, tuple[int, int]]
    aliases: frozenset[str]


def find_groups(layers: Sequence[Layer], sample_shape: Sequence[int], dtype: torch.dtype, parameters: int) -> Found:
    """The groups of a network's layers; those of its outputs, and those that change more than sizes, are left out.

    Units of a group normalisation with several groups are whole groups, so that what is left is normalised as before.
    parameters: how many the network has. Collective over: none; the same on every rank. Raises InputError where torch
    cannot follow the network.
    """
    if parameters > SMALL:
        with suppress(Exception):  # a user's network may need numbers to go on; then with memory
            return _found(layers, sample_shape, dtype, torch.device("meta"))
    try:
        return _found(layers, sample_shape, dtype, torch.device("cpu"))
    except Exception as error:
        raise InputError(
            f"network: what its layers depend on cannot be followed ({type(error).__name__}:"
            f' {" ".join(str(error).split())}); give units = "connections", which needs no such knowledge.'
        ) from error


def _found(layers: Sequence[Layer], sample_shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Found:
    network = _built(layers, device)
    samples = torch.zeros((SAMPLES, *sample_shape), dtype=dtype, device=device)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    uses, products = _operations(network, samples)
    same = _same_tensors(network)
    found, refused = [], []
    for group in [*_dependent(network, samples), *_heads(network)]:
        if not any(member.enters for member in group.members) or group.units == 1:
            continue  # the network's outputs; the last of its kind
        group = _with_other_names(group, same, network)
        if _can_go(layers, group, shapes, samples, network) and _cut_alike(group, same):
            found.append(group)
        else:
            refused.append(group.name)
    found.sort(key=lambda group: group.name)
    aliases = frozenset(name for names in same.values() for name in names if name != names[0])
    return Found(tuple(found), tuple(refused), shapes, uses, products, aliases)


def _built(layers: Sequence[Layer], device: torch.device) -> nn.Sequential:
    with torch.device(device):
        return build(layers, 0).eval()


def _dependent(network: nn.Sequential, samples: Tensor) -> Iterator[UnitGroup]:
    """What torch-pruning finds, without the insides of attention."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters outside torch's layers: those are found or refused below
        import torch_pruning

        with torch.random.fork_rng([]):
            graph = torch_pruning.DependencyGraph().build_dependency(network, samples)
    names = {module: name for name, module in network.named_modules()}
    names |= {parameter: name for name, parameter in network.named_parameters()}
    inside = {m.projections for m in network.modules() if isinstance(m, Attention)}
    roots = (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)
    for found in graph.get_all_groups(root_module_types=roots):
        root = found[0].dep.target.module
        if root in inside:
            continue
        members = [one for item in found for one in _members(item, names, graph)]
        yield _group(names[root], len(found[0].idxs), members, network)


def _members(item: Any, names: Mapping[Any, str], graph: Any) -> Iterator[tuple[str, int, dict[int, list[int]], bool]]:
    """Of one dependency: tensor, dim, root index -> indices along the dim, whether values come in along it."""
    module, name = item.dep.target.module, names.get(item.dep.target.module)
    if name is None:  # an operation without weights
        return
    places: dict[int, list[int]] = {}
    for index, root in zip(item.idxs, item.root_idxs, strict=True):
        places.setdefault(root, []).append(index)
    if isinstance(module, nn.Parameter):
        yield name, item.dep.target.pruning_dim, places, False
        return
    both = isinstance(module, nn.modules.conv._ConvNd) and module.groups == module.out_channels > 1
    outwards = graph.is_out_channel_pruning_fn(item.dep.handler) or both
    entering = isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and not outwards
    transposed = getattr(module, "transposed", False)
    for tensor, value in module.named_parameters(recurse=False):
        if isinstance(module, nn.Embedding):
            yield f"{name}.{tensor}", 1, places, False
        elif value.dim() == 1:
            if not entering:
                yield f"{name}.{tensor}", 0, places, False
        else:
            yield f"{name}.{tensor}", int(entering != transposed), places, entering
    for tensor, value in module.named_buffers(recurse=False):
        if value.dim() == 1 and not entering:
            yield f"{name}.{tensor}", 0, places, False


def _group(
    name: str, width: int, members: Sequence[tuple[str, int, dict[int, list[int]], bool]], network: nn.Sequential
) -> UnitGroup:
    """The group with units that keep group normalisations whole; without units where none can be told apart."""
    sets = _units(width, members, network)
    found: dict[tuple[str, int], Member] = {}
    for tensor, dim, places, enters in members:
        rows = [[index for root in roots for index in places.get(root, ())] for roots in sets]
        if len({len(row) for row in rows}) != 1 or not _whole_groups(rows, tensor, network):
            sets, rows = [], [[]]
        found[tensor, dim] = Member(tensor, dim, np.array(rows, np.int64), enters)
    return UnitGroup(name, len(sets), width // max(1, len(sets)), tuple(found.values()))


def _units(
    width: int, members: Sequence[tuple[str, int, dict[int, list[int]], bool]], network: nn.Sequential
) -> list[list[int]]:
    """The root indices of each unit: single ones, or runs that are whole groups of all normalisations."""
    run = math.lcm(*(_run_of(tensor, network) for tensor, _, _, _ in members))
    return [list(range(begin, min(begin + run, width))) for begin in range(0, width, run)]


def _run_of(tensor: str, network: nn.Sequential) -> int:
    """Channels that a tensor's layer normalises together, when it does not normalise all together."""
    module = network.get_submodule(tensor.rpartition(".")[0])
    if isinstance(module, nn.GroupNorm) and (module.num_groups > 1 or getattr(module, "whole_groups", False)):
        return module.num_channels // module.num_groups
    return 1


def _whole_groups(rows: Sequence[Sequence[int]], tensor: str, network: nn.Sequential) -> bool:
    """Whether each unit is whole groups of the tensor's normalisation, which may be of several branches."""
    run = _run_of(tensor, network)
    return all(sorted(row) == [run * (i // run) + n for i in sorted(row)[::run] for n in range(run)] for row in rows)


def _heads(network: nn.Sequential) -> Iterator[UnitGroup]:
    """The heads of each attention: rows of queries, keys and values, and the columns that mix them."""
    for name, module in network.named_modules():
        if not isinstance(module, Attention):
            continue
        each, inner = module.head_width, module.output.in_features
        inside = np.arange(inner).reshape(-1, each)
        rows = np.concatenate([inside + part * inner for part in range(3)], 1)
        members = (
            Member(f"{name}.projections.weight", 0, rows, False),
            Member(f"{name}.projections.bias", 0, rows, False),
            Member(f"{name}.output.weight", 1, inside, True),
        )
        yield UnitGroup(f"{name}.heads", len(inside), each, members)


def _same_tensors(network: nn.Sequential) -> dict[str, list[str]]:
    """By the name of each tensor, all its names in order: those of tied parameters and of modules used twice."""
    names: dict[int, list[str]] = {}
    tensors = network.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    return {name: names[id(tensor)] for name, tensor in tensors.items()}


def _with_other_names(group: UnitGroup, same: Mapping[str, list[str]], network: nn.Sequential) -> UnitGroup:
    """The group with all names of modules that are used twice; what is the same tensor again is marked.

    In the network's order, which is the same on every rank.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    found: dict[tuple[str, int], Member] = {}
    for member in sorted(group.members, key=lambda one: not one.enters):  # what is read counts, where it is both
        path = member.tensor.rpartition(".")[0]
        for name in [member.tensor, *same[member.tensor]]:
            if modules[name.rpartition(".")[0]] is modules[path] and (name, member.dim) not in found:
                again = any((other, member.dim) in found for other in same[name])
                found[name, member.dim] = member._replace(tensor=name, again=again)
    order = {name: number for number, name in enumerate(same)}
    return group._replace(members=tuple(sorted(found.values(), key=lambda one: (order[one.tensor], one.dim))))


def _cut_alike(group: UnitGroup, same: Mapping[str, list[str]]) -> bool:
    """Whether tensors that are one stay one."""
    cuts: dict[str, dict[int, list[list[int]]]] = {}
    for member in group.members:
        cuts.setdefault(member.tensor, {})[member.dim] = member.places.tolist()
    return all(cuts.get(other) == own for name, own in cuts.items() for other in same[name])


def _can_go(
    layers: Sequence[Layer],
    group: UnitGroup,
    shapes: Mapping[str, tuple[int, ...]],
    samples: Tensor,
    network: nn.Sequential,
) -> bool:
    """Whether the network still computes outputs of the same shape without the group's first unit."""
    if group.units < 2 or any(_in_groups(network, member.tensor) for member in group.members):
        return False
    try:
        smaller = _built(resized(layers, cut_shapes(shapes, [(group, [0])])), samples.device)
        with torch.no_grad(), torch.random.fork_rng([]):
            return smaller(samples).shape == network(samples).shape
    except Exception:  # a user's network may fail in any way; this group then stays as it is
        return False


def _in_groups(network: nn.Sequential, tensor: str) -> bool:
    """Whether a tensor is of a convolution in groups of several channels; tensors without memory do not show that."""
    module = network.get_submodule(tensor.rpartition(".")[0])
    if not isinstance(module, nn.modules.conv._ConvNd):
        return False
    return module.groups > 1 and not module.groups == module.in_channels == module.out_channels


def _operations(network: nn.Sequential, samples: Tensor) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """`uses` and `products` of what is found."""
    uses: dict[str, int] = {}
    products: dict[str, tuple[int, int]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Tensor) -> None:
            if isinstance(module, Attention):  # queries with keys, and what comes of it with values
                heads = module.output.in_features // module.head_width
                products[f"{name}.heads"] = (heads, 2 * 2 * output.shape[1] ** 2 * module.head_width)
                return
            features = output.shape[1] if isinstance(module, nn.modules.conv._ConvNd) else output.shape[-1]
            positions = output.numel() // (features * SAMPLES)
            uses[f"{name}.weight"] = uses.get(f"{name}.weight", 0) + 2 * positions

        return hook

    kinds = (nn.Linear, nn.modules.conv._ConvNd, Attention)
    named = [(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]
    handles = [module.register_forward_hook(note(name)) for name, module in named]
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            network(samples)
    finally:
        for handle in handles:
            handle.remove()
    return uses, products
