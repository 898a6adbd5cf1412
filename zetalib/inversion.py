"""The zeros as an inverse problem: from a stretch of bare spacings to where the next zero lies.

Near height T (Riemann-Siegel, REFERENCE part 2 item 7)

    Z(u) = 2 sum_{n <= N} Re[ a_n e^{i (pi u + theta0 - h(u) log n)} ] / sqrt(n) + R(u),
    N = sqrt(T / 2 pi),

with u the unfolded coordinate, h(u) the height, both from the first zero of the stretch, and a
completely multiplicative: a_n = product of a_p over the primes of n. The zeros of the stretch say
Z(u_j) = 0: one equation each for one complex a_p a prime p <= N, the phase theta0, the scale of
h (T is known to three digits only) and a slow remainder R. All a_p = p^{-iT} have modulus one; here
they are free, with the prior E|a_p|^2 = 1, so that a prime not resolved yet fades out instead of
speaking at random. That, and lowering the noise of the equations step by step from an
explicit-formula start (item 3), is what makes the solution findable: at height 10^6 most stretches
of 60 zeros are solved to three digits, of 100 to five.

The forecast of the next spacing is the next sign change of Z, its standard deviation the one of
Z there under the posterior's curvature (Laplace), divided by the slope. It uses no zero beyond the
stretch and no constant fitted to zeros.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import safetensors.numpy
import scipy.linalg.cython_blas
import scipy.linalg.cython_lapack  # noqa: F401
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from zetalib import atomic
from zetalib.errors import ZetaError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS = np.array([0.1, 0.01, 1e-3, 1e-4, 1e-6])  # noise, in mean spacings / pi
SEARCH = 40  # stretches up to so many zeros are also solved from scratch
COLUMNS = ("spacing", "sd", "middle", "middle_sd", "coarse", "coarse_sd", "misfit")
MIDDLE = 1  # the level whose forecast is the middle one; level 0 gives the coarse one
KEY = 8  # spacings that tell stretches apart, most of the time
ROUNDING = 1e-14  # added to the diagonal of what Cholesky gets
LANES = 8  # zeros worked on at a time: what AVX-512 holds
REMAINDER = np.array([0.05, 0.03, 0.01, 0.003])  # prior sd of R's coefficients in h / SPAN
SPAN = 70.0
SCALE = 2e-4  # prior sd of the relative error of h: T to three digits at 10^6
KERNEL = {"fastmath": True, "nogil": True, "cache": True}


class State(NamedTuple):
    """A stretch of zeros and the solution so far; arrays the kernels work in.

    `constants`: mean density, curvature of h(u), zeros so far, last forecast and deviation.
    `x`: a_p (real parts, imaginary parts), theta0, error of the scale, coefficients of R.
    Columns are zeros, then points looked at: `u`, `h`, `turn` e^{i pi u}, `phase` e^{-i h log p},
    `z`, `slope` dZ/du, `rows` dZ/dx. `e`, `a`, `c`, `g`, `out`: work space of eight columns.
    """

    constants: Floats
    x: Floats
    prior: Floats
    centre: Floats
    u: Floats
    h: Floats
    turn: Floats
    phase: Floats
    z: Floats
    slope: Floats
    rows: Floats
    e: Floats
    a: Floats
    c: Floats
    g: Floats
    out: Floats


class Sums(NamedTuple):
    """What the sums over n <= N need, once for each N.

    `log_p` (P,) of the primes up to N; `rest` and `prime` (N + 1,): n = rest[n] * p[prime[n]];
    `weight` 2/sqrt(n) and `log_n`, (N + 1,); `start` (N + 2,) and `slope`: d Z / d a_p sums
    slope[start[m] + p] a_m over m <= N / p.
    """

    log_p: Floats
    rest: Ints
    prime: Ints
    weight: Floats
    log_n: Floats
    start: Ints
    slope: Floats


@lru_cache(maxsize=64)
def sums(terms: int) -> Sums:
    """The tables for N = `terms`."""
    factor = np.zeros(terms + 1, np.int64)
    for n in range(2, terms + 1):
        if factor[n] == 0:
            multiples = factor[n::n]
            multiples[multiples == 0] = n
    primes = np.flatnonzero(factor == np.arange(terms + 1))
    primes = primes[primes > 1]
    number = np.arange(terms + 1)
    rest = np.zeros(terms + 1, np.int64)
    rest[2:] = number[2:] // factor[2:]
    prime = np.searchsorted(primes, factor)
    weight = np.zeros(terms + 1)
    weight[1:] = 2 / np.sqrt(number[1:])
    start, slope = [0, 0], []
    for m in range(1, terms + 1):
        for p in primes[primes <= terms // m]:
            power, left = 1, m
            while left % p == 0:
                power, left = power + 1, left // p
            slope.append(power * weight[p * m])
        start.append(len(slope))
    log_n = np.log(np.maximum(number, 1))
    return Sums(np.log(primes), rest, prime, weight, log_n, np.array(start), np.array(slope))


@numba.njit(**KERNEL)
def _place(j: int, s: float, tables, state) -> None:  # type: ignore[no-untyped-def]
    """Put a point at u = s into column j: its height and the phases of the primes there."""
    rho, curve = state.constants[0], state.constants[1]
    h = s / rho
    h -= curve * h * h
    state.u[j] = s
    state.h[j] = h
    state.turn[0, j] = math.cos(math.pi * s)
    state.turn[1, j] = math.sin(math.pi * s)
    for p in range(len(tables.log_p)):
        state.phase[0, p, j] = math.cos(h * tables.log_p[p])
        state.phase[1, p, j] = -math.sin(h * tables.log_p[p])


@numba.njit(**KERNEL)
def _rows(x, first, count, tables, state, derivatives) -> None:  # type: ignore[no-untyped-def]
    """Z, dZ/du and, if asked for, dZ/dx at columns first ... first + count - 1.

    Eight columns at a time, so that the compiler can use whole vector registers.
    """
    primes, terms = len(tables.log_p), len(tables.weight) - 1
    theta, stretch = x[2 * primes], x[2 * primes + 1]
    rho, curve = state.constants[0], state.constants[1]
    ct, st = math.cos(theta), math.sin(theta)
    e, a, c, g, out = state.e, state.a, state.c, state.g, state.out
    for block in range(first - first % LANES, first + count, LANES):
        for p in range(primes):
            for k in range(LANES):
                # A small angle: the error of T to three digits. Its sine and cosine by series.
                t = -stretch * state.h[block + k] * tables.log_p[p]
                q = t * t
                co = 1 - q / 2 * (1 - q / 12 * (1 - q / 30 * (1 - q / 56 * (1 - q / 90))))
                si = t * (1 - q / 6 * (1 - q / 20 * (1 - q / 42 * (1 - q / 72 * (1 - q / 110)))))
                e0, e1 = state.phase[0, p, block + k], state.phase[1, p, block + k]
                re, im = e0 * co - e1 * si, e0 * si + e1 * co
                e[0, p, k], e[1, p, k] = re, im
                a[0, p, k] = x[p] * re - x[primes + p] * im
                a[1, p, k] = x[p] * im + x[primes + p] * re
        for k in range(LANES):
            f0, f1 = state.turn[0, block + k], state.turn[1, block + k]
            c[0, 1, k] = f0 * ct - f1 * st
            c[1, 1, k] = f0 * st + f1 * ct
            out[0, k] = tables.weight[1] * c[0, 1, k]
            out[1, k] = tables.weight[1] * c[1, 1, k]
            out[2, k] = 0.0
        for n in range(2, terms + 1):
            m, p, w, log_n = tables.rest[n], tables.prime[n], tables.weight[n], tables.log_n[n]
            for k in range(LANES):
                re = c[0, m, k] * a[0, p, k] - c[1, m, k] * a[1, p, k]
                im = c[0, m, k] * a[1, p, k] + c[1, m, k] * a[0, p, k]
                c[0, n, k] = re
                c[1, n, k] = im
                out[0, k] += w * re
                out[1, k] += w * im
                out[2, k] += w * log_n * im
        r = 2 * primes + 2
        for k in range(LANES):
            j = block + k
            if first <= j < first + count:
                s = state.h[j] / SPAN
                state.z[j] = out[0, k] + x[r] + s * (x[r + 1] + s * (x[r + 2] + s * x[r + 3]))
                climb = (1 - 2 * curve * state.u[j] / rho) / rho * (1 + stretch)
                state.slope[j] = -math.pi * out[1, k] + climb * out[2, k]
        if not derivatives:
            continue
        g[:] = 0.0
        for m in range(1, terms // 2 + 1):
            for p in range(tables.start[m + 1] - tables.start[m]):
                w = tables.slope[tables.start[m] + p]
                for k in range(LANES):
                    g[0, p, k] += w * c[0, m, k]
                    g[1, p, k] += w * c[1, m, k]
        for k in range(LANES):
            j = block + k
            if first <= j < first + count:
                row = state.rows[j]
                for p in range(primes):
                    row[p] = g[0, p, k] * e[0, p, k] - g[1, p, k] * e[1, p, k]
                    row[primes + p] = -g[0, p, k] * e[1, p, k] - g[1, p, k] * e[0, p, k]
                s = state.h[j] / SPAN
                row[r - 2] = -out[1, k]
                row[r - 1] = out[2, k] * state.h[j]
                row[r] = 1.0
                row[r + 1] = s
                row[r + 2] = s * s
                row[r + 3] = s * s * s


@numba.njit(**KERNEL)
def _misfit(x, low, n, noise, state):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(low, n):
        total += state.z[j] ** 2 / (state.slope[j] ** 2 + 1)
    total /= noise * noise
    for i in range(len(x)):
        total += state.prior[i] * (x[i] - state.centre[i]) ** 2
    return total


@numba.njit(**KERNEL)
def _weighted(low, n, state):  # type: ignore[no-untyped-def]
    """Residuals and their derivatives in units of a mean spacing / pi, capped where Z is flat."""
    residual, scaled = np.empty(n - low), np.empty((n - low, state.rows.shape[1]))
    for j in range(low, n):
        q = 1 / math.sqrt(state.slope[j] ** 2 + 1)
        residual[j - low] = state.z[j] * q
        for i in range(scaled.shape[1]):
            scaled[j - low, i] = state.rows[j, i] * q
    return residual, scaled


@numba.njit(**KERNEL)
def _solve(gram, right):  # type: ignore[no-untyped-def]
    """Solve a positive definite system, by Cholesky."""
    lower, y = np.linalg.cholesky(gram), right.copy()
    for i in range(len(y)):
        y[i] = (y[i] - np.dot(lower[i, :i], y[:i])) / lower[i, i]
    for i in range(len(y) - 1, -1, -1):
        y[i] /= lower[i, i]
        for k in range(i):
            y[k] -= lower[i, k] * y[i]
    return y


@numba.njit(**KERNEL)
def _start(low, n, tables, state):  # type: ignore[no-untyped-def]
    """a_p and theta0 from S at the zeros as a Gaussian process (REFERENCE part 2, item 3)."""
    primes, log_p = len(tables.log_p), tables.log_p
    design = np.ones((n - low, 2 * primes + 1))
    for p in range(primes):
        size = math.exp(-0.5 * log_p[p]) / math.pi * math.sqrt(0.5)
        for j in range(low, n):
            design[j - low, p] = state.phase[1, p, j] * size
            design[j - low, primes + p] = state.phase[0, p, j] * size
    gram = design @ design.T
    y = np.empty(n - low)
    for j in range(low, n):
        gram[j - low, j - low] += 0.02
        y[j - low] = j - state.u[j]
    found = design.T @ _solve(gram, y)
    x = np.zeros(len(state.x))
    x[: 2 * primes] = found[: 2 * primes] * math.sqrt(0.5)
    x[2 * primes] = math.pi * (found[2 * primes] - 0.5)
    return x


@numba.njit(**KERNEL)
def _fit(x, low, n, noise, steps, tables, state):  # type: ignore[no-untyped-def]
    """Levenberg-Marquardt from x: the solution and its misfit.

    With fewer equations than unknowns the normal equations are solved in their dual form, which
    keeps its digits at small noise.
    """
    prior, centre = state.prior, state.centre
    size, equations, variance = len(x), n - low, noise * noise
    damping, value = 0.0, 0.0
    for turn in range(steps):
        _rows(x, low, equations, tables, state, True)
        if turn == 0:
            value = _misfit(x, low, n, noise, state)
        residual, scaled = _weighted(low, n, state)
        better, found, trial = False, value, x
        for _again in range(4):
            spread = 1 / (prior * (1 + damping))
            if equations <= size:
                pull = -prior * (x - centre) * spread
                wide = scaled * np.sqrt(spread)
                gram = wide @ wide.T
                for j in range(equations):
                    gram[j, j] += variance + ROUNDING * gram[j, j]
                dual = _solve(gram, residual + scaled @ pull)
                trial = x + pull - spread * (scaled.T @ dual)
            else:
                gram = scaled.T @ scaled
                right = -(scaled.T @ residual) - variance * prior * (x - centre)
                for i in range(size):
                    gram[i, i] += variance * prior[i] * (1 + damping) + ROUNDING * gram[i, i]
                trial = x + _solve(gram, right)
            _rows(trial, low, equations, tables, state, False)
            found = _misfit(trial, low, n, noise, state)
            better = found < value
            if better or found - value < 0.01 + 1e-3 * value:
                break  # done, or as good as done
            damping = max(30 * damping, 1.0)
        if not better:
            break
        gain = value - found
        x, value = trial, found
        damping = 0.03 * damping if damping > 0.3 else 0.0
        if gain < 0.01 + 1e-3 * value:
            break
    return x, value


@numba.njit(**KERNEL)
def _deviation(at, low, n, noise, state):  # type: ignore[no-untyped-def]
    """Standard deviation of Z at column `at` under the posterior (Laplace)."""
    size, variance, prior = len(state.prior), noise * noise, state.prior
    row = state.rows[at]
    _, scaled = _weighted(low, n, state)
    if n - low <= size:
        root = np.sqrt(1 / prior)
        wide, mine = scaled * root, row * root
        gram = wide @ wide.T
        for j in range(n - low):
            gram[j, j] += variance + ROUNDING * gram[j, j]
        cross = wide @ mine
        left = np.dot(mine, mine) - np.dot(cross, _solve(gram, cross))
    else:
        gram = scaled.T @ scaled
        for i in range(size):
            gram[i, i] += variance * prior[i] + ROUNDING * gram[i, i]
        left = variance * np.dot(row, _solve(gram, row))
    return math.sqrt(max(left, 1e-16))


@numba.njit(**KERNEL)
def _next(x, low, n, noise, tables, state):  # type: ignore[no-untyped-def]
    """The next zero of Z after zero n - 1: spacing and standard deviation; (1, 0.4) if none."""
    last, z = state.u[n - 1], state.z
    _rows(x, n - 1, 1, tables, state, False)
    sign = 1.0 if state.slope[n - 1] > 0 else -1.0
    base = n + LANES - n % LANES  # free columns beyond the zeros
    left, right, above, below = 0.0, -1.0, 1e-300, 0.0
    for block in range(11):  # up to 3.5 mean spacings
        for k in range(LANES):
            _place(base + k, last + 0.04 * (LANES * block + k + 1), tables, state)
        _rows(x, base, LANES, tables, state, False)
        for k in range(LANES):
            value = sign * z[base + k]
            if right < 0 and value < 0:
                right, below = state.u[base + k] - last, value
            elif right < 0:
                left, above = state.u[base + k] - last, value
        if right > 0:
            break
    if right < 0:
        return 1.0, 0.4
    for _ in range(8):  # eight points about the secant's guess, closer ones nearer to it
        guess = (left * below - right * above) / (below - above)
        for k in range(LANES):
            tilt = ((k - 3.5) / 4) ** 3
            away = guess - left if tilt < 0 else right - guess
            _place(base + k, last + guess + tilt * away, tables, state)
        _rows(x, base, LANES, tables, state, False)
        for k in range(LANES):
            point, value = state.u[base + k] - last, sign * z[base + k]
            if value > 0 and left < point < right:
                left, above = point, value
        for k in range(LANES):
            point, value = state.u[base + k] - last, sign * z[base + k]
            if value <= 0 and left < point < right:
                right, below = point, value
        if right - left < 1e-10:
            break
    guess = (left * below - right * above) / (below - above)
    _place(base, last + guess, tables, state)
    _rows(x, low, n - low, tables, state, True)
    _rows(x, base, 1, tables, state, True)
    slope = state.slope[base]
    return guess, _deviation(base, low, n, noise, state) / math.sqrt(slope * slope + 0.3)


@numba.njit(**KERNEL)
def _push(spacing, keep, tables, state, levels, search, out) -> None:  # type: ignore[no-untyped-def]
    """Append spacings and write a row of `out` for each."""
    primes = len(tables.log_p)
    fine = levels[len(levels) - 1]
    x, found, trial = state.x.copy(), 0.0, state.x
    for t in range(len(spacing)):
        n = int(state.constants[2]) + 1
        before, before_sd = state.constants[3], state.constants[4]
        _place(n - 1, state.u[n - 2] + spacing[t], tables, state)
        state.constants[2] = n
        low = max(0, n - 1 - keep)
        lag = 0.0
        for j in range(low, n):
            lag += j - state.u[j]
        state.centre[2 * primes] = math.pi * (lag / (n - low) - 0.5)  # S is zero on average
        started, value = before_sd > 0, np.inf
        sure = started and before_sd < 1e-3 and abs(spacing[t] - before) < 10 * before_sd + 1e-6
        if started:
            x, value = _fit(x, low, n, fine, 6, tables, state)
        fresh = not started or n <= search or (not sure and n % 8 == 0)
        if fresh:
            trial = _start(low, n, tables, state)
            for level in range(len(levels)):
                trial, found = _fit(trial, low, n, levels[level], 12, tables, state)
                if level == 0:
                    out[t, 4], out[t, 5] = _next(trial, low, n, levels[0], tables, state)
                if level == MIDDLE:
                    out[t, 2], out[t, 3] = _next(trial, low, n, levels[level], tables, state)
            if found < value:
                x, value = trial, found
        out[t, 0], out[t, 1] = _next(x, low, n, fine, tables, state)
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
        Below height 100, where there are too few terms to speak of.
    """

    def __init__(self, height: float, room: int, keep: int | None = None) -> None:
        if not height >= 100:
            problem = f"a stretch at height {height}: the inversion needs at least 100"
            raise ZetaError("zetalib.inversion", problem, "Set model.inversion to false.")
        self.tables = sums(int(math.sqrt(height / (2 * math.pi))))
        self.keep, self.left = room if keep is None else keep, room
        density = math.log(height / (2 * math.pi)) / (2 * math.pi)
        self.state = _state(self.tables, density, 1 / (4 * math.pi * height * density), room)

    def push(self, spacing: Floats) -> Floats:
        """Take on spacings, shape (T,); forecasts after each of them, shape (T, 7): COLUMNS."""
        if len(spacing) > self.left:
            raise ValueError(f"{len(spacing)} spacings, room is left for {self.left}")
        self.left -= len(spacing)
        out = np.empty((len(spacing), len(COLUMNS)))
        values = np.ascontiguousarray(spacing, np.float64)
        _push(values, self.keep, self.tables, self.state, LEVELS, SEARCH, out)
        return out


