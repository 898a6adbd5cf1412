"""The inversion in rollouts: the zeros ahead of a context, once it is solved.

A forecast that is fed back is no evidence about the primes: the solution stays as it is, and all
zeros that follow are read off it at once. Near the context they are the sign changes of Z. From
where their deviation has grown to `DOUBT`, or one was missed, zeros are counted instead: u_j is
where u + S(u) + c = j, c = theta0 / pi + 1/2 and

    S = (1 / pi) Im sum_p sum_{k <= 3} a_p^k e^{-i k h(u) log p} / (k p^{k/2}),

with the a_p of the solution: those not resolved have faded out, those that were found still say
where S is high and low.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import solve_triangular

from zetalib.inverse.least_squares import fit_cached
from zetalib.inverse.riemann_siegel_model import (
    COUNT,
    KERNEL,
    State,
    Tables,
    cos_sin,
    evaluate_height,
)
from zetalib.inverse.simd import WIDTH, broadcast, load, store
from zetalib.inverse.solver import (
    MAX_SPACING,
    NO_ROOT,
    NOISE_LEVELS,
    Floats,
    SequentialSolver,
    find_next_zero_cached,
    initialize_cached,
)
from zetalib.kernels import cached

# Of zeros counted beyond solved contexts of the calibration split, whatever the distance (rms).
BLUR = 0.09
APART = 0.3  # mean spacings between a zero followed and the one counted: one was missed
DOUBT = 0.05  # largest deviation of a zero that is followed, chosen on the calibration split
GRID = 0.05  # mean spacings between the points at which S is looked at
AROUND = 3  # mean spacings beyond the zeros counted, on both sides: S is smaller
STEPS = (0.05, 3.5)  # forecasts of a spacing lie in between
WORSE = 1.5  # misfit over that of the solution followed, from which a context is followed anew


def solved(spacing: Floats, height: float, misfit: float) -> SequentialSolver:
    """A context, shape (T,), solved at its end: as :meth:`SequentialSolver.append` leaves it, in a
    tenth of the time.

    Parameters
    ----------
    misfit : that at the end of following the context; where the direct way ends in another,
        worse solution, it is followed indeed
    """
    follower = SequentialSolver(height, len(spacing))
    state, tables, n = follower.state, follower.tables, len(spacing) + 1
    state.u[0, 1:n] = np.clip(spacing, 0, MAX_SPACING).cumsum()
    state.scalars[COUNT] = n
    lag = (np.arange(n) - state.u[0, :n]).mean()
    state.prior_mean[tables.theta0] = math.pi * (lag - 0.5)  # S is zero on average
    x = initialize_cached(0, n, tables, state)
    for level in NOISE_LEVELS:
        x, found = fit_cached(x, 0, n, level, False, tables, state)
    if found > WORSE * misfit:
        follower = SequentialSolver(height, len(spacing))
        follower.append(spacing)
        return follower
    state.x[:], follower.misfit, follower.room = x, found, 0
    return follower


@cached(**KERNEL)
def _sum(u: Floats, tables: Tables, state: State) -> Floats:
    """S at places u, a whole number of eights of them, shape (1, U)."""
    x, primes = state.x, len(tables.log_p)
    found = np.empty_like(u)
    for block in range(0, u.shape[1], WIDTH):
        turns = evaluate_height(load(u, 0, block), x[tables.scale], state)[0] * (-0.5 / math.pi)
        s = broadcast(0.0)
        for p in range(primes):
            co, si = cos_sin(turns * tables.log_p[p])
            size = tables.amplitude[p]
            re = co * (size * x[p]) - si * (size * x[primes + p])
            im = co * (size * x[primes + p]) + si * (size * x[p])
            # Im of z + z^2 / 2 + z^3 / 3
            s = s + im * (1 + re + re * re - (1 / 3) * (im * im))
        store(found, 0, block, s * (1 / math.pi))
    return found


@cached(**KERNEL)
def _derivatives(u: Floats, tables: Tables, state: State) -> Floats:
    """Those of S + c at places u, (U,), by the unknowns of the solution: shape (U, unknowns)."""
    x, primes = state.x, len(tables.log_p)
    rows = np.zeros((len(u), len(x)))
    for j in range(len(u)):
        h = evaluate_height(u[j], x[tables.scale], state)[0]
        for p in range(primes):
            co, si = math.cos(h * tables.log_p[p]), -math.sin(h * tables.log_p[p])
            size = tables.amplitude[p]
            re = size * (co * x[p] - si * x[primes + p])
            im = size * (co * x[primes + p] + si * x[p])
            # e (1 + z + z^2) / pi by a: real and imaginary parts
            g0, g1 = 1 + re + re * re - im * im, im + 2 * re * im
            rows[j, p] = size * (co * g1 + si * g0) / math.pi
            rows[j, primes + p] = size * (co * g0 - si * g1) / math.pi
        rows[j, tables.theta0] = 1 / math.pi
    return rows


def _counted(follower: SequentialSolver, number: int) -> tuple[Floats, Floats]:
    """Where the next `number` zeros lie, and standard deviations, by counting.

    The deviation is that of u + S(u) + c under the posterior's curvature. Its sum may fall where
    the true one, which has steps, does not: u_j is midway between the first and the last place
    where it is j.
    """
    state, tables, x = follower.state, follower.tables, follower.state.x
    n, noise = int(state.scalars[COUNT]), NOISE_LEVELS[-1]
    constant = x[tables.theta0] / math.pi + 0.5
    points = math.ceil((number + 2 * AROUND) / GRID / WIDTH) * WIDTH
    grid = n - constant - AROUND + GRID * np.arange(points)
    count = grid + constant + _sum(grid[None], tables, state)[0]
    ranks = np.arange(n, n + number)
    latest = np.interp(ranks, np.maximum.accumulate(count), grid)
    earliest = np.interp(ranks, np.minimum.accumulate(count[::-1])[::-1], grid)
    place = (latest + earliest) / 2

    rows = _derivatives(place, tables, state)
    if n <= len(x):  # the factor is that of the dual form
        wide = rows / state.prior_precision
        half = solve_triangular(state.factor[:n, :n], state.jacobian[:n] @ wide.T, lower=True)
        left = (rows * wide).sum(1) - np.square(half).sum(0)
    else:
        half = solve_triangular(state.factor, rows.T, lower=True)
        left = noise**2 * np.square(half).sum(0)
    off = max(follower.misfit / n, 1.0)
    return place, np.minimum(np.sqrt(off * np.maximum(left, 0) + BLUR**2), NO_ROOT[1])


def ahead(spacing: Floats, height: float, misfit: float, number: int) -> Floats:
    """The `number` zeros after a context, (T,): place beyond its last zero, deviation.

    Returns
    -------
    shape (number, 2), in mean spacings
    """
    follower = solved(spacing, height, misfit)
    state = follower.state
    n = int(state.scalars[COUNT])
    origin = state.u[0, n - 1]
    found = np.stack(_counted(follower, number), 1)
    found[:, 0] -= origin
    for j in range(number):
        step = find_next_zero_cached(
            state.x, follower.misfit, 0, n, NOISE_LEVELS[-1], follower.tables, state
        )
        place = state.u[0, n - 1] + step[0] - origin
        if step[1] > DOUBT or abs(place - found[j, 0]) > APART:
            break
        state.u[0, n - 1] = place + origin
        found[j] = place, step[1]
    return found
