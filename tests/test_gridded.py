"""Gridded densities: every score against quadrature, sampling and the closed form of a Gaussian."""

import numpy as np
import pytest
from scipy import integrate

from zetalib.errors import ZetaError
from zetalib.gridded import Gridded
from zetalib.mixture import Mixture

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
        (EDGES, 2 * MASS, "does not sum to one"),
        (EDGES, MASS - [[0.2, -0.2, 0, 0]], "negative mass"),
    ],
)
def test_what_is_no_distribution_is_refused(edges, mass, message):
    with pytest.raises(ZetaError, match=message):
        Gridded(edges, mass)