def _state(tables: Sums, rho: float, curve: float, room: int) -> State:
    primes, terms = len(tables.log_p), len(tables.weight)
    size, columns = 2 * primes + 6, (room // LANES + 4) * LANES
    prior = np.full(size, 2.0)
    prior[2 * primes] = 0.1
    prior[2 * primes + 1] = 1 / SCALE**2
    prior[2 * primes + 2 :] = 1 / REMAINDER**2
    state = State(
        constants=np.array([rho, curve, 1.0, 0.0, 0.0]),
        x=np.zeros(size),
        prior=prior,
        centre=np.zeros(size),
        u=np.zeros(columns),
        h=np.zeros(columns),
        turn=np.zeros((2, columns)),
        phase=np.zeros((2, primes, columns)),
        z=np.zeros(columns),
        slope=np.zeros(columns),
        rows=np.zeros((columns, size)),
        e=np.zeros((2, primes, LANES)),
        a=np.zeros((2, primes, LANES)),
        c=np.zeros((2, terms, LANES)),
        g=np.zeros((2, primes, LANES)),
        out=np.zeros((3, LANES)),
    )
    _place(0, 0.0, tables, state)
    return state


class Sliding:
    """Forecasts along contexts that slide: each new spacing costs a step, not a stretch.

    Given the contexts of the call before, moved on by one, it goes on from the solutions it had;
    given others it starts anew. A token's forecasts are those made when it was the last one.
    """

    def __init__(self) -> None:
        self._before = np.empty((0, 0))
        self._found = np.empty((0, 0, len(COLUMNS)))
        self._followers: list[Follower] = []

    def __call__(self, contexts: Floats, height: Floats) -> Floats:
        """Contexts (B, T), heights (B,) of their first zeros: shape (B, T, 7)."""
        b, t = contexts.shape
        goes_on = self._before.shape == (b, t) and self._followers[0].left > 0
        if goes_on and np.array_equal(contexts[:, :-1], self._before[:, 1:]):
            new = [s[-1:] for s in contexts]
            kept = self._found[:, 1:]
        else:
            self._followers = [Follower(h, 4 * t, t) for h in height.tolist()]
            new, kept = list(contexts), np.empty((b, 0, len(COLUMNS)))
        calls = zip(self._followers, new, strict=True)
        pushed = np.stack(together(calls, Follower.push))
        self._before, self._found = contexts.copy(), np.concatenate([kept, pushed], 1)
        return self._found


def together(calls: Iterable[tuple[Any, ...]], function: Callable[..., Any]) -> list[Any]:
    """Call `function` with each of `calls` on all cores: the kernels hold no lock."""
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda arguments: function(*arguments), calls))


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
    return np.stack(together(zip(spacing, height.tolist(), strict=True), follow))


