"""Which forecast to trust: what knows the zeros of zeta, the network alone, or spacings as such.

Each expert forecasts every spacing of a window, and what came says which to believe. After a
spacing, Bayes' rule multiplies the weight of each by the density that it gave it; then a share of
all weight is dealt out evenly ("fixed share": Herbster and Warmuth, Machine Learning 32 (1998),
151), so that no expert is ever ruled out. So M experts together score no worse on a window of T
targets than the best of them by more than log M - T log(1 - share + share / M) nats. On points
that are no zeros of zeta, solutions of the inverse problem mean nothing, nor does what a network
has learned from zeros: then the others are what is left.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from zetalib.network.solution_density import Experts, Forecast

LEAST = -1e6  # log density of a spacing, at the least: a miss is a miss


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
def log_weights(
    experts: Experts, spacing: Tensor, share: float, before: tuple[Experts, Tensor] | None = None
) -> Tensor:
    """Log weights of the experts after each position, from the spacings up to there.

    Parameters
    ----------
    experts : forecasts after each position, (B, T, K)
    spacing : shape (B, T)
    share : of all weight that is dealt out evenly after each spacing
    before : forecasts after the position before the first, (B, 1, K), and their log weights,
        (B, 1, M); None: there is none, and the first spacing was not forecast

    Returns
    -------
    float64 tensor, shape (B, T, M)
    """
    even = -math.log(len(experts))
    found, columns, scores = [], spacing, []
    if before is None:
        found.append(np.full((len(spacing), len(experts)), even))
        columns = spacing[:, 1:]
    for i, expert in enumerate(experts):
        made = select(expert, slice(None, -1))
        if before is not None:
            log_pi, mu, sigma = (
                torch.cat(parts, 1) for parts in zip(before[0][i], made, strict=True)
            )
            made = log_pi, mu, sigma
        scores.append(log_density(made, columns).double().nan_to_num(nan=LEAST).clamp(min=LEAST))
    weight = found[-1] if before is None else before[1][:, -1].double().cpu().numpy()
    for score in torch.stack(scores, -1).cpu().numpy().swapaxes(0, 1):
        weight = np.logaddexp(
            math.log1p(-share) + log_softmax(weight + score, -1), math.log(share) + even
        )
        found.append(weight)
    return torch.from_numpy(np.stack(found, 1)).to(spacing.device)


def weigh(experts: Experts, log_weight: Tensor) -> Forecast:
    """The experts in one forecast (B, T, K), with their log weights (B, T, M)."""
    marginal, alone, informed = experts
    k = alone[0].shape[-1]
    of_marginal, of_alone, of_informed = (log_weight[..., i : i + 1] for i in range(3))
    log_pi = informed[0] + of_informed
    parts = [
        marginal[0] + of_marginal,
        torch.logaddexp(log_pi[..., :k], alone[0] + of_alone),
        log_pi[..., k:],
    ]
    return (
        torch.cat(parts, -1),
        torch.cat([marginal[1], informed[1]], -1),
        torch.cat([marginal[2], informed[2]], -1),
    )
