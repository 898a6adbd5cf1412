"""The zeros as an inverse problem: from a stretch of bare spacings to the next zero.

The zeros u_j of a stretch say Z(u_j) = 0, with Z the Riemann-Siegel sum in the unknowns of
:mod:`zetalib.inverse.riemann_siegel_model`: one equation each for one complex a_p a prime
p <= sqrt(T / 2 pi), the phase theta0, the scale of h and a slow remainder. In truth |a_p| = 1; here
a_p is free with the prior E|a_p|^2 = 1, so that the a_p of a prime not resolved yet tends to zero
instead of taking some phase at random. That, and lowering the noise of the equations step by step
from an explicit-formula start (docs/reference.md, 2.3 and 2.7), is what makes the solution
findable: at height 10^6 most stretches of 60 zeros are solved to three digits, of 130 to five.

The forecast of the next spacing is the next sign change of Z. Its standard deviation is the
posterior one of Z there (Laplace), divided by the slope: :mod:`zetalib.inverse.least_squares`. It
uses no zero beyond the stretch and no constant fitted to zeros.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zetalib.compute import map_threads
from zetalib.errors import ZetaError
from zetalib.inverse.by_reference import by_reference
from zetalib.inverse.least_squares import (
    GAIN_TOLERANCE,
    NOT_FACTORED,
    append_zero,
    copy,
    factor,
    fit,
    is_dual,
    posterior_sd,
    set_targets,
    solve,
)
from zetalib.inverse.riemann_siegel_model import (
    COUNT,
    KERNEL,
    LAST_FORECAST,
    LAST_MISFIT,
    LAST_SD,
    LEVEL,
    MAX_HEIGHT,
    MIN_HEIGHT,
    START_LEVEL,
    START_MISFIT,
    State,
    Tables,
    allocate_state,
    build_tables,
    evaluate_residuals,
    evaluate_z,
    linearize,
)
from zetalib.inverse.simd import WIDTH, broadcast, load, store
from zetalib.kernels import cached, inner

Floats = NDArray[np.float64]

COLUMNS = ("spacing", "sd", "middle", "middle_sd", "coarse", "coarse_sd", "misfit")
SPACING, SD, MIDDLE, MIDDLE_SD, COARSE, COARSE_SD, MISFIT = range(7)  # of the columns above

# Standard deviations of the residuals, mean spacings. The first fit starts from the explicit
# formula, each other one from the solution before; those between are not tuned. The last level is
# about the error of the model: with exact zeros at 10^6 (calibration split), forecasts at 1e-9 have
# errors of the size of their deviations; at 1e-8 half of it; at 1e-10 the errors grow again.
LOWEST_NOISE = 1e-9
NOISE_LEVELS = np.array([0.1, 0.01, 1e-3, 1e-4, 1e-6, LOWEST_NOISE])
COARSE_LEVEL, MIDDLE_LEVEL = 0, 1  # whose forecasts are the coarse and the middle one

# The last solution is carried on. After each of the first 40 zeros, and after every eighth of those
# that follow unless the last forecast was confirmed, the stretch is solved from scratch as well,
# and the solution of less misfit stays. Not tuned: more restarts cost time, fewer leave a wrong
# solution in place for longer. Most stretches of 60 zeros are solved (benchmarks/inversion.py).
RESTART_ZEROS, RESTART_EVERY = 40, 8
# A start goes on beyond the middle noise where that determines the next zero to this standard
# deviation, and ends where its misfit is that many times what it should be, one a zero.
GATE_SD, FAILED_MISFIT = 0.15, 100.0
# Gain in misfit, see GAIN_TOLERANCE, below which a level but the last is left. Not tuned.
EARLY_TOLERANCE = 0.3
# A forecast is confirmed if its standard deviation is below the first and its error below that many
# standard deviations plus the last (mean spacings). Not tuned.
CONFIRMED_SD, CONFIRMED_ERROR_SDS, CONFIRMED_ERROR = 1e-3, 10, 1e-6

START_NOISE = 0.02  # variance of S at the zeros: docs/reference.md, 2.3

MAX_SPACING = 100.0  # mean spacings; larger ones, which no zeros have, are clipped
# Forecast and standard deviation where there is no sign change: the mean spacing and about the 0.42
# of the GUE surmise. No forecast has a larger standard deviation.
NO_ROOT = (1.0, 0.4)

# The next sign change is searched for on blocks of eight points, up to 3.5 mean spacings ahead. Not
# tuned: two zeros closer than the distance of the points may be missed.
SEARCH_BLOCKS, SEARCH_DISTANCE = 11, 0.04
# Its bracket is narrowed to 1e-10 mean spacings, a hundredth of the lowest noise, or eight times.
MAX_REFINEMENTS, MIN_BRACKET = 8, 1e-10
# Added to the squared slope by which a variance of Z is divided, so that the quotient stays bounded
# where Z is flat. Not tuned.
SQUARED_SLOPE_OFFSET = 0.3


@inner(**KERNEL)
def initialize(first: int, stop: int, tables: Tables, state: State) -> None:
    """Estimate x, in `trial`, from S at the zeros, by linear regression.

    S(u_j) = j - u_j - c, c = theta0 / pi + 1/2, is (1 / pi) Im sum_p a_p e^{-i h log p} / sqrt(p)
    and noise of variance `START_NOISE`: docs/reference.md, 2.3, without the powers of primes.
    """
    primes, sd, phasor = len(tables.log_p), state.prior_sd, state.phasor
    for block in range(first - first % WIDTH, stop, WIDTH):
        evaluate_z(state.prior_mean, block, tables, state)
        top = block // WIDTH * len(sd)
        for p in range(primes):
            re, im = load(phasor, p, 0), load(phasor, primes + p, 0)
            store(state.jacobian, top + p, 0, im * (sd[p] / math.pi))
            store(state.jacobian, top + primes + p, 0, re * (sd[primes + p] / math.pi))
        store(state.jacobian, top + tables.theta0, 0, broadcast(sd[tables.theta0] / math.pi))
        for i in range(tables.scale, len(sd)):
            store(state.jacobian, top + i, 0, broadcast(0.0))
        for j in range(max(first, block), min(stop, block + WIDTH)):
            state.target[j] = j - state.u[0, j] - state.prior_mean[tables.theta0] / math.pi - 0.5
    noise = math.sqrt(START_NOISE)
    factor(first, stop, noise, state)
    solve(first, stop, noise, state)


@inner(**KERNEL)
def find_next_zero(
    x: Floats, misfit: float, first: int, stop: int, noise: float, tables: Tables, state: State
) -> tuple[float, float]:
    """Find the next zero of Z after zero `stop` - 1: spacing and standard deviation.

    They are `NO_ROOT` if there is none within 3.5 mean spacings. The standard deviation is scaled
    by the root of the reduced chi squared, misfit / n, where that exceeds one.
    """
    last, z = state.u[0, stop - 1], state.z
    evaluate_residuals(x, stop - 1, stop, tables, state)
    sign = 1.0 if state.slope[stop - 1] > 0 else -1.0  # of Z between the two zeros
    base = stop + WIDTH - stop % WIDTH  # scratch columns beyond the zeros
    left, right, above, below = 0.0, -1.0, 1e-300, 0.0
    for block in range(SEARCH_BLOCKS):
        for k in range(WIDTH):
            state.u[0, base + k] = last + SEARCH_DISTANCE * (WIDTH * block + k + 1)
        evaluate_residuals(x, base, base + WIDTH, tables, state)
        for k in range(WIDTH):
            value = sign * z[base + k]
            if right < 0 and value < 0:
                right, below = state.u[0, base + k] - last, value
            elif right < 0:
                left, above = state.u[0, base + k] - last, value
        if right > 0:
            break
    if right < 0:
        return NO_ROOT
    for _ in range(MAX_REFINEMENTS):  # eight points about the secant's root, denser near it
        guess = (left * below - right * above) / (below - above)
        for k in range(WIDTH):
            tilt = ((k - 3.5) / 4) ** 3
            away = guess - left if tilt < 0 else right - guess
            state.u[0, base + k] = last + guess + tilt * away
        evaluate_residuals(x, base, base + WIDTH, tables, state)
        for k in range(WIDTH):
            point, value = state.u[0, base + k] - last, sign * z[base + k]
            if value > 0 and left < point < right:
                left, above = point, value
        for k in range(WIDTH):
            point, value = state.u[0, base + k] - last, sign * z[base + k]
            if value <= 0 and left < point < right:
                right, below = point, value
        if right - left < MIN_BRACKET:
            break
    guess = (left * below - right * above) / (below - above)
    state.u[0, base] = last + guess
    linearize(x, base, base + 1, tables, state)
    # The next zero will have the noise of those before.
    sd = math.sqrt(posterior_sd(base, noise, state) ** 2 + noise**2)
    steepness = state.slope[base] ** 2
    # From the residual, Z / sqrt(slope^2 + 1), to the root.
    by_root = (steepness + 1) / (steepness + SQUARED_SLOPE_OFFSET)
    sd *= math.sqrt(by_root * max(misfit / (stop - first), 1.0))
    return guess, min(sd, NO_ROOT[1])


@inner(**KERNEL)
def set_prior_mean(first: int, stop: int, tables: Tables, state: State) -> None:
    """Set the prior mean of theta0, at which S is zero on average."""
    lag = 0.0
    for j in range(first, stop):
        lag += j - state.u[0, j]
    state.prior_mean[tables.theta0] = math.pi * (lag / (stop - first) - 0.5)


@inner(**KERNEL)
def restart(
    first: int, stop: int, noise_levels: Floats, tables: Tables, state: State, out: Floats
) -> bool:
    """Solve the stretch from scratch, into `start`, at `START_LEVEL` with `START_MISFIT`.

    Writes the coarse and the middle forecast to `out`, (7,). The level is the middle one where that
    does not determine the next zero yet, else the last one whose misfit is not a failure's. Returns
    whether that is what is factored.
    """
    set_prior_mean(first, stop, tables, state)
    initialize(first, stop, tables, state)
    x = state.trial.copy()
    for level in range(len(noise_levels)):
        noise, last = noise_levels[level], level == len(noise_levels) - 1
        tolerance = GAIN_TOLERANCE if last else EARLY_TOLERANCE
        misfit = fit(x, NOT_FACTORED, first, stop, noise, tolerance, tables, state)
        if level > MIDDLE_LEVEL and misfit > FAILED_MISFIT * (stop - first):
            return False
        if level <= MIDDLE_LEVEL:
            column = COARSE if level == COARSE_LEVEL else MIDDLE
            out[column], out[column + 1] = find_next_zero(
                x, misfit, first, stop, noise, tables, state
            )
        copy(x, state.start)
        state.scalars[START_LEVEL], state.scalars[START_MISFIT] = level, misfit
        if level == MIDDLE_LEVEL and out[MIDDLE_SD] > GATE_SD:
            break
    return True


@cached(**KERNEL)
def append_spacings(
    spacing: Floats,
    solve_from: int,
    context: int,
    tables_given: Tables,
    state_given: State,
    noise_levels: Floats,
    out: Floats,
) -> None:
    """Append spacings (T,) to the stretch and write a forecast after each from `solve_from` on to
    `out`, (T + A, 7): then of A zeros in turn, each beyond the one before, by the last solution.

    A forecast looks back on `context` spacings at most.
    """
    tables, state = by_reference(tables_given), by_reference(state_given)
    scalars, x, last_level = state.scalars, state.x, len(noise_levels) - 1
    for t in range(len(spacing)):
        n, row = int(scalars[COUNT]) + 1, out[t]
        state.u[0, n - 1] = state.u[0, n - 2] + spacing[t]
        scalars[COUNT] = n
        if t < solve_from:
            continue
        first, misfit = max(0, n - 1 - context), scalars[LAST_MISFIT]
        error, claimed = abs(spacing[t] - scalars[LAST_FORECAST]), scalars[LAST_SD]
        level = int(scalars[LEVEL])
        confirmed = (
            level == last_level
            and claimed < CONFIRMED_SD
            and error < CONFIRMED_ERROR_SDS * claimed + CONFIRMED_ERROR
        )
        due = n <= RESTART_ZEROS or n % RESTART_EVERY == 0 or claimed == 0
        from_scratch, solved = due and not confirmed, level > MIDDLE_LEVEL
        if solved or not from_scratch:
            # In full where a zero leaves the context or the form changes.
            warm = n - 1 <= context and is_dual(n - first, state) == is_dual(n - 1 - first, state)
            noise = noise_levels[level]
            if warm:
                linearize(x, n - 1, n, tables, state)
                set_targets(x, n - 1, n, state)
                append_zero(first, n, noise, state)
                misfit += (state.residual[n - 1] / noise) ** 2
            else:
                misfit = NOT_FACTORED
            misfit = fit(x, misfit, first, n, noise, GAIN_TOLERANCE, tables, state)
            failed = misfit > FAILED_MISFIT * (n - first)
            from_scratch, solved = from_scratch or (solved and failed), solved and not failed
        if from_scratch:
            factored = restart(first, n, noise_levels, tables, state, row)
            found, found_level = scalars[START_MISFIT], int(scalars[START_LEVEL])
            better = found_level > level or (found_level == level and found < misfit)
            if better or not solved or row[MIDDLE_SD] > GATE_SD:
                copy(state.start, x)
                misfit, level = found, found_level
            else:
                factored = False
            if not factored:
                noise = noise_levels[level]
                misfit = fit(x, NOT_FACTORED, first, n, noise, GAIN_TOLERANCE, tables, state)
        noise = noise_levels[level]
        row[SPACING], row[SD] = find_next_zero(x, misfit, first, n, noise, tables, state)
        row[SD] = math.sqrt(row[SD] ** 2 + noise**2)  # the next zero is given no better than others
        row[MISFIT] = misfit
        if not from_scratch:
            row[MIDDLE] = row[COARSE] = row[SPACING]
            row[MIDDLE_SD] = row[COARSE_SD] = row[SD]
        scalars[LEVEL], scalars[LAST_MISFIT] = level, misfit
        scalars[LAST_FORECAST], scalars[LAST_SD] = row[SPACING], row[SD]
    n, misfit = int(scalars[COUNT]), scalars[LAST_MISFIT]
    noise, last, first = noise_levels[int(scalars[LEVEL])], n - 1, max(0, n - 1 - context)
    end = state.u[0, last]
    for t in range(len(spacing), len(out)):  # the last zero stands where the forecast before put it
        row = out[t]
        state.u[0, last] += out[t - 1, SPACING]
        row[SPACING], row[SD] = find_next_zero(x, misfit, first, n, noise, tables, state)
    state.u[0, last] = end


def lower_noise(noise: float) -> Floats:
    """Levels of the noise from a start down to `noise`: the first two, more above it, and it."""
    last = max(noise, LOWEST_NOISE)
    between = NOISE_LEVELS[MIDDLE_LEVEL + 1 : -1]
    first = np.maximum(NOISE_LEVELS[: MIDDLE_LEVEL + 1], last)
    return np.concatenate([first, between[between > last], [last]])


class SequentialSolver:
    """Solves a growing stretch of spacings and forecasts the next one after each.

    Parameters
    ----------
    height : of the zero before the first spacing, to three digits or better
    capacity : number of spacings that can be appended in all
    context : number of last spacings that a forecast uses, at most; None: all
    noise : standard deviation of the zeros' places, mean spacings; taken as `LOWEST_NOISE` at least

    Attributes
    ----------
    misfit : of the last solution; see :mod:`zetalib.inverse.least_squares`
    room : number of spacings that can still be appended

    Raises
    ------
    ZetaError
        If the height is not within `MIN_HEIGHT` and `MAX_HEIGHT`.
    """

    misfit: float

    @property
    def noise(self) -> float:
        """That of the last solution."""
        return float(self.noise_levels[int(self.state.scalars[LEVEL])])

    def __init__(
        self, height: float, capacity: int, context: int | None = None, noise: float = 0.0
    ) -> None:
        if not MIN_HEIGHT <= height <= MAX_HEIGHT:
            problem = (
                f"a stretch at height {height}: the inversion is for "
                f"{MIN_HEIGHT:g} to {MAX_HEIGHT:g}"
            )
            raise ZetaError("zetalib.inverse.solver", problem, "Set model.inversion to false.")
        self.tables = build_tables(int(math.sqrt(height / (2 * math.pi))))
        self.context, self.room = capacity if context is None else context, capacity
        self.state = allocate_state(self.tables, height, capacity)
        self.noise_levels = lower_noise(noise)

    def append(self, spacing: Floats, solve_from: int = 0, ahead: int = 0) -> Floats:
        """Append spacings (T,), in mean spacings: forecasts after each, see `COLUMNS`.

        Spacings below 0 or above `MAX_SPACING`, which no zeros have, are clipped.

        Parameters
        ----------
        solve_from : forecasts begin after this one of the spacings, counted from 0
        ahead : number of zeros beyond the next one to forecast after the last spacing

        Returns
        -------
        shape (T - `solve_from` + `ahead`, 7); rows ahead are spacings to the zero forecast before
        and deviations, fine alone, the others zero

        Raises
        ------
        ZetaError
            If a spacing is not finite.
        """
        if not np.isfinite(spacing).all():
            problem = "a spacing is not a finite number"
            raise ZetaError("zetalib.inverse.solver", problem, "Check what makes the spacings.")
        if len(spacing) > self.room:
            raise ValueError(f"{len(spacing)} spacings, room is left for {self.room}")
        self.room -= len(spacing)
        out = np.zeros((len(spacing) + ahead, len(COLUMNS)))
        values = np.clip(np.ascontiguousarray(spacing, np.float64), 0, MAX_SPACING)
        append_spacings(
            values, solve_from, self.context, self.tables, self.state, self.noise_levels, out
        )
        self.misfit = float(self.state.scalars[LAST_MISFIT])
        return out[solve_from:]


def follow(spacing: Floats, height: float) -> Floats:
    """Forecast along one stretch: shape (T, 7), row t from spacings 0 ... t alone.

    Parameters
    ----------
    spacing : shape (T,), in mean spacings (variant B), consecutive
    height : of the zero before the first, to three digits or better

    Returns
    -------
    `COLUMNS`: the next spacing and its standard deviation from the solution at the lowest noise,
    from the solutions at the noises 0.01 (middle) and 0.1 (coarse) on the way of a start from
    scratch, or the first two again where none was made after this spacing; and the misfit
    """
    return SequentialSolver(height, len(spacing)).append(spacing)


def forecasts(spacing: Floats, height: Floats) -> Floats:
    """Forecast along many stretches (W, T) with heights (W,), in threads: shape (W, T, 7)."""
    rows = map_threads(zip(spacing, height.tolist(), strict=True), follow)
    return np.stack(rows) if rows else np.empty((*spacing.shape, len(COLUMNS)))
