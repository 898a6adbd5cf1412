"""Conformal prediction on quantile intervals: split, adaptive to the predicted width, and online.

For a nominal coverage 1 - alpha the model's raw interval is [q_lo, q_hi], its alpha/2 and
1 - alpha/2 quantiles. A score says how far a target lies out; the ceil((n + 1)(1 - alpha))-th
smallest score of n calibration targets, the (1 - alpha)(1 + 1/n) quantile, covers a new
exchangeable target with probability at least 1 - alpha.

split: scores max(q_lo - y, y - q_hi), one adjustment added at both ends. Romano, Patterson,
    Candes, "Conformalized quantile regression", NeurIPS 2019. Predicted widths here span eight
    powers of ten, to which one addend means nothing.
adaptive: scores |y - centre| / half-width, a factor on the half-width; one for each class of raw
    width, so that coverage holds within each. Mondrian: Vovk, Lindsay, Nouretdinov, Gammerman 2003.
online: the factors go on from there target by target, up after a miss and down otherwise, by
    steps of their logarithm. Whatever the sequence, n targets of a class are missed at a rate of
    alpha + log(last factor / first) / (step n): no exchangeability needed. Gibbs, Candes,
    NeurIPS 2021; on the score itself: Angelopoulos, Candes, Tibshirani, NeurIPS 2023.

MAPIE 1.6 and crepes 0.9 wrap scikit-learn's point forecasters and widen symmetrically about a
point; our intervals are quantiles at hand, and an order statistic is all that is to compute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zetalib import compute, shares
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Interval = tuple[Floats, Floats]  # lower and upper ends

SPLIT = "calibration split"


class Fitted(BaseModel):
    """What calibration found for one level."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    adjustment: float  # split: added at both ends, mean spacings
    edges: list[float]  # raw widths where the second class begins, the third, ...
    factors: list[Annotated[float, Field(ge=0)]]  # of half-widths, one a class

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.factors) != len(self.edges) + 1:
            raise ValueError(f"{len(self.factors)} factors for {len(self.edges)} edges")
        if any(a >= b for a, b in pairwise(self.edges)):
            raise ValueError("edges do not ascend")
        return self

    def kind(self, raw: Interval) -> Ints:
        """The class of each raw interval, by its width."""
        return np.asarray(np.searchsorted(self.edges, raw[1] - raw[0], "right"))

    def adaptive(self, raw: Interval) -> Interval:
        """The raw intervals, each scaled by its class's factor."""
        return scaled(raw, np.array(self.factors)[self.kind(raw)])

    def offline(self, raw: Interval) -> dict[str, Interval]:
        """The intervals that need no target but those calibrated on: raw, split, adaptive."""
        low, high = raw
        split = low - self.adjustment, high + self.adjustment
        return {"raw": raw, "split": split, "adaptive": self.adaptive(raw)}


