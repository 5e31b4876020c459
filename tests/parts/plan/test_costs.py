"""The cost model against the torch modules themselves."""

import subprocess
import sys
from itertools import product

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from app.errors import InputError
from app.networks.build import build, layers
from app.plan.costs import COSTS, layer_costs

M, K = 3, 5
MLP = [
    ("mlp", {"widths": widths, "activation": activation, "dropout": dropout, "norm": norm}, shape)
    for widths, activation, dropout, norm, shape in product(
        [(), (50, 30)], ["relu", "gelu", "tanh", "silu"], [0.0, 0.1], ["none", "layer"], [(12,), (3, 4, 2)]
    )
]
LENET = [
    ("lenet", {"channels": (6, 16), "widths": (120, 84), "activation": activation, "dropout": dropout}, shape)
    for activation, dropout, shape in product(
        ["relu", "gelu", "tanh", "silu"], [0.0, 0.1], [(8, 8), (1, 4, 9), (3, 16, 16), (3, 32, 37)]
    )
]
RESNET = [
    ("resnet", {"depth": depth, "blocks": blocks, "width": width, "norm": norm}, shape)
    for (depth, blocks), width, norm, shape in product(
        [(8, None), (None, None), (None, (1, 2))], [6], ["group", "batch"], [(8, 9), (3, 33, 32), (1, 128, 131)]
    )
]
TRANSFORMER = [
    (
        "transformer",
        {
            "width": 24,
            "heads": heads,
            "blocks": 2,
            "feedforward": feedforward,
            "dropout": dropout,
            "causal": causal,
            "pooling": pooling,
            "vocabulary": vocabulary,
        },
        shape,
    )
    for heads, feedforward, dropout, causal, pooling, (vocabulary, shape) in product(
        [3], [None, 50], [0.0, 0.1], [False, True], ["mean", "none"], [(11, (13,)), (0, (13,)), (0, (7, 5))]
    )
]
CASES = MLP + LENET + RESNET + TRANSFORMER


def _named(case):
    kind, options, shape = case
    return f"{kind}-{shape}-" + "-".join(str(value) for value in options.values())


def _samples(options, shape):
    return torch.randint(0, 11, (M, *shape)) if options.get("vocabulary") else torch.randn(M, *shape)


def _kept_bytes(network, inputs):
    """Bytes of the tensors autograd keeps for the backward pass, parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor keeps its address from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(inputs)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_names_parameters_and_shapes_are_those_of_the_modules(case):
    kind, options, shape = case
    network, costs = build(layers(kind, options, shape, K), seed=1), layer_costs(kind, options, shape, K)
    values = _samples(options, shape)
    assert [name for name, _ in network.named_children()] == [cost.name for cost in costs]
    for module, cost in zip(network, costs, strict=True):
        values = module(values)
        assert tuple(values.shape[1:]) == cost.output_shape
        assert sum(parameter.numel() for parameter in module.parameters()) == cost.parameters


@pytest.mark.parametrize("case", CASES[::3], ids=_named)
def test_operations_are_half_the_flops_torch_counts(case):
    kind, options, shape = case
    network = build(layers(kind, options, shape, K), seed=1).eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network(_samples(options, shape))
    expected = sum(cost.operations for cost in layer_costs(kind, options, shape, K))
    assert counter.get_total_flops() == 2 * M * expected


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_activation_bytes_are_what_autograd_keeps(case):
    kind, options, shape = case
    network = build(layers(kind, options, shape, K), seed=1)
    expected = M * sum(cost.activation_bytes for cost in layer_costs(kind, options, shape, K))
    kept = _kept_bytes(network, _samples(options, shape))
    # Batch norm keeps two numbers per channel of the whole microbatch, which the model leaves out.
    batch_norm = sum(2 * 4 * m.num_features for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert kept == expected + batch_norm


def test_deep_resnet_has_the_size_of_the_paper():
    costs = layer_costs("resnet", {"depth": 20, "blocks": None, "width": 16, "norm": "batch"}, (3, 32, 32), 10)
    # He et al. 2016, table 6: ResNet-20 has 0.27 M parameters; section 4.2: 40.8 M multiply-adds for the plain one.
    assert 0.265e6 < sum(cost.parameters for cost in costs) < 0.275e6
    assert 40.5e6 < sum(cost.operations for cost in costs) < 41.5e6


def test_costs_are_known_for_every_built_in_kind():
    from app.networks.build import KINDS

    assert set(COSTS) == set(KINDS)


def test_other_kinds_are_refused():
    with pytest.raises(InputError, match="not a built-in kind"):
        layer_costs("mine.py:net", {}, (3,), 2)


def test_importing_the_costs_loads_neither_torch_nor_numpy():
    code = "import sys, app.plan.costs; print(sorted({'torch', 'numpy', 'h5py', 'mpi4py'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
