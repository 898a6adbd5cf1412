"""Mixture formulas against independent ones: scipy, quadrature, sampling."""

import numpy as np
import pytest
import scoringrules
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from zetalib.mixture import Mixture


def random_mixture(m, k=8, seed=0):
    rng = np.random.default_rng(seed)
    pi = rng.dirichlet(np.ones(k), m)
    return Mixture(pi, rng.normal(1, 0.5, (m, k)), rng.uniform(0.02, 0.6, (m, k)))


def test_density_and_distribution_agree_with_scipy():
    m, y = random_mixture(50), np.random.default_rng(1).uniform(0, 3, 50)
    pdf = (m.pi * stats.norm.pdf(y[:, None], m.mu, m.sigma)).sum(1)
    cdf = (m.pi * stats.norm.cdf(y[:, None], m.mu, m.sigma)).sum(1)
    assert np.allclose(m.pdf(y), pdf, rtol=1e-12) and np.allclose(m.cdf(y), cdf, rtol=1e-12)


def test_log_density_far_out_is_finite_and_zero_weights_do_no_harm():
    m = Mixture(np.array([[1.0, 0.0]]), np.array([[1.0, 5.0]]), np.array([[0.01, 0.01]]))
    expected = stats.norm.logpdf(3.0, 1.0, 0.01)
    assert m.logpdf(np.array([3.0])) == pytest.approx(expected, rel=1e-12)


@given(st.floats(1e-6, 1 - 1e-6), st.integers(0, 1000))
def test_quantile_inverts_the_distribution_function(q, seed):
    m = random_mixture(20, seed=seed)
    assert np.abs(m.cdf(m.quantile(q)) - q).max() < 1e-10


def extreme(m, seed, smallest):
    """Mixtures near 1 whose Gaussians differ in width by many powers of ten."""
    rng = np.random.default_rng(seed)
    sigma = 10 ** rng.uniform(smallest, 1, (m, 8))
    return Mixture(rng.dirichlet(np.full(8, 0.3), m), 1 + sigma * rng.normal(0, 1, (m, 8)), sigma)


@pytest.mark.parametrize("q", [0.005, 0.05, 0.25, 0.5, 0.95, 0.995])
def test_quantile_inverts_the_distribution_function_at_extreme_widths(q):
    m = extreme(3000, seed=int(1000 * q), smallest=-6)
    # A float resolves 2.2e-16 near 1, the distribution function rises by 0.4 / 1e-6 at most.
    assert np.abs(m.cdf(m.quantile(q)) - q).max() < 1e-9
    finest = extreme(3000, seed=int(1000 * q), smallest=-13)
    found = finest.quantile(q)
    near = 8 * np.spacing(np.abs(found))  # the floats next to it enclose the level
    assert (finest.cdf(found - near) <= q + 1e-12).all()
    assert (finest.cdf(found + near) >= q - 1e-12).all()


def test_closed_form_crps_agrees_with_sampling_at_extreme_widths():
    """Within four standard errors of 10,000 pairs, each in its own width."""
    draws, m = 10_000, extreme(40, seed=9, smallest=-6)
    m = Mixture(np.full((40, 8), 1 / 8), m.mu, m.sigma)  # no rare one that sampling would miss
    y = m.mean() + m.sigma.min(-1)
    rng = np.random.default_rng(1)
    one, two = (np.stack([m.sample(rng) for _ in range(draws)]) for _ in range(2))
    terms = 0.5 * (np.abs(one - y) + np.abs(two - y) - np.abs(one - two))
    error = terms.std(0, ddof=1) / np.sqrt(draws)
    assert (np.abs(m.crps(y) - terms.mean(0)) < 4 * error + 1e-15).all()


def test_quantile_of_one_gaussian_and_of_equal_ones():
    m = Mixture(np.ones((1, 1)), np.array([[1.0]]), np.array([[0.5]]))
    assert m.quantile(0.975) == pytest.approx(stats.norm.ppf(0.975, 1, 0.5), abs=1e-12)
    m = Mixture(np.full((1, 2), 0.5), np.ones((1, 2)), np.full((1, 2), 0.5))
    assert m.quantile(0.1) == pytest.approx(stats.norm.ppf(0.1, 1, 0.5), abs=1e-12)


@pytest.mark.parametrize("q", [0.0, 1.0, -1, 2])
def test_quantile_needs_a_probability(q):
    with pytest.raises(ValueError, match="0 < q < 1"):
        random_mixture(1).quantile(q)


def test_closed_form_crps_agrees_with_its_defining_integral():
    m, y = random_mixture(5, seed=3), np.array([0.1, 0.7, 1.0, 1.6, 2.9])
    for i, found in enumerate(m.crps(y)):
        one = m[i : i + 1]
        below = integrate.quad(lambda x: one.cdf([x])[0] ** 2, -4, y[i], limit=200)[0]
        above = integrate.quad(lambda x: (1 - one.cdf([x])[0]) ** 2, y[i], 6, limit=200)[0]
        assert found == pytest.approx(below + above, abs=1e-7)


def test_closed_form_crps_agrees_with_sampling():
    m, y = random_mixture(1, seed=4), 0.8
    many = Mixture(*(np.repeat(a, 200_000, 0) for a in (m.pi, m.mu, m.sigma)))
    x = many.sample(np.random.default_rng(0))
    x1, x2 = x[:100_000], x[100_000:]
    estimate = np.abs(x - y).mean() - 0.5 * np.abs(x1 - x2).mean()
    assert m.crps([y])[0] == pytest.approx(estimate, abs=0.005)


def test_closed_form_crps_is_that_of_scoringrules_to_the_bit():
    m, y = random_mixture(1000, seed=7), np.random.default_rng(7).uniform(0, 3, 1000)
    assert m.crps(y).tobytes() == scoringrules.crps_mixnorm(y, m.mu, m.sigma, m.pi).tobytes()


def test_samples_follow_the_mixture():
    m = random_mixture(1, seed=5)
    many = Mixture(*(np.repeat(a, 50_000, 0) for a in (m.pi, m.mu, m.sigma)))
    x = many.sample(np.random.default_rng(0))
    assert stats.kstest(many.cdf(x), "uniform").pvalue > 0.01
    assert x.mean() == pytest.approx(m.mean()[0], abs=0.01)


def test_weight_entropy_spans_zero_to_log_k():
    one = Mixture(np.array([[1.0, 0, 0, 0]]), np.zeros((1, 4)), np.ones((1, 4)))
    even = Mixture(np.full((1, 4), 0.25), np.zeros((1, 4)), np.ones((1, 4)))
    assert one.weight_entropy() == pytest.approx(0) and even.weight_entropy() == pytest.approx(
        np.log(4)
    )
