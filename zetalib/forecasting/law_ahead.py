"""The joint law of the zeros ahead of a context, read off the posterior of the inverse problem.

:func:`zetalib.inverse.extrapolate.ahead` gives for every zero ahead a place, and how well Z is
known there. Near the context the place is a root of Z with a deviation; further on zeros are
counted, and what is left of Z still says on which side of the counted place the zero lies. How much
to make of it, and how far zeros then lie off, is fitted on a split that no score is of: by classes
of how well Z is known, not by horizon, so that a law holds at every horizon, from any number of
zeros known.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from zetalib import atomic
from zetalib.errors import ZetaError
from zetalib.inverse.extrapolate import COLUMNS, PLACE, ROOT, SCORE, SD, SLOPE, Z_SD, Z
from zetalib.types import Floats, Ints

# Roots are classed by the logarithm of their claimed deviation, counted places by the posterior
# deviation of Z there, which is about 1 where nothing is known. Not tuned.
ROOT_EDGES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
COUNT_EDGES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CLASSES = len(ROOT_EDGES) + len(COUNT_EDGES) + 2
NEIGHBOURS = 2  # zeros to either side at whose places Z is looked at
RIDGE = 0.1  # of the sum of squares of features, some thousands: next to nothing
# Residuals are kept as quantiles at these levels, with ends for what lies beyond.
LEVELS = np.concatenate([[0.002, 0.005], np.arange(1, 100) / 100, [0.995, 0.998]])
FEW = 200  # zeros: a class of fewer is as the nearest with more; Gaussian where there is none
MARGIN = 1e-9  # mean spacings between zeros of a draw, at the least


@dataclass(frozen=True)
class LawAhead:
    """What is fitted: for each class coefficients, (C, F), and quantiles of residuals, (C, L).

    Residuals are in claimed deviations.
    """

    coefficients: Floats
    quantiles: Floats

    def mean(self, table: Floats) -> Floats:
        """Where zeros are expected, (m, h), beyond the last zero known; tables (m, h, 7)."""
        kind = classes(table)
        shift = (features(table) * self.coefficients[kind]).sum(-1)
        return np.asarray(np.maximum.accumulate(table[..., PLACE] + shift, 1))

    def quantile(self, table: Floats, level: float | Floats) -> Floats:
        """The `level`-quantile of each zero's place, (m, h); `level` may be of that shape."""
        kind, mean = classes(table), self.mean(table)
        at = np.broadcast_to(np.asarray(level, np.float64), mean.shape)
        found = np.empty(mean.shape)
        for k in np.unique(kind):
            rows = kind == k
            found[rows] = np.interp(at[rows], LEVELS, self.quantiles[k])
        return mean + found * table[..., SD]

    def interval(self, table: Floats, level: float) -> tuple[Floats, Floats]:
        """The central interval of nominal coverage `level` for each zero, two of (m, h)."""
        return self.quantile(table, (1 - level) / 2), self.quantile(table, (1 + level) / 2)

    def draw(self, table: Floats) -> Floats:
        """One joint draw of the zeros ahead of each context, (m, h), ascending.

        Its normal scores come with the table: they hang together as the posterior says.
        """
        found = self.quantile(table, ndtr(table[..., SCORE]))
        ahead = np.arange(found.shape[1]) * MARGIN
        return np.asarray(np.maximum.accumulate(np.maximum(found - ahead, MARGIN), 1) + ahead)


def classes(table: Floats) -> Ints:
    """How well each zero is known, (m, h): 0 best."""
    of_roots = np.searchsorted(ROOT_EDGES, table[..., SD])
    counted = len(ROOT_EDGES) + 1 + np.searchsorted(COUNT_EDGES, table[..., Z_SD])
    return np.where(table[..., ROOT] > 0, of_roots, counted)


def features(table: Floats) -> Floats:
    """What the shift of a counted place is linear in, (m, h, F); zeros for a root."""
    z, slope, z_sd = table[..., Z], table[..., SLOPE], table[..., Z_SD]
    found = []
    for j in range(-NEIGHBOURS, NEIGHBOURS + 1):
        at = np.clip(np.arange(z.shape[1]) + j, 0, z.shape[1] - 1)
        found.append(z[:, at])
        found.append(slope[:, at])
    found += [z * slope, z * z_sd, z / np.sqrt(slope**2 + z_sd**2 + 1)]
    return np.asarray(np.stack(found, -1) * (table[..., ROOT] == 0)[..., None])


def fit(table: Floats, truth: Floats) -> LawAhead:
    """Fit the law to zeros ahead of contexts, (m, h, 7) and (m, h).

    `truth`: cumulative spacings from the last zero known.
    """
    kind, x = classes(table).ravel(), features(table)
    x = x.reshape(-1, x.shape[-1])
    off, units = (truth - table[..., PLACE]).ravel(), table[..., SD].ravel()
    coefficients = np.zeros((CLASSES, x.shape[1]))
    quantiles = np.tile(ndtri(LEVELS), (CLASSES, 1))
    number = np.bincount(kind, minlength=CLASSES)
    enough = np.flatnonzero(number >= FEW)
    for k in enough:
        rows = kind == k
        some = x[rows]
        gram = some.T @ some + RIDGE * np.eye(x.shape[1])
        coefficients[k] = np.linalg.solve(gram, some.T @ off[rows])
        quantiles[k] = np.quantile((off[rows] - some @ coefficients[k]) / units[rows], LEVELS)
    for k in np.flatnonzero(number < FEW) if len(enough) else []:
        nearest = enough[np.abs(enough - k).argmin()]
        coefficients[k], quantiles[k] = coefficients[nearest], quantiles[nearest]
    return LawAhead(coefficients, quantiles)


@dataclass(frozen=True)
class Laws:
    """Laws of the zeros ahead by the number of spacings known."""

    by_context: dict[int, LawAhead]

    def of(self, spacings: int) -> LawAhead:
        """The law fitted after the nearest number of spacings, by their ratio."""
        return self.by_context[min(self.by_context, key=lambda n: abs(math.log(n / spacings)))]


def save(path: str | Path, laws: Laws) -> None:
    """Write laws as JSON, for :func:`load`."""
    content = {
        str(n): {"coefficients": law.coefficients.tolist(), "quantiles": law.quantiles.tolist()}
        for n, law in laws.by_context.items()
    }
    atomic.write_json(path, content)


def load(path: str | Path) -> Laws:
    """Read what :func:`save` wrote.

    Raises
    ------
    ZetaError
        If the file is missing, damaged or of another form.
    """
    again = "Run `dvc repro -f calibrate`."
    try:
        content: dict[str, Any] = json.loads(Path(path).read_text())
        laws = {
            int(n): LawAhead(
                np.array(law["coefficients"], np.float64), np.array(law["quantiles"], np.float64)
            )
            for n, law in content.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ZetaError(path, f"no laws of zeros ahead ({type(error).__name__})", again) from None
    width = features(np.zeros((1, 1, len(COLUMNS)))).shape[-1]
    for n, law in laws.items():
        if n < 1:
            raise ZetaError(path, f"a law after {n} spacings", again)
        for name, shape in (
            ("coefficients", (CLASSES, width)),
            ("quantiles", (CLASSES, len(LEVELS))),
        ):
            values = getattr(law, name)
            if values.shape != shape or not np.isfinite(values).all():
                problem = f"{name} of shape {values.shape} or not finite, expected {shape}"
                raise ZetaError(path, problem, again)
        if (np.diff(law.quantiles) < 0).any():
            raise ZetaError(path, "quantiles that fall", again)
    return Laws(laws)
