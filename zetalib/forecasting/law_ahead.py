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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from zetalib import atomic
from zetalib.errors import ZetaError
from zetalib.inverse.extrapolate import COLUMNS, PLACE, ROOT, SCORE, SD, SLOPE, Z, Z_SD
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
        """Where zeros are expected, (m, h), beyond the last zero known; tables (m, h, 6)."""
        kind = classes(table)
        shift = (features(table) * self.coefficients[kind]).sum(-1)
        return np.maximum.accumulate(table[..., PLACE] + shift, 1)

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
        return np.maximum.accumulate(np.maximum(found - ahead, MARGIN), 1) + ahead


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
    return np.stack(found, -1) * (table[..., ROOT] == 0)[..., None]


def fit(tables: list[Floats], truth: list[Floats]) -> LawAhead:
    """Fit the law to zeros ahead of contexts, (m, h, 6) and (m, h), of some lengths of context.

    `truth`: cumulative spacings from the last zero known.
    """
    kind = np.concatenate([classes(t).ravel() for t in tables])
    x = np.concatenate([features(t).reshape(-1, features(t).shape[-1]) for t in tables])
    off = np.concatenate([(y - t[..., PLACE]).ravel() for t, y in zip(tables, truth, strict=True)])
    units = np.concatenate([t[..., SD].ravel() for t in tables])
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


def save(path: str | Path, law: LawAhead) -> None:
    """Write the law as JSON, for :func:`load`."""
    content = {"coefficients": law.coefficients.tolist(), "quantiles": law.quantiles.tolist()}
    atomic.write_json(path, content)


def load(path: str | Path) -> LawAhead:
    """Read what :func:`save` wrote.

    Raises
    ------
    ZetaError
        If the file is missing, damaged or of another form.
    """
    again = "Run `dvc repro -f calibrate`."
    try:
        content: dict[str, Any] = json.loads(Path(path).read_text())
        law = LawAhead(
            *(np.array(content[name], np.float64) for name in ("coefficients", "quantiles"))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZetaError(path, f"no law of zeros ahead ({type(error).__name__})", again) from None
    width = features(np.zeros((1, 1, len(COLUMNS)))).shape[-1]
    for name, shape in (("coefficients", (CLASSES, width)), ("quantiles", (CLASSES, len(LEVELS)))):
        values = getattr(law, name)
        if values.shape != shape or not np.isfinite(values).all():
            problem = f"{name} of shape {values.shape} or not finite, expected {shape}"
            raise ZetaError(path, problem, again)
    if (np.diff(law.quantiles) < 0).any():
        raise ZetaError(path, "quantiles that fall", again)
    return law
