"""The explicit formula as a forecaster: zeros counted softly, a Gaussian process over the primes.

Weil's explicit formula with a Gaussian test function, in the unfolded coordinate u from the first
zero of a stretch (zeros u_j, heights h(u) above it), for every x:

    sum_j Phi((x - u_j) / w) = x + c + S_w(x),
    S_w(x) = -sum_{p^k} e^{-(w k log p / rho)^2 / 2} sin(k (T + h(x)) log p) / (pi k p^{k/2}),

Phi the normal distribution function, rho the density of zeros. The left side is exact where the
zeros within a few w of x are known; no jump is left in it and nothing to call noise, where S itself
at a zero (w = 0) has a residual of variance 0.014 beyond the primes up to sqrt(T / 2 pi), 85 % of
it a function of the two spacings beside the zero. The phases T log p are not known (T is, to three
digits): S_w is a stationary Gaussian process with the covariance

    sum_{p^k < P} e^{-(w k log p / rho)^2} cos(k log p tau) / (2 pi^2 k^2 p^k),

to which the primes beyond P add an integral: a line a unit of log p / (2 pi^2 log^2 p) of
Montgomery's min(log p, log(T / 2 pi)). It is observed at the zeros of the stretch; a next spacing
s and the one after it, s', change the left side at the last few of them and at the trial zero, and
are as likely as the values that result. s' is summed over. Nearest neighbours' repulsion beyond
that is a factor s^a e^{b s + c s^2}, fitted below the tail (`SHAPE`).

T is refined along the way, by the maximum of the evidence: lags of the covariance are in height.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import finufft
import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.special import logsumexp, ndtr

from zetalib import compute
from zetalib.data.window import Windows
from zetalib.densities.histogram import Gridded
from zetalib.errors import ZetaError
from zetalib.kernels import cached
from zetalib.theory.primes import prime_powers
from zetalib.theory.zeta import gue_surmise

Floats = NDArray[np.float64]

LAG = 0.001  # height between the entries of a table of the covariance
TOP = 14.0  # log p at which the spectrum ends: what is left of it is damped away
CONSTANT = 0.3  # prior variance of c
LONGEST, CELL = 3.6, 0.005  # the grid of the next spacing, mean spacings
TRIALS = 24  # Chebyshev points of the next spacing at which the process is worked out
NEXT = 20  # cells of s a cell of s'
TOUCHED = 6  # zeros above x in the left side's sum: it depends on s at so many last zeros
BELOW = 12  # zeros below
MIDDLES = 12  # places of each zero beyond the known ones
BLOCK = 32  # zeros forecast with one solve
REFINED, GROWTH, ENOUGH = 24, 1.25, 2048  # zeros to refine T from first, step, last
ROUNDED = 0.0029  # sd of log T when T is given to three digits, at the worst
SHARP, ASIDE = 0.4, 2.7  # width for zeros far ahead; 2 (1 + 0.35), neighbours' correlation -0.35
REACH, GRID = 4.0, 0.05  # how far beyond S is worked out, and how finely, mean spacings
LOWEST, HIGHEST = 1e4, 1e10  # below, forecasts are worse than they say; settings are for 10^6
KERNEL = {"fastmath": True, "nogil": True, "error_model": "numpy"}

EDGES = np.round(np.arange(0, LONGEST + CELL / 2, CELL), 9)
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2
AFTER = np.arange(NEXT // 2, round(2.5 / CELL), NEXT) * CELL  # s'
SURMISE = gue_surmise(CENTRES) / gue_surmise(CENTRES).sum()
FARTHEST, FAR = 5.0, 1e-6  # end of one more cell, for spacings beyond the grid, and its mass


class Smoothing(NamedTuple):
    """Width w in mean spacings, variance `noise` of what the model leaves out, cutoff P."""

    width: float
    noise: float
    cutoff: int


SMOOTHING = Smoothing(1.2, 1e-9, 430)  # up to `LONG[0]` spacings
LONG = (256, Smoothing(1.0, 1e-9, 430))
COUNTING = Smoothing(0.8, 1e-6, 430)  # for zeros further ahead
# Spacings known, from which on a row of SHAPE holds.
LENGTHS = np.array([1, 8, 16, 32, 48, 64, 96, 128, 192, 256, 2048])
# Exponent of the likelihood, a, b, c, and the surmise's share, for when all is wrong.
SHAPE = np.array(
    [
        [0.706, 2.98, -1.16, -0.80, 1e-4],
        [0.776, 2.51, -0.56, -0.63, 1e-4],
        [0.726, 2.71, -0.49, -0.71, 1e-4],
        [0.387, 2.47, -1.58, -1.11, 2e-3],
        [0.592, 3.74, -4.56, -2.11, 5.6e-3],
        [1.179, 0.92, -2.97, -0.13, 1e-3],
        [1.205, -21.5, 9.45, 0.85, 1e-3],
        [0.896, -18.4, -16.3, 6.47, 2.4e-3],
        [0.500, -12.2, -45.1, 11.8, 3.6e-3],
        [0.542, -11.2, -10.4, 1.05, 1.7e-3],
        [0.559, -14.5, -22.1, -0.75, 8.2e-3],
    ]
)


class Process(NamedTuple):
    """The covariance of S_w at lags 0, `LAG`, ..., and the height it is for."""

    table: Floats
    height: float
    smoothing: Smoothing


def density(height: float) -> float:
    """Zeros a unit of height."""
    return math.log(height / (2 * math.pi)) / (2 * math.pi)


def heights(u: Floats, height: float) -> Floats:
    """Height above `height` at the unfolded coordinate `u` from there; exact (Newton)."""
    scale = math.log(height / (2 * math.pi * math.e))
    h = u / density(height)
    for _ in range(3):
        reached = h * scale + (height + h) * np.log1p(h / height)
        h = h - (reached - 2 * np.pi * u) / np.log((height + h) / (2 * np.pi))
    return h


@lru_cache(maxsize=4)
def spectrum(cutoff: int) -> tuple[Floats, Floats]:
    """Frequencies k log p of the p^k below `cutoff` and variances 1/(2 pi^2 k^2 p^k)."""
    q, mangoldt = prime_powers(cutoff - 1)
    power = np.rint(np.log(q) / mangoldt)
    return power * mangoldt, 1 / (2 * np.pi**2 * power**2 * q)


def unresolved(span: float, height: float) -> tuple[int, float]:
    """Prime powers that a stretch `span` high tells apart, and the deviation of S by the others.

    The lines near log p are (log p) / p apart: 2 pi p / log p tells them apart. The others count up
    to sqrt(T / 2 pi). It is what is left to a linear forecast of S at the next zero.
    """
    frequency, variance = spectrum(max(3, math.isqrt(int(height / (2 * math.pi)))))
    number = np.exp(frequency)
    told = 2 * math.pi * number / frequency <= span
    return int(told.sum()), float(np.sqrt(variance[~told].sum()))


@lru_cache(maxsize=8)
def process(
    height: float,
    span: float,
    smoothing: Smoothing = SMOOTHING,
    widths: tuple[float, float] | None = None,
) -> Process:
    """The covariance for stretches of up to `span` units of height near `height`.

    With `widths`, that of S smoothed with the one and S smoothed with the other.
    """
    frequency, variance = spectrum(smoothing.cutoff)
    step = min(0.02, 1.5 / span)
    x = np.arange(math.log(smoothing.cutoff) + step / 2, TOP, step)
    beyond = step / (2 * math.pi**2 * np.maximum(x, x**2 / math.log(height / (2 * math.pi))))
    frequency, variance = np.append(frequency, x), np.append(variance, beyond)
    one, other = widths or (smoothing.width, smoothing.width)
    variance = variance * np.exp(-(one**2 + other**2) / 2 * (frequency / density(height)) ** 2)
    lags = math.ceil(span / LAG) + 4
    modes = finufft.nufft1d1(frequency * LAG, variance + 0j, 2 * lags + 1, eps=1e-12)
    return Process(np.ascontiguousarray(modes.real[lags:]), height, smoothing)


@lru_cache(maxsize=1)
def _beyond() -> Floats:
    """Places of zeros beyond a known one, (8, Q): three by the surmise, likely alike; five even."""
    each = np.interp((np.arange(MIDDLES) + 0.5) / MIDDLES, np.cumsum(SURMISE), EDGES[1:])
    drawn = [s.ravel() for s in np.meshgrid(each, each, each)]
    return np.stack([*drawn, *5 * [np.ones(MIDDLES**3)]]).cumsum(0)


def _reaching(distance: Floats, width: float) -> Floats:
    """What the zeros beyond the last known one take away, or add, at `distance` (n,): (n, Q)."""
    return np.asarray(sum(ndtr(-(distance[:, None] + place) / width) for place in _beyond()))


@lru_cache(maxsize=4)
def _reach(width: float) -> tuple[Floats, Floats, Floats]:
    """Distances, and mean and variance of :func:`_reaching` there."""
    distance = np.arange(0, 8 * width, 0.02)
    reached = _reaching(distance, width)
    return distance, reached.mean(1), reached.var(1)


def _reached(distance: NDArray[np.floating[Any]], width: float) -> tuple[Floats, Floats]:
    at, mean, variance = _reach(width)
    return np.interp(distance, at, mean, right=0), np.interp(distance, at, variance, right=0)


def _blurred(distance: Floats, width: float) -> Floats:
    """Covariance of :func:`_reaching` at the first of ascending distances; beyond, it is none."""
    reached = _reaching(distance[distance < 8 * width], width)
    return np.atleast_2d(np.cov(reached, bias=True))


def _tails(distance: NDArray[np.floating[Any]], width: float) -> Floats:
    """What a zero adds `distance` below it, (4, ...): alone; with those beyond; deviations of that.

    They are those by the places beyond and by its own place within a cell of s'.
    """
    alone = ndtr(-distance / width)
    slope = np.exp(-0.5 * (distance / width) ** 2) / (width * math.sqrt(2 * math.pi))
    mean, variance = _reached(distance, width)
    return np.stack([alone, alone + mean, np.sqrt(variance), slope * NEXT * CELL / math.sqrt(12)])


@lru_cache(maxsize=1)
def _following() -> Floats:
    """Log probability of the cells of s' given s, (C, A): the surmise of mean 1 - 0.35 (s - 1)."""
    ratio = AFTER / np.maximum(1 - 0.35 * (CENTRES - 1), 0.3)[:, None]
    log = 2 * np.log(ratio) - 4 / np.pi * ratio**2
    return np.asarray(log - logsumexp(log, axis=1, keepdims=True))


