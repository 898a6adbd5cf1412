"""What is done to memory in rollouts: it fades, or a gate closes it (docs/reference.md, 1.2).

Both change rollouts only; scores of single forecasts are those of the model as trained.
"""

from __future__ import annotations

from zetalib import params
from zetalib.forecasting.decoding import Decoder
from zetalib.forecasting.forecasts import next_spacing
from zetalib.forecasting.rollout import Forecaster
from zetalib.inverse.extrapolate import Coasting
from zetalib.network.memory import Intervention
from zetalib.network.model import SpacingMDN


def forecasters(network: SpacingMDN, p: params.Evaluate) -> Forecaster | list[Forecaster]:
    """The model as it is run in rollouts: one forecaster for all steps, or one for each.

    With `p.fade` below 1, memory contributes fade^h at step h (0-based); with `p.gate` what it
    contributes is scaled by :func:`zetalib.network.model.similarity_gate` of each context. Both
    change what was made of the spacings before, as a leaky mask does: no keys can be kept then, and
    every step is a pass over the whole context.
    """
    steps = max(p.horizons)
    coasting = Coasting(network.known, steps) if network.config.inversion else None
    if p.fade == 1.0 and not p.gate and network.memory_config.mask == "causal":
        return Decoder(network, coasting)
    fades = [1.0] if p.fade == 1.0 else [p.fade**h for h in range(steps)]
    run = [next_spacing(network, Intervention(fade=fade), p.gate, coasting) for fade in fades]
    return run[0] if p.fade == 1.0 else run
