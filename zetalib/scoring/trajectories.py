"""Whether sampled trajectories keep the statistics of zeros: beside real ones, GUE and Poisson.

All estimates are taken trajectory by trajectory, none across two, and the same way from the true
futures of the same contexts. Standard errors are from blocks of neighbouring trajectories.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zetalib.theory import point_statistics, unitary_ensemble
from zetalib.theory.point_statistics import GUE, Curve
from zetalib.theory.zeta import gue_surmise

Floats = NDArray[np.float64]

LAGS = 20
WIDTH = 0.1  # of the bins of the density
TOP = 3.0  # of them
INTERVAL = 64  # mean spacings: of the form factor, and the longest of the number variance
TAU = 2.0  # the largest, in Heisenberg times


def density(spacing: Floats) -> Curve:
    """Density of spacings, (trajectories, h), in bins."""
    edges = np.arange(0, TOP + WIDTH / 2, WIDTH)
    counts = np.stack([np.histogram(s, edges)[0] for s in spacing])
    return point_statistics.in_blocks(edges[:-1] + WIDTH / 2, counts / (spacing.shape[1] * WIDTH))


def number_variance(spacing: Floats, lengths: Floats) -> Curve:
    """:func:`zetalib.theory.point_statistics.number_variance` of each trajectory; their mean."""
    found = [
        point_statistics.number_variance(point_statistics.positions(s), lengths).value
        for s in spacing
    ]
    return point_statistics.in_blocks(lengths, np.stack(found))


def form_factor(spacing: Floats, interval: int) -> Curve:
    """:func:`point_statistics.form_factor` over whole intervals within trajectories."""
    tau = np.arange(1, int(TAU * interval) + 1) / interval
    found = [
        point_statistics.structure(point_statistics.positions(s), tau, interval) for s in spacing
    ]
    return point_statistics.in_blocks(tau, np.concatenate(found))


def statistics(predicted: Floats, true: Floats) -> pd.DataFrame:
    """Density, autocorrelation, number variance and form factor of trajectories, as rows.

    Parameters
    ----------
    predicted, true : shape (trajectories, h)
        Where the shortest is shorter than `INTERVAL`, so are the intervals looked at.

    Returns
    -------
    DataFrame
        Columns: statistic, x, value, error (NaN of theory), series (sampled, zeros, GUE, Poisson).
    """
    shortest = min(float(predicted.sum(1).min()), float(true.sum(1).min()))
    interval = max(min(INTERVAL, int(0.9 * shortest)), 1)
    lengths = np.geomspace(0.25, interval, 17)
    lags = np.arange(1, min(LAGS, predicted.shape[1] // 2) + 1)
    estimates: dict[str, Callable[[Floats], Curve]] = {
        "density": density,
        "autocorrelation": lambda s: point_statistics.autocorrelation(s, len(lags)),
        "number variance": lambda s: number_variance(s, lengths),
        "form factor": lambda s: form_factor(s, interval),
    }
    theory: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
        "density": (
            gue_surmise,
            lambda s: np.exp(-s),
        ),
        "autocorrelation": (
            lambda _: np.asarray(unitary_ensemble.spacing_autocorrelation(tuple(lags.tolist()))),
            np.zeros_like,
        ),
        "number variance": (GUE.number_variance, point_statistics.POISSON.number_variance),
        "form factor": (
            lambda t: point_statistics.finite_form_factor(GUE.pair_correlation, t, interval),
            np.ones_like,
        ),
    }
    frames = []
    for name, estimate in estimates.items():
        for series, spacing in (("sampled", predicted), ("zeros", true)):
            c = estimate(spacing)
            rows = {"statistic": name, "x": c.x, "value": c.value, "error": c.error}
            frames.append(pd.DataFrame(rows).assign(series=series))
        for series, law in zip(("GUE", "Poisson"), theory[name], strict=True):
            rows = {"statistic": name, "x": c.x, "value": law(c.x)}
            frames.append(pd.DataFrame(rows).assign(error=np.nan, series=series))
    return pd.concat(frames, ignore_index=True)


def departures(table: pd.DataFrame) -> dict[str, float]:
    """Mean |sampled - zeros| over mean |GUE - zeros| of each statistic: below 1 is nearer than GUE.

    Of the density, where the surmise stands for GUE, and the others alike.
    """
    found = {}
    for name, part in table.groupby("statistic", sort=False):
        wide = part.pivot_table(index="x", columns="series", values="value")
        off = wide[["sampled", "GUE"]].sub(wide["zeros"], axis=0).abs().mean()
        found[str(name)] = float(off["sampled"] / off["GUE"])
    return found