@lru_cache(maxsize=1)
def _trials() -> tuple[Floats, Floats]:
    """Chebyshev points of s, (G,), and the matrix (C, G) from values there to the cells."""
    points = np.cos(np.pi * (np.arange(TRIALS) + 0.5) / TRIALS)
    values = chebyshev.chebvander(points, TRIALS - 1)
    cells = chebyshev.chebvander(2 * CENTRES / LONGEST - 1, TRIALS - 1)
    return LONGEST * (points + 1) / 2, cells @ np.linalg.inv(values)


def left_side(u: Floats, width: float) -> Floats:
    """Soft counts minus x at the zeros `u` (N,), in order: of `TOUCHED` zeros above and all below.

    Zeros that are not in `u` are left out.
    """
    value = np.arange(len(u)) + 0.5 - u
    for k in range(1, min(BELOW, len(u) - 1) + 1):
        off = ndtr((u[:-k] - u[k:]) / width)
        value[k:] -= off
        if k <= TOUCHED:
            value[:-k] += off
    return value


@cached(**KERNEL)
def _fill(a: Floats, b: Floats, table: Floats, out: Floats, triangle: bool) -> None:
    """Covariance of S_w between heights `a` and `b`, cubic in the table; with c's."""
    for i in range(len(a)):
        for j in range(i + 1 if triangle else len(b)):
            x = abs(a[i] - b[j]) / LAG
            k = int(x)
            t = x - k
            middle = (t + 1) * (t - 2) * ((t - 1) * table[k] - t * table[k + 1]) / 2
            ends = t * (t - 1) * ((t + 1) * table[k + 2] - (t - 2) * table[abs(k - 1)]) / 6
            out[i, j] = middle + ends + CONSTANT


