"""The inverse problem's forecast with a density of its own, fitted below what it forecasts."""

from __future__ import annotations

import math

import numpy as np

from zetalib.baselines.autoregression import Rival
from zetalib.data.window import Windows, targets
from zetalib.densities.mixture import Mixture
from zetalib.inverse.solutions import SolutionCache
from zetalib.types import Floats

SCALES = 3  # Gaussians around an inversion's forecast
DOUBTS = 12  # classes of its standard deviation, equally filled


def fit_inversion(windows: Windows, cache: SolutionCache) -> Rival:
    """The inversion's forecast with a mixture of Gaussians about it.

    Forecasts are put into classes by the standard deviation they claim; in each a mixture of
    Gaussians of mean zero is fitted to error / deviation, and beside it the chance that the
    solution is another one altogether, where only the marginal Gaussian is left.
    """
    y = targets(windows)
    forecast, sd = _solved(windows, cache)
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
        found, deviation = _solved(windows, cache)
        kind = np.searchsorted(bounds, deviation)
        mu = np.repeat(found[:, None], SCALES + 1, 1)
        sigma = np.maximum(scale[kind] * deviation[:, None], 1e-9)
        mu[:, SCALES], sigma[:, SCALES] = middle, spread
        return Mixture(weight[kind], mu, sigma)

    return forecaster


def _solved(windows: Windows, cache: SolutionCache) -> tuple[Floats, Floats]:
    solution = cache(windows.spacing.numpy()[:, :-1], windows.heights().numpy())
    return solution.fine.ravel(), solution.fine_sd.ravel()


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
