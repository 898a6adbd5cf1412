"""Gauss-Newton for the unknowns x at which Z is zero at all zeros of a stretch, by QR.

With r the residuals of the n zeros of a stretch (:mod:`zetalib.inverse.riemann_siegel_model`),
noise of standard deviation sigma, and y = (x - m) / s the U unknowns in standard deviations s of
their Gaussian prior from its mean m, the maximum of the posterior minimises the misfit

    |r|^2 / sigma^2 + |y|^2.

Each zero has a row J_j of derivatives by y, taken where it was last linearised, and a target
b_j = J_j y - r_j there: the misfit is that of J y = b. Two forms of one QR factorisation solve it,

    few zeros:   [J^T; sigma I] = Q [R; 0], n columns:   R^T z = b, y = the first U of Q [z; 0],
                 misfit |z|^2, and the variance of a quantity with derivatives q is |e|^2, where
                 Q^T [q; 0] = [c; e], c its first n entries;
    many zeros:  [J; sigma I] = Q [R; 0], U columns:     R y = d, Q^T [b; 0] = [d; f],
                 misfit |f|^2 / sigma^2, variance sigma^2 |R^-T q|^2.

Nothing is squared before it is factored, misfits and variances are sums of squares: no digit
cancels. One more zero is one more column in the first form, whose Householder reflectors stay as
they are, and one row brought in by Givens rotations in the second.

Column k begins with M entries (U or n) of which the k + 1st to the last, with sigma in row M + k,
are what its reflector I - v v^T, |v|^2 = 2, acts on: M + 1 rows from row k on. Row k of
`State.reflector` holds column k of R but for its diagonal, then v.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from zetalib.inverse.riemann_siegel_model import (
    DRIFT,
    FACTORED,
    KERNEL,
    SPARE,
    State,
    Tables,
    evaluate_residuals,
    linearize,
)
from zetalib.inverse.simd import WIDTH, broadcast, load, store
from zetalib.kernels import inner

Floats = NDArray[np.float64]

GROUP = 4  # reflectors applied at once: State.overlap has their scalar products

# The following are not tuned; they trade time for reliability.
MAX_STEPS = 12
# A fit ends where the misfit is what the linear equations say, or falls no further, to 0.01 times
# the reduced chi squared: a tenth of a standard deviation in one direction.
GAIN_TOLERANCE = 0.01
# A step longer than this, in prior standard deviations, is followed by a new linearisation without
# more ado; shorter ones share one, four at most, as long as each gains this share of what it
# should.
LONG_STEP, MAX_AGE, MIN_GAIN_SHARE = 0.01, 4, 0.7
# The valley of small misfit is narrow and curved, and a step along it that is right climbs its
# wall: two linearisations in turn may have a higher misfit than the best. After three the fit goes
# back and cuts its steps to a quarter, thrice at most.
MAX_WORSE, STEP_CUT, MIN_SHARE = 2, 0.25, 0.01
# Stands for the misfit where there is none. Kernels with fast arithmetic know no infinity.
NO_MISFIT, NOT_FACTORED = 1e300, -1.0
# Squared length of all steps in y since residuals were last evaluated, over the noise, up to which
# they are taken as linear: what is neglected is of its order, times curvatures of Z of order one.
MAX_SQUARED_DRIFT = 0.03


@inner(**KERNEL)
def is_dual(zeros: int, state: State) -> bool:
    """Whether so many zeros are few: the first form is used while they are no more than U."""
    return zeros <= len(state.x)


@inner(**KERNEL)
def apply_group(k: int, length: int, state: State) -> None:
    """Apply reflectors k ... k + 3 to the eight columns in `work`."""
    v, work, overlap = state.reflector, state.work, state.overlap
    d0, d1, d2, d3 = broadcast(0.0), broadcast(0.0), broadcast(0.0), broadcast(0.0)
    for i in range(k, k + 3):  # where not all reflectors have begun
        w = load(work, i, 0)
        d0 = d0 + v[k, i] * w
        if i > k:
            d1 = d1 + v[k + 1, i] * w
        if i > k + 1:
            d2 = d2 + v[k + 2, i] * w
    for i in range(k + 3, k + length + 4):
        w = load(work, i, 0)
        d0, d1 = d0 + v[k, i] * w, d1 + v[k + 1, i] * w
        d2, d3 = d2 + v[k + 2, i] * w, d3 + v[k + 3, i] * w
    d1 = d1 - overlap[k + 1, 0] * d0
    d2 = d2 - overlap[k + 2, 0] * d0 - overlap[k + 2, 1] * d1
    d3 = d3 - overlap[k + 3, 0] * d0 - overlap[k + 3, 1] * d1 - overlap[k + 3, 2] * d2
    for i in range(k, k + 3):
        w = load(work, i, 0) - v[k, i] * d0
        if i > k:
            w = w - v[k + 1, i] * d1
        if i > k + 1:
            w = w - v[k + 2, i] * d2
        store(work, i, 0, w)
    for i in range(k + 3, k + length + 4):
        w = load(work, i, 0) - v[k, i] * d0 - v[k + 1, i] * d1
        store(work, i, 0, w - v[k + 2, i] * d2 - v[k + 3, i] * d3)


@inner(**KERNEL)
def make_reflector(k: int, length: int, state: State) -> None:
    """Make reflector k, of the column whose entries lie in row k of `reflector`."""
    v = state.reflector[k]
    squared = 0.0
    for i in range(k, k + length + 1):
        squared += v[i] * v[i]
    norm, own = math.sqrt(squared), v[k]
    state.diagonal[k] = -norm if own > 0 else norm
    v[k] = own - state.diagonal[k]
    scale = 1 / math.sqrt(norm * (norm + abs(own)))
    for i in range(k, k + length + 1):
        v[i] *= scale
    for i in range(k + length + 1, k + length + 1 + GROUP):
        v[i] = 0.0
    start = k - k % GROUP
    for other in range(start, k):
        dot, w = 0.0, state.reflector[other]
        for i in range(k, k + length + 1):
            dot += v[i] * w[i]
        state.overlap[k, other - start] = dot


@inner(**KERNEL)
def factor(first: int, stop: int, noise: float, state: State) -> None:
    """Factor the equations of zeros `first` ... `stop` - 1 from `jacobian` and `target`."""
    zeros, unknowns = stop - first, len(state.x)
    dual = is_dual(zeros, state)
    count, length = (zeros, unknowns) if dual else (unknowns, zeros)
    work, jacobian, v = state.work, state.jacobian, state.reflector
    for block in range(0, count, WIDTH):
        lanes = min(WIDTH, count - block)
        for i in range(length + block + WIDTH + GROUP):
            store(work, i, 0, broadcast(0.0))
        for lane in range(lanes):
            if dual:
                j = first + block + lane
                top, place = j // WIDTH * unknowns, j % WIDTH
                for i in range(length):
                    work[i, lane] = jacobian[top + i, place]
            else:
                for i in range(length):
                    j = first + i
                    work[i, lane] = jacobian[j // WIDTH * unknowns + block + lane, j % WIDTH]
            work[length + block + lane, lane] = noise
        for k in range(0, block, GROUP):
            apply_group(k, length, state)
        for lane in range(lanes):
            k = block + lane
            for i in range(k + length + 1):
                v[k, i] = work[i, lane]
            make_reflector(k, length, state)
            d0, d1, d2, d3 = broadcast(0.0), broadcast(0.0), broadcast(0.0), broadcast(0.0)
            for i in range(k, k + length + 1, 4):  # v ends in zeros
                d0, d1 = d0 + v[k, i] * load(work, i, 0), d1 + v[k, i + 1] * load(work, i + 1, 0)
                d2 = d2 + v[k, i + 2] * load(work, i + 2, 0)
                d3 = d3 + v[k, i + 3] * load(work, i + 3, 0)
            dot = (d0 + d1) + (d2 + d3)
            for i in range(k, k + length + 1):
                store(work, i, 0, load(work, i, 0) - v[k, i] * dot)
    state.scalars[FACTORED] = zeros
    if not dual:
        rotate_targets(first, stop, state)


@inner(**KERNEL)
def reflect(k: int, length: int, state: State) -> None:
    """Apply reflector k to `vector`."""
    v, w, dot = state.reflector[k], state.vector, 0.0
    for i in range(k, k + length + 1):
        dot += v[i] * w[i]
    for i in range(k, k + length + 1):
        w[i] -= dot * v[i]


@inner(**KERNEL)
def rotate_targets(first: int, stop: int, state: State) -> None:
    """Set R, d and |f|^2 of the second form, in `triangle`, `rotated` and `SPARE`."""
    zeros, unknowns, vector, spare = stop - first, len(state.x), state.vector, 0.0
    for i in range(zeros):
        vector[i] = state.target[first + i]
    for i in range(zeros, zeros + unknowns):
        vector[i] = 0.0
    for k in range(unknowns):
        reflect(k, zeros, state)
    for k in range(unknowns):
        state.rotated[k], state.triangle[k, k] = vector[k], state.diagonal[k]
        for i in range(k):
            state.triangle[i, k] = state.reflector[k, i]
    for i in range(unknowns, unknowns + zeros):
        spare += vector[i] * vector[i]
    state.scalars[SPARE] = spare


@inner(**KERNEL)
def copy_row(column: int, state: State) -> None:
    """Copy a row of the Jacobian to the beginning of `vector`."""
    top, place = column // WIDTH * len(state.x), column % WIDTH
    for i in range(len(state.x)):
        state.vector[i] = state.jacobian[top + i, place]


@inner(**KERNEL)
def append_zero(first: int, stop: int, noise: float, state: State) -> None:
    """Bring the zero `stop` - 1 into the factorisation of those before it."""
    unknowns, k, vector = len(state.x), stop - 1 - first, state.vector
    copy_row(stop - 1, state)
    if is_dual(stop - first, state):
        for i in range(unknowns, unknowns + k):
            vector[i] = 0.0
        for other in range(k):
            reflect(other, unknowns, state)
        vector[unknowns + k] = noise
        for i in range(unknowns + k + 1):
            state.reflector[k, i] = vector[i]
        make_reflector(k, unknowns, state)
    else:
        target = state.target[stop - 1]
        for i in range(unknowns):
            r = state.triangle[i]
            length = math.sqrt(r[i] * r[i] + vector[i] * vector[i])
            c, s = r[i] / length, vector[i] / length
            for j in range(i, unknowns):
                a, b = r[j], vector[j]
                r[j], vector[j] = c * a + s * b, c * b - s * a
            d = state.rotated[i]
            state.rotated[i], target = c * d + s * target, c * target - s * d
        state.scalars[SPARE] += target * target
    state.scalars[FACTORED] = stop - first


@inner(**KERNEL)
def solve(first: int, stop: int, noise: float, state: State) -> float:
    """Solve the linear equations: sets `trial` to their x and returns their misfit."""
    zeros, unknowns, vector, misfit = stop - first, len(state.x), state.vector, 0.0
    if is_dual(zeros, state):
        for k in range(zeros):
            r, total = state.reflector[k], 0.0
            for i in range(k):
                total += r[i] * vector[i]
            vector[k] = (state.target[first + k] - total) / state.diagonal[k]
            misfit += vector[k] * vector[k]
        for i in range(zeros, zeros + unknowns):
            vector[i] = 0.0
        for k in range(zeros - 1, -1, -1):
            reflect(k, unknowns, state)
    else:
        for k in range(unknowns - 1, -1, -1):
            r, total = state.triangle[k], 0.0
            for i in range(k + 1, unknowns):
                total += r[i] * vector[i]
            vector[k] = (state.rotated[k] - total) / r[k]
        misfit = state.scalars[SPARE] / noise**2
    for i in range(unknowns):
        state.trial[i] = state.prior_mean[i] + state.prior_sd[i] * vector[i]
    return misfit


@inner(**KERNEL)
def posterior_sd(column: int, noise: float, state: State) -> float:
    """Compute the posterior standard deviation of the residual at a column."""
    unknowns, vector, squared = len(state.x), state.vector, 0.0
    zeros = int(state.scalars[FACTORED])
    copy_row(column, state)
    if is_dual(zeros, state):
        for i in range(unknowns, unknowns + zeros):
            vector[i] = 0.0
        for k in range(zeros):
            reflect(k, unknowns, state)
        for i in range(zeros, zeros + unknowns):
            squared += vector[i] * vector[i]
        return math.sqrt(squared)
    for k in range(unknowns):
        r = state.triangle[k]
        vector[k] /= r[k]
        for i in range(k + 1, unknowns):
            vector[i] -= r[i] * vector[k]
        squared += vector[k] * vector[k]
    return noise * math.sqrt(squared)


@inner(**KERNEL)
def set_targets(x: Floats, first: int, stop: int, state: State) -> None:
    """Set the targets from `residual` at x and the rows that are there."""
    unknowns, vector = len(x), state.vector
    for i in range(unknowns):
        vector[i] = (x[i] - state.prior_mean[i]) / state.prior_sd[i]
    for block in range(first - first % WIDTH, stop, WIDTH):
        total, top = broadcast(0.0), block // WIDTH * unknowns
        for i in range(unknowns):
            total = total + load(state.jacobian, top + i, 0) * vector[i]
        store(state.lanes, 0, 0, total)
        for j in range(max(first, block), min(stop, block + WIDTH)):
            state.target[j] = state.lanes[0, j - block] - state.residual[j]


@inner(**KERNEL)
def compute_misfit(x: Floats, first: int, stop: int, noise: float, state: State) -> float:
    """Compute the misfit: twice the negative log posterior but for a constant."""
    squared, prior = 0.0, 0.0
    for j in range(first, stop):
        squared += state.residual[j] * state.residual[j]
    for i in range(len(x)):
        y = (x[i] - state.prior_mean[i]) / state.prior_sd[i]
        prior += y * y
    return squared / noise**2 + prior


@inner(**KERNEL)
def moved(x: Floats, share: float, state: State) -> float:
    """Move `trial` to a share of its way from x; returns the length of the step in y."""
    squared = 0.0
    for i in range(len(x)):
        step = share * (state.trial[i] - x[i])
        state.trial[i] = x[i] + step
        squared += (step / state.prior_sd[i]) ** 2
    return math.sqrt(squared)


@inner(**KERNEL)
def copy(values: Floats, to: Floats) -> None:
    """Copy an array; numba takes long to compile `to[:] = values`."""
    for i in range(len(values)):
        to[i] = values[i]


@inner(**KERNEL)
def fit(
    x: Floats,
    misfit: float,
    first: int,
    stop: int,
    noise: float,
    tolerated: float,
    tables: Tables,
    state: State,
) -> float:
    """Minimise the misfit from x, which is moved: its misfit there.

    The equations are factored, for rows and targets of points near x, where the misfit is `misfit`,
    unless that is `NOT_FACTORED`. Steps share a linearisation while they gain what they
    should; one that fails with an old one is tried again with that at x before it is cut.
    """
    zeros, best, share, worse = stop - first, NO_MISFIT, 1.0, 0
    warm, dual = misfit >= 0, is_dual(stop - first, state)
    stale, age = not warm, 1
    if warm:
        best = misfit
        copy(x, state.best)
    for step in range(MAX_STEPS):
        if stale:
            linearize(x, first, stop, tables, state)
            set_targets(x, first, stop, state)
            misfit = compute_misfit(x, first, stop, noise, state)
            if misfit < best:
                best = misfit
                copy(x, state.best)
                share, worse = min(1.0, share / STEP_CUT), 0
            elif worse < MAX_WORSE:
                worse += 1
            else:
                copy(state.best, x)
                share, worse = share * STEP_CUT, 0
                if share < MIN_SHARE:
                    break
                continue
            factor(first, stop, noise, state)
            stale, age = False, 0
        expected: float = solve(first, stop, noise, state)
        length = moved(x, share, state)
        state.scalars[DRIFT] += length
        if warm and step == 0 and state.scalars[DRIFT] ** 2 < MAX_SQUARED_DRIFT * noise:
            copy(state.trial, x)
            return expected
        state.scalars[DRIFT] = 0.0
        found, linear, tolerance = NO_MISFIT, False, 0.0
        if length < LONG_STEP + noise or (warm and step == 0):
            evaluate_residuals(state.trial, first, stop, tables, state)
            found = compute_misfit(state.trial, first, stop, noise, state)
            tolerance = tolerated * max(1.0, found / zeros)
            linear = abs(found - expected) < tolerance
        if length > LONG_STEP + noise and not linear:
            copy(state.trial, x)
            stale = True
            continue
        gain = misfit - found
        stale = gain < MIN_GAIN_SHARE * (misfit - expected) or age >= MAX_AGE or not dual
        if gain > 0 or linear:
            misfit = best = found
            copy(state.trial, x)
            copy(x, state.best)
        elif age == 0:
            share *= STEP_CUT
            if share < MIN_SHARE:
                break
            stale = False
            continue
        if linear or (age == 0 and gain < tolerance):
            stale = False
            break
        age += 1
        if not stale:
            set_targets(x, first, stop, state)
    if stale or misfit > best:  # the last step is not evaluated or led astray
        copy(state.best, x)
        misfit = best
        linearize(x, first, stop, tables, state)
        set_targets(x, first, stop, state)
        factor(first, stop, noise, state)
    return misfit


def posterior_vectors(rows: Floats, noise: float, state: State) -> Floats:
    """Compute vectors (K, U) whose scalar products are the posterior covariances of quantities with
    derivatives `rows` by y, (K, U), in numpy.
    """
    zeros, unknowns = int(state.scalars[FACTORED]), rows.shape[1]
    if zeros > unknowns:
        return noise * np.asarray(solve_triangular(state.triangle, rows.T, trans="T").T)
    vectors = np.zeros((len(rows), unknowns + zeros))
    vectors[:, :unknowns] = rows
    for k in range(zeros):
        v, part = state.reflector[k, k : k + unknowns + 1], vectors[:, k : k + unknowns + 1]
        part -= np.outer(part @ v, v)
    return vectors[:, zeros:]
