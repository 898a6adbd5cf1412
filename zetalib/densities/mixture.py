"""Mixtures of K Gaussians: density, distribution function, quantiles, CRPS, samples.

Every function takes ``pi, mu, sigma`` of shape (..., K) (weights summing to one, means, standard
deviations > 0, in mean spacings) in float64, and returns one number for each mixture. Deviations
and distances of 1e-300 to 1e300 are no less exact than those near 1, within one mixture too; a
weight may be 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, logsumexp, ndtr, ndtri

from zetalib.errors import ZetaError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

SUM = 1e-6  # how far weights may sum from one: those of float32 networks are 1e-7 off
STEPS = 100  # of root finding: forecasts take 40; what needs more, bisection finds in 64
ORDINARY = (1e-150, 1e150)  # deviations whose squares are float64 numbers


@dataclass(frozen=True)
class Mixture:
    """A batch of Gaussian mixtures; see the module's description for shapes.

    Raises
    ------
    ZetaError
        If one is no mixture, :func:`fault`: no score of it would mean anything.
    """

    pi: Floats
    mu: Floats
    sigma: Floats

    def __post_init__(self) -> None:
        found = fault(self.pi, self.mu, self.sigma)
        if found is not None:
            row, problem = found
            raise ZetaError(f"forecast {row}", problem, "No score is made of it; see what made it.")

    def __len__(self) -> int:
        return len(self.pi)

    def __getitem__(self, part: Any) -> Mixture:
        return Mixture(self.pi[part], self.mu[part], self.sigma[part])

    def reshape(self, *shape: int) -> Mixture:
        """The same mixtures in another shape."""
        parts = (self.pi, self.mu, self.sigma)
        return Mixture(*(a.reshape(*shape, a.shape[-1]) for a in parts))

    def logpdf(self, y: ArrayLike) -> Floats:
        """Log density at `y`; -inf where it is below -1.8e308."""
        z = _standardised(y, self.mu, self.sigma)
        with np.errstate(divide="ignore", over="ignore"):
            terms = np.log(self.pi) - 0.5 * z**2 - np.log(self.sigma) - 0.5 * np.log(2 * np.pi)
        return np.asarray(logsumexp(terms, axis=-1))

    def cdf(self, y: ArrayLike) -> Floats:
        """Probability of a value up to `y`; at the truth this is the PIT."""
        return _cdf(y, self.pi, self.mu, self.sigma)

    def pdf(self, y: ArrayLike) -> Floats:
        """Density at `y`."""
        return np.asarray(np.exp(self.logpdf(y)))

    def mean(self) -> Floats:
        """Mean of each mixture."""
        return np.asarray((self.pi * self.mu).sum(-1))

    def crps(self, y: ArrayLike) -> Floats:
        """Continuous ranked probability score at `y`, in closed form.

        Grimit, Gneiting, Berrocal, Johnson, QJRMS 132 (2006).
        """
        y = np.broadcast_to(np.asarray(y, dtype=np.float64), self.pi.shape[:-1])
        with np.errstate(all="ignore"):  # it squares deviations
            score = _closed_form(y, self.pi, self.mu, self.sigma)
        score = np.asarray(score, dtype=np.float64)
        low, high = ORDINARY
        rest = ((self.sigma < low) | (self.sigma > high)).any(-1)
        if rest.any():
            score[rest] = _crps(y[rest], self.pi[rest], self.mu[rest], self.sigma[rest])
        return score

    def weight_entropy(self) -> Floats:
        """Entropy H(pi) of the weights in nats: 0 when one Gaussian speaks, log K when all do."""
        return np.asarray(-(self.pi * np.log(np.maximum(self.pi, 1e-300))).sum(-1))

    def quantile(self, q: float) -> Floats:
        """The q-quantile of each mixture, by root finding on the distribution function.

        The distribution function crosses `q` within a few floats of it, and it lies among the
        q-quantiles of the components whose weight is not 0.

        Raises
        ------
        ValueError
            If not 0 < q < 1.
        ZetaError
            If a quantile is beyond the largest float.
        """
        if not 0 < q < 1:
            raise ValueError(f"a quantile needs 0 < q < 1, got {q}")
        pi, mu, sigma = (a.reshape(-1, a.shape[-1]) for a in (self.pi, self.mu, self.sigma))
        # Below the least of the components' own q-quantiles every component has mass < q, above
        # the greatest every one has more: the mixture's lies between.
        with np.errstate(over="ignore"):
            own = mu + sigma * ndtri(q)
        low = own.min(-1, where=pi > 0, initial=np.inf)
        high = own.max(-1, where=pi > 0, initial=-np.inf)
        beyond = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
        if len(beyond):
            problem = f"its {q}-quantile is beyond the largest float"
            raise ZetaError(f"forecast {beyond[0]}", problem, "Give it in mean spacings.")

        from scipy.optimize.elementwise import find_root  # half a second, for those who need it

        def excess(x: Floats, row: Ints) -> Floats:
            return _cdf(x, pi[row], mu[row], sigma[row]) - q

        wide = np.flatnonzero(high > low)
        with np.errstate(over="ignore", invalid="ignore"):  # brackets of 1e300: bisected below
            found = find_root(
                excess,
                (low[wide], high[wide]),
                args=(wide,),
                tolerances={"xatol": 0},
                maxiter=STEPS,
            )
        quantile: Floats = low.copy()
        quantile[wide] = found.x
        # No sign change where rounding puts the root on an end of its bracket, or too many steps.
        left = wide[~found.success]
        quantile[left] = _bisected(lambda x: excess(x, left), low[left], high[left])
        return quantile.reshape(self.pi.shape[:-1])

    def sample(self, rng: np.random.Generator) -> Floats:
        """One draw from each mixture."""
        shape = self.pi.shape[:-1]
        return self.draw(rng.random(shape), rng.standard_normal(shape))

    def draw(self, uniform: Floats, normal: Floats) -> Floats:
        """The draw from each mixture that uniform and standard normal numbers, (...), stand for."""
        choice = (self.pi.cumsum(-1) <= uniform[..., None]).sum(-1)
        # Weights may sum to a little less than what was drawn; the last may be 0.
        last = self.pi.shape[-1] - 1 - (self.pi[..., ::-1] > 0).argmax(-1)
        choice = np.minimum(choice, last)[..., None]
        mu, sigma = (np.take_along_axis(a, choice, -1)[..., 0] for a in (self.mu, self.sigma))
        return np.asarray(mu + sigma * normal)


def fault(pi: Floats, mu: Floats, sigma: Floats) -> tuple[int, str] | None:
    """The first row that is no mixture, shapes (..., K), and why; None if all are."""
    if not pi.shape == mu.shape == sigma.shape or not pi.ndim or not pi.shape[-1]:
        return 0, f"pi, mu, sigma are of shapes {pi.shape}, {mu.shape}, {sigma.shape}, not of one"
    pi, mu, sigma = (a.reshape(-1, a.shape[-1]) for a in (pi, mu, sigma))
    total = pi.sum(-1)
    checks = (
        (pi, pi >= 0, "pi is {}, expected weights from 0"),
        (total, np.abs(total - 1) <= SUM, f"pi sums to {{}}, expected 1 within {SUM:g}"),
        (mu, np.isfinite(mu), "mu is {}, expected finite numbers"),
        (sigma, (sigma > 0) & np.isfinite(sigma), "sigma is {}, expected finite numbers above 0"),
    )
    if all(good.all() for _, good, _ in checks):
        return None
    bad = [~good.reshape(len(pi), -1) for _, good, _ in checks]
    row = int(np.concatenate(bad, 1).any(1).argmax())
    value, wrong, text = next(
        (value.reshape(len(pi), -1)[row], wrong[row], text)
        for (value, _, text), wrong in zip(checks, bad, strict=True)
        if wrong[row].any()
    )
    return row, text.format(value[wrong][0])


def _standardised(y: ArrayLike, mu: Floats, sigma: Floats) -> Floats:
    """(y - mu) / sigma, shape (..., K)."""
    y = np.asarray(y, dtype=np.float64)[..., None]
    with np.errstate(over="ignore"):
        z = np.asarray((y - mu) / sigma)
        if not np.isfinite(z).all():  # a difference beyond the largest float: by halves
            z = np.where(np.isinf(y - mu), (y / 2 - mu / 2) / (sigma / 2), z)
    return z


def _cdf(y: ArrayLike, pi: Floats, mu: Floats, sigma: Floats) -> Floats:
    return np.asarray((pi * ndtr(_standardised(y, mu, sigma))).sum(-1))


def _crps(y: Floats, pi: Floats, mu: Floats, sigma: Floats) -> Floats:
    """The closed form for any deviations: E|X - y| - E|X - X'| / 2."""
    both = pi[:, :, None] * pi[:, None]
    apart = mu[:, :, None] - mu[:, None]
    width = np.hypot(sigma[:, :, None], sigma[:, None])
    from_y = (pi * _mean_distance(y[:, None] - mu, sigma)).sum(-1)
    within = (both * _mean_distance(apart, width)).sum((-1, -2))
    return np.asarray(np.maximum(from_y - 0.5 * within, 0))  # less is rounding