def _factor(u: Floats, height: float, known: Process, closed: bool = False) -> Floats:
    """Cholesky factor of the covariance of the left side at zeros `u`, the first at `height`.

    The zeros below are not known; if `closed`, nor are those above. Where the matrix is not
    positive definite it gets ten times the noise, and again.
    """
    h, width = heights(u, height), known.smoothing.width
    matrix = np.zeros((len(u), len(u)))
    _fill(h, h, known.table, matrix, True)
    matrix[np.diag_indices(len(u))] += known.smoothing.noise
    below = _blurred(u - u[0], width)
    matrix[: len(below), : len(below)] += below
    if closed:
        above = _blurred(u[-1] - u[::-1], width)[::-1, ::-1]
        matrix[-len(above) :, -len(above) :] += above
    for more in 9 * known.smoothing.noise * 10.0 ** np.arange(4):
        try:
            return np.asarray(cholesky(matrix, lower=True, check_finite=False))
        except np.linalg.LinAlgError:  # long stretches: rounding of the table
            matrix[np.diag_indices(len(u))] += more
    return np.asarray(cholesky(matrix, lower=True, check_finite=False))


def evidence(u: Floats, height: float, known: Process) -> float:
    """Log evidence of zeros `u` (N,) if the first is at `height`, up to a constant."""
    width = known.smoothing.width
    lower = _factor(u, height, known, closed=True)
    value = left_side(u, width) - _reached(u - u[0], width)[0] + _reached(u[-1] - u, width)[0]
    white = solve_triangular(lower, value, lower=True, check_finite=False)
    return float(-0.5 * (white @ white) - np.log(np.diag(lower)).sum())


