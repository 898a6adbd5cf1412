"""Free-running forecasts: the model fed with its own spacings.

Err@h = mean over trajectories of |sum of h predicted - sum of h true spacings|, both counted from
the end of the context (Reference 1.4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zetalib.errors import ZetaError
from zetalib.mixture import Mixture

Floats = NDArray[np.float64]
# Contexts (B, T) and rounded heights of their first zeros (B,) to forecasts of what follows (B, K).
Forecaster = Callable[[Floats, Floats], Mixture]


def contexts_and_futures(
    spacing: Floats, trajectories: int, context: int, horizon: int
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Evenly spread stretches of a contiguous record, shape (m,).

    Returns
    -------
    contexts : shape (trajectories, context)
    futures : shape (trajectories, horizon)
        What followed each context.
    starts : shape (trajectories,)
        Spacings of the record before each context.

    Raises
    ------
    ZetaError
        If the record is shorter than one stretch.
    """
    length = context + horizon
    if len(spacing) < length:
        problem = f"the split has {len(spacing)} spacings, a rollout needs {length}"
        raise ZetaError("params.yaml: evaluate", problem, "Shorten evaluate.horizons.")
    starts = np.linspace(0, len(spacing) - length, trajectories).astype(int)
    stretch = spacing[starts[:, None] + np.arange(length)]
    return stretch[:, :context], stretch[:, context:], starts


def rollout(
    forecaster: Forecaster,
    contexts: Floats,
    heights: Floats,
    horizon: int,
    feedback: Literal["mean", "sample"],
    rng: np.random.Generator | None = None,
) -> Floats:
    """Predicted spacings, shape (trajectories, horizon), over a sliding context of fixed length.

    Parameters
    ----------
    contexts : shape (trajectories, context)
    heights : shape (trajectories,)
        Rounded heights of the contexts' first zeros. They are not moved on as the context slides:
        a rollout is far shorter than what rounding hides.
    feedback : what is fed back, the mixture's mean or a draw from it (needs `rng`)
    """
    if feedback == "sample" and rng is None:
        raise ValueError("sampled feedback needs a random generator")
    window, predicted = contexts.copy(), np.empty((len(contexts), horizon))
    for h in range(horizon):
        mixture = forecaster(window, heights)
        drawn = mixture.mean() if rng is None or feedback == "mean" else mixture.sample(rng)
        predicted[:, h] = drawn
        window = np.column_stack([window[:, 1:], drawn])
    return predicted


def accumulated_error(predicted: Floats, true: Floats) -> Floats:
    """Err@1 ... Err@horizon: mean |cumulative predicted - cumulative true|, from the context's end.

    Parameters
    ----------
    predicted, true : shape (trajectories, horizon)
        Only what lies beyond the context.
    """
    return np.asarray(np.abs(predicted.cumsum(1) - true.cumsum(1)).mean(0))
