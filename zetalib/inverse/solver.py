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
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
import scipy.linalg.cython_blas
import scipy.linalg.cython_lapack  # noqa: F401
from numpy.typing import NDArray

from zetalib.compute import map_threads
from zetalib.errors import ZetaError
from zetalib.inverse.simd import WIDTH, every, get, nearest, put
from zetalib.kernels import cached

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS = np.array([0.1, 0.01, 1e-3, 1e-4, 1e-6, 1e-8])  # noise, in mean spacings / pi
SEARCH = 40  # stretches up to so many zeros are also solved from scratch
COLUMNS = ("spacing", "sd", "middle", "middle_sd", "coarse", "coarse_sd", "misfit")
MIDDLE = 1  # the level whose forecast is the middle one; level 0 gives the coarse one
KEY = 8  # spacings that tell stretches apart, most of the time
ROUNDING = 1e-16  # added to the diagonal of what Cholesky gets
DEGREE = 4  # of R tau^(1/2) = sum_k b_k v^k / k!, v = h / tau, tau = sqrt(T / 2 pi)
# A term at N = tau too few or too many turns by v (about) and has b_k of size 2.
SPREAD = 2.0  # prior sd of b_k
LONGEST = 100.0  # mean spacings
LOWEST, HIGHEST = 100.0, 1e10  # 4 and 40,000 terms, of which no stretch resolves many
ROUNDED = 0.0025  # sd of log T, of which three digits are known
SINE = np.array([(-1.0) ** k / math.factorial(2 * k + 1) for k in range(8)])[::-1].copy()
COSINE = np.array([(-1.0) ** k / math.factorial(2 * k) for k in range(8)])[::-1].copy()
LOST = (1.0, 0.4)  # forecast and deviation where there is no root, and the largest deviation
PATIENCE = 2  # steps taken with the same derivatives
# Of kernels that kernels call; those that Python calls are kept too (zetalib.kernels says why).
KERNEL = {"fastmath": True, "nogil": True, "error_model": "numpy"}


class State(NamedTuple):
    """A stretch of zeros and the solution so far; arrays the kernels work in.

    `constants`: height, mean density there, zeros so far, last forecast and deviation, tau.
    `x`: a_p (real parts, imaginary parts), theta0, error of the scale, b_k of R.
    One entry a zero, then points looked at: `u` (1, columns), `z`, `slope` dZ/du, and in units of
    a mean spacing / pi, capped where Z is flat, `residual` and its derivatives `rows`.
    Of the eight columns at work, real parts above imaginary parts: `e` e^{-i h log p} / sqrt(p) and
    `a` a_p times it; `c` the terms of Z, `back` their weights in it; `partial` sums of `c` and of
    c log n over n <= m for m <= sqrt(N); `g` derivatives by `a`; `out`.
    """

    constants: Floats
    x: Floats
    prior: Floats
    centre: Floats
    u: Floats
    z: Floats
    slope: Floats
    residual: Floats
    rows: Floats
    lower: Floats
    e: Floats
    a: Floats
    c: Floats
    back: Floats
    partial: Floats
    g: Floats
    out: Floats


class Sums(NamedTuple):
    """What the sums over n <= N need, once for each N.

    A term n is either smooth, made of primes <= sqrt(N), or m p with one prime p > sqrt(N) and
    m <= N / p: those with the same p are a_p times a partial sum. So only smooth terms, about
    0.3 N of them, are worked out one by one; all m <= sqrt(N) are among them and come first.

    `log_p` and `size` 1 / sqrt(p), (P,), of the primes up to N, the first `small` of them up to
    sqrt(N); `most` (P,): N // p. Of the smooth terms: `rest` and `prime`, their largest prime and
    the smooth term that is left without it, and `log_n`.
    """

    log_p: Floats
    size: Floats
    most: Ints
    small: int
    root: int
    rest: Ints
    prime: Ints
    log_n: Floats