class Known:
    """Forecasts by stretch: what was computed before is not computed again.

    A forecast depends on nothing but its stretch and the height, so that this changes no result.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[float, bytes], tuple[Floats, Floats]] = {}

    def __deepcopy__(self, _: object) -> Known:
        return self  # nothing in it belongs to one model

    def __call__(self, spacing: Floats, height: Floats) -> Floats:
        """As :func:`forecasts`."""
        found = [self._look_up(s, h) for s, h in zip(spacing, height.tolist(), strict=True)]
        missing = [i for i, known in enumerate(found) if known is None]
        if missing:
            new = forecasts(spacing[missing], height[missing])
            for i, computed in zip(missing, new, strict=True):
                found[i] = computed
        return np.stack([known for known in found if known is not None])

    def _look_up(self, spacing: Floats, height: float) -> Floats | None:
        known = self._found.get((height, spacing[:KEY].tobytes()))
        t = len(spacing)
        if known is None or not np.array_equal(known[0][:t], spacing):
            return None
        return known[1][:t]

    def add(self, spacing: Floats, height: Floats, found: Floats) -> None:
        """Keep forecasts `found` (W, T, 7) of stretches (W, T) at rounded heights (W,)."""
        for s, h, f in zip(spacing, height.tolist(), found, strict=True):
            self._found[h, s[:KEY].tobytes()] = (s, f)


def save(path: str | Path, spacing: Floats, height: Floats, found: Floats) -> None:
    """Keep forecasts in a file, for :func:`load`."""
    arrays = {"spacing": spacing, "height": height, "forecasts": found}
    content = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    atomic.write_bytes(path, content)


def load(*paths: str | Path) -> Known:
    """What files written by :func:`save` hold.

    Raises
    ------
    ZetaError
        If a file is missing, damaged or of another form.
    """
    known = Known()
    for path in paths:
        try:
            arrays = safetensors.numpy.load_file(path)
            spacing, height, found = (arrays[k] for k in ("spacing", "height", "forecasts"))
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            problem = f"not a file of inversions ({' '.join(str(error).split())})"
            raise ZetaError(path, problem, "Run `dvc repro -f invert`.") from None
        if found.shape != (*spacing.shape, len(COLUMNS)) or len(height) != len(spacing):
            problem = f"forecasts of shape {found.shape} for windows of shape {spacing.shape}"
            raise ZetaError(path, problem, "Run `dvc repro -f invert`.")
        known.add(spacing, height, found)
    return known
