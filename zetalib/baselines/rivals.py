"""Forecasters of the next spacing that are no networks, for the same targets.

Each is fitted to windows of the training range and then forecasts positions 2 ... T of windows
from their earlier spacings and rounded heights, as the network does: `fit_*` returns a function
from windows to densities of the targets, window after window (of an autoregression, an object).

- the marginal density of spacings, and the GUE surmise: they look at nothing;
- AR(p): least squares on the last p spacings, all orders below p where fewer are known;
- AR in height: least squares on the counting residual S at fixed distances in height behind the
  last zero, where the primes' frequencies stay put while the density of zeros grows;
- the sine process given the last gaps (:mod:`zetalib.baselines.sine_process`): what random matrices
  know;
- the explicit formula (:mod:`zetalib.baselines.explicit_formula`): a Gaussian process over the
  primes;
- the inversion of :mod:`zetalib.inverse.solver` with a density of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zetalib import compute, shares
from zetalib.baselines import explicit_formula, sine_process
from zetalib.data.window import Windows, density, targets
from zetalib.densities.density import Density
from zetalib.densities.histogram import Gridded
from zetalib.densities.mixture import Mixture
from zetalib.inverse import solution_cache
from zetalib.theory import zeta

Floats = NDArray[np.float64]
Rival = Callable[[Windows], Density]

EDGES = np.linspace(0, 5, 126)  # of the densities that look at nothing, in mean spacings
STEP = 0.3  # between the places at which AR in height looks, in units of height
SCALES = 3  # Gaussians around an inversion's forecast
DOUBTS = 12  # classes of its standard deviation, equally filled


def fit_marginal(windows: Windows) -> Rival:
    """The histogram of the spacings; cells nobody fell into get half a count."""
    counts = np.histogram(windows.spacing.numpy(), EDGES)[0] + 0.5
    return _constant(counts / counts.sum())


def surmise() -> Rival:
    """Wigner's surmise for GUE, nothing fitted."""
    middle = 0.5 * (EDGES[1:] + EDGES[:-1])
    mass = zeta.gue_surmise(middle)
    return _constant(mass / mass.sum())


def _constant(mass: Floats) -> Rival:
    def forecast(windows: Windows) -> Gridded:
        m = len(windows) * (windows.spacing.shape[1] - 1)
        return Gridded(EDGES, np.broadcast_to(mass, (m, len(mass))))

    return forecast


def by_sine_process(gaps: int) -> Rival:
    """The sine process given the last `gaps` spacings, or as many as are known."""

    def forecast(windows: Windows) -> Gridded:
        past = windows.spacing.numpy()[:, :-1]
        count, known = past.shape
        mass = np.empty((count, known, len(sine_process.EDGES) - 1))
        for k in range(1, min(gaps, known)):
            mass[:, k - 1] = sine_process.density(past[:, :k]).mass
        if known >= gaps:
            seen = np.lib.stride_tricks.sliding_window_view(past, gaps, axis=1)
            found = sine_process.density(np.ascontiguousarray(seen.reshape(-1, gaps))).mass
            mass[:, gaps - 1 :] = found.reshape(count, known - gaps + 1, -1)
        return Gridded(sine_process.EDGES, mass.reshape(count * known, -1))

    return forecast


def by_explicit_formula(last: int | None = None) -> Rival:
    """The explicit formula given all of the window so far, for its `last` targets or for all."""

    def forecast(windows: Windows) -> Gridded:
        past = windows.spacing.numpy()[:, :-1]
        first = 1 if last is None else past.shape[1] + 1 - last
        calls = ((s, h, first) for s, h in zip(past, windows.heights().tolist(), strict=True))
        found = compute.map_threads(calls, explicit_formula.forecasts)
        return Gridded(found[0].edges, np.concatenate([each.mass for each in found]))

    return forecast


def levinson(covariance: Floats) -> tuple[list[Floats], Floats]:
    """Best linear forecasts of a stationary sequence from 0 ... p past values (Durbin-Levinson).

    Parameters
    ----------
    covariance : shape (p + 1,), at lags 0 ... p

    Returns
    -------
    weights : for k = 0 ... p, shape (k,), that of the latest value first
    variance : shape (p + 1,), of the errors
    """
    weights, variance = [np.empty(0)], [float(covariance[0])]
    for k in range(1, len(covariance)):
        last = weights[-1]
        reflect = (covariance[k] - last @ covariance[k - 1 : 0 : -1]) / variance[-1]
        weights.append(np.append(last - reflect * last[::-1], reflect))
        variance.append(variance[-1] * (1 - reflect**2))
    return weights, np.array(variance)


