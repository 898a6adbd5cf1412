"""Riemann-Siegel's Z in the unknowns of the inverse problem, and its derivatives."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from zetalib.inverse.simd import WIDTH, every, get, nearest, put

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DEGREE = 4  # of R tau^(1/2) = sum_k b_k v^k / k!, v = h / tau, tau = sqrt(T / 2 pi)
# A term at N = tau too few or too many turns by v (about) and has b_k of size 2.
SPREAD = 2.0  # prior sd of b_k
ROUNDED = 0.0025  # sd of log T, of which three digits are known
SINE = np.array([(-1.0) ** k / math.factorial(2 * k + 1) for k in range(8)])[::-1].copy()
COSINE = np.array([(-1.0) ** k / math.factorial(2 * k) for k in range(8)])[::-1].copy()
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
