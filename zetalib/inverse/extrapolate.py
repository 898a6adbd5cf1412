"""The zeros ahead of a solved context, read off the posterior of the inverse problem.

A forecast that is fed back is no evidence about the primes: the solution stays as it is, and all
zeros that follow are read off it at once. Near the context they are the roots of Z. From where Z is
known no better than to `DOUBT`, or one was missed, zeros are counted instead: u_j is where
u + S(u) + c = j, c = theta0 / pi + 1/2 and

    S = (1 / pi) Im sum_p sum_{k <= 3} a_p^k e^{-i k h(u) log p} / (k p^{k/2}),

with the a_p of the solution: those not resolved have faded out, those that were found still say
where S is high and low. What is left of Z at a counted place tells to which side of it the zero
lies: :mod:`zetalib.forecasting.law_ahead` makes a law of that.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from scipy.linalg import solve_triangular

from zetalib.inverse.riemann_siegel_model import (
    COUNT,
    KERNEL,
    evaluate_height,
    residuals_and_jacobian,
)
from zetalib.inverse.simd import WIDTH
from zetalib.inverse.solver import MAX_SPACING, NOISE_LEVELS, SequentialSolver
from zetalib.kernels import cached
from zetalib.types import Floats

COLUMNS = ("place", "sd", "root", "z", "slope", "z_sd", "score")
PLACE, SD, ROOT, Z, SLOPE, Z_SD, SCORE = range(7)  # of the columns above

# Of zeros counted beyond solved contexts of the calibration split, whatever the distance (rms).
BLUR = 0.09
APART = 0.35  # mean spacings between a root and the zero counted: one was missed
DOUBT = 0.15  # posterior deviation of Z up to which its roots are taken for zeros. Not tuned
GRID = 0.05  # mean spacings between the points at which S and Z are looked at
AROUND = 3  # mean spacings beyond the zeros counted, on both sides: S is smaller
STEPS = (0.05, 3.5)  # forecasts of a spacing lie in between
WORSE = 1.5  # misfit over that of the solution followed, from which a context is followed anew
NEWTON_STEPS = 4  # from the secant's root, off by GRID^2 or so
# From the deviation of Z to that of its root: added to the squared slope, as in the solver.
SQUARED_SLOPE_OFFSET = 0.3

evaluate_columns = cached(**KERNEL)(residuals_and_jacobian.py_func)  # for calls from Python


def solved(spacing: Floats, height: float, misfit: float, room: int = 0) -> SequentialSolver:
    """A context, shape (T,), solved at its end: as :meth:`SequentialSolver.append` leaves it, in a
    tenth of the time.

    Parameters
    ----------
    misfit : that at the end of following the context; where the direct way ends in another,
        worse solution, it is followed indeed
    room : places beyond it that are to be looked at
    """
    solver = SequentialSolver(height, len(spacing) + room)
    solver.state.u[0, 1 : len(spacing)] = np.clip(spacing[:-1], 0, MAX_SPACING).cumsum()
    solver.state.scalars[COUNT] = len(spacing)
    solver.append(spacing[-1:])
    if solver.misfit > WORSE * misfit:
        solver = SequentialSolver(height, len(spacing) + room)
        solver.append(spacing)
    return solver


class Posterior:
    """A solved context: its solution, and how well quantities that depend on it are known."""

    def __init__(self, solver: SequentialSolver) -> None:
        self.state, self.tables = solver.state, solver.tables
        self.zeros = int(self.state.scalars[COUNT])
        self.last = float(self.state.u[0, self.zeros - 1])
        rows = self._columns(0, self.zeros)[2]
        whole = np.concatenate([rows / NOISE_LEVELS[-1], np.eye(rows.shape[1])])
        self.factor = np.linalg.qr(whole, mode="r")  # of the misfit, in prior deviations
        off = max(solver.misfit / self.zeros, 1.0)
        self.scale = math.sqrt(off)

    def _columns(self, first: int, stop: int) -> tuple[Floats, Floats, Floats]:
        state = self.state
        evaluate_columns(state.x, first, stop, self.tables, state, True)
        slope = state.slope[first:stop].copy()
        lanes = state.jacobian.reshape(-1, len(state.x), WIDTH)  # eight columns side by side
        rows = lanes.transpose(0, 2, 1).reshape(-1, len(state.x))[first:stop]
        return state.z[first:stop].copy(), slope, rows

    def look(self, u: Floats) -> tuple[Floats, Floats, Floats]:
        """Z and dZ/du at places u, (n,), and derivatives of Z by the unknowns in prior deviations,
        (n, U).
        """
        first = self.zeros
        self.state.u[0, first : first + len(u)] = u
        z, slope, rows = self._columns(first, first + len(u))
        return z, slope, rows * np.sqrt(slope**2 + 1)[:, None]

    def whiten(self, rows: Floats) -> Floats:
        """What posterior deviations are the lengths of, (U, n), from derivatives (n, U)."""
        found = solve_triangular(self.factor, rows.T, trans="T")
        return self.scale * np.asarray(found)

    def heights(self, u: Floats) -> Floats:
        """Heights above the first zero, (n,), of places u."""
        scale = self.state.x[self.tables.scale]
        return np.asarray(evaluate_height.py_func(u, scale, self.state)[0])

    def waves(self, u: Floats) -> Floats:
        """a_p e^{-i h(u) log p} / sqrt(p), complex, (n, P), at places u."""
        x, tables = self.state.x, self.tables
        primes = len(tables.log_p)
        a = (x[:primes] + 1j * x[primes : 2 * primes]) * tables.amplitude
        return np.asarray(a * np.exp(-1j * self.heights(u)[:, None] * tables.log_p))

    def argument(self, u: Floats) -> Floats:
        """S at places u, (n,)."""
        z = self.waves(u)
        return np.asarray((z * (1 + z / 2 + z * z / 3)).imag.sum(1) / math.pi)

    def argument_derivatives(self, u: Floats) -> Floats:
        """Those of S + c by the unknowns, in prior deviations, (n, U)."""
        tables, sd = self.tables, self.state.prior_sd
        z = self.waves(u)
        wave = np.exp(-1j * self.heights(u)[:, None] * tables.log_p) * tables.amplitude
        by_a = wave * (1 + z + z * z) / math.pi
        rows = np.zeros((len(u), len(sd)))
        primes = len(tables.log_p)
        rows[:, :primes], rows[:, primes : 2 * primes] = by_a.imag, by_a.real
        rows[:, tables.theta0] = 1 / math.pi
        return rows * sd


def count(posterior: Posterior, number: int) -> Floats:
    """Where the next `number` zeros lie, (number,), by counting.

    The sum u + S(u) + c may fall where the true one, which has steps, does not: u_j is midway
    between the first and the last place where it is j.
    """
    zeros, constant = posterior.zeros, posterior.state.x[posterior.tables.theta0] / math.pi + 0.5
    grid = zeros - constant - AROUND + GRID * np.arange(math.ceil((number + 2 * AROUND) / GRID))
    counted = grid + constant + posterior.argument(grid)
    ranks = np.arange(zeros, zeros + number)
    latest = np.interp(ranks, np.maximum.accumulate(counted), grid)
    earliest = np.interp(ranks, np.minimum.accumulate(counted[::-1])[::-1], grid)
    return np.maximum.accumulate(np.maximum((latest + earliest) / 2, posterior.last))


def roots(posterior: Posterior, end: float) -> Floats:
    """The roots of Z between the last zero and place `end`, ascending."""
    grid = np.arange(posterior.last + GRID / 2, end + GRID, GRID)
    z, _, _ = posterior.look(grid)
    i = np.flatnonzero(z[1:] * z[:-1] < 0)
    found = grid[i] - z[i] * GRID / (z[i + 1] - z[i])
    for _ in range(NEWTON_STEPS):
        value, slope, _ = posterior.look(found)
        away = found - value / np.where(slope == 0, 1.0, slope)
        found = np.clip(away, grid[i], grid[i + 1])
    return np.asarray(found)


def ahead(spacing: Floats, height: float, misfit: float, number: int) -> Floats:
    """The `number` zeros after a context, (T,), and what is known of them.

    Returns
    -------
    shape (number, 7), see `COLUMNS`: place beyond the last zero, and its deviation, in mean
    spacings; 1 for a root of Z and 0 for a zero that was counted; of the latter Z, with the sign
    that makes it positive where the zero lies further on, minus its slope, and its posterior
    deviation; a standard normal number, which hangs together along a context as the posterior
    says: seeded by the context, the same however many are asked for
    """
    most = math.ceil((number + 2 * AROUND) / GRID)
    posterior = Posterior(solved(spacing, height, misfit, most))
    place = count(posterior, number)
    sign = _sign(posterior) * (-1.0) ** np.arange(number)
    z, slope, rows = posterior.look(place)
    z_sd = np.linalg.norm(posterior.whiten(rows), axis=0)
    argued = posterior.whiten(posterior.argument_derivatives(place))
    count_sd = np.linalg.norm(argued, axis=0)
    draw = _generator(spacing).standard_normal(len(argued))
    found = np.zeros((number, len(COLUMNS)))
    found[:, PLACE], found[:, SD] = place - posterior.last, np.hypot(count_sd, BLUR)
    found[:, Z], found[:, SLOPE], found[:, Z_SD] = z * sign, -slope * sign, z_sd
    found[:, SCORE] = draw @ argued / count_sd
    near = int(np.argmax(np.append(z_sd > DOUBT, True)))
    if near:
        direct = roots(posterior, place[min(near, number - 1)] + APART)[:near]
        matched = np.abs(direct - place[: len(direct)]) < APART
        direct = direct[: int(np.argmax(np.append(~matched, True)))]
        _, slope, rows = posterior.look(direct)
        sd = np.linalg.norm(posterior.whiten(rows), axis=0)
        some = found[: len(direct)]
        some[:, PLACE], some[:, ROOT] = direct - posterior.last, 1.0
        some[:, SD] = sd / np.sqrt(slope**2 + SQUARED_SLOPE_OFFSET)
        some[:, Z : Z_SD + 1] = 0.0
    return found


def _sign(posterior: Posterior) -> float:
    """That of Z between the last zero known and the next."""
    _, slope, _ = posterior.look(np.array([posterior.last]))
    return 1.0 if slope[0] > 0 else -1.0


def _generator(spacing: Floats) -> np.random.Generator:
    digest = hashlib.sha256(np.ascontiguousarray(spacing).tobytes()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
