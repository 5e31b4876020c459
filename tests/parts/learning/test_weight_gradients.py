"""Weights' gradients formed late against those of plain autograd, layer by layer."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from app.learning.weight_gradients import ROWS, WeightGradients

CASES = {
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "linear without bias": (lambda: nn.Linear(5, 3, bias=False), (5,)),
    "linear of sequences": (lambda: nn.Linear(5, 3), (7, 5)),
    "linear of images": (lambda: nn.Linear(5, 3), (2, 3, 5)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), (4, 9)),
    "conv1d strided": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3), (4, 8, 7)),
    "conv2d without bias": (lambda: nn.Conv2d(4, 6, 1, bias=False), (4, 8, 7)),
    "conv2d strided": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)), (4, 8, 7)),
    "conv2d dilated": (lambda: nn.Conv2d(4, 6, 3, dilation=2, padding=2), (4, 8, 7)),
    "conv2d of each channel": (lambda: nn.Conv2d(4, 8, 3, groups=4), (4, 8, 7)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 3, stride=2, padding=1, dilation=1, groups=2), (2, 5, 6, 7)),
}


def played(chunk, inputs, formed, shared=()):
    """Gradients of the weights by name, and towards each microbatch's inputs. formed: microbatches after which
    weights are formed, as in a schedule where W comes later; the last one always."""
    weights = WeightGradients(chunk, shared)
    inputs = [each.clone().requires_grad_(each.is_floating_point()) for each in inputs]
    for number, each in enumerate(inputs):
        outputs = chunk(each)
        with weights.backward(number):
            outputs.backward(towards(outputs))
        if number in formed:
            weights.form(number, last=False)
    weights.form(len(inputs) - 1, last=True)
    return {name: p.grad for name, p in chunk.named_parameters()}, [each.grad for each in inputs]


def plain(chunk, inputs):
    """The same by autograd alone."""
    inputs = [each.clone().requires_grad_(each.is_floating_point()) for each in inputs]
    for each in inputs:
        outputs = chunk(each)
        outputs.backward(towards(outputs))
    return {name: p.grad for name, p in chunk.named_parameters()}, [each.grad for each in inputs]


def towards(outputs):
    """Gradients of the outputs, others for each element."""
    return torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view_as(outputs).cos()


def microbatches(shape, sizes):
    make = torch.Generator().manual_seed(3)
    return [torch.randn(size, *shape, generator=make, dtype=torch.float64) for size in sizes]


def assert_same(ours, theirs):
    assert ours[0].keys() == theirs[0].keys()
    for name, gradient in theirs[0].items():
        torch.testing.assert_close(ours[0][name], gradient, rtol=1e-11, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
    for one, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def late(chunk):
    """Whether any layer of the chunk gets its gradients by `form` alone."""
    chunk = copy.deepcopy(chunk)
    weights = WeightGradients(chunk)
    with weights.backward(0):
        chunk(torch.ones(2, 4, 6, 6, dtype=torch.float64)).sum().backward()
    return any(p.grad is None for p in chunk.parameters())


@pytest.mark.parametrize("formed", [(), (0, 1, 2), (1,)], ids=["at the end", "each", "in between"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_autograd(case, formed):
    build, shape = CASES[case]
    torch.manual_seed(0)
    chunk = nn.Sequential(build().double())
    inputs = microbatches(shape, (4, 4, 4, 3))
    assert_same(played(copy.deepcopy(chunk), inputs, formed), plain(chunk, inputs))


@pytest.mark.parametrize("case", CASES)
def test_what_comes_out_may_be_overwritten(case):
    build, shape = CASES[case]
    torch.manual_seed(0)
    chunk = nn.Sequential(build().double(), nn.LeakyReLU(0.1, inplace=True))
    inputs = microbatches(shape, (4, 3))
    assert_same(played(copy.deepcopy(chunk), inputs, (0,)), plain(chunk, inputs))


def test_a_deep_chunk_with_normalisation_and_residuals():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4)

        def forward(self, inputs):
            return torch.relu(inputs + self.norm(self.conv(inputs)))

    chunk = nn.Sequential(nn.Conv2d(2, 4, 3), Block(), Block(), nn.Flatten(), nn.Linear(64, 8), nn.Tanh()).double()
    inputs = microbatches((2, 6, 6), (3, 3, 2))
    assert_same(played(copy.deepcopy(chunk), inputs, (1,)), plain(chunk, inputs))


def test_what_comes_later_is_left_for_later():
    chunk = nn.Sequential(nn.Linear(5, 3)).double()
    inputs = microbatches((5,), (ROWS, ROWS))
    weights = WeightGradients(chunk)
    for number, each in enumerate(inputs):
        outputs = chunk(each)
        with weights.backward(number):
            outputs.backward(towards(outputs))
    assert chunk[0].weight.grad is None
    weights.form(0, last=False)
    torch.testing.assert_close(chunk[0].weight.grad, towards(chunk(inputs[0])).T @ inputs[0])


@pytest.mark.parametrize(
    ("layer", "shape", "rows"),
    [(nn.Linear(5, 3), (5,), 1), (nn.Linear(5, 3), (7, 5), 7), (nn.Conv2d(4, 6, 3), (4, 8, 7), 30)],
)
def test_few_rows_wait_for_more(layer, shape, rows):
    """A product is formed once there are ROWS of them, whatever the number of microbatches."""
    chunk = nn.Sequential(copy.deepcopy(layer)).double()
    weights, formed = WeightGradients(chunk), []
    for number, each in enumerate(microbatches(shape, [4] * (ROWS // (4 * rows) + 2))):
        outputs = chunk(each)
        with weights.backward(number):
            outputs.sum().backward()
        weights.form(number, last=False)
        formed.append(chunk[0].weight.grad is not None)
    first = -(-ROWS // (4 * rows)) - 1
    assert formed == [False] * first + [True] * (len(formed) - first)


def test_the_same_bits_whenever_it_is_formed():
    """What was formed early is formed from the same microbatches in the same order."""
    torch.manual_seed(0)
    chunk = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 10))
    inputs = [each.float() for each in microbatches((20,), (100,) * 7)]
    final = len(inputs) - 1

    def gradients(lag):
        ours = copy.deepcopy(chunk)
        weights = WeightGradients(ours)
        for number, each in enumerate(inputs):
            outputs = ours(each)
            with weights.backward(number):
                outputs.backward(towards(outputs))
            if number >= lag:
                weights.form(number - lag, last=number - lag == final)
        for number in range(final + 1 - lag, final + 1):
            weights.form(number, last=number == final)
        return [p.grad for p in ours.parameters()]

    for lag in (1, 3, 7):
        assert all(torch.equal(a, b) for a, b in zip(gradients(0), gradients(lag), strict=True))


class Twice(nn.Module):
    """One convolution at two resolutions, as in a pyramid of features."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, inputs):
        return self.conv(inputs).mean((2, 3)) + self.conv(inputs[:, :, ::2, ::2]).mean((2, 3))


