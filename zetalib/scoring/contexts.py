"""What longer contexts than a window bring: the explicit formula and the inversion on the tail.

Stretches end in the val tail and reach as far below it as their context needs. Heights are told to
three significant digits, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from zetalib.baselines import explicit_formula, inversion_density
from zetalib.baselines.explicit_formula import density, unresolved
from zetalib.data import window
from zetalib.data.window import Windows
from zetalib.errors import ZetaError
from zetalib.inverse.solutions import SolutionCache
from zetalib.scoring import bootstrap, skill

Floats = NDArray[np.float64]

KNOWN = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # where classes begin
CLOSE = (1e-2, 1e-4)  # mean spacings


def joined(splits: Sequence[Windows]) -> Windows:
    """Splits one above the other as one record of windows."""
    fields = ("spacing", "n", "gamma")
    return Windows(*(torch.cat([getattr(split, name) for split in splits]) for name in fields))


def stretches(
    record: Windows, part: tuple[int, int], context: int, number: int, targets: int
) -> Windows:
    """`number` stretches whose last `targets` spacings lie evenly spread in windows `part`.

    Each has `context` + 1 spacings, so that its last target has `context` known, its first
    `targets` - 1 fewer.

    Raises
    ------
    ZetaError
        If the record does not reach that far below, or the targets would overlap.
    """
    length = record.spacing.shape[1]
    first, last = part[0] * length, part[1] * length - targets
    if first + targets <= context:
        problem = f"{first + targets - 1} spacings before a target, for a context of {context}"
        raise ZetaError("params.yaml: contexts", problem, "Shorten it, or take more zeros.")
    if last - first < (number - 1) * targets:
        problem = f"{number} stretches of {targets} targets in {last - first + targets} spacings"
        raise ZetaError("params.yaml: contexts", problem, "Take fewer, or more zeros.")
    place = torch.linspace(first, last, number, dtype=torch.float64).round().long()
    start = place + targets - 1 - context
    cell, offset = start // length, start % length
    gamma = record.gamma[cell]
    return Windows(
        record.spacing.flatten()[start[:, None] + torch.arange(context + 1)],
        record.n[cell] + offset,
        gamma + offset / window.density(gamma),
    )


def by_explicit_formula(stretch: Windows, targets: int) -> dict[str, Any]:
    """Scores of the explicit formula on the last `targets` spacings of each stretch.

    Standard errors are over stretches.
    """
    forecast = explicit_formula.forecaster(targets)(stretch)
    y = stretch.spacing[:, -targets:].numpy().ravel()
    block = np.repeat(np.arange(len(stretch)), targets)
    return {"targets": len(y), **skill.summary(skill.by_target(forecast, y), block)}


def transition(
    below: Windows, above: Windows, last: int
) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """How the inversion finds the zeros' phases as stretches grow.

    Parameters
    ----------
    below, above : stretches of one length
        Its density is fitted to the first and scored on the others.
    last : targets of each stretch that the first part is about

    Returns
    -------
    end : dict
        Of the last targets: their number, the share within 1e-2 and within 1e-4 of a mean
        spacing, the median error.
    by_known : dict
        By classes of spacings known, beginning as `KNOWN` says: the same, the median standard
        deviation claimed, and :func:`zetalib.scoring.skill.summary` with errors over stretches.
    """
    cache = SolutionCache()
    for part in (below, above):
        past, height = part.spacing.numpy()[:, :-1], part.heights().numpy()
        cache.add(past, height, cache.stacked(past, height))
    scores = skill.scored(inversion_density.fit_inversion(below, cache), above)
    solution = cache(above.spacing.numpy()[:, :-1], above.heights().numpy())
    claimed = solution.fine_sd.ravel()
    error = np.abs(solution.fine.ravel() - window.targets(above))
    known = bootstrap.position(len(above), above.spacing.shape[1])
    block = np.repeat(np.arange(len(above)), above.spacing.shape[1] - 1)
    kind = np.searchsorted(KNOWN, known, "right") - 1
    by_known = {}
    for k in np.unique(kind[kind >= 0]):
        rows = kind == k
        by_known[KNOWN[k]] = {
            **_near(error[rows]),
            "median_sd": float(np.median(claimed[rows])),
            **skill.summary(scores[rows], block[rows]),
        }
    return _near(error[known > known.max() - last]), by_known


def _near(error: Floats) -> dict[str, Any]:
    within = {f"within_{bound:g}": float((error < bound).mean()) for bound in CLOSE}
    return {"targets": len(error), **within, "median_error": float(np.median(error))}


def resolution(known: Sequence[int], height: float) -> pd.DataFrame:
    """The law that the resolution of primes predicts: NLL of a Gaussian, S told apart or not.

    A stretch of n zeros spans n / rho in height and tells apart the primes whose lines lie further
    apart than 2 pi over that; the variance of S by the others is what is left to a linear forecast
    of S at the zeros (docs/reference.md, 2.3). Where all are told apart it has no end, and there
    is no row. Columns known, nll, se, series.
    """
    left = {n: unresolved(n / density(height), height)[1] for n in known}
    nll = {n: np.log(sd) + 0.5 * np.log(2 * np.pi * np.e) for n, sd in left.items() if sd > 0}
    rows = {"known": nll.keys(), "nll": nll.values(), "se": 0.0, "series": "primes told apart"}
    return pd.DataFrame(rows)


def row(series: str, known: int, found: dict[str, Any]) -> pd.DataFrame:
    """A point of the law as a row beside those of :func:`resolution`."""
    values = {"known": known, "nll": found["nll"], "se": found["nll_se"], "series": series}
    return pd.DataFrame([values])