class Calibrator(BaseModel):
    """All that calibration found, as kept in data/calibrator.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    targets: Annotated[int, Field(ge=1)]  # calibrated on
    step: Annotated[float, Field(gt=0)]  # of the online factors' logarithm
    levels: Annotated[dict[str, Fitted], Field(min_length=1)]  # by nominal coverage
    ahead: dict[str, dict[str, Fitted]] = {}  # of rollouts: by horizon, by nominal coverage

    @model_validator(mode="after")
    def _are_levels(self) -> Self:
        for key in [*self.levels, *(level for found in self.ahead.values() for level in found)]:
            if not 0 < float(key) < 1:
                raise ValueError(f"level {key} is no probability")
        return self

    def with_ahead(self, samples: Mapping[str, Floats], truth: Mapping[str, Floats]) -> Self:
        """The same, and fitted at each horizon of rollouts too: :func:`fit_ahead`.

        At the levels that d draws reach: their ends are 1 - 2 / (d + 1) apart.
        """
        fitted = {}
        for h, drawn in samples.items():
            most = 1 - Fraction(2, drawn.shape[1] + 1)
            reached = [a for a in self.levels if shares.written(float(a)) <= most]
            fitted[h] = fit_ahead(drawn, truth[h], reached)
        return self.model_copy(update={"ahead": fitted})

    def intervals_ahead(self, samples: Floats, horizon: str, level: str) -> dict[str, Interval]:
        """Intervals of the zero `horizon` steps on: raw (:func:`ahead`), split, adaptive."""
        return self.ahead[horizon][level].offline(ahead(samples, float(level)))

    def intervals(self, raw: Interval, y: Floats, level: str) -> dict[str, Interval]:
        """Intervals of one level by kind: raw, split, adaptive, online.

        Parameters
        ----------
        raw : ends of the raw intervals, each of shape (m,)
        y : shape (m,)
            Targets in the order in which they become known; the online interval of one is made
            from those before it, the others from none.
        """
        found = self.levels[level]
        moving = track(ratio(raw, y), found.kind(raw), found.factors, float(level), self.step)
        return found.offline(raw) | {"online": scaled(raw, moving)}


def interval(mixture: Mixture, level: float) -> Interval:
    """Central interval of nominal coverage `level`: lower and upper ends, shape (m,)."""
    tail = (1 - level) / 2
    return mixture.quantile(tail), mixture.quantile(1 - tail)


def intervals(mixture: Mixture, levels: Iterable[str | float]) -> dict[str, Interval]:
    """:func:`interval` at each of some levels, by level as a string; a quantile a core."""
    names = [str(level) for level in levels]
    tails = [(1 - float(name)) / 2 for name in names]
    calls = [(q,) for tail in tails for q in (tail, 1 - tail)]
    ends = compute.map_threads(calls, mixture.quantile)
    return dict(zip(names, zip(ends[::2], ends[1::2], strict=True), strict=True))


def order_statistic(scores: Floats, level: float) -> float:
    """The ceil((n + 1) level)-th smallest of `scores`, shape (n,).

    Raises
    ------
    ZetaError
        If there are too few for the level, so that nothing finite has the guarantee; if a score is
        NaN, or this one infinite.
    """
    rank = shares.rank(len(scores), level)
    if rank > len(scores):
        problem = (
            f"level {level} needs at least {shares.least(level)} targets, it has {len(scores)}"
        )
        raise ZetaError(SPLIT, problem, "Enlarge it.")
    if np.isnan(scores).any():
        problem = f"the score of target {np.isnan(scores).argmax()} is NaN"
        raise ZetaError(SPLIT, problem, "See the forecast it was made from.")
    found = float(np.partition(scores, rank - 1)[rank - 1])
    if not math.isfinite(found):
        problem = f"at level {level} the score of rank {rank} of {len(scores)} is {found}"
        raise ZetaError(SPLIT, problem, "See the forecasts it was made from.")
    return found


def adjustment(raw: Interval, y: Floats, level: float) -> float:
    """The split conformal adjustment of raw intervals from calibration targets `y`, shape (n,).

    Negative when the intervals were too wide. ZetaError as :func:`order_statistic`.
    """
    low, high = raw
    return order_statistic(np.maximum(low - y, y - high), level)


def centre_and_half(raw: Interval) -> tuple[Floats, Floats]:
    """Centre and half-width of intervals; a half-width is at least what a float resolves."""
    low, high = raw
    centre = 0.5 * (low + high)
    return centre, np.maximum(0.5 * (high - low), np.spacing(np.abs(centre)))


def ratio(raw: Interval, y: Floats) -> Floats:
    """How far `y` lies from the centre, in half-widths: the raw interval covers up to 1."""
    centre, half = centre_and_half(raw)
    return np.asarray(np.abs(y - centre) / half)


def scaled(raw: Interval, factor: float | Floats) -> Interval:
    """Intervals scaled about their centres: exactly those y are inside whose ratio is <= factor."""
    centre, half = centre_and_half(raw)
    return centre - factor * half, centre + factor * half


def width_classes(width: Floats, classes: int, smallest: int) -> list[float]:
    """Edges of up to `classes` equally full classes of width, none with fewer than `smallest`."""
    ascending = np.sort(width)
    for k in range(min(classes, len(width)), 1, -1):
        edges = ascending[np.arange(1, k) * len(width) // k]
        full = np.bincount(np.searchsorted(edges, width, "right"), minlength=k)
        if full.min() >= smallest:
            return [float(edge) for edge in edges]
    return []


def fit(raw: Interval, y: Floats, level: float, classes: int) -> Fitted:
    """Adjustment, classes of width and their factors from calibration targets.

    Parameters
    ----------
    raw : ends of the raw intervals, each of shape (n,)
    y : shape (n,)
    classes : of width at most; fewer where they would be too small for the level

    Raises
    ------
    ZetaError
        As :func:`order_statistic`; if an interval or a target is not finite.
    """
    low, high = raw
    bad = ~(np.isfinite(low) & np.isfinite(high) & np.isfinite(y))
    if bad.any():
        k = bad.argmax()
        problem = f"target {k} is {y[k]}, its interval at level {level} {low[k]} to {high[k]}"
        raise ZetaError(SPLIT, problem, "Finite numbers are expected; see what forecast it.")
    edges = width_classes(high - low, classes, shares.least(level))
    kind = np.searchsorted(edges, high - low, "right")
    scores = ratio(raw, y)
    factors = [order_statistic(scores[kind == k], level) for k in range(len(edges) + 1)]
    return Fitted(adjustment=adjustment(raw, y, level), edges=edges, factors=factors)


def calibrate(raw: Mapping[str, Interval], y: Floats, classes: int, step: float) -> Calibrator:
    """Fit all levels, given the raw intervals by level (a string, for JSON)."""
    levels = {key: fit(ends, y, float(key), classes) for key, ends in raw.items()}
    return Calibrator(targets=len(y), step=step, levels=levels)


def read(path: str | Path) -> Calibrator:
    """A calibrator from its file; ZetaError if it holds none."""
    try:
        return Calibrator.model_validate_json(Path(path).read_bytes())
    except OSError:
        problem = "not found"
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        problem = f"not a calibrator ({where + ': ' if where else ''}{said})"
    raise ZetaError(path, problem, "Run `dvc repro -f calibrate`.")


def track(scores: Floats, kind: Ints, start: ArrayLike, level: float, step: float) -> Floats:
    """The online factor of each target, made from the targets before it.

    Parameters
    ----------
    scores : shape (m,)
        :func:`ratio` of the targets, in the order in which they become known.
    kind : shape (m,)
        Class of each; every class has its own factor.
    start : first factor of each class
    step : what a miss adds to the logarithm of its class's factor, less 1 - level at each target

    Returns
    -------
    Floats
        Shape (m,).
    """
    tiny = np.finfo(np.float64).tiny  # a factor of zero would never grow
    logs, now = (np.log(np.maximum(a, tiny)).tolist() for a in (scores, start))
    used = np.empty(len(scores))
    for t, (score, k) in enumerate(zip(logs, kind.tolist(), strict=True)):
        used[t] = now[k]
        now[k] += step * ((score > now[k]) - (1 - level))
    return np.exp(used)


def coverage_and_width(ends: Interval, y: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Whether each of `y` is inside, and each width (a split interval may be empty: 0)."""
    low, high = ends
    return (low <= y) & (y <= high), np.maximum(high - low, 0)


