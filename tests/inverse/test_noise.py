"""Noise of spacings: estimated from them alone, as a stretch goes on."""

import numpy as np
import pytest
from conftest import zeros

from zetalib.inverse import noise, solver
from zetalib.inverse.solver import MISFIT, SD, SPACING, SequentialSolver

T = 160


@pytest.fixture(scope="module")
def stretch():
    spacing, height = zeros(1_000_000, T)
    return spacing, float(round(height, -4))


def disturbed(spacing, size, seed=0):
    places = np.append(0, spacing.cumsum())
    return np.diff(places + size * np.random.default_rng(seed).standard_normal(len(places)))


@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-3])
def test_noise_of_places_is_found(stretch, size):
    found = noise.estimate(disturbed(stretch[0], size), stretch[1])
    assert size / 2 < found < size * 2


def test_exact_spacings_are_found_exact(stretch):
    assert noise.estimate(*stretch) < 1e-7


@pytest.mark.parametrize(
    ("rounded", "low", "high"),
    [
        (lambda s: s.astype(np.float32).astype(float), 3e-8, 1e-6),
        (lambda s: np.round(s, 3), 5e-4, 2e-2),  # errors of spacings add up along a stretch
        (lambda s: np.diff(np.round(np.append(0, s.cumsum()), 8)), 1e-9, 1e-8),
    ],
    ids=["float32", "three digits", "places to 1e-8"],
)
def test_rounding_is_found(stretch, rounded, low, high):
    found = noise.estimate(rounded(stretch[0]), stretch[1])
    assert low / 1.01 < found < high * 1.01


def test_deviations_have_the_noise_in_them(stretch):
    spacing, height = disturbed(stretch[0], 1e-4), stretch[1]
    found = noise.follow(spacing[:-1], height)
    off = (spacing[1:] - found[:, SPACING]) / found[:, SD]
    late = off[100:]
    assert (found[100:, SD] > 1e-4).all() and np.median(found[100:, SD]) < 1e-2
    assert 0.5 < np.sqrt(np.median(late**2)) / 0.6745 < 1.6
    told = noise.follow(spacing[:-1], height, 1e-4)
    assert np.median(found[120:, SD]) < 1.5 * np.median(told[120:, SD])


def test_exact_stretches_are_followed_as_by_the_solver(stretch):
    spacing, height = stretch
    assert np.array_equal(noise.follow(spacing, height), solver.follow(spacing, height))


def test_a_forecast_sees_nothing_that_follows_it(stretch):
    spacing, height = disturbed(stretch[0], 1e-4, 3), stretch[1]
    whole = noise.follow(spacing, height)
    for t in (50, 90):
        assert np.array_equal(noise.follow(spacing[:t], height), whole[:t])


def test_evidence_is_that_of_the_gaussian_it_stands_for(stretch):
    """Against the density of b under J J^T + sigma^2, by determinant and inverse."""
    spacing, height = stretch[0][:50], stretch[1]
    run = SequentialSolver(height, len(spacing), noise=1e-3)
    run.append(spacing, len(spacing) - 1)
    state, n = run.state, len(spacing) + 1
    rows = state.jacobian.reshape(-1, len(state.x), 8).transpose(0, 2, 1)
    rows = rows.reshape(-1, len(state.x))[:n]
    covariance = rows @ rows.T + run.noise**2 * np.eye(n)
    log_det = np.linalg.slogdet(covariance)[1]
    assert noise.log_evidence(run) == pytest.approx(-0.5 * run.misfit - 0.5 * log_det, rel=1e-6)


def test_many_stretches_are_as_each(stretch):
    spacing = np.stack([stretch[0][:40], disturbed(stretch[0][:40], 1e-3)])
    found = noise.forecasts(spacing, np.full(2, stretch[1]))
    for i in range(2):
        assert np.array_equal(found[i], noise.follow(spacing[i], stretch[1]))
    assert noise.forecasts(spacing[:0], np.empty(0)).shape == (0, 40, MISFIT + 1)
