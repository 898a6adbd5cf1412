"""Densities given by their mass in the cells of a grid: forecasts that are no mixtures.

Inside a cell the density is constant, so that the distribution function is linear there and every
score below is exact for that density. Same interface as :class:`zetalib.densities.mixture.Mixture`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zetalib.errors import ZetaError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gridded:
    """A batch of densities on one grid.

    Attributes
    ----------
    edges : shape (G + 1,)
        Ascending, in mean spacings; there is no mass outside.
    mass : shape (m, G)
        Probability of each cell, rows summing to one.

    Raises
    ------
    ZetaError
        If shapes do not fit, edges do not ascend, or a row is no distribution.
    """

    edges: Floats
    mass: Floats

    def __post_init__(self) -> None:
        problem = ""
        if self.mass.ndim != 2 or self.mass.shape[1] + 1 != len(self.edges):
            problem = f"mass of shape {self.mass.shape} for {len(self.edges)} edges"
        elif not ((np.diff(self.edges) > 0).all() and np.isfinite(self.edges).all()):
            problem = "edges do not ascend"
        elif not (self.mass >= 0).all() or not np.allclose(self.mass.sum(1), 1, atol=1e-6):
            problem = "a row has negative mass or does not sum to one"
        if problem:
            raise ZetaError("gridded density", problem, "Normalise it first.")

    def __len__(self) -> int:
        return len(self.mass)

    def __getitem__(self, part: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Gridded:
        return Gridded(self.edges, self.mass[part])

    def pdf(self, y: ArrayLike) -> Floats:
        """Density at `y`, shape (m,); 0 outside the grid."""
        value = np.asarray(y, dtype=np.float64)
        cell, inside = self._cell(value)
        width = np.diff(self.edges)[cell]
        return np.where(inside, self.mass[np.arange(len(self)), cell] / width, 0.0)

    def logpdf(self, y: ArrayLike) -> Floats:
        """Log density at `y`; -inf where there is no mass."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.pdf(y)))

    def cdf(self, y: ArrayLike) -> Floats:
        """Probability of a value up to `y`; at the truth this is the PIT."""
        value = np.asarray(y, dtype=np.float64)
        cell, _ = self._cell(value)
        rows = np.arange(len(self))
        below = np.where(cell > 0, self._upto()[rows, np.maximum(cell - 1, 0)], 0.0)
        share = (value - self.edges[cell]) / np.diff(self.edges)[cell]
        return np.asarray(np.clip(below + np.clip(share, 0, 1) * self.mass[rows, cell], 0, 1))

    def mean(self) -> Floats:
        """Mean of each density."""
        return np.asarray(self.mass @ (0.5 * (self.edges[1:] + self.edges[:-1])))

    def quantile(self, q: float) -> Floats:
        """The q-quantile of each density, where it has mass; ValueError if not 0 < q < 1."""
        if not 0 < q < 1:
            raise ValueError(f"a quantile needs 0 < q < 1, got {q}")
        upto, rows = self._upto(), np.arange(len(self))
        cell = np.minimum((upto < q).sum(1), self._last())
        below = upto[rows, cell] - self.mass[rows, cell]
        share = (q - below) / np.maximum(self.mass[rows, cell], 1e-300)
        found = self.edges[cell] + np.clip(share, 0, 1) * np.diff(self.edges)[cell]
        return np.asarray(found)

    def crps(self, y: ArrayLike) -> Floats:
        """Continuous ranked probability score at `y`: the integral of (F - 1[y <= x])^2, exact."""
        value = np.asarray(y, dtype=np.float64)
        width = np.diff(self.edges)
        upto = self._upto()
        low = upto - self.mass
        # F is linear in a cell: its square integrates to (a^2 + a b + b^2) / 3 of the width.
        squares = (low**2 + low * upto + upto**2) / 3 * width
        from_above = ((1 - low) ** 2 + (1 - low) * (1 - upto) + (1 - upto) ** 2) / 3 * width
        cell, inside = self._cell(value)
        rows, cells = np.arange(len(self)), np.arange(len(width))
        left = np.where(cells < cell[:, None], squares, 0).sum(1)
        right = np.where(cells > cell[:, None], from_above, 0).sum(1)
        a, b, f = low[rows, cell], upto[rows, cell], self.cdf(value)
        x = np.clip(value, self.edges[cell], self.edges[cell + 1])
        before, after = x - self.edges[cell], self.edges[cell + 1] - x
        own = (a**2 + a * f + f**2) / 3 * before
        own += ((1 - f) ** 2 + (1 - f) * (1 - b) + (1 - b) ** 2) / 3 * after
        outside = np.where(inside, 0.0, np.abs(value - x))
        return np.asarray(left + own + right + outside)

    def sample(self, rng: np.random.Generator) -> Floats:
        """One draw from each density."""
        upto = self._upto()
        drawn = rng.random(len(self)) * upto[:, -1]
        cell = np.minimum((upto <= drawn[:, None]).sum(1), self._last())
        share = rng.random(len(self))
        return np.asarray(self.edges[cell] + share * np.diff(self.edges)[cell])

    def _upto(self) -> Floats:
        return np.asarray(self.mass.cumsum(1))

    def _last(self) -> NDArray[np.intp]:
        """The last cell with mass: rows sum to one but for rounding."""
        return np.asarray(self.mass.shape[1] - 1 - (self.mass[:, ::-1] > 0).argmax(1))

    def _cell(self, value: Floats) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        inside = (value >= self.edges[0]) & (value < self.edges[-1])
        cell = np.clip(np.searchsorted(self.edges, value, "right") - 1, 0, len(self.edges) - 2)
        return cell, inside
