import pytest
import torch
from torch import nn

from app.networks.counting import counting


def counted(module, inputs):
    with counting(module) as counts:
        module(inputs)
    return counts.operations, counts.activation_bytes


@pytest.mark.parametrize(
    ("module", "shape", "operations"),
    [
        (nn.Linear(5, 3), (4, 5), 4 * 5 * 3),
        (nn.Linear(5, 3), (4, 7, 5), 4 * 7 * 5 * 3),
        (nn.Conv2d(4, 6, 3, bias=False), (2, 4, 8, 8), 2 * 6 * 6 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 8, 8), 2 * 4 * 4 * 6 * 2 * 9),
        (nn.Conv1d(4, 6, 5, dilation=2), (2, 4, 20), 2 * 12 * 6 * 4 * 5),
        (nn.Conv3d(2, 3, (1, 2, 3)), (1, 2, 4, 4, 4), 4 * 3 * 2 * 3 * 2 * 6),
        (nn.ReLU(), (4, 5), 0),
    ],
)
def test_operations_are_the_multiply_adds_of_the_formula(module, shape, operations):
    assert counted(module, torch.zeros(shape))[0] == operations


def test_parts_count_once_and_what_is_around_them_does_not():
    network = nn.Sequential(nn.Linear(5, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 3)))
    assert counted(network, torch.zeros(2, 5)) == (2 * (5 * 8 + 8 * 3), 2 * 4 * (8 + 8 + 3))


def test_activations_count_in_their_own_type():
    assert counted(nn.Linear(5, 8).double(), torch.zeros(2, 5, dtype=torch.float64))[1] == 2 * 8 * 8


def test_a_layer_applied_twice_counts_twice():
    layer = nn.Linear(5, 5)
    assert counted(nn.Sequential(layer, layer), torch.zeros(2, 5)) == (2 * 2 * 25, 2 * 2 * 5 * 4)


def test_only_calls_inside_the_block_count_and_no_hooks_stay():
    layer, inputs = nn.Linear(5, 3), torch.zeros(2, 5)
    layer(inputs)
    with counting(layer) as counts:
        layer(inputs)
    layer(inputs)
    assert counts.operations == 2 * 5 * 3
    with pytest.raises(RuntimeError), counting(layer):
        layer(torch.zeros(2, 4))
    assert not layer._forward_hooks


def test_outputs_that_are_not_tensors_are_passed_over():
    layer = nn.LSTM(5, 3)
    assert counted(layer, torch.zeros(4, 2, 5)) == (0, 0)