def test_a_layer_applied_to_several_sizes():
    chunk = nn.Sequential(Twice()).double()
    inputs = microbatches((4, 8, 8), (3, 3, 2))
    assert_same(played(copy.deepcopy(chunk), inputs, (1,)), plain(chunk, inputs))


def test_a_layer_applied_twice_is_summed():
    torch.manual_seed(0)
    layer = nn.Linear(5, 5).double()
    chunk = nn.Sequential(layer, nn.Tanh(), layer)
    inputs = microbatches((5,), (3, 3))
    assert_same(played(copy.deepcopy(chunk), inputs, (0,)), plain(chunk, inputs))


def test_a_layer_that_is_not_reached_has_no_gradient():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, inputs):
            return self.used(inputs)

    found, _ = played(nn.Sequential(Half()).double(), microbatches((5,), (3,)), ())
    assert found["0.used.weight"] is not None
    assert found["0.unused.weight"] is None


def test_first_layers_need_no_gradients_of_their_inputs():
    chunk = nn.Sequential(nn.Linear(5, 3)).double()
    (inputs,) = microbatches((5,), (4,))
    weights = WeightGradients(chunk)
    with weights.backward(0):
        chunk(inputs).sum().backward()
    weights.form(0, last=True)
    torch.testing.assert_close(chunk[0].weight.grad, inputs.sum(0).expand(3, 5))


class Derived(nn.Conv2d):
    def forward(self, inputs):
        return super().forward(inputs) * 2


def hooked():
    layer = nn.Conv2d(4, 4, 3)
    layer.weight.register_hook(lambda gradient: gradient.clamp(-1, 1))
    return layer


def hooked_afterwards():
    layer, seen = nn.Conv2d(4, 4, 3), []
    layer.weight.register_post_accumulate_grad_hook(seen.append)
    return layer


def with_hook_on_inputs():
    layer = nn.Conv2d(4, 4, 3)
    layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 3,))
    return layer


def with_hook_on_outputs():
    layer = nn.Conv2d(4, 4, 3)
    layer.register_forward_hook(lambda module, inputs, outputs: outputs * 3)
    return layer


def half_frozen():
    layer = nn.Conv2d(4, 4, 3)
    layer.bias.requires_grad_(False)
    return layer


