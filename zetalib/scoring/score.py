"""Scores of probabilistic forecasts, and the curves that show where they fail."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from zetalib.densities.mixture import Mixture
from zetalib.theory.zeta import gue_surmise

Floats = NDArray[np.float64]


def scores(mixture: Mixture, y: Floats) -> dict[str, float]:
    """Mean scores of forecasts of `y`, shape (m,).

    `nll` in nats; `mae` and `rmse` of the mixture mean and `crps` in mean spacings;
    `pit_mean`, `pit_std`, `pit_ks` (honest: 0.5, 0.2887, 0; KS distance to uniform);
    `entropy` of the mixture weights in nats.
    """
    error = mixture.mean() - y
    pit = mixture.cdf(y)
    return {
        "nll": float(-mixture.logpdf(y).mean()),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "crps": float(mixture.crps(y).mean()),
        "pit_mean": float(pit.mean()),
        "pit_std": float(pit.std()),
        "pit_ks": float(stats.kstest(pit, "uniform").statistic),
        "entropy": float(mixture.weight_entropy().mean()),
    }


def pit_histogram(pit: Floats, bins: int = 20, confidence: float = 0.99) -> pd.DataFrame:
    """Density of PIT values in equal bins, with the band of an honest forecaster.

    The band is the binomial one for independent targets; neighbours here are dependent, so it is
    somewhat too narrow. Columns: pit (centre of the bin), density, low, high.
    """
    counts, edges = np.histogram(pit, bins=bins, range=(0, 1))
    tail = (1 - confidence) / 2
    low, high = stats.binom.ppf([tail, 1 - tail], len(pit), 1 / bins) * bins / len(pit)
    centres = 0.5 * (edges[:-1] + edges[1:])
    density = counts * bins / len(pit)
    return pd.DataFrame({"pit": centres, "density": density, "low": low, "high": high})


def reliability(mixture: Mixture, y: Floats) -> pd.DataFrame:
    """Share of targets below each forecast quantile: equal to the level when honest."""
    pit = mixture.cdf(y)
    levels = np.round(np.arange(0.01, 1, 0.02), 2)
    observed = np.searchsorted(np.sort(pit), levels, side="right") / len(pit)
    return pd.DataFrame({"nominal": levels, "observed": observed, "excess": observed - levels})


def spacing_density(mixture: Mixture, y: Floats, bins: int = 70) -> pd.DataFrame:
    """Density of true spacings, of the forecasts on average, and the GUE surmise, over s.

    The forecasts' density in a bin is exact: the mean increment of their distribution functions.
    """
    edges = np.linspace(0, 3.5, bins + 1)
    width = edges[1] - edges[0]
    observed = np.histogram(y, bins=edges)[0] / (len(y) * width)
    below = [mixture.cdf(np.full(len(y), e)).mean() for e in edges]
    forecast = np.diff(below) / width
    centres = 0.5 * (edges[:-1] + edges[1:])
    series = {"zeros": observed, "forecast": forecast, "GUE surmise": gue_surmise(centres)}
    return long_table(centres, series, "s", "density")


def long_table(x: Floats, series: dict[str, Floats], x_name: str, y_name: str) -> pd.DataFrame:
    """Several curves over one `x` as rows (x, y, series), the form plots are drawn from."""
    frames = [pd.DataFrame({x_name: x, y_name: y, "series": name}) for name, y in series.items()]
    return pd.concat(frames, ignore_index=True)
