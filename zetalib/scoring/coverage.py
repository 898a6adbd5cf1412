"""Coverage of intervals where it is asked for, with errors that know neighbours are dependent."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zetalib import params
from zetalib.data.window import Windows
from zetalib.errors import ZetaError
from zetalib.forecasting import stretches
from zetalib.forecasting.forecasts import Forecasts
from zetalib.forecasting.law_ahead import Laws
from zetalib.inverse.solutions import SolutionCache
from zetalib.scoring import bootstrap, conformal, skill
from zetalib.scoring.conformal import Calibrator, Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def report(
    forecasts: Forecasts,
    windows: Windows,
    calibrator: Calibrator,
    block: int,
    raw_intervals: Mapping[str, Interval] = MappingProxyType({}),
    classes: int = 20,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Coverage of the intervals of one split, always with their width.

    Parameters
    ----------
    forecasts : Forecasts
        Of the targets of `windows`.
    block : windows in a block of the bootstrap
    raw_intervals : of the forecasts, by level, as far as they are known
    classes : of predicted width in the plot

    Returns
    -------
    metrics : dict
        By level and kind (raw, split, adaptive, online): `coverage`, its standard error `se`,
        mean `width`, `median_width`; the same in fifths `by_height` (0: lowest) and `by_width`
        of the raw interval (0: narrowest).
    plots : dict of DataFrame
        coverage (nominal, covered, se, width, series) and coverage_by_width, the same by class
        with its median raw width as `predicted`: one CSV each.
    """
    y = forecasts.y
    count, length = windows.spacing.shape
    number = bootstrap.blocks(len(y), block * (length - 1))
    height = skill.fifths(count, length)
    metrics: dict[str, Any] = {}
    overall, by_class = [], []
    for level in calibrator.levels:
        raw = raw_intervals.get(level) or conformal.interval(forecasts.mixture, float(level))
        kinds = calibrator.intervals(raw, y, level)
        covered = {kind: conformal.coverage_and_width(ends, y) for kind, ends in kinds.items()}
        predicted = raw[1] - raw[0]
        rank = predicted.argsort(kind="stable").argsort()
        whole = _covered(covered, np.zeros_like(rank), number)
        fifths = {
            "by_height": _covered(covered, height, number),
            "by_width": _covered(covered, rank * 5 // len(y), number),
        }
        metrics[level] = {
            kind: {**whole[kind]["0"], **{name: part[kind] for name, part in fifths.items()}}
            for kind in kinds
        }
        nominal = {"nominal": float(level)}
        overall += [{**nominal, **whole[kind]["0"], "series": kind} for kind in kinds]
        group = rank * classes // len(y)
        middle = {str(k): float(np.median(predicted[group == k])) for k in range(classes)}
        by_class += [
            {**nominal, "predicted": middle[k], **part, "series": kind}
            for kind, parts in _covered(covered, group, number).items()
            for k, part in parts.items()
        ]
    names = {"coverage": "covered"}
    plots = {
        "coverage": pd.DataFrame(overall).rename(columns=names),
        "coverage_by_width": pd.DataFrame(by_class).rename(columns=names),
    }
    return metrics, plots


def report_ahead(
    samples: dict[str, Floats], truth: dict[str, Floats], calibrator: Calibrator
) -> dict[str, Any]:
    """Coverage and width of the intervals of rollouts, by horizon, level and kind.

    Parameters
    ----------
    samples, truth : by horizon, as :func:`zetalib.scoring.conformal.ahead` takes them
        Stretches one after the other: errors are over fifty to a hundred blocks, and None of
        fewer than ten stretches.
    """
    found: dict[str, Any] = {}
    for horizon, levels in calibrator.ahead.items():
        if horizon not in truth:
            problem = f"horizon {horizon} is none of params.yaml: {', '.join(truth) or 'none'}"
            raise ZetaError("data/calibrator.json", problem, "Run `dvc repro -f calibrate`.")
        true = truth[horizon]
        few = len(true) < 10
        number = (
            np.arange(len(true)) if few else bootstrap.blocks(len(true), max(1, len(true) // 50))
        )
        for level in levels:
            kinds = calibrator.intervals_ahead(samples[horizon], horizon, level)
            covered = {
                kind: conformal.coverage_and_width(ends, true) for kind, ends in kinds.items()
            }
            one = _covered(covered, np.zeros(len(true), np.intp), number)
            found.setdefault(horizon, {})[level] = {
                kind: part["0"] | ({"se": None} if few else {}) for kind, part in one.items()
            }
    return found


def report_law(
    laws: Laws,
    cache: SolutionCache,
    windows: Windows,
    p: params.Evaluate,
    c: params.Calibrate,
) -> dict[str, Any]:
    """Coverage of the law of the zeros ahead at every horizon up to `c.ahead`.

    Over the stretches that rollouts are scored on.

    Returns
    -------
    By context and level: `coverage` over all horizons, the `least` and the `most` of one horizon,
    and the mean `width` at each horizon of `p`.
    """
    horizon = max(p.horizons)
    some = stretches.stretches(windows, p.trajectories, max(p.contexts), horizon)
    stretch = np.column_stack([some.contexts, some.futures])
    found: dict[str, Any] = {}
    for context in p.contexts:
        table = cache.ahead(stretch[:, :context], some.heights, c.ahead)
        true = stretch[:, context : context + c.ahead].cumsum(1)
        for level in map(float, c.levels):
            ends = laws.of(context).interval(table, level)
            inside = (ends[0] <= true) & (true <= ends[1])
            by_h, width = inside.mean(0), (ends[1] - ends[0]).mean(0)
            found.setdefault(str(context), {})[str(level)] = {
                "coverage": float(inside.mean()),
                "least": float(by_h.min()),
                "most": float(by_h.max()),
                "width": {str(k): float(width[k - 1]) for k in p.horizons if k <= c.ahead},
            }
    return found


def _covered(
    covered: dict[str, tuple[NDArray[np.bool_], Floats]], group: NDArray[np.intp], block: Ints
) -> dict[str, dict[str, dict[str, float]]]:
    """Coverage, its standard error, mean and median width by kind of interval and group."""
    found: dict[str, dict[str, dict[str, float]]] = {kind: {} for kind in covered}
    inside = np.stack([inside for inside, _ in covered.values()]).astype(np.float64)
    for k in np.unique(group):
        rows = group == k
        errors = bootstrap.bootstrap(inside[:, rows], block[rows], seed=0).std(0, ddof=1)
        for (kind, (hit, width)), error in zip(covered.items(), errors, strict=True):
            found[kind][str(k)] = {
                "coverage": float(hit[rows].mean()),
                "se": float(error),
                "width": float(width[rows].mean()),
                "median_width": float(np.median(width[rows])),
            }
    return found
