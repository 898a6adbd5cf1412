"""Free-running forecasts: the model fed with its own spacings.

Err@h = mean over trajectories of |sum of h predicted - sum of h true spacings|, both counted from
the end of the context (docs/reference.md, 1.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from zetalib import compute
from zetalib.forecasting.decoding import ROWS, Decoder, Forecaster
from zetalib.types import Floats


@dataclass(frozen=True)
class Rollout:
    """Predicted spacings beyond contexts: `mean` fed back, (m, h), and `draws`, (m, n, h).

    `mean` is None where it was not asked for.
    """

    mean: Floats | None
    draws: Floats


def rollout(
    forecaster: Forecaster,
    contexts: Floats,
    heights: Floats,
    steps: int,
    *,
    mean: bool = True,
    draws: int = 0,
    seed: int = 0,
) -> Rollout:
    """Forecast `steps` spacings beyond each context, each fed back for the next.

    Some contexts at a time, in forked processes where there are cores for them
    (:func:`zetalib.compute.map_forks`); the numbers drawn do not depend on that.

    Parameters
    ----------
    contexts : shape (m, context)
    heights : shape (m,)
        Rounded heights of the contexts' first zeros.
    mean : whether to feed the forecast's mean back
    draws : trajectories of each context that are fed draws from the forecast
    """
    copies = int(mean) + draws
    if not copies:
        raise ValueError("a rollout needs something to feed back: the mean, or draws")
    size = max(1, ROWS // copies)
    parts = [slice(i, min(i + size, len(contexts))) for i in range(0, len(contexts), size)]
    rng = np.random.default_rng(seed)
    shape = (len(contexts), draws, steps)
    uniform, normal = rng.random(shape), rng.standard_normal(shape)
    forecaster.prepare(contexts, heights, steps - 1)
    calls = [
        partial(_some, forecaster, contexts[p], heights[p], steps, int(mean), uniform[p], normal[p])
        for p in parts
    ]
    on_gpu = isinstance(forecaster, Decoder) and forecaster.device.type != "cpu"
    what = f"batches of {min(size, len(contexts))} contexts, {steps} steps"
    found = compute.map_forks(calls, what, forks=not on_gpu)
    whole = np.concatenate(found) if found else np.empty((0, copies, steps))
    return Rollout(whole[:, 0] if mean else None, whole[:, int(mean) :])


def _some(
    forecaster: Forecaster,
    contexts: Floats,
    heights: Floats,
    steps: int,
    means: int,
    uniform: Floats,
    normal: Floats,
) -> Floats:
    """Spacings (B, means + draws, steps) beyond contexts (B, T)."""
    draws = uniform.shape[1]
    predicted = np.empty((len(contexts), means + draws, steps))
    mixture = forecaster.begin(contexts, heights, steps - 1, means + draws)
    for h in range(steps):
        by_copy = mixture.reshape(len(contexts), means + draws)
        predicted[:, :means, h] = by_copy[:, :means].mean()
        predicted[:, means:, h] = by_copy[:, means:].draw(uniform[..., h], normal[..., h])
        if h + 1 < steps:
            mixture = forecaster.step(predicted[:, :, h].ravel())
    return predicted


def accumulated_error(predicted: Floats, true: Floats) -> Floats:
    """Err@1 ... Err@horizon: mean |cumulative predicted - cumulative true|, from the context's end.

    Parameters
    ----------
    predicted, true : shape (trajectories, horizon)
        Only what lies beyond the context.
    """
    return np.asarray(np.abs(predicted.cumsum(1) - true.cumsum(1)).mean(0))
