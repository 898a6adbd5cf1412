"""What is done to memory in rollouts: it fades, or a gate closes it (docs/reference.md, 1.2).

Both change rollouts only; scores of single forecasts are those of the model as trained.
"""

from __future__ import annotations

from zetalib.forecasting.decoding import Decoder, Forecaster, Recomputed
from zetalib.forecasting.forecasts import next_spacing
from zetalib.inverse.solutions import SolutionCache
from zetalib.network.memory import Intervention
from zetalib.network.model import SpacingMDN


def forecaster(
    network: SpacingMDN,
    cache: SolutionCache | None = None,
    *,
    fade: float = 1.0,
    gate: bool = False,
    intervene: Intervention | None = None,
) -> Forecaster:
    """The model as it is run in rollouts.

    With `fade` below 1, memory contributes fade^h at step h (0-based); with `gate` what it
    contributes is scaled by :func:`zetalib.network.model.similarity_gate` of each context. These,
    like any other intervention and a leaky mask, change what was made of the spacings before: no
    keys can be kept then, and every step is a pass over the whole context.

    `cache`: what is solved already, for a model that starts from solutions.
    """
    changed = fade != 1.0 or gate or intervene is not None
    if not changed and network.memory_config.mask == "causal":
        return Decoder(network, cache)
    if network.config.inversion:
        cache = SolutionCache() if cache is None else cache
    run = next_spacing(network, intervene, gate, fade)
    return Recomputed(run, network.context, cache if network.config.inversion else None)