@dataclass(frozen=True, eq=False)
class Autoregression:
    """AR(p) with Gaussian errors; with fewer spacings known, the AR of that order: a rival."""

    mean: float
    weights: list[Floats]  # by order 0 ... p: of the values before, the latest first
    variance: Floats  # of the errors, by order

    @property
    def order(self) -> int:
        return len(self.weights) - 1

    def __call__(self, windows: Windows) -> Mixture:
        past, order = windows.spacing.numpy()[:, :-1] - self.mean, self.order
        mu = np.empty_like(past)
        for t in range(min(order - 1, past.shape[1])):
            mu[:, t] = past[:, t::-1] @ self.weights[t + 1]
        if past.shape[1] >= order:
            seen = np.lib.stride_tricks.sliding_window_view(past, order, axis=1)
            mu[:, order - 1 :] = seen @ self.weights[order][::-1]
        known = np.minimum(np.arange(1, past.shape[1] + 1), order)
        sigma = np.broadcast_to(np.sqrt(self.variance[known]), mu.shape)
        return _gaussian(self.mean + mu, sigma)

    def rollout(self, contexts: Floats, horizon: int) -> Floats:
        """The mean fed back after contexts, (m, T): shape (m, horizon).

        Of a linear forecast that is the forecast given the contexts alone.
        """
        order = min(self.order, contexts.shape[1])
        backward, window = self.weights[order][::-1], contexts[:, -order:] - self.mean
        for _ in range(horizon):
            window = np.column_stack([window, window[:, -order:] @ backward])
        return np.asarray(window[:, order:] + self.mean)


def fit_ar(windows: Windows, order: int) -> Autoregression:
    """AR(`order`) by the autocovariance of the record that windows form."""
    x = windows.spacing.numpy().ravel()
    mean = float(x.mean())
    centred = x - mean
    covariance = [centred[k:] @ centred[: len(x) - k] / len(x) for k in range(order + 1)]
    return Autoregression(mean, *levinson(np.array(covariance)))


def best_ar(windows: Windows, orders: Iterable[int], skips: Iterable[float]) -> Autoregression:
    """The AR of the order, and fitted to the windows, that :func:`chosen` finds best."""
    order, nearest = chosen(fit_ar, windows, orders, skips)
    return fit_ar(nearest, order)


def fit_ar_in_height(windows: Windows, places: int, every: int = 8) -> Rival:
    """Least squares on S at `places` steps of height behind the last zero, Gaussian errors.

    Where the window began later, on as many (in steps of `every`) as there are.
    """
    orders = range(0, places + 1, every)
    gram, right, power, count = np.zeros((places, places)), np.zeros(places), 0.0, 0
    for x, reach, y in _looks(windows, places):
        full = reach >= places
        x, y = x[full], y[full]
        gram += x.T @ x
        right += x.T @ y
        power, count = power + float(y @ y), count + len(y)
    if count <= places:
        raise ValueError(f"{count} targets with {places} places behind them")
    fits, sigma, ridge = [], [], np.diag(np.full(places, 1e-6 * count))
    for k in orders:
        weights = np.asarray(np.linalg.solve(gram[:k, :k] + ridge[:k, :k], right[:k]))
        left = power - 2 * weights @ right[:k] + weights @ gram[:k, :k] @ weights
        fits.append(weights)
        sigma.append(math.sqrt(left / count))

    def forecast(windows: Windows) -> Mixture:
        mu, spread = [], []
        for x, reach, _ in _looks(windows, places):
            order = np.minimum(reach, places) // every
            mean = np.empty(len(x))
            for k in np.unique(order):
                rows = order == k
                mean[rows] = x[rows, : k * every] @ fits[k]
            mu.append(1 + mean)
            spread.append(np.array(sigma)[order])
        return _gaussian(np.concatenate(mu), np.concatenate(spread))

    return forecast


def reach(windows: Windows, every: int = 8) -> int:
    """Places behind the last zero the last eighth of each window has, a multiple of `every`."""
    steps = (windows.spacing.shape[1] - 1) / (STEP * density(windows.heights()))
    return int(steps.min() * 7 / 8) // every * every


def _looks(windows: Windows, places: int) -> Iterable[tuple[Floats, NDArray[np.int64], Floats]]:
    """What AR in height sees, window by window.

    S behind each zero less S at it, (T - 1, places); steps the window reaches back, (T - 1,); and
    the target less 1, (T - 1,).
    """
    rho = density(windows.heights()).numpy()
    for spacing, r in zip(windows.spacing.numpy(), rho, strict=True):
        u = np.concatenate([[0.0], spacing[:-1].cumsum()])
        s = np.arange(len(u)) - u
        back = STEP * r * np.arange(1, places + 1)
        x = np.interp(u[1:, None] - back, u, s) - s[1:, None]
        reach = (u[1:] / (STEP * r)).astype(np.int64)
        yield x, reach, spacing[1:] - 1