def summary(ends: Interval, y: Floats) -> dict[str, float]:
    """Share of `y` inside, mean and median width."""
    inside, width = coverage_and_width(ends, y)
    return {
        "coverage": float(inside.mean()),
        "width": float(width.mean()),
        "median_width": float(np.median(width)),
    }


def held_out(
    raw: Mapping[str, Interval], y: Floats, classes: int, step: float
) -> dict[str, dict[str, dict[str, float]]]:
    """Coverage and width by level and kind on the upper half, fitted to the lower half of `y`."""
    half = len(y) // 2
    lower = {key: (low[:half], high[:half]) for key, (low, high) in raw.items()}
    calibrator = calibrate(lower, y[:half], classes, step)
    found = {}
    for key, (low, high) in raw.items():
        kinds = calibrator.intervals((low[half:], high[half:]), y[half:], key)
        found[key] = {kind: summary(ends, y[half:]) for kind, ends in kinds.items()}
    return found


# Rollouts: where the h-th next zero lies


def ahead(samples: Floats, level: float) -> Interval:
    """Central intervals for where the h-th next zero lies: quantiles over draws.

    Parameters
    ----------
    samples : shape (trajectories, draws)
        Cumulative spacings from the last zero known to the h-th next, in mean spacings.

    Returns
    -------
    Interval
        Ends of shape (trajectories,). Of d draws the k-th smallest stands at k / (d + 1), so that
        a truth that is one more draw is inside as often as said.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=1, method="weibull")
    return low, high


def fit_ahead(samples: Floats, truth: Floats, levels: Iterable[str]) -> dict[str, Fitted]:
    """:func:`fit` at one horizon by level, from trajectories of the calibration split.

    One class of width: there are far fewer trajectories than single forecasts.

    Parameters
    ----------
    samples : shape (trajectories, draws)
        Cumulative spacings from the last zero known to the h-th next, in mean spacings.
    truth : shape (trajectories,)
        Of the true spacings.

    Raises
    ------
    ZetaError
        As :func:`order_statistic`.
    """
    return {level: fit(ahead(samples, float(level)), truth, float(level), 1) for level in levels}
