"""Layers are timed one at a time; the clock is the test's own."""

import weakref

import pytest
import torch
from torch import nn

from app.networks import measure
from app.networks.build import layers
from app.networks.layers import Layer
from app.networks.shapes import Boundary, boundaries, trace

CPU = torch.device("cpu")
NONE = (0.0, 0.0)


class Clock:
    """Stands still but for what a layer says it takes."""

    def __init__(self):
        self.time = 0.0

    def __call__(self, device):
        return self.time

    def layer(self, forward, backward, weights):
        """A layer of one weight whose parts take these times of M samples."""
        clock = self

        class Takes(torch.autograd.Function):
            @staticmethod
            def forward(ctx, values, seconds):
                ctx.seconds = seconds
                return values.clone()

            @staticmethod
            def backward(ctx, gradient):
                clock.time += ctx.seconds
                return gradient, None

        class Timed(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(()))

            def forward(self, inputs):
                clock.time += forward(len(inputs))
                weight = Takes.apply(self.weight, weights(len(inputs)))
                return Takes.apply(inputs, backward(len(inputs))) * weight

        return Layer("timed", Timed)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(measure, "_now", made)
    return made


def _lines(layer, sizes=(2, 8), number=1):
    floats = Boundary((3,), torch.float32)
    return measure.measure([layer] * 2, [number], [floats] * 3, sizes, CPU)[0]


@pytest.mark.parametrize("sizes", [(2, 8), (8, 2)])
def test_lines_go_through_both_sizes(clock, sizes):
    layer = clock.layer(lambda m: 1 + 2 * m, lambda m: 3 + 4 * m, lambda m: 5 + 6 * m)
    assert _lines(layer, sizes) == ((1, 2), (3, 4), (5, 6))


def test_lines_are_not_negative(clock):
    layer = clock.layer(lambda m: 10 - m, lambda m: 4 * m - 4, lambda m: 0.0)
    assert _lines(layer) == ((2, 0), (0, 3.5), NONE)


def test_the_first_layer_needs_no_gradients_of_its_inputs(clock):
    layer = clock.layer(lambda m: m, lambda m: m, lambda m: m)
    assert _lines(layer, number=0) == ((0, 1), NONE, (0, 1))


def test_layers_of_every_sort_are_measured():
    options = {"width": 8, "heads": 2, "blocks": 1, "feedforward": None, "dropout": 0.1, "causal": False}
    made = layers("transformer", options | {"pooling": "none", "vocabulary": 11, "tied": True}, (6,), 11)
    given = boundaries(made, (6,), 11, torch.int64)
    assert given[0] == Boundary((6,), torch.int64)
    assert given[1:] == (Boundary((6, 8), torch.float32),) * 2 + (Boundary((6, 11), torch.float32),)
    block, embedding = measure.measure(made, [1, 0], given, (1, 4), CPU, seconds=0)
    assert sum(block[0]) > 0
    assert sum(block[1]) > 0
    assert embedding[1] == NONE
    assert sum(embedding[0]) > 0


@pytest.mark.parametrize("module", [nn.ReLU(inplace=True), nn.Identity(), nn.Flatten()])
def test_layers_without_weights_have_no_time_for_them(module):
    assert _lines(Layer("plain", lambda: module))[2] == NONE


def test_two_sizes_are_needed(clock):
    with pytest.raises(ValueError, match="two different"):
        _lines(clock.layer(float, float, float), sizes=(4, 4))


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    _lines(Layer("dropping", lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_layer_is_held_at_a_time():
    held = weakref.WeakSet()

    def make():
        assert not held
        module = nn.Linear(3, 3)
        held.add(module)
        return module

    made = [Layer(str(number), make) for number in range(3)]
    trace(made, (3,), 3)
    measure.measure(made, [0, 1, 2], boundaries(made, (3,), 3), (1, 2), CPU, seconds=0)
