"""What is done to memory in rollouts: it fades, or a gate closes it (REFERENCE 1.2, remedies).

Both change rollouts only; scores of single forecasts are those of the model as trained.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zetalib import params
from zetalib.forecasts import next_spacing
from zetalib.mixture import Mixture
from zetalib.model import Intervention, SpacingMDN, Trace
from zetalib.rollout import Forecaster
from zetalib.window import Windows

Floats = NDArray[np.float64]

CENTROID_WINDOWS = 256  # evenly spread over the training windows


def forecasters(
    network: SpacingMDN, p: params.Evaluate, training: Windows
) -> Forecaster | list[Forecaster]:
    """The model as it is run in rollouts: one forecaster for all steps, or one for each.

    With `p.fade` below 1, memory contributes fade^h at step h (0-based). With `p.gate` what it
    contributes is scaled by the cosine, cut at 0, between the last hidden state and the mean of
    the training windows' hidden states after as many spacings.
    """
    centre = centroid(network, training, p.context) if p.gate else None
    if p.fade == 1.0:
        return next_spacing(network) if centre is None else _gated(network, 1.0, centre)
    fades = [p.fade**h for h in range(max(p.horizons))]
    if centre is None:
        return [next_spacing(network, Intervention(fade=fade)) for fade in fades]
    return [_gated(network, fade, centre) for fade in fades]


def centroid(network: SpacingMDN, training: Windows, context: int) -> Tensor:
    """Mean hidden state, shape (width,), after the first `context` spacings of training windows."""
    chosen = torch.linspace(0, len(training) - 1, min(len(training), CENTROID_WINDOWS)).long()
    spacing, height = training.spacing[chosen, :context], training.heights()[chosen]
    return _last_hidden(network, spacing, height).mean(0)


@torch.no_grad()
def _last_hidden(network: SpacingMDN, spacing: Tensor, height: Tensor) -> Tensor:
    """Hidden state after the last spacing, shape (B, width)."""
    network.eval()
    device = next(network.parameters()).device
    trace = Trace()
    last = torch.tensor([spacing.shape[1] - 1], device=device)
    network(spacing.to(device, torch.float32), height.to(device), at=last, trace=trace)
    return trace.hidden[-1][:, -1]


def _gated(network: SpacingMDN, fade: float, centre: Tensor) -> Forecaster:
    def forecast(context: Floats, height: Floats) -> Mixture:
        state = _last_hidden(network, torch.from_numpy(context), torch.from_numpy(height))
        gate = F.cosine_similarity(state, centre, dim=-1).clamp(min=0.0)
        return next_spacing(network, Intervention(fade=fade, gate=gate))(context, height)

    return forecast
