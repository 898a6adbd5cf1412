"""The Riemann-Siegel sum as a function of the phases of the primes, and its derivatives.

Near height T, with N = floor(sqrt(T / 2 pi)) terms (docs/reference.md, 2.7),

    Z(u) = 2 Re sum_{n <= N} a_n e^{i (pi u + theta0 - h(u) log n)} / sqrt(n) + R(u),
    R(u) = tau^(-1/2) sum_{k <= 4} b_k v^k / k!,    v = h(u) / tau,    tau = sqrt(T / 2 pi),

where u is the unfolded coordinate and h(u) the height, both from the first zero of a stretch, and
a_n is completely multiplicative: the product of a_p over the prime factors p of n. In pi u + theta0
the Riemann-Siegel theta function is exact up to the constant theta0. The unknowns are

    x = (Re a_p, Im a_p, theta0, scale, b_0 ... b_4),    P + P + 1 + 1 + 5 of them,

P the number of primes up to N and `scale` the relative error of 1 / density that follows from T
being known to three digits only: see :func:`evaluate_height`.

Kernels work on eight columns (values of u) at a time, one a lane of a vector register
(:mod:`zetalib.inverse.simd`). Complex arrays hold the real parts of all entries, then the
imaginary parts.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zetalib.inverse.simd import WIDTH, broadcast, load, round_nearest, store
from zetalib.kernels import inner

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Heights with 3 and 39,894 terms: below, there is hardly a prime to solve for; above, a stretch
# resolves few of them. Not tuned.
MIN_HEIGHT, MAX_HEIGHT = 100.0, 1e10

# E|a_p|^2 = 1, as the true a_p = p^(-iT) have modulus one: variance 1/2 of each part.
AMPLITUDE_PRECISION = 2.0
# Standard deviation 3.2, wider than the 1.8 of a uniform phase: a weak pull towards the phase with
# which S is zero on average. Not tuned.
THETA0_PRECISION = 0.1
# Standard deviation of log T. Rounding T to three digits gives 0.0029 where they are 100, 0.0003
# where they are 999. Not tuned.
LOG_HEIGHT_SD = 0.0025
# Degree of R. Not tuned: the first term left out is b_5 v^5 / 120, 1e-4 of b_5 where v = 0.4.
REMAINDER_DEGREE = 4
# Prior standard deviation of b_k. A term n near tau too many or too few has the size 2 tau^(-1/2)
# and the phase h (log tau - log n) = v (tau - n), |tau - n| up to about 1: its derivatives by v,
# times tau^(1/2), are 2 at most.
REMAINDER_SD = 2.0

# Newton's steps for h(u). The first guess is off by e = h^2 / (4 pi rho T), a step leaves
# e^2 / (4 pi rho T): 2e-13 after two for 1000 spacings at T = 10^4, less above.
NEWTON_STEPS = 2
# Powers of q in log(1 + h / T). The first term left out is 2 q^17 / 17 < 1e-23 where h / T < 0.1.
LOG_TERMS = 7
MIN_STRETCH = 0.5  # least 1 + `scale`, far outside of its prior: keeps T finite

# Taylor series, highest power first, for arguments up to pi / 4: truncated after y^15, the sine is
# off by (pi/4)^17 / 17! = 5e-17 at most and the cosine by (pi/4)^16 / 16! = 1e-15. Doubling the
# angle twice makes that 7e-15.
SIN_SERIES = np.array([(-1.0) ** k / math.factorial(2 * k + 1) for k in range(8)])[::-1].copy()
COS_SERIES = np.array([(-1.0) ** k / math.factorial(2 * k) for k in range(8)])[::-1].copy()

# Options of kernels called by kernels; zetalib.kernels says how those called by Python differ.
KERNEL = {"fastmath": True, "nogil": True, "error_model": "numpy"}

# Entries of `State.scalars`. They are not fields of their own: a kernel cannot write to those, and
# numbers that are read only would be optimised otherwise there, which moves the last bits.
HEIGHT, DENSITY, TAU, COUNT = range(4)
LAST_FORECAST, LAST_SD, LAST_MISFIT, LEVEL = range(4, 8)
SPARE, FACTORED, DRIFT, START_MISFIT, START_LEVEL = range(8, 13)
# Rows of `State.lanes`.
Z, DZ_DU, MINUS_DZ_DTHETA0, DZ_DSCALE, V, WEIGHT = range(6)


class State(NamedTuple):
    """A stretch of zeros, its solution so far and the work space of the kernels.

    Attributes
    ----------
    scalars : (13,), `HEIGHT` T, `DENSITY` of zeros there, log(T / 2 pi) / 2 pi, `TAU`
        sqrt(T / 2 pi), number of zeros `COUNT`; `LAST_FORECAST` of the spacing after them, its
        standard deviation `LAST_SD`, 0 before there is one, and misfit `LAST_MISFIT` of the
        solution at the noise number `LEVEL`; `SPARE`, the squared length of what the second form
        cannot fit, number of zeros `FACTORED`, `DRIFT` of y since residuals were evaluated last,
        and `START_MISFIT` and `START_LEVEL` of `start`
    x : (U,), the unknowns, indexed by `Tables.theta0`, `scale` and `remainder`
    trial, best, start : (U,), unknowns on trial, the best of a fit, and those from a start anew
    prior_sd, prior_mean : (U,), of independent Gaussians
    u : (1, columns), unfolded coordinates: one a zero, then scratch for points that are looked at
    z, slope : (columns,), Z and dZ/du
    residual : (columns,), Z / sqrt((dZ/du)^2 + 1): mean spacings to the root of the tangent, but
        no more than Z where Z is flat
    jacobian : (U columns / 8, 8), derivatives of `residual` by y = (x - m) / s, the weight held
        fixed: the U rows of the first eight columns, then of the next
    target : (columns,), J y - r where each zero was linearised last
    reflector, overlap, diagonal : (side, rows), (side, 4), (side,), QR factors: columns of R and
        Householder vectors, their scalar products in groups of four, the diagonal of R
        (:mod:`zetalib.inverse.least_squares`)
    triangle, rotated : (U, U), (side,), R and Q^T b of the second form, if it is ever used
    vector, work : (rows,), (rows, 8), of one column and of eight that are being transformed
    phasor : (2 P, 8), e^{-i h log p} / sqrt(p) at the eight columns at work
    prime_term : (2 P, 8), a_p times `phasor`
    term : (2 S, 8), terms of Z for the S smooth n, with the factor 2 e^{i (pi u + theta0)}
    adjoint : (2 S, 8), derivative of the complex sum by each of them
    partial_sum : (4 M, 8), sums over n <= m, m = 1 ... M = floor(sqrt(N)), of `term` and of
        `term` log n
    gradient : (U, 8), derivative of Z by a_p, then of `residual` by y
    lanes : (6, 8), `Z`, `DZ_DU`, `MINUS_DZ_DTHETA0`, `DZ_DSCALE`, `V` and `WEIGHT`
    """

    scalars: Floats
    x: Floats
    trial: Floats
    best: Floats
    start: Floats
    prior_sd: Floats
    prior_mean: Floats
    u: Floats
    z: Floats
    slope: Floats
    residual: Floats
    jacobian: Floats
    target: Floats
    reflector: Floats
    overlap: Floats
    diagonal: Floats
    triangle: Floats
    rotated: Floats
    vector: Floats
    work: Floats
    phasor: Floats
    prime_term: Floats
    term: Floats
    adjoint: Floats
    partial_sum: Floats
    gradient: Floats
    lanes: Floats


class Tables(NamedTuple):
    """What depends on the number of terms N alone.

    A term n is either smooth, made of primes <= sqrt(N), or p m with one prime p > sqrt(N) and
    m <= N / p: those of the same p add up to a_p times a partial sum. So only the smooth terms,
    about 0.3 N of them, are evaluated one by one. They are in ascending order and begin with all
    n <= sqrt(N).

    Attributes
    ----------
    log_p, amplitude : (P,), log p and 1 / sqrt(p) of the primes up to N
    multiples : (P,), N // p
    small_primes : number of primes up to sqrt(N)
    sqrt_terms : floor(sqrt(N))
    largest_prime : (S,), index of the largest prime factor of each smooth n (none for n = 1)
    cofactor : (S,), index among the smooth terms of n over its largest prime factor
    log_n : (S,), of the smooth n
    theta0, scale, remainder : indices of theta0, of `scale` and of b_0 in the unknowns
    """

    log_p: Floats
    amplitude: Floats
    multiples: Ints
    small_primes: int
    sqrt_terms: int
    largest_prime: Ints
    cofactor: Ints
    log_n: Floats
    theta0: int
    scale: int
    remainder: int


@lru_cache(maxsize=64)
def build_tables(terms: int) -> Tables:
    """Build the tables of a sum of `terms` = N terms."""
    largest = np.zeros(terms + 1, np.int64)
    for n in range(2, terms + 1):
        if largest[n] == 0:
            largest[n::n] = n  # later, larger primes overwrite earlier ones
    number = np.arange(terms + 1)
    primes = number[2:][largest[2:] == number[2:]]
    root = math.isqrt(terms)
    smooth = number[1:][largest[1:] <= root]
    return Tables(
        log_p=np.log(primes),
        amplitude=1 / np.sqrt(primes),
        multiples=terms // primes,
        small_primes=int(np.searchsorted(primes, root, "right")),
        sqrt_terms=root,
        largest_prime=np.searchsorted(primes, largest[smooth]),
        cofactor=np.searchsorted(smooth, smooth // np.maximum(largest[smooth], 1)),
        log_n=np.log(smooth),
        theta0=2 * len(primes),
        scale=2 * len(primes) + 1,
        remainder=2 * len(primes) + 2,
    )


def allocate_state(tables: Tables, height: float, capacity: int) -> State:
    """Allocate the state of a stretch of one zero, at `height`, to grow by `capacity` spacings."""
    primes, smooth = len(tables.log_p), len(tables.log_n)
    unknowns, columns = tables.remainder + REMAINDER_DEGREE + 1, (capacity // WIDTH + 4) * WIDTH
    density = math.log(height / (2 * math.pi)) / (2 * math.pi)
    zeros, side = capacity + 1, min(unknowns, capacity + 1)
    rows = unknowns + zeros + 2 * WIDTH  # of the equations' columns, and what whole blocks touch
    triangle = unknowns if zeros > unknowns else 0
    precision = np.full(unknowns, AMPLITUDE_PRECISION)
    precision[tables.theta0] = THETA0_PRECISION
    # d log(density) = d log(T) / (2 pi density)
    precision[tables.scale] = (2 * math.pi * density / LOG_HEIGHT_SD) ** 2
    precision[tables.remainder :] = 1 / REMAINDER_SD**2
    tau = math.sqrt(height / (2 * math.pi))
    return State(
        scalars=np.array([height, density, tau, 1.0, *np.zeros(9)]),
        x=np.zeros(unknowns),
        trial=np.zeros(unknowns),
        best=np.zeros(unknowns),
        start=np.zeros(unknowns),
        prior_sd=1 / np.sqrt(precision),
        prior_mean=np.zeros(unknowns),
        u=np.zeros((1, columns)),
        z=np.zeros(columns),
        slope=np.zeros(columns),
        residual=np.zeros(columns),
        jacobian=np.zeros((columns // WIDTH * unknowns, WIDTH)),
        target=np.zeros(columns),
        reflector=np.zeros((side, rows)),
        overlap=np.zeros((side, 4)),
        diagonal=np.zeros(side),
        triangle=np.zeros((triangle, triangle)),
        rotated=np.zeros(side),
        vector=np.zeros(rows),
        work=np.zeros((rows, WIDTH)),
        phasor=np.zeros((2 * primes, WIDTH)),
        prime_term=np.zeros((2 * primes, WIDTH)),
        term=np.zeros((2 * smooth, WIDTH)),
        adjoint=np.zeros((2 * smooth, WIDTH)),
        partial_sum=np.zeros((4 * tables.sqrt_terms, WIDTH)),
        gradient=np.zeros((unknowns, WIDTH)),
        lanes=np.zeros((6, WIDTH)),
    )


@inner(**KERNEL)
def cos_sin(turns: Any) -> tuple[Any, Any]:
    """Compute cosine and sine of 2 pi `turns`, eight lanes: a quarter of it by Taylor series,
    doubled twice. Absolute error 7e-15 at most, beside that of `turns`.
    """
    y = (0.5 * math.pi) * (turns - round_nearest(turns))
    q = y * y
    s, c = broadcast(SIN_SERIES[0]), broadcast(COS_SERIES[0])
    for k in range(1, len(COS_SERIES)):
        s, c = s * q + SIN_SERIES[k], c * q + COS_SERIES[k]
    s = s * y
    c, s = 1 - 2 * s * s, 2 * s * c
    return 1 - 2 * s * s, 2 * s * c


@inner(**KERNEL)
def log_of_one_plus(w: Any) -> Any:
    """Compute log(1 + w) = 2 artanh(q), q = w / (2 + w), by its Taylor series in q."""
    q = w / (2 + w)
    square = q * q
    log = square * (2 / (2 * LOG_TERMS + 1)) + 2 / (2 * LOG_TERMS - 1)
    for k in range(LOG_TERMS - 2, -1, -1):
        log = log * square + 2 / (2 * k + 1)
    return log * q


@inner(**KERNEL)
def evaluate_height(u: Any, scale: float, state: State) -> tuple[Any, Any, Any]:
    """Evaluate the height h above the first zero and its derivatives by u and by `scale`.

    With w = h / T the unfolded coordinate is, without approximation,

        u = rho h + T ((1 + w) log(1 + w) - w) / 2 pi.

    Newton's method solves it for h. 1 / rho is larger by `scale` than where T is as it was given,
    and another density rho also means another T.
    """
    stretch = max(1 + scale, MIN_STRETCH)
    rho = state.scalars[DENSITY] / stretch
    height = 2 * math.pi * math.exp(2 * math.pi * rho)
    h = u * (1 / rho)  # above the root of a convex function: Newton's steps fall towards it
    for _ in range(NEWTON_STEPS):
        w = h * (1 / height)
        log = log_of_one_plus(w)
        excess = rho * h + (height * (0.5 / math.pi)) * ((1 + w) * log - w) - u
        h = h - excess / (rho + log * (0.5 / math.pi))
    log = log_of_one_plus(h * (1 / height))
    slope = 1 / (rho + log * (0.5 / math.pi))
    return h, slope, log * slope * (height * rho / stretch)


@inner(**KERNEL)
def evaluate_z(x: Floats, block: int, tables: Tables, state: State) -> None:
    """Evaluate Z and what its derivatives need at columns `block` ... `block` + 7, into `lanes`.

    dZ/du leaves out R, which is slow. `phasor`, `prime_term`, `term` and `partial_sum` stay behind
    for :func:`evaluate_gradient`.
    """
    primes, root, smooth = len(tables.log_p), tables.sqrt_terms, len(tables.cofactor)
    phasor, prime_term, term = state.phasor, state.prime_term, state.term
    partial = state.partial_sum
    u = load(state.u, 0, block)
    h, dh_du, dh_dscale = evaluate_height(u, x[tables.scale], state)
    turns = h * (-0.5 / math.pi)
    for p in range(primes):
        co, si = cos_sin(turns * tables.log_p[p])
        re, im = co * tables.amplitude[p], si * tables.amplitude[p]
        store(phasor, p, 0, re)
        store(phasor, primes + p, 0, im)
        store(prime_term, p, 0, re * x[p] - im * x[primes + p])
        store(prime_term, primes + p, 0, im * x[p] + re * x[primes + p])
    # Smooth terms: each is the term of its cofactor times that of its largest prime.
    co, si = cos_sin(0.5 * u + x[tables.theta0] / (2 * math.pi))
    z, im_sum, im_log_sum = 2 * co, 2 * si, broadcast(0.0)
    store(term, 0, 0, z)
    store(term, smooth, 0, im_sum)
    for i in range(1, smooth):
        m, p = tables.cofactor[i], tables.largest_prime[i]
        c0, c1 = load(term, m, 0), load(term, smooth + m, 0)
        a0, a1 = load(prime_term, p, 0), load(prime_term, primes + p, 0)
        re, im = c0 * a0 - c1 * a1, c0 * a1 + c1 * a0
        store(term, i, 0, re)
        store(term, smooth + i, 0, im)
        z, im_sum, im_log_sum = z + re, im_sum + im, im_log_sum + im * tables.log_n[i]
    # The others: a prime above sqrt(N) times the sum of the terms up to N // p.
    s0, s1, s2, s3 = broadcast(0.0), broadcast(0.0), broadcast(0.0), broadcast(0.0)
    for i in range(root):
        re, im = load(term, i, 0), load(term, smooth + i, 0)
        s0, s1, s2, s3 = s0 + re, s1 + im, s2 + re * tables.log_n[i], s3 + im * tables.log_n[i]
        store(partial, i, 0, s0)
        store(partial, root + i, 0, s1)
        store(partial, 2 * root + i, 0, s2)
        store(partial, 3 * root + i, 0, s3)
    for p in range(tables.small_primes, primes):
        i = tables.multiples[p] - 1
        a0, a1 = load(prime_term, p, 0), load(prime_term, primes + p, 0)
        s0, s1 = load(partial, i, 0), load(partial, root + i, 0)
        s2, s3 = load(partial, 2 * root + i, 0), load(partial, 3 * root + i, 0)
        im = s0 * a1 + s1 * a0
        z, im_sum = z + (s0 * a0 - s1 * a1), im_sum + im
        im_log_sum = im_log_sum + im * tables.log_p[p] + (s2 * a1 + s3 * a0)
    v, r = h * (1 / state.scalars[TAU]), broadcast(0.0)
    for k in range(REMAINDER_DEGREE, -1, -1):  # Horner
        r = r * v * (1 / (k + 1)) + x[tables.remainder + k]
    store(state.lanes, Z, 0, z + r * (1 / math.sqrt(state.scalars[TAU])))
    store(state.lanes, DZ_DU, 0, dh_du * im_log_sum - math.pi * im_sum)
    store(state.lanes, MINUS_DZ_DTHETA0, 0, im_sum)
    store(state.lanes, DZ_DSCALE, 0, im_log_sum * dh_dscale)
    store(state.lanes, V, 0, v)


@inner(**KERNEL)
def evaluate_gradient(block: int, tables: Tables, state: State) -> None:
    """Evaluate dZ/da_p at the columns of the last :func:`evaluate_z`, into `gradient`.

    Reverse-mode differentiation: `adjoint` of a term is the derivative of the complex sum by it,
    through all of its multiples. By Re a_p and Im a_p it is the real and minus the imaginary part
    of `phasor` times the sum of adjoints and cofactors.
    """
    primes, smooth, root = len(tables.log_p), len(tables.cofactor), tables.sqrt_terms
    prime_term, term, adjoint = state.prime_term, state.term, state.adjoint
    gradient, one = state.gradient, broadcast(1.0)
    for i in range(smooth):
        store(adjoint, i, 0, one)
        store(adjoint, smooth + i, 0, broadcast(0.0))
    for p in range(tables.small_primes, primes):
        store(gradient, p, 0, load(state.partial_sum, tables.multiples[p] - 1, 0))
        store(gradient, primes + p, 0, load(state.partial_sum, root + tables.multiples[p] - 1, 0))
    s0, s1, p = broadcast(0.0), broadcast(0.0), tables.small_primes
    for i in range(root - 1, -1, -1):  # N // p falls with p
        while p < primes and tables.multiples[p] > i:
            s0, s1 = s0 + load(prime_term, p, 0), s1 + load(prime_term, primes + p, 0)
            p += 1
        store(adjoint, i, 0, one + s0)
        store(adjoint, smooth + i, 0, s1)
    for p in range(tables.small_primes):
        store(gradient, p, 0, broadcast(0.0))
        store(gradient, primes + p, 0, broadcast(0.0))
    for i in range(smooth - 1, 0, -1):
        m, p = tables.cofactor[i], tables.largest_prime[i]
        b0, b1 = load(adjoint, i, 0), load(adjoint, smooth + i, 0)
        a0, a1 = load(prime_term, p, 0), load(prime_term, primes + p, 0)
        c0, c1 = load(term, m, 0), load(term, smooth + m, 0)
        store(adjoint, m, 0, load(adjoint, m, 0) + (b0 * a0 - b1 * a1))
        store(adjoint, smooth + m, 0, load(adjoint, smooth + m, 0) + (b0 * a1 + b1 * a0))
        store(gradient, p, 0, load(gradient, p, 0) + (b0 * c0 - b1 * c1))
        store(gradient, primes + p, 0, load(gradient, primes + p, 0) + (b0 * c1 + b1 * c0))
    for p in range(primes):
        g0, g1 = load(gradient, p, 0), load(gradient, primes + p, 0)
        e0, e1 = load(state.phasor, p, 0), load(state.phasor, primes + p, 0)
        store(gradient, p, 0, g0 * e0 - g1 * e1)
        store(gradient, primes + p, 0, broadcast(0.0) - (g0 * e1 + g1 * e0))


@inner(**KERNEL)
def keep_residuals(block: int, low: int, high: int, state: State) -> None:
    """Keep `z`, `slope` and `residual` of columns `low` ... `high` - 1 of a block, from `lanes`."""
    lanes = state.lanes
    for j in range(low, high):
        k = j - block
        state.z[j], state.slope[j] = lanes[Z, k], lanes[DZ_DU, k]
        lanes[WEIGHT, k] = 1 / math.sqrt(lanes[DZ_DU, k] ** 2 + 1)
        state.residual[j] = lanes[WEIGHT, k] * lanes[Z, k]


@inner(**KERNEL)
def evaluate_residuals(x: Floats, first: int, stop: int, tables: Tables, state: State) -> None:
    """Evaluate `z`, `slope` and `residual` at columns `first` ... `stop` - 1."""
    for block in range(first - first % WIDTH, stop, WIDTH):
        evaluate_z(x, block, tables, state)
        keep_residuals(block, max(first, block), min(stop, block + WIDTH), state)


@inner(**KERNEL)
def linearize(x: Floats, first: int, stop: int, tables: Tables, state: State) -> None:
    """Evaluate `z`, `slope`, `residual` and `jacobian` at columns `first` ... `stop` - 1."""
    lanes, gradient, sd = state.lanes, state.gradient, state.prior_sd
    theta0, scale, remainder = tables.theta0, tables.scale, tables.remainder
    for block in range(first - first % WIDTH, stop, WIDTH):
        low, high = max(first, block), min(stop, block + WIDTH)
        evaluate_z(x, block, tables, state)
        keep_residuals(block, low, high, state)
        evaluate_gradient(block, tables, state)
        weight = load(lanes, WEIGHT, 0)
        for i in range(theta0):
            store(gradient, i, 0, load(gradient, i, 0) * weight * sd[i])
        store(gradient, theta0, 0, load(lanes, MINUS_DZ_DTHETA0, 0) * weight * -sd[theta0])
        store(gradient, scale, 0, load(lanes, DZ_DSCALE, 0) * weight * sd[scale])
        slow = weight * (1 / math.sqrt(state.scalars[TAU]))  # times v^i / i!
        for i in range(REMAINDER_DEGREE + 1):
            store(gradient, remainder + i, 0, slow * sd[remainder + i])
            slow = slow * load(lanes, V, 0) * (1 / (i + 1))
        top = block // WIDTH * len(sd)
        if low == block:
            for i in range(len(sd)):
                store(state.jacobian, top + i, 0, load(gradient, i, 0))
        else:  # what lies before `first` stays
            for j in range(low, high):
                for i in range(len(sd)):
                    state.jacobian[top + i, j - block] = gradient[i, j - block]
