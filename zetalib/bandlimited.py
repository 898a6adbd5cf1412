"""All zeros of a band-limited real function from its samples on a uniform grid.

Samples taken `OVERSAMPLING` times as densely as the band needs determine the function between
two of them through the nearest `TAPS` alone, as a polynomial: one fixed matrix, fitted by least
squares over the band, turns samples into its coefficients (error below 3e-12 of the largest
component). Zeta's Z function and the characteristic polynomial of a unitary matrix are such
functions, and so one finder serves the source `siegel` and the source `gue`.
"""

from __future__ import annotations

from functools import cache

import numba as nb
import numpy as np
from numpy.typing import NDArray

OVERSAMPLING = 3.0
TAPS = 20
MARGIN = TAPS // 2  # samples needed on either side of the grid's part that is searched
TERMS = 10  # coefficients of an interval's polynomial

Floats = NDArray[np.float64]


@cache
def interpolation() -> Floats:
    """Matrix from `TAPS` samples to the polynomial between the middle two, shape (TAPS, TERMS).

    Column d holds the coefficient of x^d, x in [-1/2, 1/2] counted in samples from the middle of
    the interval. Least squares over the frequencies 0 ... pi / OVERSAMPLING a sample.
    """
    at = np.arange(TAPS) - (TAPS - 1) / 2
    x = 0.5 * np.cos(np.pi * (np.arange(TERMS) + 0.5) / TERMS)
    # Clustered towards the edge of the band, where the fit is worst.
    frequency = np.pi / OVERSAMPLING * np.cos(np.pi * (np.arange(200) + 0.5) / 400)
    known = np.vstack([np.cos(np.outer(frequency, at)), np.sin(np.outer(frequency, at))])
    wanted = np.vstack([np.cos(np.outer(frequency, x)), np.sin(np.outer(frequency, x))])
    weights = np.linalg.lstsq(known, wanted, rcond=1e-15)[0]
    powers = np.vander(2 * x, TERMS, increasing=True)
    coefficients = np.linalg.solve(powers, weights.T) * 2.0 ** np.arange(TERMS)[:, None]
    return np.ascontiguousarray(coefficients.T)


@cache
def _slope_weights() -> Floats:
    """Weights of samples[i + k] - samples[i - k], k = 1 ... 5, in the slope at sample i."""
    frequency = np.pi / OVERSAMPLING * np.cos(np.pi * (np.arange(200) + 0.5) / 400)
    differences = 2 * np.sin(np.outer(frequency, np.arange(1, 6)))
    return np.asarray(np.linalg.lstsq(differences, frequency, rcond=None)[0])


@nb.njit(cache=True, nogil=True, inline="always")
def _slope(samples: Floats, i: int, weights: Floats) -> float:
    """Slope at sample i, to 1e-4 of the largest component."""
    total = 0.0
    for k in range(5):
        total += weights[k] * (samples[i + k + 1] - samples[i - k - 1])
    return total


@nb.njit(cache=True, nogil=True, inline="always")
def _value(polynomial: Floats, x: float) -> float:
    total = 0.0
    for d in range(TERMS - 1, -1, -1):
        total = total * x + polynomial[d]
    return total


@nb.njit(cache=True, nogil=True)
def _fit(samples: Floats, left: int, matrix: Floats, polynomial: Floats) -> None:
    """The polynomial between samples `left` and `left` + 1."""
    for d in range(TERMS):
        polynomial[d] = 0.0
    start = left - (MARGIN - 1)
    for k in range(TAPS):
        sample = samples[start + k]
        for d in range(TERMS):
            polynomial[d] += sample * matrix[k, d]


