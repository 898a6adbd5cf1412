"""Where the zeros beyond the next one may lie: sampled rollouts at some horizons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zetalib import params
from zetalib.data.window import Windows
from zetalib.forecasting import interventions, rollout
from zetalib.network.model import SpacingMDN

Floats = NDArray[np.float64]


def sample_ahead(
    windows: Windows, network: SpacingMDN, p: params.Evaluate, c: params.Calibrate
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
    some = rollout.stretches(windows, c.trajectories, p.contexts[0], max(horizons))
    samples = rollout.draws(
        interventions.forecasters(network, p.model_copy(update={"horizons": horizons})),
        some.contexts,
        some.heights,
        max(horizons),
        c.draws,
        p.seed,
        network.context,
    )
    true = some.futures.cumsum(1)
    return (
        {str(h): samples[:, :, h - 1] for h in horizons},
        {str(h): true[:, h - 1] for h in horizons},
    )
