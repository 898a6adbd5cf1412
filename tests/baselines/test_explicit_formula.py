"""The explicit formula: its identity on real zeros, the likelihood, T found again, causality."""

import math

import numpy as np
import pytest
from conftest import zeros
from scipy.special import logsumexp
from scipy.stats import kstest, multivariate_normal
from threadpoolctl import threadpool_limits

from zetalib.baselines import explicit_formula
from zetalib.baselines.explicit_formula import CELL, CENTRES, EDGES, SMOOTHING, Smoothing
from zetalib.errors import ZetaError
from zetalib.theory import zeta

pytestmark = pytest.mark.usefixtures("one_blas_thread")


@pytest.fixture(scope="module")
def stretches():
    """Stretches of 229 zeros below and above the tail, whose heights rounding moves by 0.4 %."""
    return [zeros(h, 228) for h in (1_004_900, 1_014_900, 1_144_800, 1_155_100)]


@pytest.fixture(scope="module")
def forecast(stretches):
    with threadpool_limits(1, "blas"):
        return [explicit_formula.forecasts(s[:-1], round(t, -4)) for s, t in stretches]


def test_heights_undo_the_unfolding():
    height, h = 1_012_345.0, np.array([0.0, 0.3, 41.0, 5000.0])
    u = [zeta.spacings(np.array([height]), np.array([x]))[0] for x in h]
    assert explicit_formula.heights(np.array(u), height) == pytest.approx(h, rel=1e-12, abs=1e-12)


def test_lines_are_prime_powers():
    frequency, variance = explicit_formula.spectrum(30)
    number = np.exp(frequency).round().astype(int)
    assert sorted(number) == [2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17, 19, 23, 25, 27, 29]
    weight = 2 * math.pi**2 * variance
    by_number = dict(zip(number.tolist(), weight, strict=True))
    assert by_number[16] == pytest.approx(1 / (16 * 16)) and by_number[7] == pytest.approx(1 / 7)


def test_the_table_is_the_covariance():
    smoothing = Smoothing(0.9, 0.0, 50)
    table = explicit_formula.process(1e6, 60.0, smoothing).table
    frequency, variance = explicit_formula.spectrum(50)
    x = np.linspace(math.log(50), 14, 40_001)
    rho = explicit_formula.density(1e6)
    beyond = 1 / (2 * math.pi**2 * np.maximum(x, x**2 / math.log(1e6 / (2 * math.pi))))
    for k in (0, 37, 10_000, 50_000):
        lag = k * explicit_formula.LAG
        lines = variance * np.exp(-((0.9 * frequency / rho) ** 2)) * np.cos(frequency * lag)
        rest = np.trapezoid(beyond * np.exp(-((0.9 * x / rho) ** 2)) * np.cos(x * lag), x)
        assert table[k] == pytest.approx(lines.sum() + rest, abs=1e-6)


@pytest.mark.parametrize(("width", "bound"), [(0.8, 2e-3), (1.2, 6e-5)])
def test_soft_counts_are_sums_over_primes(stretches, width, bound):
    spacing, height = stretches[0]
    u = np.append(0, np.cumsum(spacing))
    inside = slice(14, -14)
    soft = explicit_formula.left_side(u, width)[inside]
    t = height + explicit_formula.heights(u, height)[inside]
    frequency, variance = explicit_formula.spectrum(10_000)
    damped = np.exp(-((width * frequency / explicit_formula.density(height)) ** 2) / 2)
    series = -np.sin(np.outer(t, frequency)) @ (np.sqrt(2 * variance) * damped)
    assert np.std(soft) > 0.2
    assert np.std(soft - series) < bound


def dense(u, height, smoothing, cell):
    """Log likelihood of a cell of s after zeros `u`, by one matrix for each s'."""
    known = explicit_formula.process(height, 60.0, smoothing)
    w, x = smoothing.width, u[-1] + CENTRES[cell]
    points = np.append(u, x)
    lags = np.abs(np.subtract.outer(*2 * [explicit_formula.heights(points, height)]))
    at = np.arange(len(known.table)) * explicit_formula.LAG
    matrix = np.interp(lags, at, known.table) + explicit_formula.CONSTANT
    matrix += smoothing.noise * np.eye(len(points))
    below = explicit_formula._blurred(u, w)
    matrix[: len(u), : len(u)][: len(below), : len(below)] += below
    mean, variance = explicit_formula._reached(points, w)
    matrix[-1, -1] += variance[-1]
    touched = np.arange(len(points)) >= len(u) - explicit_formula.TOUCHED
    terms = []
    for j, after in enumerate(explicit_formula.AFTER):
        known_part = explicit_formula.left_side(points, w) - mean  # counts the trial zero as well
        early = ~touched
        known_part[early] -= [
            explicit_formula.ndtr((u[i] - x) / w) if len(u) - i <= explicit_formula.TOUCHED else 0
            for i in np.flatnonzero(early)
        ]
        _, more, p, q = explicit_formula._tails(x + after - points, w) * touched
        cov = matrix + np.outer(p, p) + np.outer(q, q)
        log = multivariate_normal(np.zeros(len(points)), cov).logpdf(known_part + more)
        terms.append(log + explicit_formula._following()[cell, j])
    return logsumexp(terms)


