"""Levenberg-Marquardt on Z at the zeros, and the posterior's curvature."""

from __future__ import annotations

import math

import numba
import numpy as np
import scipy.linalg.cython_blas
import scipy.linalg.cython_lapack  # noqa: F401
from numpy.typing import NDArray

from zetalib.inverse.riemann_siegel_model import KERNEL, State, Sums, _rows

Floats = NDArray[np.float64]

ROUNDING = 1e-16  # added to the diagonal of what Cholesky gets
PATIENCE = 2  # steps taken with the same derivatives


@numba.njit(**KERNEL)
def _residuals(low: int, n: int, state: State) -> Floats:
    """Z at the zeros, in units of a mean spacing / pi, at the last point looked at."""
    found: Floats = state.z[low:n] / np.sqrt(state.slope[low:n] ** 2 + 1)
    return found


@numba.njit(**KERNEL)
def _misfit(x: Floats, residual: Floats, noise: float, state: State) -> float:
    away = x - state.centre
    total: float = np.dot(residual, residual) / noise**2 + np.dot(away * state.prior, away)
    return total


@numba.njit(**KERNEL)
def _cholesky(gram: Floats) -> Floats:
    """The lower factor of a matrix, more of its diagonal added the more rounding has spoilt it."""
    added = ROUNDING
    for _ in range(6):
        for i in range(len(gram)):
            gram[i, i] *= 1 + added
        try:
            return np.linalg.cholesky(gram)  # type: ignore[return-value]
        except Exception:  # all that numba can catch
            added *= 100
    return np.eye(len(gram)) * 1e150  # not numbers: stay where you are


@numba.njit(**KERNEL)
def _forward(lower: Floats, right: Floats) -> Floats:
    """Solve L y = `right`, L the rows and columns of `lower` there are entries of `right` for."""
    y = right.copy()
    for i in range(len(y)):
        total = 0.0
        for k in range(i):
            total += lower[i, k] * y[k]
        y[i] = (y[i] - total) / lower[i, i]
    return y


@numba.njit(**KERNEL)
def _solve(lower: Floats, right: Floats) -> Floats:
    """Solve L L^T y = `right`."""
    y: Floats = _forward(lower, right)
    for i in range(len(y) - 1, -1, -1):
        y[i] /= lower[i, i]
        for k in range(i):
            y[k] -= lower[i, k] * y[i]
    return y


@numba.njit(**KERNEL)
def _factor(low: int, n: int, noise: float, damping: float, state: State) -> None:
    """`lower`: the Cholesky factor of the normal equations, damped.

    With fewer equations than unknowns it is that of their dual form, which keeps its digits at
    small noise.
    """
    rows, prior = state.rows[low:n], state.prior * (1 + damping)
    if n - low <= len(prior):
        wide = rows / np.sqrt(prior)
        gram = wide @ wide.T
        for j in range(n - low):
            gram[j, j] += noise**2
    else:
        gram = rows.T @ rows
        for i in range(len(prior)):
            gram[i, i] += noise**2 * prior[i]
    state.lower[: len(gram), : len(gram)] = _cholesky(gram)


@numba.njit(**KERNEL)
def _extend(low: int, n: int, noise: float, state: State) -> None:
    """Add row n - 1 to what `lower` is the factor of."""
    row, lower, m = state.rows[n - 1], state.lower, n - 1 - low
    if m < len(row):
        wide = row / state.prior
        cross = _forward(lower, state.rows[low : n - 1] @ wide)
        lower[m, :m] = cross
        own = np.dot(row, wide)
        left = own + noise**2 - np.dot(cross, cross)
        lower[m, m] = math.sqrt(max(left, ROUNDING * own))
    else:
        new = row.copy()
        for k in range(len(new)):
            length = math.sqrt(lower[k, k] ** 2 + new[k] ** 2)
            c, s = length / lower[k, k], new[k] / lower[k, k]
            lower[k, k] = length
            for i in range(k + 1, len(new)):
                lower[i, k] = (lower[i, k] + s * new[i]) / c
                new[i] = c * new[i] - s * lower[i, k]


@numba.njit(**KERNEL)
def _step(x: Floats, low: int, n: int, noise: float, damping: float, state: State) -> Floats:
    """The solution of the normal equations with the factor `lower`, from x."""
    prior, rows, residual = state.prior, state.rows[low:n], state.residual[low:n]
    if n - low <= len(x):
        pull = (state.centre - x) / (1 + damping)
        dual = _solve(state.lower, residual + rows @ pull)
        step: Floats = pull - (dual @ rows) / (prior * (1 + damping))
    else:
        right = residual @ rows + noise**2 * prior * (x - state.centre)
        step = -_solve(state.lower, right)
    return step


@numba.njit(**KERNEL)
def _fit(
    x: Floats, low: int, n: int, noise: float, ready: bool, tables: Sums, state: State
) -> tuple[Floats, float]:
    """Levenberg-Marquardt from x: the solution and its misfit.

    Derivatives and factor are those at x or, if `ready` or one step has been enough to need no
    second, at a point before: most steps are too small to change them.
    """
    damping, age = 0.0, 1
    if not ready:
        _rows(x, low, n, tables, state, True)
        _factor(low, n, noise, damping, state)
        age = 0
    value = _misfit(x, state.residual[low:n], noise, state)
    for _ in range(6 if ready else 12):
        trial = x + _step(x, low, n, noise, damping, state)
        _rows(trial, low, n, tables, state, False)
        residual = _residuals(low, n, state)
        found = _misfit(trial, residual, noise, state)
        gain, enough = value - found, 0.01 + 1e-3 * value
        age += 1
        if gain > -enough:
            x, value = trial, found
            state.residual[low:n] = residual
            if gain < enough:
                break
            damping = 0.03 * damping if damping > 0.3 else 0.0
        elif age == 1:
            damping = max(30 * damping, 1.0)
        if age > PATIENCE or gain <= -enough:
            if age > 1:
                _rows(x, low, n, tables, state, True)
                age = 0
            _factor(low, n, noise, damping, state)
    if damping > 0:
        _factor(low, n, noise, 0.0, state)
    return x, value


@numba.njit(**KERNEL)
def _deviation(row: Floats, low: int, n: int, noise: float, state: State) -> float:
    """Standard deviation of what has the derivatives `row`, under the posterior (Laplace)."""
    if n - low <= len(row):
        wide = row / state.prior
        cross = _forward(state.lower[: n - low], state.rows[low:n] @ wide)
        left = np.dot(row, wide) - np.dot(cross, cross)
    else:
        half = _forward(state.lower, row)
        left = noise**2 * np.dot(half, half)
    return math.sqrt(max(left, 1e-16))
