"""Gridded densities: every score against quadrature, sampling and the closed form of a Gaussian."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from zetalib.densities.histogram import Gridded
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError

RNG = np.random.default_rng(5)
EDGES = np.array([0.0, 0.3, 0.5, 1.2, 2.0])
MASS = np.array([[0.1, 0.4, 0.3, 0.2], [0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]])
FEW = Gridded(EDGES, MASS)


@pytest.mark.parametrize("y", [-0.2, 0.0, 0.31, 0.9, 1.99, 2.0, 2.7])
def test_scores_are_integrals_of_the_density(y):
    at = np.full(3, y)
    found = FEW.crps(at), FEW.cdf(at)
    for i in range(3):
        one = FEW[i : i + 1]
        parts = [-0.2, *EDGES, 2.7]

        def gap(x, one=one):
            return float(one.cdf(np.array([x]))[0] - (x >= y)) ** 2

        crps = integrate.quad(gap, -0.2, 2.7, points=[*parts[1:-1], y], limit=200)[0]
        below = integrate.quad(
            lambda x, one=one: float(one.pdf(np.array([x]))[0]), -0.2, y, points=EDGES, limit=200
        )[0]
        assert found[0][i] == pytest.approx(crps, abs=1e-7)
        assert found[1][i] == pytest.approx(below, abs=1e-7)


def test_quantiles_invert_the_distribution():
    for q in (0.01, 0.1, 0.25, 0.77, 0.999):
        assert FEW.cdf(FEW.quantile(q)) == pytest.approx(np.full(3, q))
    with pytest.raises(ValueError, match="0 < q < 1"):
        FEW.quantile(1.0)


def test_a_fine_grid_is_the_gaussian_it_was_made_from():
    edges = np.linspace(-4, 6, 4001)
    ones = np.ones((6, 1))
    gauss = Mixture(ones, np.linspace(0.5, 1.5, 6)[:, None], np.linspace(0.2, 0.5, 6)[:, None])
    steps = np.array([gauss.cdf(np.full(6, e)) for e in edges])
    fine = Gridded(edges, np.diff(steps, axis=0).T)
    y = RNG.normal(1, 0.4, 6)
    # Within a cell the density is constant: off by its slope times half a cell.
    for name, tolerance in (("logpdf", 0.01), ("cdf", 2e-5), ("crps", 2e-5)):
        assert getattr(fine, name)(y) == pytest.approx(getattr(gauss, name)(y), abs=tolerance)
    assert fine.mean() == pytest.approx(gauss.mean(), abs=1e-6)
    assert fine.quantile(0.9) == pytest.approx(gauss.quantile(0.9), abs=1e-5)


def test_draws_follow_the_distribution():
    many = Gridded(EDGES, np.repeat(MASS[:1], 20_000, 0))
    drawn = many.sample(np.random.default_rng(1))
    counts = np.histogram(drawn, EDGES)[0] / 20_000
    assert counts == pytest.approx(MASS[0], abs=0.012)
    assert np.abs(np.sort(many.cdf(drawn)) - np.linspace(0, 1, 20_000)).max() < 0.015


def test_outside_the_grid_there_is_nothing():
    assert np.isneginf(FEW.logpdf(np.full(3, 2.5))).all() and (FEW.pdf(np.full(3, -1)) == 0).all()


@pytest.mark.parametrize(
    ("edges", "mass", "message"),
    [
        (EDGES[:-1], MASS, "for 4 edges"),
        (EDGES[::-1], MASS, "do not ascend"),
        (np.append(EDGES[:-1], np.inf), MASS, "do not ascend"),
        (EDGES, MASS * [[1, np.nan, 1, 1]], "negative mass or does not sum"),
        (EDGES, 2 * MASS, "does not sum to one"),
        (EDGES, MASS - [[0.2, -0.2, 0, 0]], "negative mass"),
    ],
)
def test_what_is_no_distribution_is_refused(edges, mass, message):
    with pytest.raises(ZetaError, match=message):
        Gridded(edges, mass)


LEVELS = [1e-12, 1e-6, 0.005, 0.05, 0.3, 0.5, 0.7, 0.95, 0.995, 1 - 1e-6, 1 - 1e-12]
length = st.floats(-300, 299).map(lambda e: 10.0**e)


@st.composite
def densities(draw):
    """One density of up to eight cells, of any masses and widths."""
    cells = draw(st.integers(1, 8))
    mass = st.sampled_from([0.0, 5e-324, 1e-20, 1e-16]) | st.floats(0, 1)
    mass = draw(st.lists(mass, min_size=cells, max_size=cells))
    mass[draw(st.integers(0, cells - 1))] = 1.0
    start = draw(st.sampled_from([0.0, 1.0]) | length | length.map(lambda x: -x))
    edges = start + np.cumsum([0.0, *draw(st.lists(length, min_size=cells, max_size=cells))])
    edges = np.maximum.accumulate(edges)
    for i in range(cells):
        edges[i + 1] = max(edges[i + 1], np.nextafter(edges[i], np.inf))
    return Gridded(edges, np.array([mass]) / sum(mass))


@settings(max_examples=200)
@given(densities())
def test_quantiles_are_right_whatever_the_masses_and_widths(density):
    """In a row by level, in cells that have mass, and where the function crosses the level."""
    found = np.array([density.quantile(q)[0] for q in LEVELS])
    assert np.isfinite(found).all() and (np.diff(found) >= -np.spacing(np.abs(found[1:]))).all()
    full = np.flatnonzero(density.mass[0] > 0)
    for q, x in zip(LEVELS, found, strict=True):
        within = [density.edges[k] <= x <= np.nextafter(density.edges[k + 1], np.inf) for k in full]
        assert any(within)
        near = 2 * np.spacing(abs(x))
        assert density.cdf([x - near])[0] <= q + 2e-15 and density.cdf([x + near])[0] >= q - 2e-15


@settings(max_examples=100)
@given(densities(), st.floats(0, 1))
def test_mean_and_crps_agree_with_forty_digits(density, place):
    low, high = density.edges[0], density.edges[-1]
    y = low + place * (high - low)
    with mpmath.workdps(40):
        edges = [mpmath.mpf(float(e)) for e in density.edges]
        mass, at = [mpmath.mpf(float(v)) for v in density.mass[0]], mpmath.mpf(float(y))
        mean = mpmath.fsum(v * (a + b) / 2 for v, a, b in zip(mass, edges, edges[1:], strict=False))
        crps, upto = mpmath.mpf(0), mpmath.mpf(0)
        for v, a, b in zip(mass, edges, edges[1:], strict=False):
            middle = min(max(at, a), b)
            f = upto + v * (middle - a) / (b - a)
            for c, d, left, right in (
                (upto, f, a, middle),
                (1 - f, 1 - upto - v, middle, b),
            ):
                crps += (c**2 + c * d + d**2) / 3 * (right - left)
            upto += v
        size = max(abs(float(low)), abs(float(high)))
        assert abs(density.mean()[0] - mean) <= 1e-15 * size
        assert abs(density.crps([y])[0] - crps) <= 1e-14 * (high - low)
    assert not np.isnan(density.logpdf([y])).any()


def test_neither_quantile_nor_draw_is_where_no_mass_is():
    class Ends:
        def random(self, size):
            return np.resize([0.0, 1 - 2**-53], size)

    mass = np.array([[0.0, 0.3, 0.7 - 1e-7, 0.0]] * 2)  # sums to a little less than one
    density = Gridded(EDGES, mass)
    assert density.quantile(1 - 1e-12).tolist() == [1.2, 1.2]
    assert (density.sample(Ends()) >= 0.3).all() and (density.sample(Ends()) <= 1.2).all()