def _gaussian(mu: Floats, sigma: Floats) -> Mixture:
    return Mixture(np.ones((mu.size, 1)), mu.reshape(-1, 1), sigma.reshape(-1, 1))


def fit_inversion(windows: Windows, known: solution_cache.SolutionCache) -> Rival:
    """The inversion's forecast with a mixture of Gaussians about it.

    Forecasts are put into classes by the standard deviation they claim; in each a mixture of
    Gaussians of mean zero is fitted to error / deviation, and beside it the chance that the
    solution is another one altogether, where only the marginal Gaussian is left.
    """
    y = targets(windows)
    forecast, sd = _solved(windows, known)
    bounds = np.unique(np.quantile(sd, np.arange(1, DOUBTS) / DOUBTS))  # many are at the cap
    kind = np.searchsorted(bounds, sd)
    z = (y - forecast) / sd
    middle, spread = float(y.mean()), float(y.std())
    beside = (
        np.log(sd) - 0.5 * ((y - middle) / spread) ** 2 - math.log(spread * math.sqrt(2 * math.pi))
    )
    fitted = []
    for k in range(len(bounds) + 1):
        rows = kind == k if k in kind else np.full(len(z), True)
        fitted.append(scale_mixture(z[rows], beside[rows], SCALES))
    weight, scale = (np.array([f[i] for f in fitted]) for i in range(2))
    scale = np.column_stack([scale, np.ones(len(scale))])

    def forecaster(windows: Windows) -> Mixture:
        found, deviation = _solved(windows, known)
        kind = np.searchsorted(bounds, deviation)
        mu = np.repeat(found[:, None], SCALES + 1, 1)
        sigma = np.maximum(scale[kind] * deviation[:, None], 1e-9)
        mu[:, SCALES], sigma[:, SCALES] = middle, spread
        return Mixture(weight[kind], mu, sigma)

    return forecaster


def _solved(windows: Windows, known: solution_cache.SolutionCache) -> tuple[Floats, Floats]:
    found = known(windows.spacing.numpy()[:, :-1], windows.heights().numpy())
    return found[:, :, 0].ravel(), found[:, :, 1].ravel()


def scale_mixture(
    z: Floats, beside: Floats, components: int, rounds: int = 200
) -> tuple[Floats, Floats]:
    """A mixture of Gaussians of mean zero and one fixed density, by expectation-maximisation.

    Parameters
    ----------
    z : shape (m,)
    beside : shape (m,)
        Log of the fixed density at each of them.

    Returns
    -------
    weight : shape (components + 1,), that of the fixed density last
    scale : shape (components,)
    """
    size = np.abs(z) + 1e-12
    scale = np.quantile(size, (np.arange(components) + 0.5) / components)
    weight = np.full(components + 1, 1 / (components + 1))
    fixed = beside[:, None] + 0.5 * math.log(2 * math.pi)
    for _ in range(rounds):
        own = -np.log(scale) - 0.5 * (z[:, None] / scale) ** 2
        log = np.log(weight) + np.column_stack([own, fixed])
        share = np.exp(log - log.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        mass = share.sum(0) + 0.5  # a count nobody made: what never happened is not impossible
        weight = mass / mass.sum()
        inner = share[:, :components]
        power = (inner * z[:, None] ** 2).sum(0) + 1e-12
        scale = np.maximum(np.sqrt(power / (inner.sum(0) + 1e-12)), 1e-3 * np.median(size))
    return weight, scale


def chosen(
    fit: Callable[[Windows, int], Rival],
    windows: Windows,
    candidates: Iterable[int],
    skips: Iterable[float],
) -> tuple[int, Windows]:
    """The candidate, and the windows to fit it to, that forecast best above where they were fitted.

    As the tail lies above the training range: the top tenth of `windows` is forecast (every fourth
    of it), a twentieth below it left out, and what is below that fitted to, without so great a
    share of the lowest as `skips` says. What the best share leaves of all windows is returned.
    """
    count = len(windows)
    above, below = windows[count * 9 // 10 :: 4], windows[: count * 17 // 20]
    y = targets(above)
    nll = {
        (c, skip): -float(fit(_top(below, skip), c)(above).logpdf(y).mean())
        for c in candidates
        for skip in skips
    }
    best, skip = min(nll, key=lambda pair: nll[pair])
    return best, _top(windows, skip)


def _top(windows: Windows, skip: float) -> Windows:
    return windows[shares.part(len(windows), skip) :]
