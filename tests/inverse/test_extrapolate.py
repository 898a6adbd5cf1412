"""The zeros ahead of a solved context: followed, then counted."""

import numpy as np
import pytest
from conftest import zeros

from zetalib.inverse import extrapolate
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
    place, deviation = np.moveaxis(solved, -1, 0)[:2]
    error = place - true
    assert np.median(np.abs(error[:, 0])) < 1e-3
    assert np.abs(error).max() < 1.5
    far = slice(20, None)
    always_one = np.arange(1, AHEAD + 1) - true
    assert np.abs(error[:, far]).mean() < 0.6 * np.abs(always_one[:, far]).mean()
    assert 0.4 < np.sqrt(np.square(error / deviation)[:, far].mean()) < 2


def posterior(stretches):
    spacing, height = stretches[0][0, :CONTEXT], float(stretches[1][0])
    return extrapolate.Posterior(extrapolate.solve_at_end(spacing, height, np.inf, 1)[0])


def test_zeros_counted_are_where_the_sum_as_written_says(stretches):
    context = posterior(stretches)
    tables, x = context.tables, context.state.x
    grid = np.arange(CONTEXT - 2, CONTEXT + 12, 0.01)
    h, log_p = context.heights(grid)[0], tables.log_p
    a = x[: len(log_p)] + 1j * x[len(log_p) : 2 * len(log_p)]
    e = a * np.exp(-1j * h[:, None] * log_p) * tables.amplitude
    constant = x[tables.theta0] / np.pi + 0.5
    count = grid + constant + sum((e**k / k).imag.sum(1) for k in (1, 2, 3)) / np.pi
    ranks = np.arange(CONTEXT + 1, CONTEXT + 9)
    latest = np.interp(ranks, np.maximum.accumulate(count), grid)
    earliest = np.interp(ranks, np.minimum.accumulate(count[::-1])[::-1], grid)
    found = extrapolate.count(context, 8)
    np.testing.assert_allclose(found, (latest + earliest) / 2, atol=5e-3)


def test_z_vanishes_at_the_zeros_that_the_kernels_solved_for(stretches):
    context = posterior(stretches)
    u = context.state.u[0, : context.zeros].copy()
    z, slope, _ = context.z(u)
    assert np.abs(z).max() < 1e-6 and np.abs(slope).mean() > 3
    np.testing.assert_allclose(  # but for R, which is slow
        slope, (context.z(u + 1e-5)[0] - context.z(u - 1e-5)[0]) / 2e-5, atol=0.05
    )


@pytest.mark.parametrize("of", ["z", "argument"])
def test_derivatives_are_differences(stretches, of):
    context = posterior(stretches)
    x, u = context.state.x, CONTEXT + np.arange(8) / 2.0
    rows, step, kept = getattr(context, of)(u)[-1], 1e-6, x.copy()
    every = range(0, len(x), 7) if of == "z" else range(0, context.tables.scale, 7)
    for i in [*every, context.tables.theta0]:
        ends = []
        for side in (step, -step):
            x[:] = kept
            x[i] += side
            context.a = x[: len(context.a)] + 1j * x[len(context.a) : 2 * len(context.a)]
            constant = x[context.tables.theta0] / np.pi if of == "argument" else 0.0
            ends.append(getattr(context, of)(u)[0] + constant)
        np.testing.assert_allclose(rows[:, i], (ends[0] - ends[1]) / (2 * step), atol=1e-4)


def test_factorisations_multiply_to_the_numbers():
    primes = np.array([2, 3, 5, 7, 11, 13, 17, 19])
    exponents = extrapolate.factorisations(22).toarray()
    assert exponents.shape == (22, len(primes))
    assert np.array_equal(np.prod(primes**exponents, 1), np.arange(1, 23))


def test_scores_are_normal_and_hang_together(solved):
    scores = solved[:, :, extrapolate.SCORE]
    assert 0.8 < scores.std() < 1.2
    # What is not resolved turns half a turn a spacing: neighbours lie to opposite sides.
    assert (scores[:, 1:] * scores[:, :-1]).mean() < -0.2
