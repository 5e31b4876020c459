"""Losses are sums over samples, whatever pieces the samples come in."""

import pytest
import torch
from torch.nn import functional

from app.errors import InputError
from app.learning.losses import LOSSES, LossOptions, loss

OUTPUTS = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
VALUES = torch.randn(7, 4, generator=torch.Generator().manual_seed(2))
CLASSES = torch.tensor([0, 3, 1, 1, 2, 0, 3])


def _targets(name):
    return {"cross_entropy": CLASSES, "bce": (VALUES > 0).float()}.get(name, VALUES)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_a_batch_is_the_sum_over_its_pieces(name):
    function, targets = loss(name, LossOptions(label_smoothing=0.1, delta=0.7)), _targets(name)
    pieces = sum(function(o, t) for o, t in zip(OUTPUTS.split([1, 2, 4]), targets.split([1, 2, 4]), strict=True))
    torch.testing.assert_close(function(OUTPUTS, targets), pieces)
    assert function(OUTPUTS, targets).shape == ()


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("cross_entropy", lambda o, t: functional.cross_entropy(o, t, label_smoothing=0.1)),
        ("mse", functional.mse_loss),
        ("l1", functional.l1_loss),
        ("huber", lambda o, t: functional.huber_loss(o, t, delta=0.7)),
        ("bce", functional.binary_cross_entropy_with_logits),
    ],
)
def test_divided_by_the_samples_it_is_torchs_mean(name, theirs):
    ours = loss(name, LossOptions(label_smoothing=0.1, delta=0.7))(OUTPUTS, _targets(name)) / len(OUTPUTS)
    torch.testing.assert_close(ours, theirs(OUTPUTS, _targets(name)))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_positions_is_their_mean_within_a_sample(smoothing):
    outputs, targets = torch.randn(3, 5, 4), torch.randint(0, 4, (3, 5))
    logs = outputs - outputs.exp().sum(-1, keepdim=True).log()
    hits = logs.gather(-1, targets[..., None])[..., 0]
    expected = -((1 - smoothing) * hits + smoothing * logs.mean(-1)).mean(1).sum()
    function = loss("cross_entropy", LossOptions(label_smoothing=smoothing))
    torch.testing.assert_close(function(outputs, targets), expected)
    torch.testing.assert_close(
        function(outputs, targets), function(outputs[:1], targets[:1]) + function(outputs[1:], targets[1:])
    )


@pytest.mark.parametrize("name", LOSSES)
def test_samples_of_any_length_weigh_the_same(name):
    """Positions that are all alike: their number makes no difference."""
    targets = _targets(name)
    repeated = OUTPUTS[:, None].expand(7, 6, 4), targets[:, None].expand(7, 6, *targets.shape[1:])
    torch.testing.assert_close(loss(name)(*repeated), loss(name)(OUTPUTS, targets))


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("mse", lambda error: error**2),
        ("l1", torch.abs),
        ("huber", lambda error: torch.where(error.abs() < 1, error**2 / 2, error.abs() - 0.5)),
    ],
)
def test_values_of_positions_are_averaged_within_their_sample(name, formula):
    outputs, targets = torch.randn(3, 5, 2), torch.randn(3, 5, 2)
    torch.testing.assert_close(loss(name)(outputs, targets), formula(outputs - targets).mean((1, 2)).sum())


def test_class_probabilities_are_targets_too():
    soft = VALUES.softmax(1)
    expected = functional.cross_entropy(OUTPUTS, soft, reduction="sum")
    torch.testing.assert_close(loss("cross_entropy")(OUTPUTS, soft), expected)


@pytest.mark.parametrize("name", ["mse", "l1", "huber", "bce"])
def test_one_value_per_sample_needs_no_second_dim(name):
    outputs, targets = OUTPUTS[:, :1], _targets(name)[:, 0]
    assert torch.equal(loss(name)(outputs, targets), loss(name)(outputs, targets[:, None]))
    assert torch.equal(loss(name)(outputs, targets), loss(name)(outputs[:, 0], targets))


def test_targets_of_any_shape_belong_to_flat_outputs():
    assert torch.equal(loss("mse")(OUTPUTS, VALUES.view(7, 2, 2)), loss("mse")(OUTPUTS, VALUES))


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_outputs_are_summed_in_float32(name):
    result = loss(name)(OUTPUTS.bfloat16(), _targets(name))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, loss(name)(OUTPUTS.bfloat16().float(), _targets(name)))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_numbers(name):
    outputs = OUTPUTS.double().requires_grad_()
    targets = _targets(name)
    assert torch.autograd.gradcheck(lambda values: loss(name)(values, targets), outputs)


@pytest.mark.parametrize(
    ("name", "targets"),
    [("cross_entropy", CLASSES[:, None]), ("mse", VALUES[:, 0]), ("bce", VALUES[:, :3]), ("l1", VALUES.view(14, 2))],
)
def test_shapes_that_do_not_fit_are_refused_with_both(name, targets):
    with pytest.raises(InputError) as caught:
        loss(name)(OUTPUTS, targets)
    assert "(7, 4)" in str(caught.value)
    assert str(tuple(targets.shape)) in str(caught.value)


def test_unknown_losses_are_refused():
    with pytest.raises(InputError, match="'mae' is not known; use one of cross_entropy"):
        loss("mae")
