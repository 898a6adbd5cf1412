"""The zeros ahead of a solved context, read off the posterior of the inverse problem.

A forecast that is fed back is no evidence about the primes: the solution stays as it is, and all
zeros that follow are read off it at once. Near the context they are the sign changes of Z. From
where their deviation has grown to `DOUBT`, or one was missed, zeros are counted instead: u_j is
where u + S(u) + c = j, c = theta0 / pi + 1/2 and

    S = (1 / pi) Im sum_p sum_{k <= 3} a_p^k e^{-i k h(u) log p} / (k p^{k/2}),

with the a_p of the solution: those not resolved have faded out, those that were found still say
where S is high and low. What is left of Z at a counted place tells to which side of it the zero
lies: :mod:`zetalib.forecasting.law_ahead` makes a law of that.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

from zetalib.inverse.least_squares import posterior_vectors
from zetalib.inverse.noise import estimate, is_suspect
from zetalib.inverse.riemann_siegel_model import COUNT, REMAINDER_DEGREE, TAU, evaluate_height
from zetalib.inverse.solver import SD as STEP_SD
from zetalib.inverse.solver import SequentialSolver
from zetalib.types import Floats

COLUMNS = ("place", "sd", "root", "z", "slope", "z_sd", "score")
PLACE, SD, ROOT, Z, SLOPE, Z_SD, SCORE = range(7)  # of the columns above

# Of zeros counted beyond solved contexts of the calibration split, whatever the distance (rms).
BLUR = 0.09
APART = 0.35  # mean spacings between a zero followed and the one counted: one was missed
DOUBT = 0.05  # largest deviation of a zero that is followed, chosen on the calibration split
GRID = (
    0.1  # mean spacings between the points at which S is looked at: it turns twice as slowly as Z
)
AROUND = 3  # mean spacings beyond the zeros counted, on both sides: S is smaller
STEPS = (0.05, 3.5)  # forecasts of a spacing lie in between
WORSE = 1.5  # misfit over that of the solution followed, from which a context is followed anew


def solve_at_end(
    spacing: Floats, height: float, misfit: float, ahead: int, noise: float | None = None
) -> tuple[SequentialSolver, Floats]:
    """Solve a context, shape (T,), at its end: as :meth:`SequentialSolver.append` leaves it, in a
    tenth of the time.

    Parameters
    ----------
    misfit : that at the end of following the context; where the direct way ends in another,
        worse solution, it is followed indeed
    ahead : number of zeros ahead to read off the solution
    noise : of the zeros' places; None: estimated where exact zeros do not fit

    Returns
    -------
    the solver, and spacings between the zeros ahead with deviations, (`ahead`, 2)
    """
    given, last = 0.0 if noise is None else noise, len(spacing) - 1
    solver = SequentialSolver(height, len(spacing), noise=given)
    found = solver.append(spacing, last, ahead - 1)
    if noise is None and is_suspect(solver):
        given = estimate(spacing, height)
    if given > solver.noise:
        solver = SequentialSolver(height, len(spacing), noise=given)
        found = solver.append(spacing, last, ahead - 1)
    elif solver.misfit > WORSE * misfit:
        solver = SequentialSolver(height, len(spacing), noise=given)
        found = solver.append(spacing, 0, ahead - 1)[last:]
    return solver, found[:, : STEP_SD + 1]


class Posterior:
    """A solved context: Z and S anywhere, and how well they are known."""

    def __init__(self, solver: SequentialSolver) -> None:
        self.state, self.tables = solver.state, solver.tables
        self.zeros = int(self.state.scalars[COUNT])
        self.last = float(self.state.u[0, self.zeros - 1])
        self.noise = solver.noise
        off = math.sqrt(max(solver.misfit / self.zeros, 1.0))
        each = np.diag(off * self.state.prior_sd)
        self._half = posterior_vectors(each, self.noise, self.state)
        primes = len(self.tables.log_p)
        self.a = self.state.x[:primes] + 1j * self.state.x[primes : 2 * primes]
        tau = float(self.state.scalars[TAU])
        self.terms = np.arange(1, int(tau) + 1)
        self.exponents = factorisations(int(tau))

    def whiten(self, rows: Floats) -> Floats:
        """What posterior deviations are the lengths of, (n, U), from derivatives (n, U)."""
        return np.asarray(rows @ self._half)

    def heights(self, u: Floats) -> tuple[Floats, Floats, Floats]:
        """Heights above the first zero at places u, (n,), and derivatives by u and by `scale`."""
        scale = self.state.x[self.tables.scale]
        h, by_u, by_scale = evaluate_height.py_func(u, scale, self.state)
        return np.asarray(h), np.asarray(by_u), np.asarray(by_scale)

    def z(self, u: Floats) -> tuple[Floats, Floats, Floats]:
        """Z and dZ/du at places u, (n,), the latter without R, and derivatives by x, (n, U).

        As written in :mod:`zetalib.inverse.riemann_siegel_model`.
        """
        tables, x, primes = self.tables, self.state.x, len(self.tables.log_p)
        h, h_by_u, h_by_scale = self.heights(u)
        log_n, size = np.log(self.terms), np.sqrt(self.terms)
        a_n = np.exp(self.exponents @ np.log(self.a)) / size
        turning = np.exp(1j * (math.pi * u + x[tables.theta0]))[:, None]
        terms = 2 * turning * a_n * np.exp(-1j * h[:, None] * log_n)
        by_a = (self.exponents.T @ terms.T).T / self.a
        tau = float(self.state.scalars[TAU])
        v = h / tau
        powers = np.stack([v**k / math.factorial(k) for k in range(REMAINDER_DEGREE + 1)], 1)
        powers /= math.sqrt(tau)
        rows = np.zeros((len(u), len(x)))
        rows[:, :primes], rows[:, primes : 2 * primes] = by_a.real, -by_a.imag
        whole, by_log = terms.sum(1), (terms * log_n).sum(1)
        rows[:, tables.theta0] = -whole.imag
        rows[:, tables.scale] = by_log.imag * h_by_scale
        rows[:, tables.remainder :] = powers
        slope = by_log.imag * h_by_u - math.pi * whole.imag
        return whole.real + powers @ x[tables.remainder :], slope, rows

    def argument(self, u: Floats) -> tuple[Floats, Floats]:
        """S at places u, (n,), and the derivatives of S + c by x, (n, U)."""
        tables, primes = self.tables, len(self.tables.log_p)
        wave = tables.amplitude * np.exp(-1j * self.heights(u)[0][:, None] * tables.log_p)
        z = self.a * wave
        by_a = wave * (1 + z + z * z) / math.pi
        rows = np.zeros((len(u), len(self.state.x)))
        rows[:, :primes], rows[:, primes : 2 * primes] = by_a.imag, by_a.real
        rows[:, tables.theta0] = 1 / math.pi
        return np.asarray((z * (1 + z / 2 + z * z / 3)).imag.sum(1) / math.pi), rows


@lru_cache(maxsize=8)
def factorisations(terms: int) -> csr_array:
    """Exponents of the primes in n = 1 ... `terms`, (`terms`, P)."""
    n, columns = np.arange(1, terms + 1), []
    for p in range(2, terms + 1):
        exponent, power = np.zeros(terms, int), p
        if n[p - 1] == 1:  # divided away: not a prime
            continue
        while power <= terms:
            exponent[power - 1 :: power] += 1
            power *= p
        n //= p**exponent
        columns.append(exponent)
    return csr_array(np.stack(columns, 1))


def count(posterior: Posterior, number: int) -> Floats:
    """Where the next `number` zeros lie, (number,), by counting.

    The sum u + S(u) + c may fall where the true one, which has steps, does not: u_j is midway
    between the first and the last place where it is j.
    """
    zeros, constant = posterior.zeros, posterior.state.x[posterior.tables.theta0] / math.pi + 0.5
    grid = zeros - constant - AROUND + GRID * np.arange(math.ceil((number + 2 * AROUND) / GRID))
    counted = grid + constant + posterior.argument(grid)[0]
    ranks = np.arange(zeros, zeros + number)
    latest = np.interp(ranks, np.maximum.accumulate(counted), grid)
    earliest = np.interp(ranks, np.minimum.accumulate(counted[::-1])[::-1], grid)
    return np.asarray(np.maximum((latest + earliest) / 2, posterior.last))


def ahead(
    spacing: Floats, height: float, misfit: float, number: int, noise: float | None = None
) -> Floats:
    """The `number` zeros after a context, (T,), and what is known of them.

    Returns
    -------
    shape (number, 7), see `COLUMNS`: place beyond the last zero, and its deviation, in mean
    spacings; 1 for a zero of Z that was followed and 0 for one that was counted; of the latter Z
    at that place, with the sign that makes it positive where the zero lies further on, minus its
    slope, and its posterior deviation; a standard normal number, which hangs together along a
    context as the posterior says: seeded by the context, the same however many are asked for
    """
    solver, steps = solve_at_end(spacing, height, misfit, number, noise)
    posterior = Posterior(solver)
    place = count(posterior, number)
    argued = posterior.whiten(posterior.argument(place)[1])
    count_sd = np.linalg.norm(argued, axis=1)
    found = np.zeros((number, len(COLUMNS)))
    found[:, PLACE], found[:, SD] = place - posterior.last, np.hypot(count_sd, BLUR)
    digest = hashlib.sha256(np.ascontiguousarray(spacing).tobytes()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    found[:, SCORE] = argued @ generator.standard_normal(argued.shape[1]) / count_sd

    followed = steps[:, 0].cumsum()
    lost = (steps[:, 1] > DOUBT) | (np.abs(followed - found[:, PLACE]) > APART)
    known = int(lost.argmax()) if lost.any() else number
    near = found[:known]
    near[:, PLACE], near[:, SD], near[:, ROOT] = followed[:known], steps[:known, 1], 1.0

    _, slope, _ = posterior.z(np.array([posterior.last]))
    sign = np.sign(slope[0]) * (-1.0) ** np.arange(known, number)
    z, slope, rows = posterior.z(place[known:])
    far = found[known:]
    far[:, Z], far[:, SLOPE] = z * sign, -slope * sign
    far[:, Z_SD] = np.linalg.norm(posterior.whiten(rows), axis=1)
    return found
