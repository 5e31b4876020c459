"""Metrics from sums against scikit-learn on all samples at once."""

import numpy as np
import pytest
import torch
from sklearn import metrics as theirs

from app.errors import DataError, NumbersError
from app.learning.metrics import Classification, Regression

SAMPLES, CLASSES = 500, 7


@pytest.fixture
def logits():
    return torch.randn(SAMPLES, CLASSES, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels(logits):
    noise = torch.randn(SAMPLES, CLASSES, generator=torch.Generator().manual_seed(2))
    return (logits + noise).argmax(1)


def _over_ranks(make, outputs, targets, sizes):
    """What the caller does: each rank adds its microbatches, the sums are added, every rank loads them."""
    ranks = [make() for _ in sizes]
    for metric, out, wanted in zip(ranks, outputs.split(sizes), targets.split(sizes), strict=True):
        for part, part_wanted in zip(out.split(64), wanted.split(64), strict=True):
            metric.add_(part, part_wanted)
    total = sum(metric.sums() for metric in ranks)
    ranks[-1].load_(total)
    return ranks[-1].result()


@pytest.mark.parametrize("sizes", [[500], [1, 499], [170, 0, 330], [100] * 5])
def test_classification_over_any_ranks_is_scikit_learns(logits, labels, sizes):
    found = _over_ranks(lambda: Classification(CLASSES, (2, 5)), logits, labels, sizes)
    predicted = logits.argmax(1)
    assert found["samples"] == SAMPLES
    assert found["accuracy"] == pytest.approx(theirs.accuracy_score(labels, predicted))
    assert found["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(labels, predicted))
    for k in (2, 5):
        assert found[f"top{k}_accuracy"] == pytest.approx(theirs.top_k_accuracy_score(labels, logits, k=k))
    assert np.array_equal(found["confusion"], theirs.confusion_matrix(labels, predicted))
    assert found["confusion"].dtype == np.int64


def test_top_k_that_every_sample_hits_is_left_out():
    assert Classification(5, (1, 3, 5, 9)).top_k == (3,)
    assert set(Classification(2).result()) == {"samples", "accuracy", "balanced_accuracy", "confusion"}


@pytest.mark.parametrize("sizes", [[50], [17, 0, 33], [10] * 5])
def test_positions_are_counted_each(logits, labels, sizes):
    nested = logits.view(50, 10, CLASSES), labels.view(50, 10)
    found = _over_ranks(lambda: Classification(CLASSES, (2,)), *nested, sizes)
    assert (found["samples"], found["positions"]) == (50, 500)
    hit = logits.argmax(1) == labels
    assert found["accuracy"] == int(hit.sum()) / 500
    recalls = [float(hit[labels == one].double().mean()) for one in range(CLASSES)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    second = logits.topk(2).indices.eq(labels[:, None]).any(1)
    assert found["top2_accuracy"] == int(second.sum()) / 500
    assert np.array_equal(found["confusion"], theirs.confusion_matrix(labels, logits.argmax(1)))


@pytest.mark.parametrize("sizes", [[50], [17, 0, 33]])
def test_values_of_positions_are_counted_each(logits, sizes):
    """Two values of 5 x 7 positions: the outputs of a sample are (35, 2)."""
    outputs = logits.double().view(50, 35, 2)
    targets = (outputs * 0.9 + 0.2) * torch.tensor([1.0, -3.0])
    found = _over_ranks(lambda: Regression(2, [0.1, -0.5]), outputs, targets, sizes)
    errors, spread = outputs - targets, targets - targets.mean((0, 1))
    assert (found["samples"], found["positions"]) == (50, 1750)
    assert found["rmses"] == pytest.approx((errors**2).mean((0, 1)).sqrt().numpy())
    assert found["maes"] == pytest.approx(errors.abs().mean((0, 1)).numpy())
    assert found["r2s"] == pytest.approx((1 - (errors**2).sum((0, 1)) / (spread**2).sum((0, 1))).numpy())
    assert found["rmse"] == pytest.approx(float((errors**2).mean().sqrt()))


def test_one_value_a_position_needs_no_third_dim():
    outputs, targets = torch.randn(4, 6, 1), torch.randn(4, 6)
    metric = Regression(1)
    metric.add_(outputs, targets)
    assert metric.result()["mae"] == pytest.approx(float((outputs[..., 0] - targets).abs().mean()))


def test_classes_of_a_language_are_counted_without_a_matrix_of_them(logits, monkeypatch):
    """As many numbers as classes, not their square: 10 GB for the words of a language."""
    labels, sizes = logits.argmax(1).roll(1), [170, 0, 330]
    whole = _over_ranks(lambda: Classification(CLASSES, (3,)), logits, labels, sizes)
    assert whole.pop("confusion").shape == (CLASSES, CLASSES)
    monkeypatch.setattr("app.learning.metrics.CONFUSION_CLASSES", CLASSES - 1)
    assert _over_ranks(lambda: Classification(CLASSES, (3,)), logits, labels, sizes) == whole
    assert len(Classification(50_000, (3,)).sums()) == 2 + 2 * 50_000


def test_nothing_counted_gives_nan_and_not_an_error():
    empty, regression = Classification(3).result(), Regression(2).result()
    assert empty["samples"] == regression["samples"] == 0
    values = [empty["accuracy"], empty["balanced_accuracy"], regression["rmse"], regression["r2"], regression["mae"]]
    assert np.isnan(values).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_an_error(logits, labels, bad):
    logits[3, 2] = bad
    with pytest.raises(NumbersError, match="1 of 3500 outputs"):
        Classification(CLASSES).add_(logits, labels)
    with pytest.raises(NumbersError, match="1 of 3500 outputs"):
        Regression(CLASSES).add_(logits, torch.zeros(SAMPLES, CLASSES))


@pytest.mark.parametrize("bad", [-1, 7])
def test_classes_the_network_does_not_have_are_an_error(logits, labels, bad):
    labels[5] = bad
    with pytest.raises(DataError, match=f"class {bad} .* 7 outputs: 0 to 6"):
        Classification(CLASSES).add_(logits, labels)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("sizes", [[500], [170, 0, 330]])
def test_regression_over_any_ranks_is_scikit_learns(logits, offset, sizes):
    targets = logits.double() * 0.9 + 0.2 + offset
    outputs = logits.double() + offset
    found = _over_ranks(lambda: Regression(CLASSES, targets.mean(0).numpy()), outputs, targets, sizes)
    assert found["rmse"] == pytest.approx(theirs.mean_squared_error(targets, outputs) ** 0.5)
    assert found["mae"] == pytest.approx(theirs.mean_absolute_error(targets, outputs))
    assert found["r2"] == pytest.approx(theirs.r2_score(targets, outputs), rel=1e-9)
    assert found["r2s"] == pytest.approx(theirs.r2_score(targets, outputs, multioutput="raw_values"), rel=1e-9)
    assert found["rmses"] == pytest.approx(theirs.root_mean_squared_error(targets, outputs, multioutput="raw_values"))


def test_one_target_per_sample_needs_no_second_dim():
    metric = Regression(1, 2.0)
    metric.add_(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1.0, 2.0, 3.0]))
    assert metric.result()["rmse"] == pytest.approx((1 / 3) ** 0.5)
    assert metric.result()["r2"] == pytest.approx(0.5)


def test_r2_of_constant_targets_is_scikit_learns():
    targets = np.full((4, 2), 0.1)
    outputs = targets + [[0.0, 0.5]]
    metric = Regression(2, 0.05)
    metric.add_(torch.tensor(outputs), torch.tensor(targets))
    assert metric.result()["r2s"].tolist() == theirs.r2_score(targets, outputs, multioutput="raw_values").tolist()


def test_sums_are_flat_new_arrays():
    metric = Classification(3, (2,))
    metric.add_(torch.eye(3), torch.arange(3))
    sums = metric.sums()
    assert sums.shape == (11,)
    assert sums.dtype == np.int64
    sums += 1
    assert metric.result()["samples"] == 3
    assert Regression(3).sums().dtype == np.float64
    assert Regression(3).sums().shape == (14,)
