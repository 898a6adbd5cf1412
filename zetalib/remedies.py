"""What is done to memory in rollouts: it fades, or a gate closes it (REFERENCE 1.2, remedies).

Both change rollouts only; scores of single forecasts are those of the model as trained.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from zetalib import params
from zetalib.forecasts import next_spacing
from zetalib.memory import Intervention
from zetalib.mixture import Mixture
from zetalib.model import SpacingMDN, similarity_gate
from zetalib.rollout import Forecaster

Floats = NDArray[np.float64]


def forecasters(network: SpacingMDN, p: params.Evaluate) -> Forecaster | list[Forecaster]:
    """The model as it is run in rollouts: one forecaster for all steps, or one for each.

    With `p.fade` below 1, memory contributes fade^h at step h (0-based); with `p.gate` what it
    contributes is scaled by :func:`zetalib.model.similarity_gate` of each context.
    """
    run = _gated if p.gate else _faded
    if p.fade == 1.0:
        return run(network, 1.0)
    return [run(network, p.fade**h) for h in range(max(p.horizons))]


def _faded(network: SpacingMDN, fade: float) -> Forecaster:
    return next_spacing(network, Intervention(fade=fade))


def _gated(network: SpacingMDN, fade: float) -> Forecaster:
    device = next(network.parameters()).device

    def forecast(context: Floats, height: Floats) -> Mixture:
        spacing = torch.from_numpy(context).to(device, network.takes)
        gate = similarity_gate(network.eval(), spacing, torch.from_numpy(height).to(device))
        return next_spacing(network, Intervention(fade=fade, gate=gate))(context, height)

    return forecast
