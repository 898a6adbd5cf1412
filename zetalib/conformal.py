"""Split conformal prediction on quantile intervals.

For a nominal coverage 1 - alpha the model's interval is [q_lo, q_hi], its alpha/2 and
1 - alpha/2 quantiles. On calibration targets y the scores are max(q_lo - y, y - q_hi); the
adjustment is their ceil((n + 1)(1 - alpha))-th smallest, the (1 - alpha)(1 + 1/n) quantile, and
[q_lo - adjustment, q_hi + adjustment] covers exchangeable new targets with probability at least
1 - alpha.
Romano, Patterson, Candes, "Conformalized quantile regression", NeurIPS 2019.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zetalib.errors import ZetaError
from zetalib.mixture import Mixture

Floats = NDArray[np.float64]


def interval(mixture: Mixture, level: float) -> tuple[Floats, Floats]:
    """Central interval of nominal coverage `level`: lower and upper ends, shape (m,)."""
    tail = (1 - level) / 2
    return mixture.quantile(tail), mixture.quantile(1 - tail)


def adjustment(low: Floats, high: Floats, y: Floats, level: float) -> float:
    """The conformal adjustment of intervals [low, high] from calibration targets `y`, shape (n,).

    Negative when the intervals were too wide.

    Raises
    ------
    ZetaError
        If there are too few targets for the level: no finite adjustment has the guarantee.
    """
    rank = math.ceil((len(y) + 1) * level)
    if rank > len(y):
        problem = f"level {level} needs at least {math.ceil(level / (1 - level))} targets"
        raise ZetaError("calibration split", f"{problem}, it has {len(y)}", "Enlarge it.")
    scores = np.maximum(low - y, y - high)
    return float(np.partition(scores, rank - 1)[rank - 1])


def calibrate(mixture: Mixture, y: Floats, levels: list[float]) -> dict[str, float]:
    """Adjustment for each level (as a string key, for JSON) from the calibration split."""
    return {str(q): adjustment(*interval(mixture, q), y, q) for q in levels}


def coverage_and_width(low: Floats, high: Floats, y: Floats) -> tuple[float, float]:
    """Share of `y` inside [low, high], and mean width (an adjusted interval may be empty: 0)."""
    inside = (low <= y) & (y <= high)
    return float(inside.mean()), float(np.maximum(high - low, 0).mean())


def report(
    mixture: Mixture, y: Floats, adjustments: dict[str, float]
) -> dict[str, dict[str, float]]:
    """For each level, coverage and width before (raw) and after adjustment, on targets `y`."""
    found = {}
    for key, shift in adjustments.items():
        low, high = interval(mixture, float(key))
        raw = coverage_and_width(low, high, y)
        conformal = coverage_and_width(low - shift, high + shift, y)
        found[key] = {
            "coverage_raw": raw[0],
            "coverage": conformal[0],
            "width_raw": raw[1],
            "width": conformal[1],
        }
    return found
