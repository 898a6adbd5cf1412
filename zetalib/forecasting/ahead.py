"""Where the zeros beyond the next one may lie: sampled rollouts at some horizons."""

from __future__ import annotations

from zetalib import params
from zetalib.data.window import Windows
from zetalib.forecasting import interventions, rollout, stretches
from zetalib.inverse.solutions import SolutionCache
from zetalib.network.model import SpacingMDN
from zetalib.types import Floats


def sample_ahead(
    windows: Windows,
    network: SpacingMDN,
    p: params.Evaluate,
    c: params.Calibrate,
    cache: SolutionCache | None = None,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Sampled rollouts at the horizons of `p` up to `c.ahead`, after the first of its contexts.

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
        interventions.forecaster(network, cache, fade=p.fade, gate=p.gate),
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
