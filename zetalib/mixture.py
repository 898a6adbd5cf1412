"""Mixtures of K Gaussians: density, distribution function, quantiles, CRPS, samples.

Every function takes ``pi, mu, sigma`` of shape (..., K) (weights summing to one, means, standard
deviations > 0, in mean spacings) in float64, and returns one number for each mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize.elementwise import find_root
from scipy.special import erf, logsumexp, ndtr, ndtri

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """A batch of Gaussian mixtures; see the module's description for shapes."""

    pi: Floats
    mu: Floats
    sigma: Floats

    def __len__(self) -> int:
        return len(self.pi)

    def __getitem__(self, part: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Mixture:
        return Mixture(self.pi[part], self.mu[part], self.sigma[part])

    def logpdf(self, y: ArrayLike) -> Floats:
        """Log density at `y`."""
        z = (np.asarray(y, dtype=np.float64)[..., None] - self.mu) / self.sigma
        with np.errstate(divide="ignore"):
            terms = np.log(self.pi) - 0.5 * z**2 - np.log(self.sigma) - 0.5 * np.log(2 * np.pi)
        return np.asarray(logsumexp(terms, axis=-1))

    def cdf(self, y: ArrayLike) -> Floats:
        """Probability of a value up to `y`; at the truth this is the PIT."""
        z = (np.asarray(y, dtype=np.float64)[..., None] - self.mu) / self.sigma
        return np.asarray((self.pi * ndtr(z)).sum(-1))

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
        score = _closed_form(np.asarray(y), self.pi, self.mu, self.sigma)
        return np.asarray(score, dtype=np.float64)

    def weight_entropy(self) -> Floats:
        """Entropy H(pi) of the weights in nats: 0 when one Gaussian speaks, log K when all do."""
        return np.asarray(-(self.pi * np.log(np.maximum(self.pi, 1e-300))).sum(-1))

    def quantile(self, q: float) -> Floats:
        """The q-quantile of each mixture, by root finding on the distribution function.

        Raises
        ------
        ValueError
            If not 0 < q < 1.
        """
        if not 0 < q < 1:
            raise ValueError(f"a quantile needs 0 < q < 1, got {q}")
        # Below the least of the components' own q-quantiles every component has mass < q, above
        # the greatest every one has more: the mixture's lies between.
        own = self.mu + self.sigma * ndtri(q)
        low, high = own.min(-1), own.max(-1)

        def excess(x: Floats, row: NDArray[np.intp]) -> Floats:
            return self[row].cdf(x) - q

        wide = np.flatnonzero(high > low)
        found = find_root(excess, (low[wide], high[wide]), args=(wide,))
        quantile: Floats = low.copy()
        quantile[wide] = found.x
        return quantile

    def sample(self, rng: np.random.Generator) -> Floats:
        """One draw from each mixture."""
        choice = (self.pi.cumsum(-1) < rng.random(self.pi.shape[:-1])[..., None]).sum(-1)
        choice = np.minimum(choice, self.pi.shape[-1] - 1)[..., None]
        mu, sigma = (np.take_along_axis(a, choice, -1)[..., 0] for a in (self.mu, self.sigma))
        return np.asarray(mu + sigma * rng.standard_normal(mu.shape))


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
