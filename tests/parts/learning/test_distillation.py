"""The loss of a student against a direct formula, in sums over samples."""

import math

import pytest
import torch
from torch.nn import functional

from app.learning.distillation import Taught, followed, softened, student_loss
from app.learning.losses import loss

GENERATOR = torch.Generator().manual_seed(1)
CLASSES = torch.tensor([0, 3, 1, 1, 2])


def numbers(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def divergence(outputs, teachers, temperature):
    """T^2 KL(p || q) of one row of K outputs, number by number; teachers: a list of rows."""
    rows = [[math.exp(value / temperature) for value in row] for row in (outputs, *teachers)]
    shares = [[value / sum(row) for value in row] for row in rows]
    q, every = shares[0], shares[1:]
    p = [sum(column) / len(every) for column in zip(*every, strict=True)]
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("teachers", [1, 3])
def test_softened_is_the_divergence_of_every_sample(teachers, temperature):
    outputs, given = numbers(5, 4), numbers(teachers, 5, 4)
    expected = sum(divergence(outputs[m].tolist(), given[:, m].tolist(), temperature) for m in range(5))
    assert softened(temperature)(outputs, given).item() == pytest.approx(expected, rel=1e-5)


def test_of_positions_the_mean_is_taken():
    outputs, given = numbers(5, 3, 4), numbers(2, 5, 3, 4)
    rows = [divergence(outputs[m, t].tolist(), given[:, m, t].tolist(), 2.0) for m in range(5) for t in range(3)]
    assert softened(2.0)(outputs, given).item() == pytest.approx(sum(rows) / 3, rel=1e-5)


def test_a_student_that_gives_what_its_teacher_gives_has_no_loss():
    outputs = numbers(5, 4)
    assert softened(4.0)(outputs, outputs[None]).item() == pytest.approx(0, abs=1e-5)


def test_certain_teachers_give_finite_numbers():
    certain = torch.tensor([[[1000.0, 0.0, -1000.0, 0.0]]])
    outputs = torch.zeros(1, 4, requires_grad=True)
    found = softened(1.0)(outputs, certain)
    found.backward()
    assert found.item() == pytest.approx(math.log(4))
    assert outputs.grad.isfinite().all()


def test_the_gradient_at_high_temperature_is_that_of_the_outputs_squared_error():
    """Section 2.1 of the paper: (z - v) / K, for outputs of mean 0."""
    outputs, given = numbers(5, 4), numbers(5, 4)
    outputs, given = (values - values.mean(1, keepdim=True) for values in (outputs, given))
    outputs.requires_grad_()
    softened(1000.0)(outputs, given[None]).backward()
    torch.testing.assert_close(outputs.grad, (outputs.detach() - given) / 4, rtol=0.01, atol=1e-3)


def test_both_losses_are_mixed_where_something_is_taught():
    hard = loss("cross_entropy")
    outputs, given = numbers(5, 4), numbers(2, 5, 4)
    mixed = student_loss(hard, softened(3.0), 0.7)
    expected = 0.3 * hard(outputs, CLASSES) + 0.7 * softened(3.0)(outputs, given)
    torch.testing.assert_close(mixed(outputs, Taught(CLASSES, given).to(torch.device("cpu"))), expected)
    torch.testing.assert_close(mixed(outputs, CLASSES), hard(outputs, CLASSES))


def test_values_follow_the_mean_of_the_teachers():
    outputs, given = numbers(5, 2), numbers(3, 5, 2)
    found = followed(loss("mse"), probabilities=False)(outputs, given)
    torch.testing.assert_close(found, functional.mse_loss(outputs, given.mean(0), reduction="sum") / 2)


def test_logits_follow_the_mean_of_the_probabilities():
    outputs, given = numbers(5, 2), numbers(3, 5, 2)
    found = followed(loss("bce"), probabilities=True)(outputs, given)
    wanted = given.sigmoid().mean(0)
    expected = functional.binary_cross_entropy_with_logits(outputs, wanted, reduction="sum") / 2
    torch.testing.assert_close(found, expected)