def _mean_distance(mean: Floats, sigma: Floats) -> Floats:
    """E|X| of Gaussians; no square of a length is taken."""
    with np.errstate(over="ignore"):
        z = mean / sigma
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.asarray(mean * (ndtr(z) - ndtr(-z)) + 2 * sigma * density)


def _bisected(excess: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """The first float of each bracket at which a rising function is >= 0, the last if it never is.

    Halves what lies between in the order of floats, which 64 steps exhaust whatever the scales.
    """
    a, b = _ordinal(low), _ordinal(high)
    b = np.where(excess(low) >= 0, a, b)
    while (b > a + 1).any():
        middle = (a >> 1) + (b >> 1) + (a & b & 1)  # the sum may not fit
        above = excess(_float(middle)) >= 0
        a, b = np.where(above, a, middle), np.where(above, middle, b)
    return _float(b)


def _ordinal(x: Floats) -> NDArray[np.int64]:
    """Integers in the order of floats: neighbours are one apart."""
    bits = np.asarray(x, dtype=np.float64).view(np.int64)
    return np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)


def _float(ordinal: NDArray[np.int64]) -> Floats:
    """The floats of :func:`_ordinal`."""
    return np.where(ordinal < 0, np.iinfo(np.int64).min - ordinal, ordinal).view(np.float64)


def _closed_form(y: Floats, pi: Floats, mu: Floats, sigma: Floats) -> Floats:
    """CRPS where squares of deviations are float64 numbers.

    To the bit what `scoringrules.crps_mixnorm` gives; importing that compiles for seconds.
    """
    from_y = (pi * _distance(y[..., None] - mu, sigma)).sum(-1)
    width = np.sqrt(sigma[..., None] ** 2 + sigma[..., None, :] ** 2)
    within = _distance(mu[..., None] - mu[..., None, :], width)
    weight = pi[..., None] * pi[..., None, :]
    return np.asarray(from_y - 0.5 * (weight * within).sum((-1, -2)))


def _distance(mean: Floats, width: Floats) -> Floats:
    """Mean absolute value of a Gaussian."""
    z = mean / width
    below = (1.0 + erf(z / np.sqrt(2.0))) / 2.0
    density = (1.0 / np.sqrt(2.0 * np.pi)) * np.exp(-(z**2) / 2)
    return np.asarray(mean * (2 * below - 1) + 2 * width * density)
