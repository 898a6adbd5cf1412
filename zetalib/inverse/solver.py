"""The zeros as an inverse problem: from a stretch of bare spacings to where the next zero lies.

Near height T (Riemann-Siegel, docs/reference.md, 2.7)

    Z(u) = 2 sum_{n <= N} Re[ a_n e^{i (pi u + theta0 - h(u) log n)} ] / sqrt(n) + R(u),

with N = sqrt(T / 2 pi), u the unfolded coordinate, h(u) the height, both from the first zero of
the stretch, and a completely multiplicative: a_n = product of a_p over the primes of n. The zeros
of the stretch say Z(u_j) = 0: one equation each for one complex a_p a prime p <= N, the phase
theta0, the scale of h (T is known to three digits only) and a slow remainder R. All a_p = p^{-iT}
have modulus one; here they are free, with the prior E|a_p|^2 = 1, so that a prime not resolved yet
fades out instead of speaking at random. That, and lowering the noise of the equations step by step
from an explicit-formula start (item 3), is what makes the solution findable: at height 10^6 most
stretches of 60 zeros are solved to three digits, of 130 to five.

The forecast of the next spacing is the next sign change of Z, its standard deviation the one of
Z there under the posterior's curvature (Laplace), divided by the slope. It uses no zero beyond the
stretch and no constant fitted to zeros.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from zetalib.compute import map_threads
from zetalib.errors import ZetaError
from zetalib.inverse.least_squares import (
    _cholesky,
    _deviation,
    _extend,
    _factor,
    _fit,
    _solve,
)
from zetalib.inverse.riemann_siegel_model import (
    KERNEL,
    State,
    Sums,
    _height,
    _rows,
    _state,
    sums,
)
from zetalib.inverse.simd import WIDTH
from zetalib.kernels import cached

Floats = NDArray[np.float64]

LEVELS = np.array([0.1, 0.01, 1e-3, 1e-4, 1e-6, 1e-8])  # noise, in mean spacings / pi
SEARCH = 40  # stretches up to so many zeros are also solved from scratch
COLUMNS = ("spacing", "sd", "middle", "middle_sd", "coarse", "coarse_sd", "misfit")
MIDDLE = 1  # the level whose forecast is the middle one; level 0 gives the coarse one
LONGEST = 100.0  # mean spacings
LOWEST, HIGHEST = 100.0, 1e10  # 4 and 40,000 terms, of which no stretch resolves many
LOST = (1.0, 0.4)  # forecast and deviation where there is no root, and the largest deviation


@numba.njit(**KERNEL)
def _start(low: int, n: int, tables: Sums, state: State) -> Floats:
    """a_p and theta0 from S at the zeros as a Gaussian process (docs/reference.md, 2.3)."""
    primes, log_p = len(tables.log_p), tables.log_p
    design = np.ones((n - low, 2 * primes + 1))
    for j in range(low, n):
        h = _height(state.u[0, j], 0.0, state)[0]
        for p in range(primes):
            size = tables.size[p] / math.pi * math.sqrt(0.5)
            design[j - low, p] = -math.sin(h * log_p[p]) * size
            design[j - low, primes + p] = math.cos(h * log_p[p]) * size
    gram = design @ design.T
    y = np.empty(n - low)
    for j in range(low, n):
        gram[j - low, j - low] += 0.02
        y[j - low] = j - state.u[0, j]
    found = design.T @ _solve(_cholesky(gram), y)
    x = np.zeros(len(state.x))
    x[: 2 * primes] = found[: 2 * primes] * math.sqrt(0.5)
    x[2 * primes] = math.pi * (found[2 * primes] - 0.5)
    return x


@numba.njit(**KERNEL)
def _next(
    x: Floats, misfit: float, low: int, n: int, noise: float, tables: Sums, state: State
) -> tuple[float, float]:
    """The next zero of Z after zero n - 1: spacing and standard deviation; (1, 0.4) if none.

    Where the misfit says that the noise is larger than thought, so is the deviation.
    """
    last, z = state.u[0, n - 1], state.z
    _rows(x, n - 1, n, tables, state, False)
    sign = 1.0 if state.slope[n - 1] > 0 else -1.0
    base = n + WIDTH - n % WIDTH  # free columns beyond the zeros
    left, right, above, below = 0.0, -1.0, 1e-300, 0.0
    for block in range(11):  # up to 3.5 mean spacings
        for k in range(WIDTH):
            state.u[0, base + k] = last + 0.04 * (WIDTH * block + k + 1)
        _rows(x, base, base + WIDTH, tables, state, False)
        for k in range(WIDTH):
            value = sign * z[base + k]
            if right < 0 and value < 0:
                right, below = state.u[0, base + k] - last, value
            elif right < 0:
                left, above = state.u[0, base + k] - last, value
        if right > 0:
            break
    if right < 0:
        return LOST
    for _ in range(8):  # eight points about the secant's guess, closer ones nearer to it
        guess = (left * below - right * above) / (below - above)
        for k in range(WIDTH):
            tilt = ((k - 3.5) / 4) ** 3
            away = guess - left if tilt < 0 else right - guess
            state.u[0, base + k] = last + guess + tilt * away
        _rows(x, base, base + WIDTH, tables, state, False)
        for k in range(WIDTH):
            point, value = state.u[0, base + k] - last, sign * z[base + k]
            if value > 0 and left < point < right:
                left, above = point, value
        for k in range(WIDTH):
            point, value = state.u[0, base + k] - last, sign * z[base + k]
            if value <= 0 and left < point < right:
                right, below = point, value
        if right - left < 1e-10:
            break
    guess = (left * below - right * above) / (below - above)
    state.u[0, base] = last + guess
    _rows(x, base, base + 1, tables, state, True)
    deviation, steep = _deviation(state.rows[base], low, n, noise, state), state.slope[base] ** 2
    deviation *= math.sqrt((steep + 1) / (steep + 0.3) * max(misfit / (n - low), 1.0))
    return guess, min(deviation, LOST[1])


# The same for calls from Python: the ones above stay inside the kernels that call them.
start_alone, fit_alone, next_alone = (cached(**KERNEL)(k.py_func) for k in (_start, _fit, _next))


@cached(**KERNEL)
def _push(
    spacing: Floats, keep: int, tables: Sums, state: State, levels: Floats, search: int, out: Floats
) -> None:
    """Append spacings and write a row of `out` for each."""
    primes = len(tables.log_p)
    fine = levels[len(levels) - 1]
    x, found, trial = state.x.copy(), 0.0, state.x
    for t in range(len(spacing)):
        n = int(state.constants[2]) + 1
        before, before_sd = state.constants[3], state.constants[4]
        state.u[0, n - 1] = state.u[0, n - 2] + spacing[t]
        state.constants[2] = n
        low = max(0, n - 1 - keep)
        lag = 0.0
        for j in range(low, n):
            lag += j - state.u[0, j]
        state.centre[2 * primes] = math.pi * (lag / (n - low) - 0.5)  # S is zero on average
        started, value = before_sd > 0, np.inf
        sure = started and before_sd < 1e-3 and abs(spacing[t] - before) < 10 * before_sd + 1e-6
        if started:
            _rows(x, n - 1, n, tables, state, True)
            if n - 1 > keep or n - low == len(x) + 1:
                _factor(low, n, fine, 0.0, state)
            else:
                _extend(low, n, fine, state)
            x, value = _fit(x, low, n, fine, True, tables, state)
        fresh = not started or n <= search or (not sure and n % 8 == 0)
        if fresh:
            trial = _start(low, n, tables, state)
            for level in range(len(levels)):
                trial, found = _fit(trial, low, n, levels[level], False, tables, state)
                if level == 0:
                    out[t, 4], out[t, 5] = _next(trial, found, low, n, levels[0], tables, state)
                if level == MIDDLE:
                    out[t, 2], out[t, 3] = _next(trial, found, low, n, levels[level], tables, state)
            if found < value:
                x, value = trial, found
            else:
                _rows(x, low, n, tables, state, True)
                _factor(low, n, fine, 0.0, state)
        out[t, 0], out[t, 1] = _next(x, value, low, n, fine, tables, state)
        out[t, 6] = value
        if not fresh:
            out[t, 2] = out[t, 4] = out[t, 0]
            out[t, 3] = out[t, 5] = out[t, 1]
        state.constants[3], state.constants[4] = out[t, 0], out[t, 1]
    state.x[:] = x


class Follower:
    """Forecasts along a growing stretch of spacings.

    Parameters
    ----------
    height : of the zero before the first spacing, to three digits or better
    room : spacings to come, at most
    keep : spacings a forecast looks back on, at most; None: all

    Raises
    ------
    ZetaError
        Below height 100, where there are too few terms to speak of, or above 10^10.
    """

    def __init__(self, height: float, room: int, keep: int | None = None) -> None:
        if not LOWEST <= height <= HIGHEST:
            problem = (
                f"a stretch at height {height}: the inversion is for {LOWEST:g} to {HIGHEST:g}"
            )
            raise ZetaError("zetalib.inverse.solver", problem, "Set model.inversion to false.")
        self.tables = sums(int(math.sqrt(height / (2 * math.pi))))
        self.keep, self.left = room if keep is None else keep, room
        self.state = _state(self.tables, height, room)

    def push(self, spacing: Floats) -> Floats:
        """Take on spacings, shape (T,); forecasts after each of them, shape (T, 7): COLUMNS.

        Spacings below 0 or above `LONGEST`, which no zeros have, are moved there.

        Raises
        ------
        ZetaError
            If a spacing is no finite number.
        """
        if not np.isfinite(spacing).all():
            problem = "a spacing is not a finite number"
            raise ZetaError("zetalib.inverse.solver", problem, "Check what makes the spacings.")
        if len(spacing) > self.left:
            raise ValueError(f"{len(spacing)} spacings, room is left for {self.left}")
        self.left -= len(spacing)
        out = np.empty((len(spacing), len(COLUMNS)))
        values = np.clip(np.ascontiguousarray(spacing, np.float64), 0, LONGEST)
        _push(values, self.keep, self.tables, self.state, LEVELS, SEARCH, out)
        self.misfit = float(out[-1, 6])
        return out


def follow(spacing: Floats, height: float) -> Floats:
    """Forecasts along one stretch: row t, of shape (7,), from spacings 0 ... t alone.

    Parameters
    ----------
    spacing : shape (T,), in mean spacings (variant B), consecutive
    height : of the zero before the first, to three digits or better
    """
    return Follower(height, len(spacing)).push(spacing)


def forecasts(spacing: Floats, height: Floats) -> Floats:
    """:func:`follow` for many stretches, shape (W, T), with heights (W,): shape (W, T, 7)."""
    found = map_threads(zip(spacing, height.tolist(), strict=True), follow)
    return np.stack(found) if found else np.empty((*spacing.shape, len(COLUMNS)))
