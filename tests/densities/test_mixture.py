"""Mixture formulas against independent ones: scipy, quadrature, sampling."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import ndtri

from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError


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
    import scoringrules  # here, since it compiles for seconds

    m, y = random_mixture(1000, seed=7), np.random.default_rng(7).uniform(0, 3, 1000)
    assert m.crps(y).tobytes() == scoringrules.crps_mixnorm(y, m.mu, m.sigma, m.pi).tobytes()


def test_samples_follow_the_mixture():
    m = random_mixture(1, seed=5)
    many = Mixture(*(np.repeat(a, 50_000, 0) for a in (m.pi, m.mu, m.sigma)))
    x = many.sample(np.random.default_rng(0))
    assert stats.kstest(many.cdf(x), "uniform").pvalue > 0.01
    assert x.mean() == pytest.approx(m.mean()[0], abs=0.01)


def test_a_draw_is_what_its_numbers_stand_for():
    pi = np.array([[0.2, 0.0, 0.5, 0.3]] * 2)
    m = Mixture(pi, np.array([[1.0, 2.0, 3.0, 4.0]] * 2), np.full((2, 4), 0.5))
    for uniform, component in ((0.0, 1), (0.199, 1), (0.2, 3), (0.699, 3), (0.701, 4), (1.0, 4)):
        found = m.draw(np.full(2, uniform), np.array([0.0, -2.0]))
        assert found.tolist() == [component, component - 1.0]
    both = m.draw(np.array([0.1, 0.9]), np.array([1.0, 0.0]))
    assert both.tolist() == [1.5, 4.0]
    numbers, rng = np.random.default_rng(3), np.random.default_rng(3)
    uniform, normal = numbers.random(2), numbers.standard_normal(2)
    assert np.array_equal(m.sample(rng), m.draw(uniform, normal))


def test_draws_of_some_are_those_of_all():
    rng = np.random.default_rng(0)
    pi = rng.dirichlet(np.ones(5), (6, 4))
    m = Mixture(pi, rng.normal(size=pi.shape), rng.uniform(0.1, 1, pi.shape))
    uniform, normal = rng.random((6, 4)), rng.standard_normal((6, 4))
    whole = m.draw(uniform, normal)
    assert whole.shape == (6, 4)
    for i in range(6):
        assert np.array_equal(m[i].draw(uniform[i], normal[i]), whole[i])


def test_mixtures_in_another_shape_are_the_same_mixtures():
    rng = np.random.default_rng(0)
    pi = rng.dirichlet(np.ones(3), 12)
    m = Mixture(pi, rng.normal(size=pi.shape), rng.uniform(0.1, 1, pi.shape))
    other = m.reshape(4, 3)
    assert other.pi.shape == other.mu.shape == other.sigma.shape == (4, 3, 3)
    assert np.array_equal(other.mean(), m.mean().reshape(4, 3))
    assert np.array_equal(other[2, 1].mu, m.mu[7])
    back = other.reshape(-1)
    for name in ("pi", "mu", "sigma"):
        assert np.array_equal(getattr(back, name), getattr(m, name))


def test_weight_entropy_spans_zero_to_log_k():
    one = Mixture(np.array([[1.0, 0, 0, 0]]), np.zeros((1, 4)), np.ones((1, 4)))
    even = Mixture(np.full((1, 4), 0.25), np.zeros((1, 4)), np.ones((1, 4)))
    assert one.weight_entropy() == pytest.approx(0) and even.weight_entropy() == pytest.approx(
        np.log(4)
    )


# The whole range: weights from 0 on, deviations and distances of 1e-300 to 1e300


TINY = [0.0, 5e-324, 1e-300, 1e-20, 1e-17, 1e-16, 1e-15, 1e-14]
LEVELS = [1e-12, 1e-6, 0.005, 0.05, 0.3, 0.5, 0.7, 0.95, 0.995, 1 - 1e-6, 1 - 1e-12]
length = st.floats(-300, 300).map(lambda e: 10.0**e)


@st.composite
def mixtures(draw):
    """One mixture of up to five Gaussians of any weights and widths, apart by any distance."""
    k = draw(st.integers(1, 5))
    weight = draw(st.lists(st.sampled_from(TINY) | st.floats(0, 1), min_size=k, max_size=k))
    weight[draw(st.integers(0, k - 1))] = 1.0
    sigma = np.array(draw(st.lists(length, min_size=k, max_size=k)))
    if draw(st.booleans()):
        sigma[:] = sigma[0]
    at = draw(st.sampled_from([0.0, 1.0]) | length | length.map(lambda x: -x))
    turns = draw(st.lists(st.integers(-3, 3) | st.floats(-1e3, 1e3), min_size=k, max_size=k))
    unit = draw(st.sampled_from(["own", "ulps", "any"]))
    step = {"own": sigma, "ulps": np.spacing(at), "any": draw(length)}[unit]
    pi = np.array(weight) / sum(weight)
    with np.errstate(over="ignore"):
        mu = np.clip(at + np.array(turns) * step, -1e300, 1e300)
    return Mixture(pi[None], mu[None], sigma[None])


def exact_cdf(m, x):
    """The distribution function of the first mixture at a float, by mpmath."""
    total, parts = mpmath.mpf(0), zip(m.pi[0], m.mu[0], m.sigma[0], strict=True)
    for p, mu, sigma in ((mpmath.mpf(float(v)) for v in part) for part in parts):
        z = (mpmath.mpf(float(x)) - mu) / sigma
        total += p * mpmath.ncdf(min(max(z, -60), 60))  # erfc does not take 1e154
    return total


@settings(max_examples=100)
@given(mixtures())
def test_quantiles_are_right_whatever_the_weights_and_widths(m):
    """In a row by level, among those of the components, and where the function crosses it."""
    found = np.array([m.quantile(q)[0] for q in LEVELS])
    assert np.isfinite(found).all()
    close = 8 * np.spacing(np.abs(found))
    assert (np.diff(found) >= -close[1:] - close[:-1]).all()
    counts = m.pi[0] > 0
    for q, x, error in zip(LEVELS, found, close, strict=True):
        own = (m.mu + m.sigma * ndtri(q))[0, counts]
        assert own.min() <= x <= own.max()
        rounding = 1e-15 + 4 * np.spacing(q)
        assert m.cdf(x - error)[0] <= q + rounding and m.cdf(x + error)[0] >= q - rounding


@settings(max_examples=40)
@given(mixtures(), st.sampled_from(LEVELS))
def test_quantiles_agree_with_forty_digits(m, q):
    with mpmath.workdps(40):
        x = m.quantile(q)[0]
        error = 8 * np.spacing(abs(x))
        rounding = 1e-15 + 4 * np.spacing(q)  # of weights and of ndtr
        assert exact_cdf(m, x - error) <= q + rounding
        assert exact_cdf(m, x + error) >= q - rounding


@pytest.mark.parametrize("weight", TINY)
@pytest.mark.parametrize("others", [1, 7])
def test_a_quantile_is_a_number_where_some_weights_are_next_to_nothing(weight, others):
    m, rng = random_mixture(500, others + 1, seed=2), np.random.default_rng(3)
    pi = np.full(m.pi.shape, weight)
    pi[np.arange(500), rng.integers(0, others + 1, 500)] = 1 - others * weight
    m = Mixture(pi, m.mu, m.sigma)
    for q in LEVELS:
        found = m.quantile(q)
        assert np.isfinite(found).all()
        assert np.abs(m.cdf(found) - q).max() < 1e-14


def test_a_quantile_is_a_number_where_components_agree_to_a_few_floats():
    rng = np.random.default_rng(4)
    m = random_mixture(500, seed=4)
    off = [1 + np.finfo(float).eps * rng.integers(0, 5, m.pi.shape) for _ in range(2)]
    m = Mixture(m.pi, off[0] * m.mu[:, :1], off[1] * m.sigma[:, :1])
    for q in LEVELS:
        expected = m.mu[:, 0] + m.sigma[:, 0] * ndtri(q)
        assert m.quantile(q) == pytest.approx(expected, rel=1e-12, abs=1e-14)


@settings(max_examples=60)
@given(mixtures(), st.sampled_from([0.0, 1.0, -1.0, 30.0]) | length)
def test_density_and_crps_agree_with_forty_digits(m, apart):
    with mpmath.workdps(40):
        pi, mu, sigma = ([mpmath.mpf(float(v)) for v in a[0]] for a in (m.pi, m.mu, m.sigma))
        with np.errstate(over="ignore"):
            y = np.clip(m.mu[0, 0] + m.sigma[0, 0] * np.float64(apart), -1e300, 1e300)
        at, every = mpmath.mpf(float(y)), range(len(pi))
        z = [(at - mu[i]) / sigma[i] for i in every]
        logs = [
            mpmath.log(pi[i]) - z[i] ** 2 / 2 - mpmath.log(sigma[i] * mpmath.sqrt(2 * mpmath.pi))
            for i in every
            if pi[i] > 0
        ]
        most = max(logs)
        log = most + mpmath.log(mpmath.fsum(mpmath.exp(max(v - most, -200)) for v in logs))
        found = m.logpdf([y])[0]
        # Of (y - mu) / sigma the last digit is lost.
        lost = 1e-14 * (1 + abs(log) + max(v**2 for v in z))
        assert abs(found - log) <= lost if log > -1e308 else found < -9e307

        def distance(mean, width):
            z = mean / width
            part = mean * mpmath.erf(z / mpmath.sqrt(2)) if abs(z) < 60 else abs(mean)
            return part + 2 * width * mpmath.npdf(min(abs(z), 60))

        from_y = mpmath.fsum(pi[i] * distance(at - mu[i], sigma[i]) for i in every)
        within = mpmath.fsum(
            pi[i] * pi[j] * distance(mu[i] - mu[j], mpmath.hypot(sigma[i], sigma[j]))
            for i in every
            for j in every
        )
        found = m.crps([y])[0]
        assert abs(found - (from_y - within / 2)) <= 1e-14 * from_y and found >= -1e-15 * from_y
        mean, size = (
            mpmath.fsum(p * f(u) for p, u in zip(pi, mu, strict=True)) for f in (mpmath.mpf, abs)
        )
        assert abs(m.mean()[0] - mean) <= 1e-15 * size + 1e-323


def test_no_draw_is_from_a_component_of_weight_zero():
    class Ends:
        """A generator whose uniform numbers are the least and the greatest."""

        def random(self, shape):
            return np.resize([0.0, 1 - 2**-53], shape)

        def standard_normal(self, shape):
            return np.zeros(shape)

    pi = np.tile([0.0, 0.1, 0.2, 0.3, 0.4 - 2e-16, 0.0], (6, 1))  # sums to a little less than 1
    m = Mixture(pi, np.tile([-9.0, 1, 2, 3, 4, 9], (6, 1)), np.ones(pi.shape))
    assert m.sample(Ends()).tolist() == [1, 4] * 3


def test_crps_of_one_forecast_does_not_depend_on_what_is_beside_it():
    m, y = random_mixture(3, seed=6), np.array([0.4, 1.1, 2.0])
    sigma = m.sigma.copy()
    sigma[1] *= 1e-200
    assert Mixture(m.pi, m.mu, sigma).crps(y)[[0, 2]].tolist() == m.crps(y)[[0, 2]].tolist()


@pytest.mark.parametrize(
    ("part", "value", "problem"),
    [
        ("pi", np.nan, "forecast 1: pi is nan, expected weights from 0"),
        ("pi", -0.1, "pi is -0.1, expected weights from 0"),
        ("pi", 1.5, "pi sums to 2.0, expected 1 within 1e-06"),
        ("mu", np.inf, "mu is inf, expected finite numbers"),
        ("mu", np.nan, "mu is nan, expected finite numbers"),
        ("sigma", 0.0, "sigma is 0.0, expected finite numbers above 0"),
        ("sigma", -0.3, "sigma is -0.3, expected finite numbers above 0"),
        ("sigma", np.nan, "sigma is nan, expected finite numbers above 0"),
        ("sigma", np.inf, "sigma is inf, expected finite numbers above 0"),
    ],
)
def test_what_is_no_mixture_is_refused(part, value, problem):
    parts = {name: np.full((3, 2), 0.5) for name in ("pi", "mu", "sigma")}
    parts[part][1, 0] = value
    with pytest.raises(ZetaError, match=problem):
        Mixture(**parts)


def test_what_does_not_fit_together_or_into_floats_is_refused():
    ones = np.ones((3, 1))
    with pytest.raises(ZetaError, match="not of one"):
        Mixture(ones, ones, np.ones((3, 2)))
    with pytest.raises(
        ZetaError, match="forecast 0: its 0.999-quantile is beyond the largest float"
    ):
        Mixture(ones, ones, 1e308 * ones).quantile(0.999)