def refined(
    u: Floats, told: float, error: float, step: float, known: Process
) -> tuple[float, float]:
    """Relative error of the height `told` of most evidence and its deviation, from zeros `u`.

    By a parabola through the evidence at `error` and `step` to either side, and the prior.
    """
    low, mid, high = (evidence(u, told * (1 + error + d), known) for d in (-step, 0, step))
    curve = max((2 * mid - low - high) / step**2, 0) + 1 / ROUNDED**2
    move = ((high - low) / (2 * step) - error / ROUNDED**2) / curve
    return error + min(max(move, -2 * step), 2 * step), 1 / math.sqrt(curve)


@cached(**KERNEL)
def _weigh(
    lower: Floats,
    white: Floats,
    touched: Floats,
    tails: Floats,
    mean: Floats,
    by: Floats,
    variance: Floats,
    trial: Floats,
    extra: Floats,
    after: Floats,
    out: Floats,
) -> None:
    """Log likelihood of each cell of s, shape (C,), summed over s'.

    `lower` (n, N): rows of the factor at the touched zeros, the last n of N; `white` what was seen
    before them; `touched` (n,) their left sides without s and s'; `tails` (4, n, D)
    :func:`_tails` at distances s, s + CELL, ...; of the trial zero `mean` (C,) of what was seen
    before, `by` (C, n), `variance` (C,) and left side `trial` (C,); `extra` (3, A) its rest of
    :func:`_tails`; `after` (C, A) log weights.
    """
    n, first = len(touched), len(white)
    start = np.empty(n)
    for a in range(n):
        start[a] = touched[a]
        for j in range(first):
            start[a] -= lower[a, j] * white[j]
    z, p, q, terms = np.empty(n), np.empty(n), np.empty(n), np.empty(after.shape[1])
    for i in range(len(out)):
        best, scale = -1e300, 1 / math.sqrt(variance[i])
        for j in range(after.shape[1]):
            k = i + NEXT // 2 + NEXT * j
            z1, p1, q1 = trial[i] + extra[0, j] - mean[i], extra[1, j], extra[2, j]
            zz = pp = qq = pq = pz = qz = 0.0
            for a in range(n):
                own = 1 / lower[a, first + a]
                z0, p0, q0 = (
                    start[a] + tails[0, a, i] + tails[1, a, k],
                    tails[2, a, k],
                    tails[3, a, k],
                )
                for b in range(a):
                    factor = lower[a, first + b]
                    z0, p0, q0 = z0 - factor * z[b], p0 - factor * p[b], q0 - factor * q[b]
                z0, p0, q0 = z0 * own, p0 * own, q0 * own
                z1, p1, q1 = z1 - by[i, a] * z0, p1 - by[i, a] * p0, q1 - by[i, a] * q0
                z[a], p[a], q[a] = z0, p0, q0
                zz, pp, qq = zz + z0 * z0, pp + p0 * p0, qq + q0 * q0
                pq, pz, qz = pq + p0 * q0, pz + p0 * z0, qz + q0 * z0
            z1, p1, q1 = z1 * scale, p1 * scale, q1 * scale
            zz, pp, qq = zz + z1 * z1, 1 + pp + p1 * p1, 1 + qq + q1 * q1
            pq, pz, qz = pq + p1 * q1, pz + p1 * z1, qz + q1 * z1
            det = pp * qq - pq * pq
            zz -= (qq * pz * pz - 2 * pq * pz * qz + pp * qz * qz) / det
            terms[j] = after[i, j] - 0.5 * (zz + math.log(det * variance[i]))
            best = max(best, terms[j])
        total = 0.0
        for j in range(after.shape[1]):
            if terms[j] > best - 30:
                total += math.exp(terms[j] - best)
        out[i] = best + math.log(total)


