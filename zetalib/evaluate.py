"""What the evaluate stage reports: scores, rollouts, curves. Intervals: :mod:`zetalib.coverage`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from zetalib import atomic, conformal, params, rollout, score
from zetalib.forecasts import Forecasts
from zetalib.rollout import Forecaster, accumulated_error
from zetalib.window import Windows

Floats = NDArray[np.float64]


def evaluate(
    forecasts: Forecasts,
    windows: Windows,
    forecaster: Forecaster | Sequence[Forecaster],
    p: params.Evaluate,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Metrics and plot tables of one model on one split.

    Parameters
    ----------
    forecasts : Forecasts
        Of the split's targets.
    windows : Windows
        The split, for rollouts.
    forecaster : contexts (B, T) and their heights (B,) to forecasts of what follows; or
        one a step

    Returns
    -------
    metrics : dict
        :func:`zetalib.score.scores`; `err` and `err_sampled`, Err@h by horizon;
        `constant`: MAE and Err@h of always saying 1, the yardstick of Err@h.
    plots : dict of DataFrame
        pit, reliability, density, rollout: one CSV each.
    """
    y, mixture = forecasts.y, forecasts.mixture
    errors = rollout_errors(windows, forecaster, p)
    metrics: dict[str, Any] = score.scores(mixture, y)
    metrics["err"] = at_horizons(errors["mean fed back"], p)
    metrics["err_sampled"] = at_horizons(errors["sample fed back"], p)
    metrics["constant"] = {
        "mae": float(np.abs(y - 1).mean()),
        "err": at_horizons(errors["always 1"], p),
    }
    steps = np.arange(1, max(p.horizons) + 1).astype(np.float64)
    plots = {
        "pit": score.pit_histogram(mixture.cdf(y)),
        "reliability": score.reliability(mixture, y),
        "density": score.spacing_density(mixture, y),
        "rollout": score.long_table(steps, errors, "h", "err"),
    }
    return metrics, plots


def rollout_errors(
    windows: Windows, forecaster: Forecaster | Sequence[Forecaster], p: params.Evaluate
) -> dict[str, Floats]:
    """Err@1 ... Err@max(horizons) with the mean and a sample fed back, and of always saying 1."""
    horizon = max(p.horizons)
    spacing = windows.spacing.numpy().ravel()
    contexts, futures, starts = rollout.contexts_and_futures(
        spacing, p.trajectories, p.context, horizon
    )
    heights = windows.heights(torch.from_numpy(starts)).numpy()
    mean = rollout.rollout(forecaster, contexts, heights, horizon, "mean")
    rng = np.random.default_rng(p.seed)
    sampled = rollout.rollout(forecaster, contexts, heights, horizon, "sample", rng)
    return {
        "mean fed back": accumulated_error(mean, futures),
        "sample fed back": accumulated_error(sampled, futures),
        "always 1": accumulated_error(np.ones_like(futures), futures),
    }


def at_horizons(errors: Floats, p: params.Evaluate) -> dict[str, float]:
    """Err@h for the horizons asked for, keyed by h."""
    return {str(h): float(errors[h - 1]) for h in p.horizons}


def draw_forecasts(forecasts: Forecasts, path: str | Path, targets: int = 48) -> None:
    """A stretch of forecasts as a picture (SVG): intervals, means and what came."""
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
