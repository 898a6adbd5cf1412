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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zetalib.inverse.least_squares import posterior_variances
from zetalib.inverse.riemann_siegel_model import COUNT, evaluate_height
from zetalib.inverse.solver import NO_ROOT, SD, Floats, SequentialSolver

# Of zeros counted beyond solved contexts of the calibration split, whatever the distance (rms).
BLUR = 0.09
APART = 0.3  # mean spacings between a zero followed and the one counted: one was missed
DOUBT = 0.05  # largest deviation of a zero that is followed, chosen on the calibration split
GRID = 0.05  # mean spacings between the points at which S is looked at
AROUND = 3  # mean spacings beyond the zeros counted, on both sides: S is smaller
STEPS = (0.05, 3.5)  # forecasts of a spacing lie in between
WORSE = 1.5  # misfit over that of the solution followed, from which a context is followed anew


def solve_at_end(spacing: Floats, height: float, misfit: float, ahead: int) -> tuple[Any, Floats]:
    """Solve a context, shape (T,), at its end: as :meth:`SequentialSolver.append` leaves it, in a
    tenth of the time.

    Parameters
    ----------
    misfit : that at the end of following the context; where the direct way ends in another,
        worse solution, it is followed indeed
    ahead : number of zeros ahead to read off the solution

    Returns
    -------
    the solver, and spacings between the zeros ahead with deviations, (`ahead`, 2)
    """
    last = len(spacing) - 1
    follower = SequentialSolver(height, len(spacing))
    found = follower.append(spacing, last, ahead - 1)
    if follower.misfit > WORSE * misfit or follower.noise > follower.noise_levels[-1]:
        follower = SequentialSolver(height, len(spacing))
        found = follower.append(spacing, 0, ahead - 1)[last:]
    return follower, found[:, : SD + 1]


def _phases(u: Floats, follower: SequentialSolver) -> NDArray[np.complex128]:
    """a_p e^{-i h(u) log p} / sqrt(p) of the solution at places u, (U,): shape (U, P)."""
    tables, x = follower.tables, follower.state.x
    primes = len(tables.log_p)
    h = evaluate_height.py_func(u, x[tables.scale], follower.state)[0]
    a = x[:primes] + 1j * x[primes : 2 * primes]
    return np.asarray(a * tables.amplitude * np.exp(-1j * h[:, None] * tables.log_p))


def _sum(u: Floats, follower: SequentialSolver) -> Floats:
    """S at places u, shape (U,)."""
    z = _phases(u, follower)
    return np.asarray((z + z * z / 2 + z**3 / 3).imag.sum(1) / np.pi)


def _derivatives(u: Floats, follower: SequentialSolver) -> Floats:
    """Those of S + c at places u, (U,), by the unknowns of the solution: shape (U, unknowns)."""
    tables, x = follower.tables, follower.state.x
    primes, z = len(tables.log_p), _phases(u, follower)
    a = x[:primes] + 1j * x[primes : 2 * primes]
    by_a = z / np.where(a == 0, 1, a) * (1 + z + z * z) / np.pi
    rows = np.zeros((len(u), len(x)))
    rows[:, :primes], rows[:, primes : 2 * primes] = by_a.imag, by_a.real
    rows[:, tables.theta0] = 1 / np.pi
    return rows


def _counted(follower: SequentialSolver, number: int) -> tuple[Floats, Floats]:
    """Where the next `number` zeros lie, and standard deviations, by counting.

    The deviation is that of u + S(u) + c under the posterior's curvature. Its sum may fall where
    the true one, which has steps, does not: u_j is midway between the first and the last place
    where it is j.
    """
    state, tables, x = follower.state, follower.tables, follower.state.x
    n = int(state.scalars[COUNT])
    constant = x[tables.theta0] / math.pi + 0.5
    grid = n - constant - AROUND + GRID * np.arange(math.ceil((number + 2 * AROUND) / GRID))
    count = grid + constant + _sum(grid, follower)
    ranks = np.arange(n, n + number)
    latest = np.interp(ranks, np.maximum.accumulate(count), grid)
    earliest = np.interp(ranks, np.minimum.accumulate(count[::-1])[::-1], grid)
    place = (latest + earliest) / 2
    rows = _derivatives(place, follower) * state.prior_sd
    off = max(follower.misfit / n, 1.0)
    variance = off * posterior_variances(rows, follower.noise, state) + BLUR**2
    return place, np.minimum(np.sqrt(variance), NO_ROOT[1])


def ahead(spacing: Floats, height: float, misfit: float, number: int) -> Floats:
    """The `number` zeros after a context, (T,): place beyond its last zero, deviation.

    Returns
    -------
    shape (number, 2), in mean spacings
    """
    follower, steps = solve_at_end(spacing, height, misfit, number)
    found = np.stack(_counted(follower, number), 1)
    found[:, 0] -= follower.state.u[0, len(spacing)]
    followed = steps[:, 0].cumsum()
    lost = (steps[:, 1] > DOUBT) | (np.abs(followed - found[:, 0]) > APART)
    known = int(lost.argmax()) if lost.any() else number
    found[:known, 0], found[:known, 1] = followed[:known], steps[:known, 1]
    return found
