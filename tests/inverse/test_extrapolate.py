"""The zeros ahead of a solved context: followed, then counted."""

import numpy as np
import pytest
from conftest import zeros

from zetalib.inverse import extrapolate, riemann_siegel_model
from zetalib.inverse.simd import WIDTH
from zetalib.inverse.solutions import SolutionCache
from zetalib.inverse.solver import SequentialSolver

CONTEXT, AHEAD = 100, 100


@pytest.fixture(scope="module")
def stretches():
    # Whole heights: the source gives zeros from others to 1e-6 only.
    found = [zeros(start, CONTEXT + AHEAD) for start in range(900_000, 1_100_001, 18_000)]
    return np.stack([s for s, _ in found]), np.array([round(h, -4) for _, h in found])


@pytest.fixture(scope="module")
def solved(stretches):
    """The zeros ahead of all contexts."""
    spacing, height = stretches
    return SolutionCache().ahead(spacing[:, :CONTEXT], height, AHEAD)


def test_a_context_is_solved_at_its_end_as_well_as_by_following_it(stretches):
    spacing, height = stretches[0][0, :CONTEXT], float(stretches[1][0])
    follower = SequentialSolver(height, CONTEXT)
    last = follower.append(spacing)[-1]
    direct = extrapolate.ahead(spacing, height, last[-1], 1)[0]
    assert abs(direct[0] - last[0]) < 10 * (direct[1] + last[1])
    # No solution is as good: it is followed.
    again, _ = extrapolate.solve_at_end(spacing, height, 0.0, 1)
    np.testing.assert_array_equal(again.state.x, follower.state.x)


def test_the_zeros_ahead_are_where_they_are_said_to_be(stretches, solved):
    true = stretches[0][:, CONTEXT:].cumsum(1)
    place, deviation = np.moveaxis(solved, -1, 0)
    error = place - true
    assert np.median(np.abs(error[:, 0])) < 1e-3
    assert np.abs(error).max() < 1.5
    far = slice(20, None)
    always_one = np.arange(1, AHEAD + 1) - true
    assert np.abs(error[:, far]).mean() < 0.6 * np.abs(always_one[:, far]).mean()
    assert 0.4 < np.sqrt(np.square(error / deviation)[:, far].mean()) < 2


def test_zeros_counted_are_where_the_sum_as_written_says(stretches):
    """The kernels against the sums as they are written."""
    spacing, height = stretches[0][0, :CONTEXT], float(stretches[1][0])
    follower, _ = extrapolate.solve_at_end(spacing, height, np.inf, 1)
    place, _ = extrapolate._counted(follower, 8)
    state, log_p, x = follower.state, follower.tables.log_p, follower.state.x
    a = x[: len(log_p)] + 1j * x[len(log_p) : 2 * len(log_p)]
    constant = x[2 * len(log_p)] / np.pi + 0.5
    grid = np.arange(CONTEXT - 2, CONTEXT + 12, 0.05) - constant
    h = riemann_siegel_model.evaluate_height.py_func(grid, x[follower.tables.scale], state)[0]
    e = a * np.exp(-1j * h[:, None] * log_p) * follower.tables.amplitude
    count = grid + constant + sum((e**k / k).imag.sum(1) for k in (1, 2, 3)) / np.pi
    ranks = np.arange(CONTEXT + 1, CONTEXT + 9)
    latest = np.interp(ranks, np.maximum.accumulate(count), grid)
    earliest = np.interp(ranks, np.minimum.accumulate(count[::-1])[::-1], grid)
    np.testing.assert_allclose(place, (latest + earliest) / 2, atol=1e-6)


def test_derivatives_of_the_count_are_its_differences(stretches):
    spacing, height = stretches[0][0, :CONTEXT], float(stretches[1][0])
    follower, _ = extrapolate.solve_at_end(spacing, height, np.inf, 1)
    state, tables = follower.state, follower.tables
    primes = len(tables.log_p)
    u = CONTEXT + np.arange(WIDTH) / 2.0
    rows = extrapolate._derivatives(u, follower)
    assert np.allclose(rows[:, 2 * primes], 1 / np.pi)  # of c
    for i in (0, 3, primes - 1, primes, 2 * primes - 1):
        ends = []
        for step in (1e-5, -2e-5):
            state.x[i] += step
            ends.append(extrapolate._sum(u, follower))
        state.x[i] += 1e-5
        np.testing.assert_allclose(rows[:, i], (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-8)
