"""Optimizers against torch's own, and LAMB and LARS against the formulas of their papers."""

import math

import numpy as np
import pytest
import torch

from app.errors import ArtifactError, InputError
from app.learning.optimizers import OPTIMIZERS, OptimizerOptions, make, scale_, squared_norms

SHAPES = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "dense.weight": (5, 37), "dense.bias": (5,), "scale": ()}
STEPS = 20


def _parameters():
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def _gradients(step):
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=generator) for shape in SHAPES.values()]


def _rate(step):
    return 0.02 / (1 + step)


def _run(name, options, steps=range(STEPS), parameters=None, optimizer=None):
    parameters = parameters or _parameters()
    optimizer = optimizer or make(name, list(parameters.items()), options)
    for step in steps:
        optimizer.step_(_gradients(step), _rate(step))
    return parameters, optimizer


def _torch(make_theirs, *, decay, decay_all):
    parameters = _parameters()
    matrices = [p for p in parameters.values() if p.dim() > 1 or decay_all]
    others = [p for p in parameters.values() if p.dim() <= 1 and not decay_all]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = make_theirs([group for group in groups if group["params"]])
    for step in range(STEPS):
        for parameter, gradient in zip(parameters.values(), _gradients(step), strict=True):
            parameter.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = _rate(step)
        optimizer.step()
    return parameters


CASES = [
    ("sgd", {"momentum": 0.0}, lambda groups: torch.optim.SGD(groups, foreach=False, fused=False)),
    ("sgd", {"momentum": 0.9}, lambda groups: torch.optim.SGD(groups, momentum=0.9, foreach=False, fused=False)),
    (
        "sgd",
        {"momentum": 0.9, "nesterov": True},
        lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True, foreach=False, fused=False),
    ),
    ("adam", {}, lambda groups: torch.optim.Adam(groups, foreach=False, fused=False)),
    (
        "adam",
        {"betas": (0.8, 0.95), "epsilon": 1e-4},
        lambda groups: torch.optim.Adam(groups, betas=(0.8, 0.95), eps=1e-4, foreach=False, fused=False),
    ),
    ("adamw", {}, lambda groups: torch.optim.AdamW(groups, foreach=False, fused=False)),
]


@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("name", "options", "theirs"), CASES)
def test_twenty_steps_are_those_of_torch(name, options, theirs, decay, decay_all):
    ours, _ = _run(name, OptimizerOptions(**options, weight_decay=decay, decay_all=decay_all))
    expected = _torch(theirs, decay=decay, decay_all=decay_all)
    for key in SHAPES:
        torch.testing.assert_close(ours[key], expected[key], rtol=1e-6, atol=1e-6)


def _norm(tensor):
    return math.sqrt(tensor.double().square().sum())


def _lamb(decay, decay_all, betas=(0.9, 0.999), epsilon=1e-6):
    """You et al., ICLR 2020, Algorithm 2, tensor by tensor in float64; phi is the identity."""
    weights = {name: p.double() for name, p in _parameters().items()}
    first = {name: torch.zeros_like(p) for name, p in weights.items()}
    second = {name: torch.zeros_like(p) for name, p in weights.items()}
    for step in range(STEPS):
        for (name, w), g in zip(weights.items(), _gradients(step), strict=True):
            g = g.double()
            first[name] = betas[0] * first[name] + (1 - betas[0]) * g
            second[name] = betas[1] * second[name] + (1 - betas[1]) * g * g
            m, v = first[name] / (1 - betas[0] ** (step + 1)), second[name] / (1 - betas[1] ** (step + 1))
            update, ratio = m / (v.sqrt() + epsilon), 1.0
            if w.dim() > 1 or decay_all:
                update = update + decay * w
                ratio = _norm(w) / _norm(update)
            weights[name] = w - _rate(step) * ratio * update
    return weights


def _lars(decay, decay_all, trust=0.01, momentum=0.9):
    """You et al., arXiv:1708.03888, Algorithm 1, tensor by tensor in float64."""
    weights = {name: p.double() for name, p in _parameters().items()}
    velocity = {name: torch.zeros_like(p) for name, p in weights.items()}
    for step in range(STEPS):
        for (name, w), g in zip(weights.items(), _gradients(step), strict=True):
            g, local = g.double(), 1.0
            if w.dim() > 1 or decay_all:
                local = trust * _norm(w) / (_norm(g) + decay * _norm(w))
                g = g + decay * w
            velocity[name] = momentum * velocity[name] + _rate(step) * local * g
            weights[name] = w - velocity[name]
    return weights


