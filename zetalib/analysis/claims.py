"""The published claims tested again, each against a null hypothesis said beforehand.

A claim says either that something departs from its null (`asserts`) or that nothing does. Its
statistic has an interval, a p-value under the null, and a `margin`: the least departure that would
matter. With p-values adjusted for the number of claims (Holm), :func:`settle` finds the departure

- absent, when the whole interval lies within the margin of what the null expects,
- present, when it is not absent and the adjusted p-value is below :data:`LEVEL`,
- open otherwise: too little data, or nothing there to test (p is NaN).

So failing to reject is never evidence, and a departure too small to matter is none.

Arrays are those of a contiguous record: `spacing` (n,) in mean spacings. p-values are from draws of
the null, or normal with the standard error of the record's blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import signal, stats

from zetalib.analysis import prime_frequencies
from zetalib.theory import point_statistics
from zetalib.theory.primes import first_primes

Floats = NDArray[np.float64]
Verdict = Literal["confirmed", "refuted", "not decidable here", "open"]

LEVEL = 0.01  # of the family of claims
CONFIDENCE = 0.99  # of intervals
Z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
BLOCK = 1000  # spacings in a block of the bootstrap
DRAWS = 999
REPORTED_ACF = 0.005
WINDOW = 128  # mean spacings of an interval of the form factor
PEAK, FLANKS = 0.1, 0.3  # a peak at tau = 1 is looked for within 0.1, against 0.1 to 0.3 from it
BOTTOM = 0.35  # tau; where the published ratio seems to have its denominator
SHUFFLES = 20
PLATEAU = (1.2, 2.0)  # tau
DEGENERATE = 1e-13  # eigenvalues so close, relative to the largest, are rounding


@dataclass(frozen=True)
class Claim:
    """A claim, what was measured of it, and what follows.

    Attributes
    ----------
    name, statement, null : str
        Short name; the claim as published; the hypothesis it is held against.
    statistic, low, high : float
        As measured, and its interval at :data:`CONFIDENCE`.
    expected : float
        Of the statistic under the null.
    margin : float
        The least departure from `expected` that matters.
    p : float
        P(as extreme | null); NaN where there is nothing to test.
    asserts : bool
        Whether the claim says that the null is wrong, or that it holds.
    side : str
        Departures that count: `greater` or `both`.
    note : str
        Other figures, and where the published one may come from.
    adjusted, verdict
        By :func:`settle`; NaN and `open` before.
    """

    name: str
    statement: str
    null: str
    statistic: float
    low: float
    high: float
    expected: float
    margin: float
    p: float
    asserts: bool
    side: Literal["greater", "both"] = "both"
    note: str = ""
    adjusted: float = np.nan
    verdict: Verdict = "open"


def holm(p: Sequence[float]) -> Floats:
    """Holm's step-down adjustment of p-values (Scand. J. Statist. 6, 1979); NaN are no tests."""
    given = np.asarray(p, dtype=np.float64)
    tests = np.flatnonzero(~np.isnan(given))
    order = tests[np.argsort(given[tests], kind="stable")]
    adjusted = np.full(given.shape, np.nan)
    steps = given[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def settle(claims: Sequence[Claim]) -> list[Claim]:
    """The claims with adjusted p-values and verdicts; see the module's description."""
    adjusted = holm([claim.p for claim in claims])
    return [
        replace(claim, adjusted=float(p), verdict=_verdict(claim, float(p)))
        for claim, p in zip(claims, adjusted, strict=True)
    ]


def _verdict(claim: Claim, adjusted: float) -> Verdict:
    if np.isnan([adjusted, claim.low, claim.high]).any():
        return "not decidable here"
    small = claim.high <= claim.expected + claim.margin
    if claim.side == "both":
        small &= claim.low >= claim.expected - claim.margin
    if not small and adjusted >= LEVEL:
        return "not decidable here"
    return "refuted" if small == claim.asserts else "confirmed"


def table(claims: Sequence[Claim]) -> pd.DataFrame:
    """A row for each claim."""
    return pd.DataFrame([asdict(claim) for claim in claims])


def rows(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """The same as plain rows for JSON: null where there is no number."""
    return [
        {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(claim).items()}
        for claim in claims
    ]


def read(rows: Sequence[dict[str, Any]]) -> list[Claim]:
    """Claims from :func:`rows`."""
    filled: list[dict[str, Any]] = [
        {k: np.nan if v is None else v for k, v in row.items()} for row in rows
    ]
    return [Claim(**row) for row in filled]


def _normal(statistic: float, error: float, expected: float) -> tuple[float, float, float]:
    """Interval, and two-sided p-value, of a statistic with this standard error."""
    p = 2 * stats.norm.sf(abs(statistic - expected) / error)
    return statistic - Z * error, statistic + Z * error, float(p)


def _interval(draws: Floats) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


# Autocorrelation


def acf_error(spacing: Floats, true: Floats) -> float:
    """Mean squared difference of the autocorrelation at lags 1 ... m from `true`, (m,)."""
    found = point_statistics.autocorrelation(spacing, len(true)).value
    return float(np.square(found - true).mean())


def white_error(true: Floats) -> Floats:
    """:func:`acf_error` of spacings without any correlation, for 1 ... m lags, (m,).

    Shuffled spacings have it, and any forecaster that draws them independently.
    """
    return np.asarray(np.square(true).cumsum() / np.arange(1, len(true) + 1))


def acf_learned(
    generated: Floats, truth: Floats, lags: int, seed: int, draws: int = DRAWS
) -> Claim:
    """Does a model's own sequence have the zeros' autocorrelation, beyond what one lag explains?

    Parameters
    ----------
    generated : float64 array, shape (n,) or (trajectories, n)
        Spacings drawn by the model, fed with its own.
    truth : float64 array, shape (m,)
    """
    true = point_statistics.autocorrelation(truth, max(lags, 100)).value
    white, true = white_error(true), true[:lags]
    rng = np.random.default_rng(seed)
    null = np.array([acf_error(_ar1(true[0], generated.shape, rng), true) for _ in range(draws)])
    found = acf_error(generated, true)
    gain = 1 - found / null.mean()
    terms = point_statistics.lagged(generated, lags)
    means = point_statistics.bootstrap(terms, min(BLOCK, len(terms) // 10), draws, seed)
    drawn = np.square(means[:, 1:] / means[:, :1] - true).mean(1) / null.mean()
    low, high = _interval(gain - drawn + drawn.mean())  # drawing adds noise of its own
    reached = np.flatnonzero(white <= REPORTED_ACF)
    from_lag = f"{reached[0] + 1} lags on" if len(reached) else "no number of lags on"
    return Claim(
        name="acf",
        statement=f"the autocorrelation is learned (mean squared error {REPORTED_ACF})",
        null="an AR(1) sequence with the zeros' first autocorrelation comes as near",
        statistic=gain,
        low=low,
        high=high,
        expected=0.0,
        margin=0.1,
        p=float(((null <= found).sum() + 1) / (draws + 1)),
        asserts=True,
        side="greater",
        note=f"share of AR(1)'s squared error removed; errors at {lags} lags: here {found:.2g}, "
        f"AR(1) {null.mean():.2g}, no correlation at all {white[lags - 1]:.2g}, which is below "
        f"{REPORTED_ACF} from {from_lag}",
    )


def _ar1(rho: float, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    noise = rng.standard_normal((*shape[:-1], shape[-1] + 100))
    return np.asarray(signal.lfilter([1.0], [1.0, -rho], noise)[..., 100:])


# Spectrum


def _excess(tau: Floats, k: Floats) -> Floats:
    """Mean K within `PEAK` of tau = 1 over its mean in the flanks, less 1; `k` (..., m)."""
    away = np.abs(tau - 1)
    near, beside = away <= PEAK, (away > PEAK) & (away <= FLANKS)
    return np.asarray(k[..., near].mean(-1) / k[..., beside].mean(-1) - 1)


def peak_at_two_pi(spacing: Floats, seed: int, jitter: float = 0.3, draws: int = DRAWS) -> Claim:
    """Is there more at wave number 2 pi than unit mean spacing puts there?

    Takes zeros or a model's spacings. Regular points have a peak there that jitter of standard
    deviation sigma lowers by exp(-(2 pi sigma)^2); irregular points have the plateau, K = 1, which
    no jitter changes.
    """
    rng = np.random.default_rng(seed)
    tau = _taus(1 - FLANKS, 1 + FLANKS)
    points = point_statistics.positions(spacing)
    found = point_statistics.structure(points, tau, WINDOW)
    null = np.empty(SHUFFLES)
    for i in range(SHUFFLES):
        mixed = point_statistics.positions(rng.permutation(spacing))
        null[i] = _excess(tau, point_statistics.structure(mixed, tau, WINDOW).mean(0))
    statistic = float(_excess(tau, found.mean(0)))
    resampled = point_statistics.bootstrap(found, min(10, len(found)), draws, seed)
    low, high = _interval(_excess(tau, resampled))
    spread = null.std(ddof=1) * np.sqrt(1 + 1 / SHUFFLES)
    noise = rng.normal(0, jitter, len(points))
    jittered = point_statistics.structure(np.sort(points + noise), tau, WINDOW).mean(0)
    at, gue = np.abs(tau - 1) <= PEAK, float(_excess(tau, point_statistics.GUE.form_factor(tau)))
    bottom = float(point_statistics.form_factor(points, BOTTOM, WINDOW).value.mean())
    above = found.mean(0)[at].mean() / bottom - 1
    gue_above = point_statistics.GUE.form_factor(tau[at]).mean() / (BOTTOM / 2) - 1
    return Claim(
        name="peak at 2 pi",
        statement="the spectrum has a peak at 2 pi that survives jitter (458 %)",
        null="the same spacings in random order rise as much above their neighbourhood there",
        statistic=statistic,
        low=low,
        high=high,
        expected=float(null.mean()),
        margin=0.5,
        p=float(stats.t.sf((statistic - null.mean()) / spread, SHUFFLES - 1)),
        asserts=True,
        side="greater",
        note=f"K within {PEAK} of tau = 1 over K {PEAK} to {FLANKS} off, less 1; GUE {gue:.3f}, "
        f"Poisson 0. K there {found.mean(0)[at].mean():.3f}, after jitter of {jitter} "
        f"{jittered[at].mean():.3f}. Above the mean K below tau {BOTTOM} it is by {above:.0%}, for "
        f"GUE by {gue_above:.0%}: points that keep their distance have little K there",
    )


def plateau(spacing: Floats) -> Claim:
    """Is the plateau of the form factor below that of Poisson points?"""
    curve = point_statistics.structure(
        point_statistics.positions(spacing), _taus(*PLATEAU), WINDOW
    ).mean(1)
    ramp = point_statistics.form_factor(point_statistics.positions(spacing), 1.0, WINDOW).value
    below = np.flatnonzero(ramp.cumsum() / np.arange(1, len(ramp) + 1) <= 0.47)
    until = f"{(below[-1] + 1) / WINDOW:.2f}" if len(below) else "none"
    found = point_statistics.in_blocks([1.0], curve[:, None])
    value, error = float(found.value[0]), float(found.error[0])
    low, high, p = _normal(value, error, 1.0)
    return Claim(
        name="plateau",
        statement="the plateau of the spectral form factor lies 53 % below Poisson",
        null="the plateau is that of Poisson points and of GUE, 1",
        statistic=value,
        low=low,
        high=high,
        expected=1.0,
        margin=0.05,
        p=p,
        asserts=True,
        note=f"mean K over tau {PLATEAU[0]} to {PLATEAU[1]}; the mean over the ramp 0 to 1 is "
        f"{ramp.mean():.3f} (GUE 0.5), and 0.47 is the mean up to tau {until}",
    )


def _taus(low: float, high: float) -> Floats:
    return np.arange(round(low * WINDOW), round(high * WINDOW) + 1) / WINDOW


# What a network has learned


def slots_and_primes(
    frequency: Floats, within: float, seed: int, primes: int = 32, draws: int = DRAWS
) -> Claim:
    """Do learned frequencies, (N,), in radians a unit of height, lie at the logs of primes?

    Without any (N = 0) there is nothing to decide.

    Parameters
    ----------
    within : float
        Distance that counts as a match, radians a unit of height.
    primes : int
        How many primes, from 2 on; the null's frequencies are uniform over the range of their logs.
    """
    statement, null = (
        "slots do not tune to log primes (p = 0.60)",
        "frequencies anywhere in the range lie as near to logs of primes",
    )
    if not frequency.size:
        nan, why = float("nan"), "nothing in the network learned a frequency from elsewhere"
        return Claim(
            "log primes", statement, null, nan, nan, nan, nan, 0.2, nan, False, "greater", why
        )
    logs = np.log(first_primes(primes))
    test = prime_frequencies.near(frequency, logs, within, seed, draws)
    matched, n = round(test.statistic), frequency.size
    chance = test.expected / n  # where all match by chance no share can say more
    exact = stats.binomtest(matched, n).proportion_ci(CONFIDENCE)
    return Claim(
        name="log primes",
        statement=statement,
        null=null,
        statistic=matched / n,
        low=float(exact.low),
        high=float(exact.high),
        expected=chance,
        margin=0.2,
        p=test.p if chance + 0.2 < 1 else float("nan"),
        asserts=False,
        side="greater",
        note=f"share of {n} frequencies within {within:.3g} of one of the {len(logs)} log primes",
    )


def hermitian(scores: Floats, seed: int, draws: int = DRAWS) -> Claim:
    """Are attention scores between positions i and j alike in both directions, beyond distance?

    Causal attention has no upper half: symmetric or not is then no question, since any row of
    weights extends to a symmetric kernel. What can be tested are scores q_i . k_j before the mask,
    and the forms W_q^T W_k of the heads.

    Parameters
    ----------
    scores : float64 array, shape (maps, n, n) or (n, n)
        Not finite or zero above the diagonal: masked.
    """
    scores = scores.reshape(-1, *scores.shape[-2:])
    i, j = np.triu_indices(scores.shape[-1], 1)
    upper, lower = scores[:, i, j], scores[:, j, i]
    statement, null = (
        "attention weights are not Hermitian (z = 0.19)",
        "given their distance, scores of (i, j) and (j, i) are unrelated",
    )
    if not np.isfinite(upper).all() or not upper.any():
        nan = float("nan")
        why = "masked above the diagonal: half of what Hermitian speaks of does not exist"
        return Claim(
            "Hermitian", statement, null, nan, nan, nan, 0.0, 0.1, nan, False, "greater", why
        )
    upper, lower = (_without_distance(half, j - i) for half in (upper, lower))
    scale = np.sqrt((upper**2).sum() * (lower**2).sum())
    statistic = float((upper * lower).sum() / scale)
    rng = np.random.default_rng(seed)
    drawn = np.array([(upper * _within(lower, j - i, rng)).sum() / scale for _ in range(draws)])
    spread = Z * float(drawn.std(ddof=1))
    return Claim(
        name="Hermitian",
        statement=statement,
        null=null,
        statistic=statistic,
        low=statistic - spread,
        high=statistic + spread,
        expected=0.0,
        margin=0.1,
        p=float(((drawn >= statistic).sum() + 1) / (draws + 1)),
        asserts=False,
        side="greater",
        note="correlation of the two halves less their means by distance; Hermitian is 1. The null "
        "permutes pairs of the same distance",
    )


def _without_distance(values: Floats, distance: NDArray[np.intp]) -> Floats:
    """`values` (maps, pairs) less their means over pairs of the same distance."""
    count = np.maximum(np.bincount(distance), 1)
    means = np.stack([np.bincount(distance, row) / count for row in values])
    return np.asarray(values - means[:, distance])


def _within(values: Floats, distance: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """`values` (maps, pairs) permuted among pairs of the same distance, alike in all maps."""
    target, source = (
        np.argsort(distance, kind="stable"),
        np.lexsort((rng.random(distance.size), distance)),
    )
    out = np.empty_like(values)
    out[:, target] = values[:, source]
    return out


def toeplitz_ratios(kernel: Floats, size: int) -> Floats:
    """Ratios of neighbouring gaps between eigenvalues of the Toeplitz matrix K(|i - j|).

    It commutes with reversing the order: eigenvectors are even or odd, levels of the two kinds know
    nothing of each other, and ratios are taken within each kind. Gaps that rounding makes are out.

    Parameters
    ----------
    kernel : float64 array, shape (m,)
        K at distances 0, 1, ...; zero from m on.
    size : int
        Of the matrix, even.
    """
    row = np.zeros(size)
    row[: min(size, len(kernel))] = kernel[:size]
    found = []
    for levels in _levels(row):
        gap = np.diff(levels)
        sound = gap > DEGENERATE * size * np.abs(levels).max()
        found.append(point_statistics.ratios(np.where(sound, gap, 1.0))[sound[1:] & sound[:-1]])
    return np.concatenate(found)


def _levels(row: Floats) -> list[Floats]:
    """Eigenvalues of even and of odd eigenvectors of the Toeplitz matrix with this first row."""
    k = np.arange(len(row) // 2)
    inner, folded = row[np.abs(k[:, None] - k)], row[len(row) - 1 - k[:, None] - k]
    return [np.linalg.eigvalsh(inner + sign * folded) for sign in (1, -1)]


def toeplitz(kernel: Floats, size: int = 1024) -> Claim:
    """Do the eigenvalues of the Toeplitz matrix of a kernel, K at 0, 1, ..., repel as GUE's do?

    Nothing is random in it: the eigenvalues of a smooth kernel are values of its Fourier transform
    at nearly equal steps (Szegoe), a picket fence. Independent random entries give nearly the
    semi-Poisson law, 0.5, within each kind (Bogomolny, Phys. Rev. E 102, 2020): 0.47 to 0.48 here.
    """
    ratio = toeplitz_ratios(kernel, size)
    value = low = high = p = float("nan")
    if len(ratio) >= 2 * point_statistics.BLOCKS:
        found = point_statistics.in_blocks([1.0], ratio[:, None])
        value = float(found.value[0])
        low, high, p = _normal(value, float(found.error[0]), point_statistics.GUE.ratio)
    return Claim(
        name="Toeplitz",
        statement="a Toeplitz matrix of the kernel does not have GUE statistics",
        null="neighbouring gaps have the mean ratio of GUE",
        statistic=value,
        low=low,
        high=high,
        expected=point_statistics.GUE.ratio,
        margin=0.02,
        p=p,
        asserts=True,
        note=f"{len(ratio)} ratios of even or of odd eigenvectors, {size - 4 - len(ratio)} lost to "
        f"rounding; real symmetric matrices have GOE's {point_statistics.GOE_RATIO}, Poisson "
        f"{point_statistics.POISSON.ratio:.4f}, random Toeplitz 0.47, equal steps 1",
    )


# The constant of s_n = c / (s_1 + s_2 + s_3)

ON_MODEL = 3.1084  # as published, of model predictions


def last_three(spacing: Floats) -> tuple[Floats, Floats]:
    """The three spacings before each, (n - 3, 3), the last first, and the spacings, (n - 3,)."""
    x = np.stack([spacing[2:-1], spacing[1:-2], spacing[:-3]], 1)
    return x, spacing[3:]


def constant(x: Floats, y: Floats) -> float:
    """Least squares c in y = c / (sum of the rows of x)."""
    f = 1 / x.sum(1)
    return float((y @ f) / (f @ f))


def least_absolute(x: Floats, y: Floats) -> float:
    """The c of least absolute error: the median of y (s1 + s2 + s3), weighted by 1 / (sum)."""
    total = x.sum(1)
    order = np.argsort(y * total)
    weight = (1 / total[order]).cumsum()
    return float((y * total)[order][np.searchsorted(weight, weight[-1] / 2)])


def is_pi(x: Floats, y: Floats, name: str, seed: int, draws: int = DRAWS) -> Claim:
    """Is the constant pi? Takes `x`, (n, 3), in order of height, and true spacings or forecasts."""
    f = 1 / x.sum(1)
    c = constant(x, y)
    means = point_statistics.bootstrap(np.stack([y * f, f * f], 1), _block(y), draws, seed)
    drawn = means[:, 0] / means[:, 1]
    low, high = _interval(drawn)
    error = float(drawn.std(ddof=1))
    share = 1 - np.square(y - c * f).mean() / y.var()
    return Claim(
        name=f"pi, {name}",
        statement=f"the constant of c / (s1 + s2 + s3) on {name} is pi",
        null="c = pi",
        statistic=c,
        low=low,
        high=high,
        expected=float(np.pi),
        margin=0.05,
        p=_normal(c, error, np.pi)[2],
        asserts=False,
        note=f"R2 {share:.3f}, correlation {np.corrcoef(y, f)[0, 1]:.3f}; by least absolute "
        f"error c is {least_absolute(x, y):.4f}",
    )


def is_bias(x: Floats, y: Floats, model: Floats, seed: int, draws: int = DRAWS) -> Claim:
    """Is the constant on a model's means, (n,), another than on the true spacings `y`?

    With f = 1 / (s1 + s2 + s3) the difference is E[(model - y) f] / E[f^2]: that of two samples of
    the same zeros, so far smaller errors than either constant has. Means of a forecaster without
    bias given the past have none.
    """
    f = 1 / x.sum(1)
    terms = np.stack([(model - y) * f, f * f], 1)
    means = point_statistics.bootstrap(terms, _block(y), draws, seed)
    drawn = means[:, 0] / means[:, 1]
    statistic = constant(x, model - y)
    low, high = _interval(drawn)
    return Claim(
        name="pi is bias",
        statement="the constant of these model means is another than that of the true spacings, as "
        f"{ON_MODEL} and 2.83 are: they are biased",
        null="the constants are the same",
        statistic=statistic,
        low=low,
        high=high,
        expected=0.0,
        margin=0.1,
        p=_normal(statistic, float(drawn.std(ddof=1)), 0.0)[2],
        asserts=True,
        note=f"c on model means {constant(x, model):.4f}, on true spacings {constant(x, y):.4f}; "
        f"mean of model less truth {(model - y).mean():.4f}",
    )


def overshoots(x: Floats, y: Floats, seed: int, draws: int = DRAWS) -> Claim:
    """Is c = 3.1084 too large for forecasts that are right on average?

    With f = 1 / (s1 + s2 + s3) forecasts c f have the mean c E[f]; spacings have E[y]. E[f] is at
    least E[y] / 3, by Jensen's inequality: whatever the law, no c above 3 is without bias.
    """
    f = 1 / x.sum(1)
    drawn = point_statistics.bootstrap(ON_MODEL * f[:, None] - y[:, None], _block(y), draws, seed)[
        :, 0
    ]
    statistic = float((ON_MODEL * f - y).mean())
    low, high = _interval(drawn)
    c = constant(x, y)
    return Claim(
        name="pi overshoots",
        statement=f"{ON_MODEL} / (s1 + s2 + s3) is not right on average: its constant is bias",
        null="its mean is that of the spacings",
        statistic=statistic,
        low=low,
        high=high,
        expected=0.0,
        margin=0.01,
        p=_normal(statistic, float(drawn.std(ddof=1)), 0.0)[2],
        asserts=True,
        side="greater",
        note=f"no bias at all needs c = {y.mean() / f.mean():.4f}; forecasts whose least-squares "
        f"constant is {ON_MODEL} are {ON_MODEL / c - 1:.1%} too large there (published: 6.2 %)",
    )


def _block(y: Floats) -> int:
    return max(1, min(BLOCK, len(y) // 10))


def of_spacings(spacing: Floats, seed: int) -> list[Claim]:
    """The claims that need nothing but a record of spacings, not settled yet."""
    x, y = last_three(spacing)
    return [peak_at_two_pi(spacing, seed), plateau(spacing), is_pi(x, y, "true spacings", seed)]


def of_forecasts(spacing: Floats, mean: Floats, seed: int) -> list[Claim]:
    """The claims about means of forecasts, (W, T - 1), of all spacings but the first of windows.

    `spacing` (W, T), consecutive windows; targets with three spacings of their window behind them.
    """
    past = np.lib.stride_tricks.sliding_window_view(spacing[:, :-1], 3, axis=1)
    x, y = past[..., ::-1].reshape(-1, 3), spacing[:, 3:].ravel()
    model = mean[:, 2:].ravel()
    return [is_pi(x, model, "model means", seed), is_bias(x, y, model, seed)]
