"""What the evaluate stage reports: scores, rollouts, curves; intervals: see `coverage`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zetalib import atomic, params
from zetalib.baselines.rollouts import RolledOut
from zetalib.data.window import Windows
from zetalib.forecasting import stretches
from zetalib.forecasting.ahead import Roll
from zetalib.forecasting.forecasts import Forecasts
from zetalib.scoring import bootstrap, conformal, score, trajectories

Floats = NDArray[np.float64]

BLANK = {"statistics": ["error"]}  # columns of plots that may be: theory has no error


Found = tuple[dict[str, Any], dict[str, pd.DataFrame]]  # metrics; plots, one CSV each


def evaluate(forecasts: Forecasts, rolled: list[Rollouts], p: params.Evaluate) -> Found:
    """Metrics and plot tables of one model on one split.

    Parameters
    ----------
    forecasts : Forecasts
        Of the split's targets.
    rolled : :func:`rollouts` of the same split

    Returns
    -------
    metrics, plots : those of :func:`of_forecasts` and :func:`of_rollouts`
    """
    first, second = of_forecasts(forecasts), of_rollouts(rolled, forecasts.y, p)
    return first[0] | second[0], first[1] | second[1]


def of_forecasts(forecasts: Forecasts) -> Found:
    """Score forecasts of the next spacing.

    Returns
    -------
    metrics : :func:`zetalib.scoring.score.scores`
    plots : pit, reliability, density
    """
    y, mixture = forecasts.y, forecasts.mixture
    plots = {
        "pit": score.pit_histogram(mixture.cdf(y)),
        "reliability": score.reliability(mixture, y),
        "density": score.spacing_density(mixture, y),
    }
    return score.scores(mixture, y), plots


def of_rollouts(rolled: list[Rollouts], y: Floats, p: params.Evaluate) -> Found:
    """Score rollouts; `y`, shape (m,), are the split's targets.

    Returns
    -------
    metrics : dict
        `err` and `err_sampled`, Err@h by horizon after the first of the contexts; `rollout`,
        :func:`rollout_table` by context, and `kept`, what sampled trajectories keep of the
        statistics (:func:`zetalib.scoring.trajectories.departures`); `constant`: MAE and Err@h of
        always saying 1, the yardstick of Err@h.
    plots : rollout, statistics
    """
    first, last = rolled[0], rolled[-1]
    metrics: dict[str, Any] = flat(first, p)
    metrics["rollout"] = {str(r.context): rollout_table(r, p) for r in rolled}
    kept = trajectories.statistics(last.predicted["drawn"], last.futures)
    metrics["kept"] = trajectories.departures(kept)
    metrics["constant"] = {
        "mae": float(np.abs(y - 1).mean()),
        "err": at_horizons(first.errors("always 1").mean(0), p),
    }
    steps = np.arange(1, max(p.horizons) + 1).astype(np.float64)
    curves = score.long_table(steps, _curves(rolled), "h", "err")
    return metrics, {"rollout": curves, "statistics": kept}


@dataclass(frozen=True)
class Rollouts:
    """Trajectories after contexts of one length: `predicted` by name, (m, h), beside `futures`.

    Some forecasters are given the trajectories `subset` alone, and are rows of those only. `block`
    numbers the trajectories' blocks for standard errors.
    """

    context: int
    futures: Floats
    predicted: dict[str, Floats]
    subset: dict[str, NDArray[np.int64]]
    block: NDArray[np.int64]

    def errors(self, name: str) -> Floats:
        """|sum of predicted - sum of true| after each step, (trajectories, h)."""
        true = self.futures[self.subset[name]] if name in self.subset else self.futures
        return np.asarray(np.abs(self.predicted[name].cumsum(1) - true.cumsum(1)))


def rollouts(
    windows: Windows,
    roll: Roll,
    p: params.Evaluate,
    rivals: Mapping[int, RolledOut] = MappingProxyType({}),
) -> list[Rollouts]:
    """Free-running forecasts after contexts of each length, by the model and by rivals.

    "expected": a network's mean fed back, or what the law of the zeros ahead expects; "drawn": a
    draw fed back, or one of that law.

    The stretches are the same for all lengths: what comes after longer contexts lies higher.

    Parameters
    ----------
    rivals : :func:`zetalib.baselines.rollouts.roll_out` of the same stretches, by context; those
        missing are always saying 1 alone
    """
    horizon = max(p.horizons)
    some = stretches.stretches(windows, p.trajectories, max(p.contexts), horizon)
    heights, stretch = some.heights, np.column_stack([some.contexts, some.futures])
    # What a block holds reaches as far as a stretch does, where ten blocks can be had.
    size = math.ceil(stretch.shape[1] * p.trajectories / windows.spacing.numel())
    block = bootstrap.blocks(p.trajectories, max(1, min(size, p.trajectories // 10)))
    found = {}
    for context in sorted(p.contexts, reverse=True):  # the longest first: it solves the others too
        known, true = stretch[:, :context], stretch[:, context : context + horizon]
        rolled = roll(known, heights, horizon)
        assert rolled.mean is not None
        predicted = {
            "expected": rolled.mean,
            "drawn": rolled.draws[:, 0],
            "always 1": np.ones_like(true),
        }
        subset: dict[str, NDArray[np.int64]] = {}
        if context in rivals:
            beside = rivals[context]
            predicted |= beside.predicted
            for name, few in beside.subset.items():
                predicted["expected, there"] = rolled.mean[few]
                subset |= {name: few, "expected, there": few}
        found[context] = Rollouts(context, true, predicted, subset, block)
    return [found[context] for context in p.contexts]


def rollout_table(rolled: Rollouts, p: params.Evaluate) -> dict[str, Any]:
    """Err@h by forecaster and horizon, with standard errors over blocks of trajectories."""
    at = np.array(p.horizons) - 1
    table = {}
    for name in rolled.predicted:
        errors = rolled.errors(name)[:, at]
        block = rolled.block
        if name in rolled.subset:  # far apart: each is a block
            block = np.arange(len(errors))
        drawn = bootstrap.bootstrap(errors.T, block, p.seed)
        pairs = zip(errors.mean(0).tolist(), drawn.std(0, ddof=1).tolist(), strict=True)
        cells = [{"err": err, "se": se} for err, se in pairs]
        table[name] = {"trajectories": len(errors)} | {
            str(h): cell for h, cell in zip(p.horizons, cells, strict=True)
        }
    return table


def flat(rolled: Rollouts, p: params.Evaluate) -> dict[str, Any]:
    """`err` and `err_sampled`, Err@h by horizon."""
    both = {"err": "expected", "err_sampled": "drawn"}
    return {key: at_horizons(rolled.errors(name).mean(0), p) for key, name in both.items()}


def _curves(rolled: list[Rollouts]) -> dict[str, Floats]:
    return {
        f"{name}, {r.context}" if name != "always 1" else name: r.errors(name).mean(0)
        for r in reversed(rolled)
        for name in r.predicted
        if name != "expected, there"
    }


def at_horizons(errors: Floats, p: params.Evaluate) -> dict[str, float]:
    """Err@h for the horizons asked for, keyed by h."""
    return {str(h): float(errors[h - 1]) for h in p.horizons}


def draw_forecasts(forecasts: Forecasts, path: str | Path, targets: int = 48) -> None:
    """A stretch of forecasts as a picture (SVG): intervals, means and what came."""
    import matplotlib  # of the extra `pipeline`

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    y, mixture = forecasts.y[:targets], forecasts.mixture[:targets]
    n = forecasts.n[:targets]
    settings: dict[str, Any] = {"svg.hashsalt": "zetalib", "font.size": 9}
    with plt.rc_context(settings):
        figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
        for level, shade in ((0.9, "0.85"), (0.5, "0.65")):
            low, high = conformal.interval(mixture, level)
            axes.bar(n, high - low, 0.9, low, color=shade, label=f"{level:.0%} interval")
        axes.plot(n, mixture.mean(), "_", color="black", markersize=6, label="forecast mean")
        axes.plot(n, y, "o", color="#d95f02", markersize=3.5, label="true spacing")
        axes.set(xlabel="rank n of the closing zero", ylabel="spacing (mean spacings)")
        axes.ticklabel_format(axis="x", useOffset=False, style="plain")
        axes.set_title(
            "The first forecasts of the val tail. Look for dots inside the bars: nine in ten in\n"
            "the light ones, half in the dark ones; bars shrink as the window fills from the left.",
            loc="left",
            fontsize=9,
        )
        axes.legend(ncols=4, loc="upper right", frameon=False)
        axes.set_ylim(0, 3.4)
        with atomic.replacing(path) as aside:
            figure.savefig(aside, format="svg", metadata={"Date": None})
        plt.close(figure)