@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("name", "formula", "options"), [("lamb", _lamb, {"epsilon": 1e-6}), ("lars", _lars, {"trust": 0.01})]
)
def test_twenty_steps_are_those_of_the_paper(name, formula, options, decay, decay_all):
    ours, _ = _run(name, OptimizerOptions(**options, weight_decay=decay, decay_all=decay_all))
    for key, expected in formula(decay, decay_all).items():
        torch.testing.assert_close(ours[key].double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lamb", "lars"])
def test_tensors_of_zeros_and_zero_gradients_move_and_stay_finite(name):
    weights = [("zeros", torch.zeros(3, 3)), ("ones", torch.ones(3, 3))]
    optimizer = make(name, weights, OptimizerOptions())
    optimizer.step_([torch.ones(3, 3), torch.zeros(3, 3)], 0.1)
    assert weights[0][1].abs().sum() > 0
    assert torch.equal(weights[1][1], torch.ones(3, 3))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_stages_move_their_parameters_as_the_whole_network_does(name):
    options = OptimizerOptions(weight_decay=0.1)
    whole, optimizer = _run(name, options)
    parts = _parameters()
    names = list(SHAPES)
    stages = [make(name, [(key, parts[key]) for key in keys], options) for keys in (names[:2], names[2:])]
    for step in range(STEPS):
        gradients = _gradients(step)
        stages[0].step_(gradients[:2], _rate(step))
        stages[1].step_(gradients[2:], _rate(step))
    assert all(torch.equal(whole[key], parts[key]) for key in SHAPES)
    merged = [{**a, **b} for a, b in zip(_moments(stages[0]), _moments(stages[1]), strict=True)]
    for ours, expected in zip(merged, _moments(optimizer), strict=True):
        assert list(ours) == list(expected)
        assert all(torch.equal(ours[key], expected[key]) for key in expected)


def _moments(optimizer):
    return [value for value in optimizer.state_tree().values() if isinstance(value, dict)]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_going_on_from_a_stored_state_is_going_straight_through(name, momentum):
    options = OptimizerOptions(momentum=momentum, weight_decay=0.1)
    straight, _ = _run(name, options)
    parameters, optimizer = _run(name, options, range(8))
    tree = optimizer.state_tree()
    stored = {
        key: {k: v.clone().numpy() for k, v in value.items()} if isinstance(value, dict) else value
        for key, value in tree.items()
    }
    again = make(name, list(parameters.items()), options)
    again.load_(stored)
    _run(name, options, range(8, STEPS), parameters, again)
    assert all(torch.equal(parameters[key], straight[key]) for key in SHAPES)
    assert again.steps == STEPS


def test_a_stage_takes_its_part_of_the_whole_state():
    _, whole = _run("adam", OptimizerOptions())
    stage = make("adam", [("dense.weight", torch.zeros(5, 37))], OptimizerOptions())
    stage.load_(whole.state_tree())
    assert torch.equal(stage.state_tree()["first"]["dense.weight"], whole.state_tree()["first"]["dense.weight"])


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    _, stored = _run("adam", OptimizerOptions())
    tree = stored.state_tree()
    other = make("adam", [("dense.weight", torch.zeros(5, 38)), ("new", torch.zeros(2))], OptimizerOptions())
    with pytest.raises(ArtifactError) as caught:
        other.load_(tree)
    assert len(caught.value.problems) == 4
    assert "first of parameter dense.weight has shape (5, 37), but the parameter has (5, 38)" in str(caught.value)
    assert "no second of parameter new" in str(caught.value)
    assert other.steps == 0
    with pytest.raises(ArtifactError, match="belongs to 'adam', but the input file says 'sgd'"):
        make("sgd", [], OptimizerOptions()).load_(tree)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_memory_layouts_of_weight_and_gradient_may_differ(name):
    plain, gradient = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)
    last = plain.clone(memory_format=torch.channels_last)
    make(name, [("w", plain)], OptimizerOptions(momentum=0.0)).step_([gradient.clone()], 0.1)
    make(name, [("w", last)], OptimizerOptions(momentum=0.0)).step_([gradient.clone()], 0.1)
    torch.testing.assert_close(last, plain)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_types_may_be_mixed_and_parameters_of_a_network_move_in_place(name):
    layers = torch.nn.ModuleList([torch.nn.Linear(3, 2), torch.nn.Linear(2, 2).double()])
    addresses = [parameter.data_ptr() for parameter in layers.parameters()]
    before = [parameter.clone() for parameter in layers.parameters()]
    optimizer = make(name, list(layers.named_parameters()), OptimizerOptions())
    optimizer.step_([torch.ones_like(parameter) for parameter in layers.parameters()], 0.1)
    assert [parameter.data_ptr() for parameter in layers.parameters()] == addresses
    assert all(not torch.equal(a, b) for a, b in zip(before, layers.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in layers.parameters())


def test_no_parameters_is_no_work():
    optimizer = make("adam", [], OptimizerOptions())
    optimizer.step_([], 0.1)
    assert optimizer.state_tree() == {"name": "adam", "steps": 1, "first": {}, "second": {}}


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="'rmsprop' is not known; use one of sgd, adam"):
        make("rmsprop", [], OptimizerOptions())
    with pytest.raises(InputError, match="nesterov"):
        make("sgd", [], OptimizerOptions(momentum=0.0, nesterov=True))


def test_squared_norms_are_those_of_each_tensor_whatever_stage_holds_it():
    gradients = _gradients(0)
    whole = squared_norms(gradients)
    expected = [g.double().square().sum().item() for g in gradients]
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    assert squared_norms(gradients[:2]) + squared_norms(gradients[2:]) == whole
    assert squared_norms([]) == []
    assert math.isnan(squared_norms([*gradients, torch.tensor([math.nan])])[-1])


def test_clipping_is_that_of_torch():
    gradients, parameters = _gradients(0), [torch.zeros(shape) for shape in SHAPES.values()]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    scale_(gradients, 0.5 / math.sqrt(math.fsum(squared_norms(gradients))))
    for ours, theirs in zip(gradients, parameters, strict=True):
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-5, atol=1e-7)


def test_optimizers_do_not_load_what_torch_optim_loads():
    import subprocess
    import sys

    code = (
        "import sys, torch\n"
        "from app.learning.optimizers import OPTIMIZERS, OptimizerOptions, make, squared_norms\n"
        "for name in OPTIMIZERS:\n"
        "    make(name, [('w', torch.ones(2, 2))], OptimizerOptions()).step_([torch.ones(2, 2)], 0.1)\n"
        "print(sorted({'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
