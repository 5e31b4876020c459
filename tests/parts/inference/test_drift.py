"""Index and distance against their formulas and scipy, and what chance gives."""

import numpy as np
import pytest
from scipy import stats

from app.inference.drift import drift, joined, ks, ks_by_chance, psi, psi_by_chance
from app.inputfile.using import Monitor


def test_the_index_is_its_formula():
    before, after = np.array([[400, 500, 100]]), np.array([[30, 50, 20]])
    p, q = (counts + 0.5 for counts in (before, after))
    p, q = p / p.sum(), q / q.sum()
    found, freedom = psi(before, after)
    assert found[0] == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert freedom[0] == 2


def test_bins_that_nobody_uses_do_not_count():
    found, freedom = psi(np.array([[50, 0, 50, 0]]), np.array([[50, 0, 50, 0]]))
    assert found[0] == 0
    assert freedom[0] == 1


def test_an_empty_bin_gives_a_large_index_not_infinity():
    found, _ = psi(np.array([[1000, 0]]), np.array([[500, 500]]))
    assert 2 < found[0] < 10


def test_the_distance_is_scipys():
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 12, 400), draw.integers(1, 14, 300)
    counts = [np.bincount(values, minlength=14)[None] for values in (a, b)]
    assert ks(*counts)[0] == pytest.approx(stats.ks_2samp(a, b).statistic)


def test_of_a_constant_the_share_of_other_values_counts():
    assert ks(np.array([[0, 900, 0]]), np.array([[10, 70, 20]]))[0] == pytest.approx(0.3)


def test_without_new_values_nothing_differs():
    before, nothing = np.array([[5, 6]]), np.zeros((1, 2), np.int64)
    found = drift(before, nothing, (11, 0), Monitor())
    assert [found.psi[0], found.ks[0], found.drifted[0]] == [0, 0, False]


def test_bins_are_joined_to_about_equal_ones():
    before = np.random.default_rng(0).integers(90, 110, (4, 64))
    found = joined(before, before)
    assert found.shape == (4, 10)
    np.testing.assert_allclose(found / before.sum(axis=1, keepdims=True), 0.1, atol=0.02)
    np.testing.assert_array_equal(found.sum(axis=1), before.sum(axis=1))


@pytest.mark.parametrize("freedom", [1, 3, 9, 250])
@pytest.mark.parametrize("alpha", [1e-3, 1e-6])
def test_chance_of_the_index_is_that_of_chi_square(freedom, alpha):
    """Up to the approximation, which asks for more in far tails of few degrees of freedom."""
    exact = 0.01 * stats.chi2.isf(alpha, freedom)
    assert 0.98 * exact < psi_by_chance(freedom, 0.01, alpha) < 1.16 * exact


def test_chance_of_the_distance_is_that_of_kolmogorov():
    scale, alpha = 1 / 500 + 1 / 2000, 1e-4
    assert ks_by_chance(scale, alpha) == pytest.approx(stats.kstwobign.isf(alpha) * scale**0.5, rel=0.01)


@pytest.mark.parametrize(("psi_limit", "ks_limit", "drifted"), [(0.1, 0.1, True), (50, 0.1, False), (0.1, 0.9, False)])
def test_both_limits_have_to_be_exceeded(psi_limit, ks_limit, drifted):
    before, after = np.array([[500, 500, 500]]), np.array([[100, 500, 900]])
    found = drift(before, after, (1500, 1500), Monitor(psi=psi_limit, ks=ks_limit))
    assert bool(found.drifted[0]) is drifted


def test_few_samples_prove_nothing():
    before, after = np.array([[500, 500, 500]]), np.array([[1, 5, 9]])
    assert not drift(before, after, (1500, 15), Monitor()).drifted[0]
    assert drift(before, 100 * after, (1500, 1500), Monitor()).drifted[0]
