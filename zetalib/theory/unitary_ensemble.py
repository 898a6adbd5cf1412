"""The circular unitary ensemble: exact samples of any size, and what theory says of its bulk.

The eigenangles of a Haar-random unitary n x n matrix have uniform density and, for large n, the
local statistics of the sine kernel, those of the GUE bulk. No matrix is needed: the Verblunsky
coefficients of its spectral measure are independent with known laws (R. Killip and I. Nenciu,
"Matrix models for circular ensembles", Int. Math. Res. Not. 2004, beta = 2), and the characteristic
polynomial follows from them by the Szego recursion, here a binary tree of FFT products.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from zetalib.errors import ZetaError
from zetalib.theory import bandlimited

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]

# Grid points a mean spacing; the finer ones in case zeros of a close group hide on the first.
OVERSAMPLINGS = (4, 8, 16)
LEAF = 64  # steps of the recursion done directly


def verblunsky(n: int, rng: np.random.Generator) -> tuple[Complexes, Floats]:
    """Verblunsky coefficients of a Haar-random unitary matrix of size n.

    They are independent with uniform phases; |alpha_k|^2 is Beta(1, n - 1 - k) distributed and the
    last coefficient lies on the unit circle.

    Returns
    -------
    alpha : complex128 array, shape (n,)
    rho : float64 array, shape (n,)
        sqrt(1 - |alpha|^2) without cancellation; 1 in place of the last one, which is 0.
    """
    phase = np.exp(2j * np.pi * rng.random(n))
    exponent = rng.standard_exponential(n - 1) / np.arange(n - 1, 0, -1)
    modulus = np.append(np.sqrt(-np.expm1(-exponent)), 1.0)
    return phase * modulus, np.append(np.exp(-exponent / 2), 1.0)


def transfer(alpha: Complexes, rho: Floats) -> tuple[Complexes, Complexes]:
    """The product of the Szego transfer matrices of n coefficients, n a power of two.

    One step is (phi, phi*) -> 1/rho [[z, -conj(alpha)], [-alpha z, 1]] (phi, phi*). A product of m
    has the form [[z a, b], [b*, (z a)*]] with a and b of m coefficients and p*(z) = z^m conj(p(z))
    on the unit circle, so the two polynomials a and b are all there is to carry. Runs of LEAF steps
    are multiplied out directly (a rounded root of unity would err alike in every one of them), then
    products are taken pairwise, on the 2m-th roots of unity: O(n log^2 n).

    Returns
    -------
    a, b : complex128 arrays, shape (n,)
        Coefficients in the order of rising powers.
    """
    steps = min(len(alpha), LEAF)
    conj, scale = alpha.conj().reshape(-1, steps), 1 / rho.reshape(-1, steps)
    a, b = (np.zeros(conj.shape, np.complex128) for _ in range(2))
    a[:, 0], b[:, 0] = scale[:, 0], -conj[:, 0] * scale[:, 0]
    for m in range(1, steps):
        turned = [p[:, m - 1 :: -1].conj() * conj[:, m, None] for p in (b, a)]
        for p, q in zip((a, b), turned, strict=True):
            p[:, 1 : m + 1] = p[:, :m]
            p[:, 0] = 0
            p[:, :m] -= q
            p[:, : m + 1] *= scale[:, m, None]
    while len(a) > 1:
        m = a.shape[1]
        root = np.exp(1j * np.pi * np.arange(2 * m) / m)
        power = np.tile([1.0, -1.0], m)  # root^m
        first, second = (slice(k, None, 2) for k in (0, 1))
        a1, b1, a2, b2 = (_values(p, 2 * m) for p in (a[first], b[first], a[second], b[second]))
        a2 *= root
        b2 *= power * root.conj()
        a = _coefficients(a2 * a1 + b2 * b1.conj())
        b = _coefficients(a2 * b1 + b2 * a1.conj())
    return a[0], b[0]


def _values(coefficients: Complexes, points: int) -> Complexes:
    """Values of polynomials, one a row, at the roots of unity exp(2 pi i j / points)."""
    values: Complexes = scipy.fft.ifft(coefficients, points, axis=-1, norm="forward")
    return values


def _coefficients(values: Complexes) -> Complexes:
    coefficients: Complexes = scipy.fft.fft(values, axis=-1, norm="forward", overwrite_x=True)
    return coefficients


def characteristic(alpha: Complexes, rho: Floats) -> Complexes:
    """The characteristic polynomial of n coefficients, n even, made real on the unit circle.

    phi(z) = z a + b has its n zeros on the circle, where

        f(theta) = sqrt(-alpha_{n-1}) exp(-i n theta / 2) phi(exp(i theta))

    is real: a trigonometric polynomial of degree n/2 with the eigenangles as its zeros.

    Returns
    -------
    complex128 array, shape (n/2 + 1,)
        Fourier coefficients of f from degree 0 up; those below mirror them.
    """
    a, b = transfer(alpha, rho)
    half = len(alpha) // 2
    upper = np.append(b[half:], 0.0)
    upper += a[half - 1 :]
    upper *= np.sqrt(-alpha[-1])
    return upper


def on_grid(upper: Complexes, oversampling: int) -> Floats:
    """The real function with these Fourier coefficients, as of :func:`characteristic`.

    Returns
    -------
    float64 array, shape (n * oversampling,)
        f at theta = 2 pi j / (n * oversampling): so many points a mean spacing.
    """
    size = 2 * (len(upper) - 1) * oversampling
    values: Floats = scipy.fft.irfft(upper, size, norm="forward")
    return values


def points(n: int, rng: np.random.Generator) -> Floats:
    """The eigenangles of a Haar-random unitary matrix of size n, in mean spacings.

    About 400 n bytes of memory: 1.7 GB at 2^22. Rounding leaves a spacing of 2^21 points an error
    of 3e-11 (median), up to 2e-8 where the polynomial is smallest.

    Parameters
    ----------
    n : int
        A power of two, at least 32.

    Returns
    -------
    float64 array, shape (n,)
        n theta / (2 pi), ascending, in [0, n).

    Raises
    ------
    ZetaError
        If not exactly n zeros can be told apart, which no seed is known to do.
    """
    upper = characteristic(*verblunsky(n, rng))
    for oversampling in OVERSAMPLINGS:
        values = on_grid(upper, oversampling)
        margin = bandlimited.MARGIN
        around = np.concatenate([values[-margin:], values, values[:margin]])
        found = bandlimited.zeros(around, margin, margin + len(values))
        if len(found) == n:
            return (found - margin) / oversampling
    problem = f"{len(found)} of {n} eigenangles found"
    raise ZetaError("source gue", problem, "Take another download.seed.")


def sine_eigenvalues(s: float) -> Floats:
    """Eigenvalues of the sine kernel on an interval of length s, in mean spacings, descending.

    The number of points in the interval is a sum of independent Bernoulli variables with these
    means. Gauss-Legendre discretisation, which converges exponentially (F. Bornemann, "On the
    numerical evaluation of Fredholm determinants", Math. Comp. 79, 2010).
    """
    node, weight = np.polynomial.legendre.leggauss(30 + 2 * int(s))
    root = np.sqrt(weight * s / 2)
    kernel = np.sinc((node[:, None] - node) * s / 2) * root[:, None] * root
    return np.clip(np.linalg.eigvalsh(kernel)[::-1], 0.0, 1.0)


def number_variance(length: float) -> float:
    """Variance of the number of points in an interval of `length` mean spacings; GUE theory."""
    mean = sine_eigenvalues(length)
    return float(mean @ (1 - mean))


def spacing_distribution(s: Floats) -> Floats:
    """P(spacing <= s) of the GUE bulk (Gaudin): 1 + dE/ds, E(s) the chance of an empty interval.

    The derivative is a central difference of fourth order; the error is below 1e-8.
    """
    step = 0.01

    def empty(x: float) -> float:
        # Empty intervals of length x and -x: E is analytic and the kernel even in its length.
        return float(np.prod(1 - np.sign(x) * sine_eigenvalues(abs(x))))

    slopes = [
        (8 * (empty(x + step) - empty(x - step)) - empty(x + 2 * step) + empty(x - 2 * step))
        / (12 * step)
        for x in s
    ]
    return 1 + np.array(slopes)


def spacing_variances(count: int) -> Floats:
    """Variance of the sum of k consecutive spacings of the GUE bulk, k = 0 ... count.

    With N(s) points in an interval of length s, the sum S_k of k spacings has
    E[S_k^2] = 2 int_0^inf E[max(k - N(s), 0)] ds (the density of S_k is the second derivative of
    that expectation, and its mean is k).

    Returns
    -------
    float64 array, shape (count + 1,)
    """
    k = np.arange(count + 1)
    node, weight = np.polynomial.legendre.leggauss(100 + 4 * count)
    top = count + 8.0  # fewer than `count` points in so long an interval: below 1e-30
    moment = np.zeros(count + 1)
    for s, w in zip((node + 1) * top / 2, weight * top / 2, strict=True):
        chance = np.ones(1)  # of N(s) = 0, 1, ...
        for mean in sine_eigenvalues(float(s)):
            chance = np.convolve(chance, [1 - mean, mean])
        missing = np.maximum(k[:, None] - np.arange(len(chance)), 0)
        moment += 2 * w * (missing @ chance)
    variances: Floats = moment - k**2
    return variances


def spacing_autocorrelation(lags: tuple[int, ...]) -> Floats:
    """Autocorrelation of the spacings of the GUE bulk at the given lags, each at least 1."""
    v = spacing_variances(max(lags) + 1)
    return np.array([(v[k + 1] - 2 * v[k] + v[k - 1]) / (2 * v[1]) for k in lags])