@lru_cache(maxsize=64)
def sums(terms: int) -> Sums:
    """The tables for N = `terms`."""
    factor = np.zeros(terms + 1, np.int64)
    for n in range(2, terms + 1):
        if factor[n] == 0:
            factor[n::n] = n  # in the end the largest prime of each
    number = np.arange(terms + 1)
    primes = number[2:][factor[2:] == number[2:]]
    small = int(np.searchsorted(primes, math.isqrt(terms), "right"))
    smooth = number[1:][factor[1:] <= math.isqrt(terms)]
    rest = np.searchsorted(smooth, smooth // np.maximum(factor[smooth], 1))
    prime = np.searchsorted(primes, factor[smooth])
    size = 1 / np.sqrt(primes)
    root = math.isqrt(terms)
    return Sums(np.log(primes), size, terms // primes, small, root, rest, prime, np.log(smooth))


@numba.njit(**KERNEL)
def _turn(angle: Any) -> tuple[Any, Any]:
    """Cosine and sine of 2 pi `angle`: a quarter of it by series, doubled twice."""
    y = (0.5 * math.pi) * (angle - nearest(angle))
    q = y * y
    s, c = every(SINE[0]), every(COSINE[0])
    for k in range(1, len(COSINE)):
        s, c = s * q + SINE[k], c * q + COSINE[k]
    s = s * y
    c, s = 1 - 2 * s * s, 2 * s * c
    return 1 - 2 * s * s, 2 * s * c


@numba.njit(**KERNEL)
def _height(u: Any, stretch: float, state: State) -> tuple[Any, Any, Any]:
    """Height at u, if 1 / density is larger by `stretch`; its derivatives by u and by `stretch`.

    u = rho h + h^2 / (4 pi T) - h^3 / (12 pi T^2), solved for h; rho gives away what T is.
    """
    height, rho = state.constants[0], state.constants[1]
    curve, turned = 1 / (4 * math.pi * height * rho), 3 + 2 * math.pi * rho
    b, c = curve * (1 + turned * stretch), curve * (2 * curve + 1 / (3 * height))
    s = u * (1 / rho)
    h = s * ((1 + stretch) - s * (b - c * s))
    climb = ((1 + stretch) - s * (2 * b - (3 * c) * s)) * (1 / rho)
    return h, climb, s - (turned * curve) * s * s


@numba.njit(**KERNEL)
def _terms(x: Floats, block: int, tables: Sums, state: State) -> None:
    """Z and dZ/du at eight columns; leaves behind what the derivatives by x need."""
    primes, root = len(tables.log_p), tables.root
    e, a, c, partial = state.e, state.a, state.c, state.partial
    u = get(state.u, 0, block)
    h, climb, by_stretch = _height(u, x[2 * primes + 1], state)
    turns = h * (-0.5 / math.pi)
    for p in range(primes):
        co, si = _turn(turns * tables.log_p[p])
        re, im = co * tables.size[p], si * tables.size[p]
        put(e, p, 0, re)
        put(e, primes + p, 0, im)
        put(a, p, 0, re * x[p] - im * x[primes + p])
        put(a, primes + p, 0, im * x[p] + re * x[primes + p])
    smooth = len(tables.rest)
    co, si = _turn(0.5 * u + x[2 * primes] / (2 * math.pi))
    z, turned, log_sum = 2 * co, 2 * si, every(0.0)
    put(c, 0, 0, z)
    put(c, smooth, 0, turned)
    for i in range(1, smooth):
        m, p = tables.rest[i], tables.prime[i]
        c0, c1 = get(c, m, 0), get(c, smooth + m, 0)
        a0, a1 = get(a, p, 0), get(a, primes + p, 0)
        re, im = c0 * a0 - c1 * a1, c0 * a1 + c1 * a0
        put(c, i, 0, re)
        put(c, smooth + i, 0, im)
        z, turned, log_sum = z + re, turned + im, log_sum + im * tables.log_n[i]
    s0, s1, s2, s3 = every(0.0), every(0.0), every(0.0), every(0.0)
    for i in range(root):
        re, im = get(c, i, 0), get(c, smooth + i, 0)
        s0, s1, s2, s3 = s0 + re, s1 + im, s2 + re * tables.log_n[i], s3 + im * tables.log_n[i]
        put(partial, i, 0, s0)
        put(partial, root + i, 0, s1)
        put(partial, 2 * root + i, 0, s2)
        put(partial, 3 * root + i, 0, s3)
    for p in range(tables.small, primes):
        i = tables.most[p] - 1
        a0, a1 = get(a, p, 0), get(a, primes + p, 0)
        s0, s1 = get(partial, i, 0), get(partial, root + i, 0)
        s2, s3 = get(partial, 2 * root + i, 0), get(partial, 3 * root + i, 0)
        im = s0 * a1 + s1 * a0
        z, turned = z + (s0 * a0 - s1 * a1), turned + im
        log_sum = log_sum + im * tables.log_p[p] + (s2 * a1 + s3 * a0)
    s, r = h * (1 / state.constants[5]), every(0.0)
    for k in range(DEGREE, -1, -1):
        r = r * s * (1 / (k + 1)) + x[2 * primes + 2 + k]
    put(state.out, 0, 0, z + r * (1 / math.sqrt(state.constants[5])))
    put(state.out, 1, 0, climb * log_sum - math.pi * turned)
    put(state.out, 2, 0, turned)
    put(state.out, 3, 0, log_sum * by_stretch)
    put(state.out, 4, 0, s)


@numba.njit(**KERNEL)
def _gradient(block: int, tables: Sums, state: State) -> None:
    """After :func:`_terms`: dZ/da_p at its eight columns into `g`, by going back through the sums.

    `back` of a term is what Z's complex form changes by if the term does, multiples included.
    """
    primes, smooth, root = len(tables.log_p), len(tables.rest), tables.root
    a, c, back, g, one = state.a, state.c, state.back, state.g, every(1.0)
    for i in range(smooth):
        put(back, i, 0, one)
        put(back, smooth + i, 0, every(0.0))
    for p in range(tables.small, primes):
        put(g, p, 0, get(state.partial, tables.most[p] - 1, 0))
        put(g, primes + p, 0, get(state.partial, root + tables.most[p] - 1, 0))
    s0, s1, p = every(0.0), every(0.0), tables.small
    for i in range(root - 1, -1, -1):  # N // p falls with p
        while p < primes and tables.most[p] > i:
            s0, s1 = s0 + get(a, p, 0), s1 + get(a, primes + p, 0)
            p += 1
        put(back, i, 0, one + s0)
        put(back, smooth + i, 0, s1)
    for p in range(tables.small):
        put(g, p, 0, every(0.0))
        put(g, primes + p, 0, every(0.0))
    for i in range(smooth - 1, 0, -1):
        m, p = tables.rest[i], tables.prime[i]
        b0, b1 = get(back, i, 0), get(back, smooth + i, 0)
        a0, a1 = get(a, p, 0), get(a, primes + p, 0)
        c0, c1 = get(c, m, 0), get(c, smooth + m, 0)
        put(back, m, 0, get(back, m, 0) + (b0 * a0 - b1 * a1))
        put(back, smooth + m, 0, get(back, smooth + m, 0) + (b0 * a1 + b1 * a0))
        put(g, p, 0, get(g, p, 0) + (b0 * c0 - b1 * c1))
        put(g, primes + p, 0, get(g, primes + p, 0) + (b0 * c1 + b1 * c0))
    for p in range(primes):
        g0, g1 = get(g, p, 0), get(g, primes + p, 0)
        e0, e1 = get(state.e, p, 0), get(state.e, primes + p, 0)
        put(g, p, 0, g0 * e0 - g1 * e1)
        put(g, primes + p, 0, every(0.0) - (g0 * e1 + g1 * e0))


@numba.njit(**KERNEL)
def _rows(x: Floats, first: int, last: int, tables: Sums, state: State, derivatives: bool) -> None:
    """Z and dZ/du, and if asked for `residual` and `rows`, at columns first ... last - 1."""
    r, g, out = 2 * len(tables.log_p) + 2, state.g, state.out
    for block in range(first - first % WIDTH, last, WIDTH):
        _terms(x, block, tables, state)
        if derivatives:
            _gradient(block, tables, state)
        for j in range(max(first, block), min(last, block + WIDTH)):
            k = j - block
            state.z[j], state.slope[j] = out[0, k], out[1, k]
            if derivatives:
                q, row, s = 1 / math.sqrt(out[1, k] ** 2 + 1), state.rows[j], out[4, k]
                state.residual[j] = q * out[0, k]
                for i in range(r - 2):
                    row[i] = q * g[i, k]
                row[r - 2], row[r - 1] = -q * out[2, k], q * out[3, k]
                q /= math.sqrt(state.constants[5])
                for i in range(DEGREE + 1):
                    row[r + i] = q
                    q *= s / (i + 1)


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


def _state(tables: Sums, height: float, room: int) -> State:
    primes, smooth = len(tables.log_p), len(tables.rest)
    size, columns = 2 * primes + 3 + DEGREE, (room // WIDTH + 4) * WIDTH
    density = math.log(height / (2 * math.pi)) / (2 * math.pi)
    side = min(size, room + 1)  # of the normal equations, in the smaller of their forms
    prior = np.full(size, 2.0)
    prior[2 * primes] = 0.1
    prior[2 * primes + 1] = (2 * math.pi * density / ROUNDED) ** 2
    prior[2 * primes + 2 :] = 1 / SPREAD**2
    return State(
        constants=np.array([height, density, 1.0, 0.0, 0.0, math.sqrt(height / (2 * math.pi))]),
        x=np.zeros(size),
        prior=prior,
        centre=np.zeros(size),
        u=np.zeros((1, columns)),
        z=np.zeros(columns),
        slope=np.zeros(columns),
        residual=np.zeros(columns),
        rows=np.zeros((columns, size)),
        lower=np.zeros((side, side)),
        e=np.zeros((2 * primes, WIDTH)),
        a=np.zeros((2 * primes, WIDTH)),
        c=np.zeros((2 * smooth, WIDTH)),
        back=np.zeros((2 * smooth, WIDTH)),
        partial=np.zeros((4 * tables.root, WIDTH)),
        g=np.zeros((2 * primes, WIDTH)),
        out=np.zeros((5, WIDTH)),
    )


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
