"""Laws of the spacings: how points of mean density one keep their distance, against GUE theory.

Estimates are functions of `position`, points in mean spacings in ascending order, or of `spacing`,
their consecutive differences; both of shape (n,), from one contiguous record. They come as a
:class:`Curve` with standard errors from disjoint blocks of the record, which are right as long as a
block is longer than the correlations. :data:`GUE` and :data:`POISSON` are what theory says.
Zeros follow GUE up to some log(T / 2 pi) / log 2 mean spacings and the primes beyond: see
:func:`zeros_number_variance` and, for the primes themselves, :func:`prime_peaks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import finufft
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import sici

from zetalib.errors import ZetaError
from zetalib.theory import unitary_ensemble
from zetalib.theory.primes import prime_powers

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Theory = Callable[[Floats], Floats]

BLOCKS = 50  # a standard error from them is good to 10 %
STEP = 0.37  # mean spacings between the intervals of the number variance; no fraction of one
NODES = np.polynomial.legendre.leggauss(200)
ACCURACY = 1e-12  # of the Fourier sums
CLEAR = 20  # resolutions 2 pi / (length of the record) a frequency without a peak keeps off


@dataclass(frozen=True)
class Curve:
    """An estimate `value` at `x` with its standard error, each of shape (m,)."""

    x: Floats
    value: Floats
    error: Floats


def positions(spacing: Floats) -> Floats:
    """The points between and around the spacings, shape (n + 1,), from 0 on."""
    return np.concatenate([np.zeros(1), spacing.cumsum()])


def in_blocks(x: ArrayLike, values: Floats, blocks: int = BLOCKS) -> Curve:
    """Means over the record of `values`, (pieces, m), and the errors that blocks of it say.

    Raises
    ------
    ZetaError
        If there are fewer than two pieces.
    """
    blocks = min(blocks, len(values))
    if blocks < 2:
        problem = f"{len(values)} pieces of the record; an error needs two"
        raise ZetaError("spectra", problem, "Take more spacings or shorter pieces.")
    length = len(values) // blocks
    mean = values[: blocks * length].reshape(blocks, length, -1).mean(1)
    return Curve(np.asarray(x, dtype=np.float64), mean.mean(0), mean.std(0, ddof=1) / blocks**0.5)


def bootstrap(terms: Floats, length: int, draws: int, seed: int) -> Floats:
    """Means of `terms`, (n, m), over records of moving blocks drawn with replacement.

    A statistic that is a function of means (a ratio, a correlation) has its bootstrap distribution
    from these (Kuensch, Ann. Statist. 17, 1989).

    Parameters
    ----------
    length : int
        Terms in a block, more than the correlations reach, at most n.

    Returns
    -------
    float64 array, shape (draws, m)
    """
    if not 1 <= length <= len(terms):
        problem = f"blocks of {length} from {len(terms)} terms"
        raise ZetaError("spectra", problem, "Take more spacings or shorter blocks.")
    sums = np.concatenate([np.zeros((1, terms.shape[1])), terms.cumsum(0)])
    block = (sums[length:] - sums[:-length]) / length
    rng = np.random.default_rng(seed)
    size = len(terms) // length
    return np.stack([block[rng.integers(len(block), size=size)].mean(0) for _ in range(draws)])


# Estimates


def number_variance(position: Floats, lengths: Floats, blocks: int = BLOCKS) -> Curve:
    """Sigma^2(L) = E (N - L)^2 of the number N of points in intervals of `lengths`, (m,).

    The mean is taken to be L, as unfolding makes it, so that slow waves of the density count.
    """
    start = np.arange(position[0], position[-1] - np.max(lengths), STEP)
    before = np.searchsorted(position, start)
    counts = [np.searchsorted(position, start + length) - before for length in lengths]
    return in_blocks(lengths, np.square(np.stack(counts, 1) - lengths), blocks)


def rigidity(position: Floats, lengths: Floats, blocks: int = BLOCKS) -> Curve:
    """Delta_3(L): mean square of the staircase about its best straight line in disjoint intervals.

    Dyson and Mehta, J. Math. Phys. 4 (1963). The projections of the staircase on 1 and y have
    closed forms in the points.
    """
    found = [in_blocks([length], _rigidity(position, length), blocks) for length in lengths]
    value, error = (np.concatenate([getattr(c, k) for c in found]) for k in ("value", "error"))
    return Curve(np.asarray(lengths, dtype=np.float64), value, error)


def _rigidity(position: Floats, length: float) -> Floats:
    """Delta_3 of each whole interval, shape (intervals, 1)."""
    number, y, count = _intervals(position, length)
    rank = np.arange(len(y)) - np.repeat(count.cumsum() - count, count)  # within its interval
    half, y = length / 2, y - length / 2

    def total(term: Floats) -> Floats:
        return np.asarray(np.bincount(number, term, len(count)))

    square, mean, slope = (
        total(term) / length
        for term in ((2 * rank + 1) * (half - y), half - y, (half**2 - y**2) / length)
    )
    return np.asarray((square - mean**2 - 3 * slope**2)[:, None])


def _intervals(
    position: Floats, length: float
) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp]]:
    """Points of whole disjoint intervals: number of the interval, place in it; and their counts."""
    y = position - position[0]
    intervals = int(y[-1] / length)
    y = y[: np.searchsorted(y, intervals * length)]
    number = np.minimum((y / length).astype(np.intp), intervals - 1)
    return number, y - number * length, np.bincount(number, minlength=intervals)


def form_factor(position: Floats, top: float, length: int = 128, blocks: int = BLOCKS) -> Curve:
    """The spectral form factor K(tau), tau in units of the Heisenberg time, up to `top`.

    K = |sum exp(2 pi i tau x)|^2 / L over the points of disjoint intervals of `length` L, at
    tau = k / L, k >= 1: there the mean density alone gives exactly zero, and nothing need be
    subtracted or tapered. Wave number 2 pi of unfolded points is tau = 1.
    """
    tau = np.arange(1, int(top * length + 0.5) + 1) / length
    return in_blocks(tau, structure(position, tau, length), blocks)


def structure(position: Floats, tau: Floats, length: int) -> Floats:
    """|sum exp(2 pi i tau x)|^2 / L in each whole interval, shape (intervals, m); L tau whole."""
    number, y, count = _intervals(position, length)
    found = np.empty((len(count), len(tau)))
    turn = np.exp(2j * np.pi * y / length)
    order = np.rint(tau * length).astype(int)
    power = turn ** order[0]
    for k, step in enumerate(np.diff(order, append=order[-1])):
        real, imag = (np.bincount(number, part, len(count)) for part in (power.real, power.imag))
        found[:, k] = (real**2 + imag**2) / length
        power *= turn if step == 1 else turn**step
    return found


def ratios(spacing: Floats) -> Floats:
    """min(s_n, s_{n+1}) / max(s_n, s_{n+1}), shape (n - 1,); needs no unfolding.

    Oganesyan and Huse, Phys. Rev. B 75 (2007); Atas et al., Phys. Rev. Lett. 110 (2013).
    """
    a, b = spacing[:-1], spacing[1:]
    return np.asarray(np.minimum(a, b) / np.maximum(a, b))


def mean_ratio(spacing: Floats, blocks: int = BLOCKS) -> Curve:
    """Mean of :func:`ratios`, a curve of one point."""
    return in_blocks([0.0], ratios(spacing)[:, None], blocks)


def ratio_histogram(spacing: Floats, bins: int = 25, blocks: int = BLOCKS) -> Curve:
    """Density of :func:`ratios` in `bins` cells of [0, 1]."""
    cell = np.minimum((ratios(spacing) * bins).astype(np.intp), bins - 1)
    pieces = cell[: len(cell) // blocks * blocks].reshape(blocks, -1)
    counts = np.stack([np.bincount(piece, minlength=bins) for piece in pieces])
    density = np.asarray(counts * (bins / pieces.shape[1]), np.float64)
    return in_blocks((np.arange(bins) + 0.5) / bins, density, blocks)


def pair_correlation(
    position: Floats, top: float, width: float = 0.05, blocks: int = BLOCKS
) -> Curve:
    """R2(x): density of points at distance x above a point, in bins of `width` up to `top`."""
    bins = round(top / width)
    inside = np.searchsorted(position, position[-1] - top)  # whose upper neighbours are all there
    piece = np.arange(inside) * blocks // inside
    counts, k = np.zeros(blocks * bins), 1
    while True:
        upper = position[k : k + inside]
        cell = ((upper - position[: len(upper)]) / width).astype(np.intp)
        near = cell < bins
        if not near.any():
            break
        counts += np.bincount(piece[: len(cell)][near] * bins + cell[near], minlength=counts.size)
        k += 1
    share = np.bincount(piece, minlength=blocks)[:, None] * width
    return in_blocks((np.arange(bins) + 0.5) * width, counts.reshape(blocks, bins) / share, blocks)


def autocorrelation(spacing: Floats, lags: int, blocks: int = BLOCKS) -> Curve:
    """Correlation of spacings 1 ... `lags` apart; errors allow for that of the variance.

    `spacing` may be several stretches, (stretches, n), such as rollouts: no pair is across two.
    """
    terms = lagged(spacing, lags)
    variance = terms[:, 0].mean()
    value = terms[:, 1:].mean(0) / variance
    around = in_blocks(np.arange(1, lags + 1), terms[:, 1:] - value * terms[:, :1], blocks)
    return Curve(around.x, value, around.error / variance)


def lagged(spacing: Floats, lags: int) -> Floats:
    """Products of departures from the mean 0 ... `lags` apart, (terms, lags + 1); as above."""
    d = np.atleast_2d(spacing - spacing.mean())
    end = d.shape[1] - lags
    products = [(d[:, :end] * d[:, k : end + k]).ravel() for k in range(lags + 1)]
    return np.stack(products, 1)


# Theory


@dataclass(frozen=True)
class Law:
    """What theory says of a point process of density one; `ratio` is the mean of the ratios."""

    number_variance: Theory
    rigidity: Theory
    form_factor: Theory
    pair_correlation: Theory
    ratio: float


def gue_number_variance(lengths: Floats) -> Floats:
    """Sigma^2(L) of the GUE bulk, exact (Mehta, Random Matrices)."""
    x = 2 * np.pi * np.asarray(lengths, dtype=np.float64)
    si, ci = sici(x)
    log = np.log(x) + np.euler_gamma + 1 - np.cos(x) - ci
    return np.asarray(log / np.pi**2 + x / (2 * np.pi) * (1 - 2 / np.pi * si))


def rigidity_of(variance: Theory, lengths: Floats) -> Floats:
    """Delta_3(L) = 2 / L^4 int_0^L (L^3 - 2 L^2 r + r^3) Sigma^2(r) dr, for any Sigma^2."""
    share, weight = 0.5 * (NODES[0] + 1), 0.5 * NODES[1]
    inside = variance(np.outer(lengths, share).ravel()).reshape(len(lengths), -1)
    return np.asarray(2 * inside @ (weight * (1 - 2 * share + share**3)))


def ratio_density(r: Floats, beta: int) -> Floats:
    """Density of the ratio on [0, 1] by the 3 x 3 surmise, beta = 1 (GOE), 2 (GUE), 4; 0 Poisson.

    Atas et al., Phys. Rev. Lett. 110 (2013), with their constants Z, folded onto [0, 1].
    """
    z = {0: 1, 1: 8 / 27, 2: 4 * np.pi / (81 * 3**0.5), 4: 4 * np.pi / (729 * 3**0.5)}[beta]
    if beta == 0:
        return np.asarray(2 / (1 + r) ** 2)
    return np.asarray(2 / z * (r + r**2) ** beta / (1 + r + r**2) ** (1 + 1.5 * beta))


def finite_form_factor(pair_correlation: Theory, tau: Floats, length: int) -> Floats:
    """What :func:`form_factor` of intervals of `length` expects, from R2: K smoothed over 1 / L.

    1 - 2 int_0^L (1 - x / L) (1 - R2(x)) cos(2 pi tau x) dx.
    """
    x = (np.arange(64 * length) + 0.5) / 64
    lacking = (1 - x / length) * (1 - pair_correlation(x))
    return np.array([1 - 2 / 64 * lacking @ np.cos(2 * np.pi * t * x) for t in tau])


GUE = Law(
    number_variance=gue_number_variance,
    rigidity=lambda lengths: rigidity_of(gue_number_variance, lengths),
    form_factor=lambda tau: np.minimum(np.abs(tau), 1.0),
    pair_correlation=lambda x: np.asarray(1 - np.sinc(x) ** 2),
    ratio=0.59975,  # infinite matrices; the surmise says 0.6027
)
POISSON = Law(
    number_variance=lambda lengths: np.asarray(lengths, dtype=np.float64),
    rigidity=lambda lengths: np.asarray(lengths, dtype=np.float64) / 15,
    form_factor=np.ones_like,
    pair_correlation=np.ones_like,
    ratio=2 * np.log(2) - 1,
)
GOE_RATIO = 0.5307  # Atas et al. (2013), infinite matrices


# Both


def laws(spacing: Floats, height: float, top: float = 2.0) -> pd.DataFrame:
    """Every estimate of a record of zeros near `height` beside theory, as rows.

    Columns: law, x (length, tau, distance or lag), value, error, and what is expected of `gue`,
    `poisson` and, where there is a theory of them, `zeros`; NaN where there is none here.
    """
    position, far = positions(spacing), np.geomspace(0.25, 64, 33)

    def zeros(lengths: Floats) -> Floats:
        return zeros_number_variance(lengths, height)

    variance, line = number_variance(position, far), rigidity(position, far)
    form, pairs = form_factor(position, top), pair_correlation(position, 3.0)
    lags, ratio, spread = (
        autocorrelation(spacing, 20),
        mean_ratio(spacing),
        ratio_histogram(spacing),
    )
    surmise, even = ratio_density(spread.x, 2), ratio_density(spread.x, 0)
    exact = unitary_ensemble.spacing_autocorrelation(tuple(range(1, 21)))
    rows = [
        ("number variance", variance, *_expected("number_variance", far), zeros(far)),
        ("rigidity", line, *_expected("rigidity", far), rigidity_of(zeros, far)),
        ("form factor", form, *_expected("form_factor", form.x), np.nan),
        ("pair correlation", pairs, *_expected("pair_correlation", pairs.x), np.nan),
        ("autocorrelation", lags, exact, 0.0, np.nan),
        ("ratio", ratio, GUE.ratio, POISSON.ratio, np.nan),
        ("ratio density", spread, surmise, even, np.nan),
    ]
    frames = [
        pd.DataFrame(
            {"law": law, "x": c.x, "value": c.value, "error": c.error}
            | {"gue": gue, "poisson": poisson, "zeros": own}
        )
        for law, c, gue, poisson, own in rows
    ]
    return pd.concat(frames, ignore_index=True)


SAID = {  # where a summary looks
    "number variance": (1.0, 8.0, 64.0),
    "rigidity": (1.0, 8.0, 64.0),
    "form factor": (0.25, 0.5, 1.0, 1.5),
    "pair correlation": (0.525, 1.025, 2.025),
    "autocorrelation": (1.0, 2.0, 10.0),
    "ratio": (0.0,),
}


def summary(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float | None]]]:
    """Some rows of :func:`laws` by law and x; `misfit`: mean squared error of all, in errors'.

    A misfit is about 1 where a theory is right; `zeros` is null where there is no theory of them.
    """
    found: dict[str, dict[str, dict[str, float | None]]] = {}

    def number(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    for law, places in SAID.items():
        rows = table[(table.law == law) & (table.error > 0)]
        columns = {name: rows[name].to_numpy() for name in ("x", "value", "error", "gue", "zeros")}
        nearest = [int(np.abs(columns["x"] - x).argmin()) for x in places]
        found[law] = {
            f"{columns['x'][i]:.4g}": {n: number(c[i]) for n, c in columns.items() if n != "x"}
            for i in nearest
        }
        off = {n: (columns["value"] - columns[n]) / columns["error"] for n in ("gue", "zeros")}
        found[law]["misfit"] = {n: number(np.square(z).mean()) for n, z in off.items()}
    return found


def _expected(law: str, x: Floats) -> tuple[Floats, Floats]:
    return getattr(GUE, law)(x), getattr(POISSON, law)(x)


# The primes in the zeros


def zeros_number_variance(lengths: Floats, height: float, split: float = 0.25) -> Floats:
    """Sigma^2(L) of the zeros near `height`: prime powers below (T/2 pi)^split, GUE for the rest.

    Berry, Nonlinearity 1 (1988): it saturates where GUE's goes on growing.
    """
    lengths, log = np.asarray(lengths, dtype=np.float64), np.log(height / (2 * np.pi))
    q, mangoldt = prime_powers(int(np.exp(split * log)))
    power = np.log(q) / mangoldt
    sine = np.sin(np.pi * np.outer(lengths, np.log(q)) / log) ** 2
    x = 2 * np.pi * lengths * split
    missing = 2 * sine @ (1 / (power**2 * q)) + sici(x)[1] - np.log(x) - np.euler_gamma
    return np.asarray(gue_number_variance(lengths) + missing / np.pi**2)


def fourier(gamma: Floats, frequency: Floats) -> Complexes:
    """2 pi sum_n w_n exp(i omega gamma_n) / sum of w over heights, at `frequency`, (m,).

    `gamma` (n,) are heights; the weights w are a Hann window over them, so that a peak ends where
    it does: at d resolutions from it less than 1 / d^3 of it is left.
    """
    low, high = gamma[0], gamma[-1]
    middle, extent = (low + high) / 2, high - low
    place = gamma - middle
    weight = (0.5 + 0.5 * np.cos(2 * np.pi * place / extent)).astype(np.complex128)
    sums = finufft.nufft1d3(
        place, weight, np.ascontiguousarray(frequency), isign=1, eps=ACCURACY, nthreads=1
    )
    return np.asarray(4 * np.pi / extent * sums * np.exp(1j * middle * frequency))


def landau(q: Floats, mangoldt: Floats) -> Floats:
    """What :func:`fourier` of the zeros tends to at log q: -Lambda(q) / sqrt(q), else 0.

    Landau, Math. Ann. 71 (1912): x^rho summed up to height T is -T Lambda(x) / 2 pi + O(log T).
    """
    return -mangoldt / np.sqrt(q)


def told_apart(gamma: Floats) -> int:
    """The largest limit :func:`prime_peaks` takes for these heights."""
    return int((gamma[-1] - gamma[0]) / (4 * np.pi * CLEAR))


def prime_peaks(gamma: Floats, limit: int, draws: int, seed: int) -> pd.DataFrame:
    """The zeros' Fourier spectrum at the logs of prime powers, against Landau and against chance.

    The null of no peak: frequencies drawn over the same range that keep `CLEAR` resolutions off
    every log of a prime power.

    Returns
    -------
    DataFrame, a row for each prime power up to `limit`
        q, prime, frequency (log q), amplitude (real part of :func:`fourier`), imaginary, theory
        (:func:`landau`), null (root mean square modulus at the frequencies of the null), p (share
        of them, the peak's own counted among them, of a modulus as large).
    """
    q, mangoldt = prime_powers(limit)
    logs = np.log(prime_powers(2 * limit)[0])
    clear = CLEAR * 2 * np.pi / (gamma[-1] - gamma[0])
    if limit > told_apart(gamma):
        problem = f"a record from {gamma[0]:.6g} to {gamma[-1]:.6g} does not tell primes near"
        raise ZetaError("spectra", f"{problem} {limit} apart", "Take more zeros or a lower limit.")
    drawn = np.random.default_rng(seed).uniform(logs[0], np.log(limit), 2 * draws)
    above = np.searchsorted(logs, drawn)
    off = np.minimum(drawn - logs[above - 1], logs[above] - drawn)
    drawn = drawn[off > clear][:draws]
    found = fourier(gamma, np.concatenate([np.log(q), drawn]))
    peak, null = found[: len(q)], np.abs(found[len(q) :])
    larger = len(null) - np.searchsorted(np.sort(null), np.abs(peak))
    return pd.DataFrame(
        {
            "q": q.astype(int),
            "prime": np.rint(np.exp(mangoldt)).astype(int),
            "frequency": np.log(q),
            "amplitude": peak.real,
            "imaginary": peak.imag,
            "theory": landau(q, mangoldt),
            "null": np.sqrt(np.square(null).mean()),
            "p": (larger + 1) / (len(null) + 1),
        }
    )


def peaks_summary(peaks: pd.DataFrame) -> dict[str, float]:
    """How well :func:`prime_peaks` fit Landau: largest departures, and the noise beside them."""
    off = np.hypot(peaks.amplitude - peaks.theory, peaks.imaginary)
    return {
        "powers": len(peaks),
        "largest_departure": float(off.max()),
        "relative": float((off / peaks.theory.abs()).max()),
        "null": float(peaks.null.iloc[0]),
        "p_all": float(min(1.0, peaks.p.max() * len(peaks))),
    }