def _segment(u: Floats, height: float, first: int, known: Process) -> Floats:
    """Log likelihoods of s after zero `first` ... N - 1 of zeros `u` (N,), without `SHAPE`."""
    width, count = known.smoothing.width, len(u)
    points, to_cells = _trials()
    after = _following()
    below, h = _reached(u, width)[0], heights(u, height)
    lower = _factor(u, height, known)
    sides = left_side(u, width) - below
    white = solve_triangular(lower, sides, lower=True, check_finite=False)
    extra = _tails(AFTER, width)[1:]
    ahead = (np.arange(len(CENTRES) + NEXT * len(AFTER)) + 0.5) * CELL
    out = np.empty((count - first, len(CENTRES)))
    for low in range(first, count, BLOCK):
        high = min(low + BLOCK, count)
        places = heights((u[low:high, None] + points).ravel(), height)
        across = np.empty((high, len(places)))
        _fill(h[:high], places, known.table, across, False)
        solved = solve_triangular(lower[:high, :high], across, lower=True, check_finite=False)
        solved = solved.reshape(high, high - low, len(points))
        for t in range(low, high):
            seen = max(0, t + 1 - TOUCHED)
            near = u[max(0, t - BELOW) : t + 1]
            x = u[t] + CENTRES
            left, blur = _reached(x, width)
            trial = ndtr((x[:, None] - near) / width).sum(1) + max(0, t - BELOW) + 0.5 - x - left
            own = solved[: t + 1, t - low]
            rest = known.table[0] + CONSTANT + known.smoothing.noise - (own**2).sum(0)
            distance = u[t] - u[seen : t + 1, None] + ahead
            _weigh(
                lower[seen : t + 1, : t + 1],
                white[:seen],
                left_side(u[max(0, seen - BELOW) : t + 1], width)[seen - t - 1 :]
                + max(0, seen - BELOW)
                - below[seen : t + 1],
                _tails(distance, width),
                to_cells @ (white[:seen] @ own[:seen]),
                np.ascontiguousarray(to_cells @ own[seen:].T),
                np.maximum(to_cells @ rest, known.smoothing.noise) + blur,
                trial,
                extra,
                after,
                out[t - first],
            )
    return out


def holds(height: Floats) -> bool:
    """Whether all heights are such as the settings are for."""
    return bool((height >= LOWEST).all() and (height <= HIGHEST).all())


def _unfolded(spacing: Floats, height: float) -> Floats:
    if not holds(np.array(height)):
        problem = f"a stretch at height {height}: it is for {LOWEST:g} to {HIGHEST:g}"
        raise ZetaError("zetalib.baselines.explicit_formula", problem, "Take zeros in between.")
    if not (np.isfinite(spacing).all() and (spacing >= 0).all()):
        problem = "a spacing is negative or not a finite number"
        raise ZetaError(
            "zetalib.baselines.explicit_formula", problem, "Check what makes the spacings."
        )
    return np.append(0.0, np.cumsum(spacing))


def _span(u: Floats, beyond: float, height: float) -> float:
    """Height the table must reach; by the number of zeros, not where they lie, if it can be."""
    return max(1.1 * len(u) + 20, float(u[-1]) + 1) / density(height) + 2 * beyond


def _followed(u: Floats, told: float, known: Process) -> Iterator[tuple[int, int, float]]:
    """Zeros `start` ... `end` - 1 of a growing stretch and the height refined before them."""
    error, step, start = 0.0, ROUNDED, 1
    while start < len(u):
        if REFINED <= start <= ENOUGH:
            error, sd = refined(u[: start + 1], told, error, step, known)
            step = min(step, 2 * sd)
        end = max(REFINED, math.ceil(start * GROWTH)) if start <= ENOUGH else len(u)
        end = min(end, len(u))
        yield start, end, told * (1 + error)
        start = end