LEFT_TO_AUTOGRAD = {
    "reflected": lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "padded by name": lambda: nn.Conv2d(4, 4, 3, padding="same"),
    "transposed": lambda: nn.ConvTranspose2d(4, 4, 3),
    "derived": lambda: Derived(4, 4, 3),
    "weight hooked": hooked,
    "weight hooked afterwards": hooked_afterwards,
    "inputs hooked": with_hook_on_inputs,
    "outputs hooked": with_hook_on_outputs,
    "half frozen": half_frozen,
    "weight normed": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
}


@pytest.mark.parametrize("name", LEFT_TO_AUTOGRAD)
def test_left_to_autograd(name):
    torch.manual_seed(0)
    chunk = nn.Sequential(LEFT_TO_AUTOGRAD[name]().double())
    inputs = microbatches((4, 6, 6), (3, 2))
    ours = played(chunk, inputs, (0,))
    for parameter in chunk.parameters():
        parameter.grad = None
    theirs = plain(chunk, inputs)
    assert all(torch.equal(ours[0][n], g) for n, g in theirs[0].items() if g is not None)
    assert {n for n, g in ours[0].items() if g is None} == {n for n, g in theirs[0].items() if g is None}


def test_a_plain_layer_is_not_left_to_autograd():
    """The other side of the tests above: they could not fail if everything were left to it."""
    assert late(nn.Sequential(nn.Conv2d(4, 4, 3).double()))
    assert not late(nn.Sequential(Derived(4, 4, 3).double()))


def test_hooks_on_weights_see_the_gradients():
    chunk, seen = nn.Sequential(nn.Linear(5, 3)).double(), []
    chunk[0].weight.register_hook(seen.append)
    found, _ = played(chunk, microbatches((5,), (4,)), ())
    assert torch.equal(seen[0], found["0.weight"])


def test_shared_weights_are_left_to_autograd():
    torch.manual_seed(0)
    chunk = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5)).double()
    chunk[2].weight = chunk[0].weight
    inputs = microbatches((5,), (3, 3))
    other = copy.deepcopy(chunk)
    weights = WeightGradients(chunk, {chunk[0].weight})
    for each in inputs:
        chunk(each).sum().backward()  # outside of `backward` nothing would be kept
    weights.form(1, last=True)
    assert chunk[0].weight.grad is not None
    other(torch.cat(inputs)).sum().backward()
    torch.testing.assert_close(chunk[0].weight.grad, other[0].weight.grad)


def test_frozen_layers_pass_gradients_on():
    torch.manual_seed(0)
    chunk = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    chunk[2].requires_grad_(False)
    inputs = microbatches((5,), (3, 3))
    assert_same(played(copy.deepcopy(chunk), inputs, (0,)), plain(chunk, inputs))


def test_without_gradients_nothing_is_kept():
    chunk = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    (inputs,) = microbatches((5,), (4,))
    wanted = chunk(inputs)
    WeightGradients(chunk)
    with torch.no_grad():
        outputs = chunk(inputs)
    assert torch.equal(outputs, wanted)
    assert not outputs.requires_grad
    with torch.inference_mode():
        assert torch.equal(chunk(inputs), wanted)


def test_activations_computed_again_by_the_users_layer():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 5))

        def forward(self, inputs):
            return inputs + checkpoint(self.body, inputs, use_reentrant=False)

    torch.manual_seed(0)
    chunk = nn.Sequential(Checkpointed(), nn.Linear(5, 3)).double()
    inputs = microbatches((5,), (3, 3, 1))
    assert_same(played(copy.deepcopy(chunk), inputs, (1,)), plain(chunk, inputs))


class Slope(nn.Module):
    """Outputs beside how they change with the inputs, as a layer of forces has them."""

    def __init__(self, differentiable):
        super().__init__()
        self.linear, self.differentiable = nn.Linear(5, 5), differentiable

    def forward(self, inputs):
        outputs = self.linear(inputs).tanh()
        (slope,) = torch.autograd.grad(
            outputs.sum(), inputs, create_graph=self.differentiable, retain_graph=not self.differentiable
        )
        return outputs + slope


def test_gradients_that_a_layer_asks_for_itself_do_not_count():
    torch.manual_seed(0)
    chunk = nn.Sequential(Slope(differentiable=False)).double()
    inputs = microbatches((5,), (3, 3))
    assert_same(played(copy.deepcopy(chunk), inputs, (1,)), plain(chunk, inputs))


def test_second_derivatives_fail_loudly():
    chunk = nn.Sequential(Slope(differentiable=True)).double()
    with pytest.raises(RuntimeError, match="differentiate twice"):
        played(chunk, microbatches((5,), (3,)), ())
