"""Free-running forecasts: the model fed with its own spacings.

Err@h = mean over trajectories of |sum of h predicted - sum of h true spacings|, both counted from
the end of the context (docs/reference.md, 1.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from zetalib import progress
from zetalib.data.window import Windows
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError

Floats = NDArray[np.float64]
# Contexts (B, T) and rounded heights of their first zeros (B,) to forecasts of what follows (B, K).
Forecaster = Callable[[Floats, Floats], Mixture]


def contexts_and_futures(
    spacing: Floats, trajectories: int, context: int, horizon: int, window: int = 1
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Evenly spread stretches of a contiguous record, shape (m,).

    `window`: they begin where windows of that length do as far as there are such places, else half
    way between, and so on: what was computed of whole windows serves their beginnings too.

    Returns
    -------
    contexts : shape (trajectories, context)
    futures : shape (trajectories, horizon)
        What followed each context.
    starts : shape (trajectories,), ascending
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
    room = len(spacing) - length
    step = window
    while step > 1 and room // step + 1 < trajectories:
        step //= 2
    places = np.arange(0, room + 1, step)
    first = places % (2 * step) == 0 if step < window else np.zeros(len(places), bool)
    others = places[~first]
    spread = np.linspace(0, len(others) - 1, trajectories - int(first.sum())).astype(int)
    starts = np.sort(np.concatenate([places[first], others[spread]]))
    stretch = spacing[starts[:, None] + np.arange(length)]
    return stretch[:, :context], stretch[:, context:], starts


@dataclass(frozen=True)
class Stretches:
    """Contexts (m, T) of a split, the futures (m, h) that followed, rounded heights (m,)."""

    contexts: Floats
    futures: Floats
    heights: Floats  # of the contexts' first zeros


def stretches(windows: Windows, trajectories: int, context: int, horizon: int) -> Stretches:
    """Stretches of the record that windows form, beginning where windows do if there is room."""
    record, length = windows.spacing.numpy().ravel(), windows.spacing.shape[1]
    contexts, futures, starts = contexts_and_futures(record, trajectories, context, horizon, length)
    return Stretches(contexts, futures, windows.heights(torch.from_numpy(starts)).numpy())


def rollout(
    forecaster: Forecaster | Sequence[Forecaster],
    contexts: Floats,
    heights: Floats,
    horizon: int,
    feedback: Literal["mean", "sample"],
    rng: np.random.Generator | None = None,
    longest: int | None = None,
) -> Floats:
    """Predicted spacings, shape (trajectories, horizon), over contexts that grow by them.

    Parameters
    ----------
    forecaster : one for all steps, or one for each
        One that has a `batch` is given so many trajectories at a time, all steps of some before
        the next; draws are made in that order. Others are given all at once.
    contexts : shape (trajectories, context)
    heights : shape (trajectories,)
        Rounded heights of the contexts' first zeros. They are not moved on when a context loses
        its beginning: a rollout is far shorter than what rounding hides.
    feedback : what is fed back, the mixture's mean or a draw from it (needs `rng`)
    longest : what the forecaster takes, spacings
        A context that has grown to so many keeps its newer half (rounded down).
    """
    if feedback == "sample" and rng is None:
        raise ValueError("sampled feedback needs a random generator")
    forecasters = [forecaster] * horizon if callable(forecaster) else forecaster
    sampling = rng if feedback == "sample" else None
    batch = getattr(forecaster, "batch", len(contexts))
    parts = [slice(i, i + batch) for i in range(0, len(contexts), batch)]
    tracked = progress.track(parts, f"batches of {batch} rollouts of {horizon} steps")
    return np.concatenate(
        [_some(forecasters, contexts[p], heights[p], horizon, sampling, longest) for p in tracked]
    )


def _some(
    forecasters: Sequence[Forecaster],
    contexts: Floats,
    heights: Floats,
    horizon: int,
    rng: np.random.Generator | None,
    longest: int | None,
) -> Floats:
    window, predicted = contexts, np.empty((len(contexts), horizon))
    for h in range(horizon):
        mixture = forecasters[h](window, heights)
        drawn = mixture.mean() if rng is None else mixture.sample(rng)
        predicted[:, h] = drawn
        full = longest is not None and window.shape[1] >= longest
        dropped = window.shape[1] - window.shape[1] // 2 if full else 0
        window = np.column_stack([window[:, dropped:], drawn])
    return predicted


def draws(
    forecaster: Forecaster | Sequence[Forecaster],
    contexts: Floats,
    heights: Floats,
    horizon: int,
    number: int,
    seed: int,
    longest: int | None = None,
) -> Floats:
    """Where the next zeros may lie: cumulative sums of `number` sampled rollouts of each context.

    Other parameters as :func:`rollout`.

    Returns
    -------
    shape (trajectories, number, horizon), in mean spacings beyond the last zero known
    """
    rng = np.random.default_rng(seed)
    run = partial(rollout, forecaster, contexts, heights, horizon, "sample", rng)
    return np.stack([run(longest).cumsum(1) for _ in range(number)], 1)


def accumulated_error(predicted: Floats, true: Floats) -> Floats:
    """Err@1 ... Err@horizon: mean |cumulative predicted - cumulative true|, from the context's end.

    Parameters
    ----------
    predicted, true : shape (trajectories, horizon)
        Only what lies beyond the context.
    """
    return np.asarray(np.abs(predicted.cumsum(1) - true.cumsum(1)).mean(0))
