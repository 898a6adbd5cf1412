"""Beyond the next spacing: rollouts of any model, and where the zeros ahead may lie."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from zetalib import params
from zetalib.data.window import Windows
from zetalib.forecasting import interventions, law_ahead, rollout, stretches
from zetalib.forecasting.law_ahead import Laws
from zetalib.forecasting.rollout import Rollout
from zetalib.inverse.solutions import SolutionCache
from zetalib.network.model import SpacingMDN
from zetalib.types import Floats

# Contexts (m, T), rounded heights (m,) of their first zeros and steps to the spacings that follow.
Roll = Callable[[Floats, Floats, int], Rollout]


def roller(
    network: SpacingMDN,
    p: params.Evaluate,
    cache: SolutionCache | None = None,
    laws: Laws | None = None,
) -> Roll:
    """How a model goes on by itself: its mean, and one draw.

    A network is fed with its own forecasts (:func:`zetalib.forecasting.rollout.rollout`). A model
    that starts from solutions knows more than it could be told so: the joint law of all zeros
    ahead, from the posterior of the inverse problem. Interventions on a memory (`fade`, `gate`) are
    of a network alone.

    Parameters
    ----------
    cache, laws : for a model that starts from solutions: what is solved already, the laws fitted
    """
    if network.config.inversion and laws is not None and laws.by_context:
        return partial(from_law, laws, SolutionCache() if cache is None else cache)
    forecaster = interventions.forecaster(network, cache, fade=p.fade, gate=p.gate)
    return partial(rollout.rollout, forecaster, draws=1, seed=p.seed)


def from_law(
    laws: Laws, cache: SolutionCache, contexts: Floats, heights: Floats, steps: int
) -> Rollout:
    """Spacings beyond contexts as the law of the zeros ahead has them: expected, and one draw."""
    table, law = cache.ahead(contexts, heights, steps), laws.of(contexts.shape[1])
    mean, draw = (
        np.diff(places, axis=1, prepend=0.0) for places in (law.mean(table), law.draw(table))
    )
    return Rollout(mean, draw[:, None])


def fit_laws(
    windows: Windows, p: params.Evaluate, c: params.Calibrate, cache: SolutionCache
) -> Laws:
    """Fit the law of the zeros ahead after each of the contexts of `p`."""
    some = stretches.stretches(windows, c.contexts, max(p.contexts), c.ahead, "calibrate.ahead")
    stretch = np.column_stack([some.contexts, some.futures])
    return Laws(
        {
            t: law_ahead.fit(
                cache.ahead(stretch[:, :t], some.heights, c.ahead),
                stretch[:, t : t + c.ahead].cumsum(1),
            )
            for t in p.contexts
        }
    )


def sample_ahead(
    windows: Windows,
    network: SpacingMDN,
    p: params.Evaluate,
    c: params.Calibrate,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Sampled rollouts of a network at the horizons of `p` up to `c.ahead`, after the first of its
    contexts.

    Returns
    -------
    samples, truth : by horizon, shapes (trajectories, draws) and (trajectories,)
        Cumulative spacings from the last zero known, in mean spacings.
    """
    horizons = [h for h in p.horizons if h <= c.ahead]
    if not horizons:
        return {}, {}
    some = stretches.stretches(windows, c.trajectories, p.contexts[0], max(horizons))
    rolled = rollout.rollout(
        interventions.forecaster(network, fade=p.fade, gate=p.gate),
        some.contexts,
        some.heights,
        max(horizons),
        mean=False,
        draws=c.draws,
        seed=p.seed,
    )
    samples, true = rolled.draws.cumsum(2), some.futures.cumsum(1)
    return (
        {str(h): samples[:, :, h - 1] for h in horizons},
        {str(h): true[:, h - 1] for h in horizons},
    )