@nb.njit(cache=True, nogil=True)
def _root(polynomial: Floats, a: float, b: float, fa: float, fb: float) -> float:
    """The sign change in [a, b]: Newton's method, kept inside the bracket."""
    x = a - fa * (b - a) / (fb - fa)
    for _ in range(60):
        f, slope = polynomial[TERMS - 1], 0.0
        for d in range(TERMS - 2, -1, -1):
            slope = slope * x + f
            f = f * x + polynomial[d]
        if f == 0.0:
            return x
        if (f < 0.0) == (fa < 0.0):
            a = x
        else:
            b = x
        new = x - f / slope if slope != 0.0 else 0.5 * (a + b)
        if not (a < new < b):
            new = 0.5 * (a + b)
        if abs(new - x) < 1e-8:  # convergence is quadratic
            return new
        x = new
    return x


@nb.njit(cache=True, nogil=True)
def _dip(polynomial: Floats, sign: float, steps: int) -> float:
    """Where sign * polynomial is lowest in the interval: on a grid, then by ternary search."""
    best, lowest = -0.5, np.inf
    for k in range(steps + 1):
        value = sign * _value(polynomial, -0.5 + k / steps)
        if value < lowest:
            best, lowest = -0.5 + k / steps, value
    a, b = max(best - 1 / steps, -0.5), min(best + 1 / steps, 0.5)
    for _ in range(60):
        c, d = a + (b - a) / 3, b - (b - a) / 3
        if sign * _value(polynomial, c) < sign * _value(polynomial, d):
            b = d
        else:
            a = c
    return 0.5 * (a + b)


@nb.njit(cache=True, nogil=True)
def _search(
    samples: Floats,
    first: int,
    last: int,
    matrix: Floats,
    weights: Floats,
    thorough: bool,
    zeros: Floats,
) -> int:
    polynomial = np.empty(TERMS)
    found = 0
    slope = _slope(samples, first, weights)
    for i in range(first, last):
        here, after = samples[i], samples[i + 1]
        before, slope = slope, _slope(samples, i + 1, weights)
        if (here < 0.0) != (after < 0.0):
            _fit(samples, i, matrix, polynomial)
            # The polynomial meets the samples to 1e-12 only: its own ends decide the bracket.
            fa, fb = _value(polynomial, -0.5), _value(polynomial, 0.5)
            if (fa < 0.0) == (fb < 0.0):
                x = -0.5 if abs(fa) < abs(fb) else 0.5
            else:
                x = _root(polynomial, -0.5, 0.5, fa, fb)
            zeros[found] = i + 0.5 + x
            found += 1
            continue
        # Two zeros inside one interval: the function falls towards zero from both its ends.
        sign = -1.0 if here < 0.0 else 1.0
        slack = 1e-3 * (abs(before) + abs(slope))
        if thorough or (sign * before < slack and sign * slope > -slack):
            _fit(samples, i, matrix, polynomial)
            fa, fb = _value(polynomial, -0.5), _value(polynomial, 0.5)
            x = _dip(polynomial, sign, 32 if thorough else 4)
            f = _value(polynomial, x)
            if (f < 0.0) != (fa < 0.0) and (f < 0.0) != (fb < 0.0):
                zeros[found] = i + 0.5 + _root(polynomial, -0.5, x, fa, f)
                zeros[found + 1] = i + 0.5 + _root(polynomial, x, 0.5, f, fb)
                found += 2
    return found


def zeros(samples: Floats, first: int, last: int, thorough: bool = False) -> Floats:
    """Positions of all zeros between samples `first` and `last`, in steps of the grid.

    Parameters
    ----------
    samples : float64 array, shape (m,)
        Of a real function without frequencies above pi / OVERSAMPLING radians a sample.
    first, last : int
        The part searched: first <= position < last. At least `MARGIN` samples must lie on
        either side of it.
    thorough : bool
        Look for pairs in every interval, not only in those that the neighbouring samples point
        to; much slower.

    Returns
    -------
    float64 array, ascending.
    """
    if first < MARGIN or last + MARGIN > len(samples):
        raise ValueError(f"{MARGIN} samples are needed on either side of {first} ... {last}")
    found = np.empty(2 * (last - first))
    count = _search(samples, first, last, interpolation(), _slope_weights(), thorough, found)
    return found[:count].copy()