def likelihoods(
    spacing: Floats, height: float, first: int = 1, smoothing: Smoothing | None = None
) -> Floats:
    """Log likelihoods of the next spacing's cells after `first` ... T spacings, (T + 1 - first, C).

    Parameters
    ----------
    spacing : shape (T,), in mean spacings (variant B), consecutive
    height : of the zero before the first, to three digits or better
    smoothing : if None, `SMOOTHING`, or `LONG` where `first` is
    """
    u = _unfolded(spacing, height)
    if smoothing is None:
        smoothing = SMOOTHING if first < LONG[0] else LONG[1]
    known = process(height, _span(u, LONGEST, height), smoothing)
    return np.concatenate(
        [
            _segment(u[:end], better, max(start, first), known)
            for start, end, better in _followed(u, height, known)
            if end > first
        ]
    )


def shaped(likelihood: Floats, lengths: NDArray[np.int64], shape: Floats = SHAPE) -> Gridded:
    """Forecasts from :func:`likelihoods` (m, C) after so many spacings, (m,)."""
    row = shape[np.searchsorted(LENGTHS, lengths, "right") - 1]
    temper, power, linear, square, floor = row.T[:, :, None]
    log = temper * likelihood + power * np.log(CENTRES) + linear * CENTRES + square * CENTRES**2
    mass = np.exp(log - logsumexp(log, axis=1, keepdims=True))
    mass = (1 - FAR) * ((1 - floor) * mass + floor * SURMISE)
    far = np.full((len(mass), 1), FAR)
    return Gridded(np.append(EDGES, FARTHEST), np.concatenate([mass, far], 1))


def forecasts(spacing: Floats, height: float, first: int = 1) -> Gridded:
    """Forecasts of the next spacing after `first` ... T spacings (T,): see :func:`likelihoods`."""
    lengths = np.arange(first, len(spacing) + 1)
    return shaped(likelihoods(spacing, height, first), lengths)


def ahead(
    spacing: Floats, height: float, number: int, smoothing: Smoothing = COUNTING
) -> tuple[Floats, Floats]:
    """Where the next `number` zeros lie, in mean spacings from the last one, and deviations.

    By counting: zero j lies where x + c + S(x) is j + 1/2, S smoothed with the lesser width
    `SHARP`, which hardly moves a zero from there: what its neighbours do is `ASIDE` times the
    variance by one unknown zero. Where the sum falls, midway between the first and last such place.
    """
    u = _unfolded(spacing, height)
    span = _span(u, number + REACH, height)
    known = process(height, span, smoothing)
    for _, _, better in _followed(np.append(u, u[-1]), height, known):
        height_now = better
    cross = process(height, span, smoothing, (smoothing.width, SHARP))
    sharp = process(height, span, smoothing, (SHARP, SHARP))
    lower = _factor(u, height_now, known, closed=True)
    value = left_side(u, smoothing.width)
    value -= _reached(u, smoothing.width)[0] - _reached(u[-1] - u, smoothing.width)[0]
    white = solve_triangular(lower, value, lower=True, check_finite=False)
    x = np.arange(0, number + REACH, GRID)
    covariance = np.empty((len(u), len(x)))
    _fill(heights(u, height_now), heights(u[-1] + x, height_now), cross.table, covariance, False)
    solved = solve_triangular(lower, covariance, lower=True, check_finite=False)
    count = x + u[-1] + white @ solved
    ranks = np.arange(1, number + 1) + len(u) - 0.5
    latest = np.interp(ranks, np.maximum.accumulate(count), x)
    earliest = np.interp(ranks, np.minimum.accumulate(count[::-1])[::-1], x)
    place = (latest + earliest) / 2
    aside = ASIDE * _reached(np.zeros(1), SHARP)[1]
    variance = sharp.table[0] + CONSTANT - (solved**2).sum(0) + aside
    return place, np.sqrt(np.interp(place, x, variance))


def forecaster(last: int | None = None) -> Callable[[Windows], Gridded]:
    """A rival that is given all of a window so far, for its `last` targets or for all."""

    def forecast(windows: Windows) -> Gridded:
        past = windows.spacing.numpy()[:, :-1]
        first = 1 if last is None else past.shape[1] + 1 - last
        calls = ((s, h, first) for s, h in zip(past, windows.heights().tolist(), strict=True))
        found = compute.map_threads(calls, forecasts)
        return Gridded(found[0].edges, np.concatenate([each.mass for each in found]))

    return forecast
