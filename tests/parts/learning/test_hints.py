"""Hints: what enters the backward pass at a layer's outputs is the gradient of their distance to the teacher's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from app.learning.hints import OFFSET, PROJECTION, Hint, Hints, distance, is_hint, mismatch

CPU = torch.device("cpu")
SAMPLES = np.array([5, 2, 9])


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)),
        nn.ReLU(inplace=True),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 6)),
        nn.Linear(6, 3),
    )


def rows(*shape):
    values = torch.randn(10, *shape, generator=torch.Generator().manual_seed(1)).numpy()
    return values, lambda samples: values[samples]


def hinted(chunk, shapes, weight=2.0):
    """Hints for layers of a network, by name, and what the teacher gives for SAMPLES."""
    made, wanted = {}, {}
    for name, (own, teachers) in shapes.items():
        values, take = rows(*teachers)
        made[name], wanted[name] = Hint(own, teachers, take), torch.from_numpy(values[SAMPLES])
    hints = Hints(chunk, made, weight, 7, CPU)
    hints.begin(SimpleNamespace(playing=SimpleNamespace(samples=SAMPLES)))
    hints.batch_size = 12
    return hints, wanted


def gradients(module, skip=lambda name: False):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None and not skip(name)}


@pytest.mark.parametrize(
    "shapes",
    [
        {"2": ((6,), (6,))},
        {"2": ((6,), (9,)), "3": ((3,), (3,))},
        {"0": ((4, 4, 4), (4, 4, 4))},
        {"0": ((4, 4, 4), (5, 2, 8)), "2": ((6,), (2,))},
    ],
)
def test_gradients_are_those_of_the_sum_of_all_losses(shapes):
    """Also where the next layer overwrites the outputs."""
    student, inputs = network(), torch.randn(3, 2, 4, 4)
    _, wanted = hinted(student, shapes)
    student(inputs).square().sum().backward()
    found = gradients(student)
    student.zero_grad()

    plain = network()
    values, total = inputs, 0
    for name, layer in plain.named_children():
        values = layer(values)
        if name in shapes:
            own = dict(student.named_parameters())
            projected = [own.get(f"{name}.{part}") for part in (PROJECTION, OFFSET)]
            total = total + 2.0 / 12 * distance(values, wanted[name], *projected)
            values = values.clone()
    (total + values.square().sum()).backward()
    expected = gradients(plain) | gradients(student)  # those of the projections are in the student
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_outputs_are_not_changed():
    inputs = torch.randn(3, 2, 4, 4)
    student = network()
    hinted(student, {"0": ((4, 4, 4), (5, 2, 8))})
    assert torch.equal(student(inputs), network()(inputs))


def test_nothing_is_learned_in_evaluation_or_without_gradients():
    student, inputs = network(), torch.randn(3, 2, 4, 4)
    hints, _ = hinted(student, {"2": ((6,), (9,))})
    hints.begin(SimpleNamespace(playing=None))  # asking it for samples would fail
    with torch.no_grad():
        student(inputs)
    student.eval()(inputs).sum().backward()
    assert student[2]._parameters[PROJECTION].grad is None


def test_a_layer_without_weights_can_be_hinted():
    student = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    hinted(student, {"0": ((32,), (5,))})
    student(torch.randn(3, 2, 4, 4)).sum().backward()
    assert student[0]._parameters[PROJECTION].grad.abs().sum() > 0


def test_projections_are_parameters_that_go_again():
    student = network()
    names = list(student.state_dict())
    hints, _ = hinted(student, {"0": ((4, 4, 4), (5, 2, 8)), "2": ((6,), (6,))})
    added = [name for name in student.state_dict() if name not in names]
    assert added == [f"0.{PROJECTION}", f"0.{OFFSET}"]
    assert all(map(is_hint, added))
    assert not any(map(is_hint, names))
    hints.remove_()
    assert list(student.state_dict()) == names
    assert not student[0]._forward_hooks


def test_projections_start_by_the_seed_and_the_name():
    one, other = network(), network()
    hinted(one, {"2": ((6,), (9,))})
    torch.randn(3)
    hinted(other, {"0": ((4, 4, 4), (5, 4, 4)), "2": ((6,), (9,))})
    assert torch.equal(one[2]._parameters[PROJECTION], other[2]._parameters[PROJECTION])


def test_the_distance_is_the_mean_over_elements_summed_over_samples():
    own, teachers = torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(distance(own, teachers, None, None), functional.mse_loss(own, teachers) * 3)


def test_sizes_in_space_are_made_equal_by_averaging():
    own, teachers = torch.randn(3, 4, 8, 2), torch.randn(3, 4, 4, 4)
    expected = functional.mse_loss(functional.avg_pool2d(own, (2, 1)), functional.avg_pool2d(teachers, (1, 2))) * 3
    torch.testing.assert_close(distance(own, teachers, None, None), expected)


@pytest.mark.parametrize(
    ("own", "teachers", "words"),
    [
        ((4,), (7,), None),
        ((5, 4), (5, 7), None),
        ((4, 8, 8), (7, 4, 4), None),
        ((4, 8, 8), (32,), "as many dims"),
        ((5, 4), (6, 4), "as many positions"),
        ((1, 2, 3, 4, 5), (1, 2, 3, 4, 5), "one to four dims"),
    ],
)
def test_what_can_be_compared(own, teachers, words):
    found = mismatch(own, teachers)
    assert found is None if words is None else words in found
