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

from zetalib.kernels import cached

OVERSAMPLING = 3.0
TAPS = 20
MARGIN = TAPS // 2  # samples needed on either side of the grid's part that is searched
TERMS = 10  # coefficients of an interval's polynomial
_PARTS = 16  # of an interval searched for several zeros

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


@nb.njit(nogil=True, inline="always")
def _slope(samples: Floats, i: int, weights: Floats) -> float:
    """Slope at sample i, to 1e-4 of the largest component."""
    total = 0.0
    for k in range(5):
        total += weights[k] * (samples[i + k + 1] - samples[i - k - 1])
    return total


@nb.njit(nogil=True, inline="always")
def _value(polynomial: Floats, x: float) -> float:
    total = 0.0
    for d in range(TERMS - 1, -1, -1):
        total = total * x + polynomial[d]
    return total


@cached(nogil=True)
def _fit(samples: Floats, left: int, matrix: Floats, polynomial: Floats) -> None:
    """The polynomial between samples `left` and `left` + 1."""
    for d in range(TERMS):
        polynomial[d] = 0.0
    start = left - (MARGIN - 1)
    for k in range(TAPS):
        sample = samples[start + k]
        for d in range(TERMS):
            polynomial[d] += sample * matrix[k, d]


@cached(nogil=True)
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


@nb.njit(nogil=True, inline="always")
def _derivative(polynomial: Floats, x: float) -> float:
    total = 0.0
    for d in range(TERMS - 1, 0, -1):
        total = total * x + d * polynomial[d]
    return total


@cached(nogil=True)
def _dip(polynomial: Floats, a: float, b: float, sign: float) -> float:
    """Where sign * polynomial, falling at a and rising at b, is lowest: bisection of its slope."""
    for _ in range(50):
        x = 0.5 * (a + b)
        if sign * _derivative(polynomial, x) < 0.0:
            a = x
        else:
            b = x
    return 0.5 * (a + b)


@cached(nogil=True)
def _all_roots(polynomial: Floats, left: float, zeros: Floats, found: int) -> int:
    """Every root in an interval that may hold several, in sixteen parts; `left` is its middle."""
    a, fa = -0.5, _value(polynomial, -0.5)
    slope = _derivative(polynomial, a)
    for k in range(1, _PARTS + 1):
        b = -0.5 + k / _PARTS
        fb, after = _value(polynomial, b), _derivative(polynomial, b)
        sign = -1.0 if fa < 0.0 else 1.0
        if (fa < 0.0) != (fb < 0.0):
            zeros[found] = left + _root(polynomial, a, b, fa, fb)
            found += 1
        elif sign * slope < 0.0 and sign * after > 0.0:
            x = _dip(polynomial, a, b, sign)
            f = _value(polynomial, x)
            if (f < 0.0) != (fa < 0.0):
                zeros[found] = left + _root(polynomial, a, x, fa, f)
                zeros[found + 1] = left + _root(polynomial, x, b, f, fb)
                found += 2
        a, fa, slope = b, fb, after
    return found


@cached(nogil=True)
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
        crosses = (here < 0.0) != (after < 0.0)
        slack = 1e-3 * (abs(before) + abs(slope))
        if crosses:
            # Three zeros: steeper at both ends than on the whole.
            rise = after - here
            sign = -1.0 if rise < 0.0 else 1.0
            rise = abs(rise) - slack
            several = sign * before > rise and sign * slope > rise
        else:
            # Two zeros: falling towards zero from both ends, or from one that it must cross.
            sign = -1.0 if here < 0.0 else 1.0
            left, right = slack - sign * before, slack + sign * slope
            several = (left > 0.0 and right > 0.0) or left > abs(here) or right > abs(after)
        if not (crosses or several or thorough):
            continue
        _fit(samples, i, matrix, polynomial)
        # The polynomial meets the samples to 1e-12 only: where that changes a sign at an end,
        # the zero is there, and it must be found on one side of the sample alone.
        fa, fb = _value(polynomial, -0.5), _value(polynomial, 0.5)
        if (fa < 0.0) != (here < 0.0) or (fb < 0.0) != (after < 0.0):
            if crosses:
                zeros[found] = i + (0.0 if abs(fa) < abs(fb) else 1.0)
                found += 1
        elif several or thorough:
            found = _all_roots(polynomial, i + 0.5, zeros, found)
        else:
            zeros[found] = i + 0.5 + _root(polynomial, -0.5, 0.5, fa, fb)
            found += 1
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
        Look for several zeros in every interval, not only where the slopes point to them; slower.

    Returns
    -------
    float64 array, ascending.
    """
    if first < MARGIN or last + MARGIN > len(samples):
        raise ValueError(f"{MARGIN} samples are needed on either side of {first} ... {last}")
    found = np.empty((last - first) * (TERMS - 1))
    count = _search(samples, first, last, interpolation(), _slope_weights(), thorough, found)
    return found[:count].copy()