def test_the_likelihood_is_that_of_the_dense_model():
    spacing, height = zeros(1_014_000, 14)
    smoothing = Smoothing(0.8, 1e-3, 430)
    found = explicit_formula.likelihoods(spacing, height, len(spacing), smoothing)[0]
    u = np.append(0, np.cumsum(spacing))
    cells = [40, 120, 200, 300, 500]
    expected = np.array([dense(u, height, smoothing, c) for c in cells])
    assert found[cells] - found[200] == pytest.approx(expected - expected[2], abs=0.01)


def test_the_height_is_found_again(stretches):
    spacing, height = stretches[0]
    u, told = np.append(0, np.cumsum(spacing)), 1_000_000.0
    known = explicit_formula.process(told, 200.0, SMOOTHING)
    assert abs(told / height - 1) > 0.004
    *_, last = explicit_formula._followed(u, told, known)
    assert last[2] == pytest.approx(height, rel=3e-5)


def test_a_forecast_depends_on_the_past_alone(stretches):
    spacing, height = stretches[1]
    known, changed = spacing[:90].copy(), spacing[:90].copy()
    changed[70:] = changed[70:][::-1]
    one, other = (explicit_formula.likelihoods(s, round(height, -4)) for s in (known, changed))
    one, other = (x - x.max(1, keepdims=True) for x in (one, other))
    likely = one[:70] > -20
    assert np.abs(one - other)[:70][likely].max() < 1e-2
    assert np.abs(one - other)[70].max() > 1


def test_long_contexts_begin_where_they_are_told(stretches):
    spacing, height = stretches[2]
    all_of = explicit_formula.likelihoods(spacing, height, 1, SMOOTHING)
    few = explicit_formula.likelihoods(spacing, height, 200, SMOOTHING)
    assert few == pytest.approx(all_of[199:])


def test_forecasts_are_as_good_as_they_say(stretches, forecast):
    y = np.concatenate([s[128:] for s, _ in stretches])
    logpdf, pit, error = (
        np.concatenate(
            [getattr(f, name)(s[1:])[127:] for f, (s, _) in zip(forecast, stretches, strict=True)]
        )
        for name in ("logpdf", "cdf", "crps")
    )
    assert len(y) == len(logpdf) == 400
    assert -logpdf.mean() < -3.2
    assert error.mean() < 0.008
    assert kstest(pit, "uniform").statistic < 0.15


def test_zeros_repel_each_other(forecast):
    near = EDGES[:-1] < 0.05
    assert max(f.mass[:, :-1][:, near].sum(1).max() for f in forecast) < 0.02
    assert forecast[0].mass.sum(1) == pytest.approx(np.ones(227))
    assert CELL * len(CENTRES) == pytest.approx(explicit_formula.LONGEST)


def test_a_spacing_beyond_the_grid_is_not_beyond_all_chance(forecast):
    """The largest of the first 2 10^8 spacings is 3.633; the grid ends at 3.6."""
    assert (forecast[0].logpdf(np.full(227, 3.633)) > -15).all()


def test_zeros_ahead_are_counted(stretches):
    errors, claims = [], []
    for spacing, height in stretches:
        place, sd = explicit_formula.ahead(spacing[:128], round(height, -4), 100)
        errors.append(place - np.cumsum(spacing[128:228]))
        claims.append(sd)
    assert np.mean(np.abs(errors)) < 0.15  # 0.36 is knowing nothing
    assert 0.7 < np.std(np.array(errors) / claims) < 1.5
    assert (np.diff(place) >= 0).all()


@pytest.mark.parametrize(
    ("spacing", "height", "message"),
    [([1.0, 1.0], 50.0, "height 50"), ([1.0, -1.0], 1e6, "negative"), ([math.nan], 1e6, "finite")],
)
def test_what_cannot_be_is_refused(spacing, height, message):
    with pytest.raises(ZetaError, match=message):
        explicit_formula.likelihoods(np.array(spacing), height)


def test_primes_told_apart():
    assert explicit_formula.unresolved(1.0, 1e6) == (0, pytest.approx(0.333, abs=0.002))
    many, none_left = explicit_formula.unresolved(600.0, 1e6)
    assert none_left == 0 and many == len(explicit_formula.spectrum(398)[0])


def test_an_indefinite_matrix_is_given_noise():
    u = np.arange(40) * 0.3
    known = explicit_formula.process(1e6, 60.0, Smoothing(1.2, 1e-9, 430))
    off = known._replace(
        table=known.table - 2e-7 * np.cos(9 * explicit_formula.LAG * np.arange(len(known.table)))
    )
    lower = explicit_formula._factor(u, 1e6, off)
    noise = (lower @ lower.T)[-1, -1] - known.table[0] - explicit_formula.CONSTANT
    assert np.isfinite(lower).all() and 1e-7 < noise < 1e-4
