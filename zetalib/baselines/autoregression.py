"""Least squares on past spacings: autoregression, and its twin at fixed distances in height.

- AR(p): least squares on the last p spacings, all orders below p where fewer are known;
- AR in height: least squares on the counting residual S at fixed distances in height behind the
  last zero, where the primes' frequencies stay put while the density of zeros grows.

Each is fitted to windows of the training range and then forecasts positions 2 ... T of windows from
their earlier spacings and rounded heights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zetalib import shares
from zetalib.data.window import Windows, density, targets
from zetalib.densities.density import Density
from zetalib.densities.mixture import Mixture
from zetalib.types import Floats

Rival = Callable[[Windows], Density]

STEP = 0.3  # between the places at which AR in height looks, in units of height


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


def _gaussian(mu: Floats, sigma: Floats) -> Mixture:
    return Mixture(np.ones((mu.size, 1)), mu.reshape(-1, 1), sigma.reshape(-1, 1))
