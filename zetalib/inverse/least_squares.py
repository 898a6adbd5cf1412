"""Levenberg-Marquardt for the unknowns x at which Z is zero at all zeros of a stretch.

With r the residuals of the zeros j (shape (n,), :mod:`zetalib.inverse.riemann_siegel_model`), J
their Jacobian (n, U), noise sd sigma, and a Gaussian prior of mean m and diagonal precision P, the
maximum of the posterior minimises the misfit

    |r(x)|^2 / sigma^2 + (x - m)^T P (x - m).

A step d linearises r and enlarges P to P' = (1 + damping) P; with g = m - x either of

    primal:  (J^T J + sigma^2 P') d = -(J^T r - sigma^2 P g),                         U equations
    dual:    d = g' - P'^-1 J^T (J P'^-1 J^T + sigma^2)^-1 (r + J g'),                n equations

with g' = g / (1 + damping), gives it. The smaller one is solved: the dual while n <= U, which at
small sigma also keeps more digits. `State.factor` is the Cholesky factor of its matrix. The
posterior variance of a quantity with derivatives q by x (Laplace's approximation) is

    primal:  sigma^2 q^T (J^T J + sigma^2 P)^-1 q,
    dual:    q^T P^-1 q - q^T P^-1 J^T (J P^-1 J^T + sigma^2)^-1 J P^-1 q.

All functions work on the zeros `first` ... `stop` - 1.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import scipy.linalg.cython_blas
import scipy.linalg.cython_lapack  # noqa: F401
from numpy.typing import NDArray

from zetalib.inverse.riemann_siegel_model import KERNEL, State, Tables, residuals_and_jacobian
from zetalib.kernels import cached

Floats = NDArray[np.float64]

# Relative addition to the diagonal before a Cholesky factorisation. The first is below 2^-53 and
# changes nothing; after a failure it is 100 times larger, up to 1e-6 in the last attempt. It is
# also the least squared pivot, relative to its diagonal entry, of a factor that is extended.
JITTER, JITTER_GROWTH, ATTEMPTS = 1e-16, 100, 6
# Diagonal of the factor where all attempts fail (NaN): steps with it vanish, its square is finite.
FAILED_DIAGONAL = 1e150

# The following are not tuned; they trade time for reliability.
STEPS_PER_JACOBIAN = 2  # late steps are too small to change the Jacobian
MAX_STEPS, MAX_WARM_STEPS = 12, 6  # from a new start, and from the last solution
# The last step is the one whose gain is below 0.01 + 0.001 misfit. The misfit is a chi squared, so
# that 0.01 is a tenth of a standard deviation in one direction.
GAIN_TOLERANCE, RELATIVE_GAIN_TOLERANCE = 0.01, 1e-3
# Damping starts at 1 when a step fails, and grows 30-fold; after a step that succeeds it falls to
# 3 %, or to zero from 0.3 down.
DAMPING_START, DAMPING_GROWTH, DAMPING_DECAY, DAMPING_END = 1.0, 30, 0.03, 0.3

# Smallest posterior variance: the square of the lowest noise of zetalib.inverse.solver.
MIN_VARIANCE = 1e-16


@numba.njit(**KERNEL)
def scale_residuals(first: int, stop: int, state: State) -> Floats:
    """Compute residuals, shape (n,), from `z` and `slope` where those were evaluated last."""
    residual: Floats = state.z[first:stop] / np.sqrt(state.slope[first:stop] ** 2 + 1)
    return residual


@numba.njit(**KERNEL)
def compute_misfit(x: Floats, residual: Floats, noise: float, state: State) -> float:
    """Compute the misfit: twice the negative log posterior but for a constant."""
    away = x - state.prior_mean
    misfit: float = np.dot(residual, residual) / noise**2 + np.dot(
        away * state.prior_precision, away
    )
    return misfit


@numba.njit(**KERNEL)
def cholesky_with_jitter(gram: Floats) -> Floats:
    """Factor a symmetric matrix, which is overwritten, with as much `JITTER` as it needs."""
    jitter = JITTER
    for _ in range(ATTEMPTS):
        for i in range(len(gram)):
            gram[i, i] *= 1 + jitter
        try:
            return np.linalg.cholesky(gram)  # type: ignore[return-value]
        except Exception:  # all that numba can catch
            jitter *= JITTER_GROWTH
    return np.eye(len(gram)) * FAILED_DIAGONAL


@numba.njit(**KERNEL)
def forward_substitute(lower: Floats, right: Floats) -> Floats:
    """Solve L y = `right`, shape (k,), with L the leading k rows and columns of `lower`."""
    y = right.copy()
    for i in range(len(y)):
        total = 0.0
        for k in range(i):
            total += lower[i, k] * y[k]
        y[i] = (y[i] - total) / lower[i, i]
    return y


@numba.njit(**KERNEL)
def solve_factored(lower: Floats, right: Floats) -> Floats:
    """Solve L L^T y = `right`, shape (k,), by forward and back substitution."""
    y: Floats = forward_substitute(lower, right)
    for i in range(len(y) - 1, -1, -1):
        y[i] /= lower[i, i]
        for k in range(i):
            y[k] -= lower[i, k] * y[i]
    return y


@numba.njit(**KERNEL)
def factor_normal_equations(
    first: int, stop: int, noise: float, damping: float, state: State
) -> None:
    """Factor the matrix of the damped normal equations, primal or dual, into `factor`."""
    jacobian, precision = state.jacobian[first:stop], state.prior_precision * (1 + damping)
    if stop - first <= len(precision):
        whitened = jacobian / np.sqrt(precision)
        gram = whitened @ whitened.T
        for j in range(stop - first):
            gram[j, j] += noise**2
    else:
        gram = jacobian.T @ jacobian
        for i in range(len(precision)):
            gram[i, i] += noise**2 * precision[i]
    state.factor[: len(gram), : len(gram)] = cholesky_with_jitter(gram)


@numba.njit(**KERNEL)
def extend_factor(first: int, stop: int, noise: float, state: State) -> None:
    """Extend `factor`, undamped, by the zero `stop` - 1, the last row of the Jacobian.

    The dual matrix gains a row and a column; the primal one a rank-one update.
    """
    row, lower, m = state.jacobian[stop - 1], state.factor, stop - 1 - first
    if m < len(row):
        scaled = row / state.prior_precision
        cross = forward_substitute(lower, state.jacobian[first : stop - 1] @ scaled)
        lower[m, :m] = cross
        own = np.dot(row, scaled)
        left = own + noise**2 - np.dot(cross, cross)
        lower[m, m] = math.sqrt(max(left, JITTER * own))
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
def compute_step(
    x: Floats, first: int, stop: int, noise: float, damping: float, state: State
) -> Floats:
    """Solve the normal equations with `factor` for the step from x, shape (U,).

    `factor` may be that of an earlier Jacobian and damping.
    """
    precision, jacobian = state.prior_precision, state.jacobian[first:stop]
    residual = state.residual[first:stop]
    if stop - first <= len(x):
        pull = (state.prior_mean - x) / (1 + damping)
        dual = solve_factored(state.factor, residual + jacobian @ pull)
        step: Floats = pull - (dual @ jacobian) / (precision * (1 + damping))
    else:
        right = residual @ jacobian + noise**2 * precision * (x - state.prior_mean)
        step = -solve_factored(state.factor, right)
    return step


@numba.njit(**KERNEL)
def fit(
    x: Floats, first: int, stop: int, noise: float, warm: bool, tables: Tables, state: State
) -> tuple[Floats, float]:
    """Minimise the misfit from x: the solution, shape (U,), and its misfit.

    With `warm`, `residual`, `jacobian` and an undamped `factor` of all zeros are there already,
    the latter two of points near x. Up to `STEPS_PER_JACOBIAN` steps share a Jacobian; a step that
    fails with an old one is tried again with the Jacobian at x before it is damped.
    """
    damping, age = 0.0, 1
    if not warm:
        residuals_and_jacobian(x, first, stop, tables, state, True)
        factor_normal_equations(first, stop, noise, damping, state)
        age = 0
    misfit = compute_misfit(x, state.residual[first:stop], noise, state)
    for _ in range(MAX_WARM_STEPS if warm else MAX_STEPS):
        trial = x + compute_step(x, first, stop, noise, damping, state)
        residuals_and_jacobian(trial, first, stop, tables, state, False)
        residual = scale_residuals(first, stop, state)
        trial_misfit = compute_misfit(trial, residual, noise, state)
        gain, tolerance = misfit - trial_misfit, GAIN_TOLERANCE + RELATIVE_GAIN_TOLERANCE * misfit
        age += 1
        if gain > -tolerance:
            x, misfit = trial, trial_misfit
            state.residual[first:stop] = residual
            if gain < tolerance:
                break
            damping = DAMPING_DECAY * damping if damping > DAMPING_END else 0.0
        elif age == 1:
            damping = max(DAMPING_GROWTH * damping, DAMPING_START)
        if age > STEPS_PER_JACOBIAN or gain <= -tolerance:
            if age > 1:
                residuals_and_jacobian(x, first, stop, tables, state, True)
                age = 0
            factor_normal_equations(first, stop, noise, damping, state)
    if damping > 0:
        factor_normal_equations(first, stop, noise, 0.0, state)
    return x, misfit


@numba.njit(**KERNEL)
def posterior_sd(row: Floats, first: int, stop: int, noise: float, state: State) -> float:
    """Compute the posterior standard deviation of a quantity with the derivatives `row`, (U,).

    `factor` must be undamped. Laplace's approximation; at least the root of `MIN_VARIANCE`.
    """
    if stop - first <= len(row):
        scaled = row / state.prior_precision
        cross = forward_substitute(
            state.factor[: stop - first], state.jacobian[first:stop] @ scaled
        )
        variance = np.dot(row, scaled) - np.dot(cross, cross)
    else:
        half = forward_substitute(state.factor, row)
        variance = noise**2 * np.dot(half, half)
    return math.sqrt(max(variance, MIN_VARIANCE))


fit_cached = cached(**KERNEL)(fit.py_func)  # for calls from Python
