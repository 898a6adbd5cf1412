"""Whether to trust the inverse problem: the forecast that uses it against the one that does not.

Both forecast every spacing of a window, and what came says which to believe. After spacing t, with
densities p_t (informed) and q_t (alone) of it, Bayes' rule gives the odds w p_t / ((1 - w) q_t) of
the informed one; of that weight a share is then exchanged ("fixed share": Herbster and Warmuth,
Machine Learning 32 (1998), 151), so that neither is ever ruled out. A window of T targets scores no
worse than the better of the two by more than log 2 + T share nats. On points that are no zeros of
zeta the solutions mean nothing, and the network alone is what is left.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor

from zetalib.network.solution_density import Experts, Forecast

MOST = 700.0  # nats that one spacing moves the odds by: exp of more is no float64


def select(forecast: Forecast, part: Any) -> Forecast:
    """Some positions of a forecast (B, T, K)."""
    log_pi, mu, sigma = (values[:, part] for values in forecast)
    return log_pi, mu, sigma


def log_density(forecast: Forecast, y: Tensor) -> Tensor:
    """Log density at `y`, shape (B, T), of a forecast (B, T, K)."""
    log_pi, mu, sigma = forecast
    z = (y[..., None] - mu) / sigma
    return torch.logsumexp(log_pi - 0.5 * z**2 - sigma.log(), -1) - 0.5 * math.log(2 * math.pi)


@torch.compiler.disable
def log_odds(
    experts: Experts, spacing: Tensor, share: float, before: tuple[Experts, Tensor] | None = None
) -> Tensor:
    """Log odds of the informed forecast after each position, from the spacings up to there.

    Parameters
    ----------
    experts : forecasts after each position, (B, T, K)
    spacing : shape (B, T)
    share : of the weight that is exchanged after each spacing
    before : forecasts after the position before the first, (B, 1, K), and their odds, (B, 1);
        None: there is none, and the first spacing was not forecast

    Returns
    -------
    float64 tensor, shape (B, T)
    """
    earlier = [select(forecast, slice(None, -1)) for forecast in experts]
    y = spacing[:, 1:]
    if before is not None:
        last, odds = before
        earlier = [
            tuple(torch.cat(parts, 1) for parts in zip(a, b, strict=True))  # type: ignore[misc]
            for a, b in zip(last, earlier, strict=True)
        ]
        y = spacing
        log_odds_now = odds[:, 0].double().cpu().numpy()
    else:
        log_odds_now = np.zeros(len(spacing))
    alone, informed = (log_density(forecast, y).double() for forecast in earlier)
    gain = (informed - alone).nan_to_num(0.0).clamp(-MOST, MOST).cpu().numpy()
    found = [] if before is not None else [log_odds_now]
    for column in gain.T:
        weight = expit(np.clip(log_odds_now + column, -MOST, MOST))
        log_odds_now = logit(share + (1 - 2 * share) * weight)
        found.append(log_odds_now)
    return torch.from_numpy(np.stack(found, 1)).to(spacing.device)


def weigh(experts: Experts, odds: Tensor) -> Forecast:
    """Both forecasts in one, (B, T, K + 6), the informed one with log odds (B, T)."""
    alone, informed = experts
    k = alone[0].shape[-1]
    log_informed = torch.nn.functional.logsigmoid(odds)[..., None]
    log_alone = torch.nn.functional.logsigmoid(-odds)[..., None]
    log_pi = informed[0] + log_informed
    both = torch.logaddexp(log_pi[..., :k], alone[0] + log_alone)
    return torch.cat([both, log_pi[..., k:]], -1), informed[1], informed[2]
