"""From what the inverse problem says of the next zero to a density: a network on each solution.

It is told nothing but how well the problem is solved: forecasts, their deviations, misfit, and how
wrong the last forecast was. So the same weights serve any height and any length of window.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zetalib.inverse.solutions import Solution

SCALE = 0.41  # std of spacings: inputs reach the network at unit scale
FEATURES = 11  # of a solution
WIDTH = 128  # of both hidden layers. 64 were 0.01 nats worse on the calibration split
# Gaussians about the fine forecast and about the middle one; their deviations to begin with, as
# logs in the unit of the forecast's own, before softplus.
FINE, MIDDLE = 4, 2
MARGINAL = 3  # Gaussians of the marginal density

Forecast = tuple[Tensor, Tensor, Tensor]  # log_pi, mu, sigma, each (B, P, K)


class Experts(NamedTuple):
    """Forecasts, each (B, T, K) with a K of its own, from the least to the most that is taken in.

    Attributes
    ----------
    marginal : the density of spacings, whatever came before
    alone : what the network says of the spacings
    informed : with the solutions of the inverse problem; the Gaussians of `alone` come first
    """

    marginal: Forecast
    alone: Forecast
    informed: Forecast


class Marginal(nn.Module):
    """The density of spacings, whatever came before: a few Gaussians."""

    def __init__(self, sigma_floor: float) -> None:
        super().__init__()
        self.sigma_floor = sigma_floor
        self.parameters_of_gaussians = nn.Parameter(torch.empty(3, MARGINAL))

    def start(self) -> None:
        """Begin spread over where spacings are."""
        with torch.no_grad():
            self.parameters_of_gaussians.zero_()
            self.parameters_of_gaussians[1] = torch.linspace(0.6, 1.5, MARGINAL)
            self.parameters_of_gaussians[2] = -1.0

    def forward(self, spacing: Tensor) -> Forecast:
        """The same after every one of spacings (B, T)."""
        log_pi, mu, sigma = self.parameters_of_gaussians.double()
        parts = F.log_softmax(log_pi, -1), mu, F.softplus(sigma) + self.sigma_floor
        log_pi, mu, sigma = (part.expand(*spacing.shape, -1) for part in parts)
        return log_pi, mu, sigma


class SolutionDensity(nn.Module):
    """Density of the next spacing around the forecasts of the inverse problem.

    Gaussians whose means and deviations are in the deviations of the fine forecast or the middle
    one, and a weight for whatever another forecast says.
    """

    spread: Tensor

    def __init__(self, sigma_floor: float) -> None:
        super().__init__()
        self.sigma_floor = sigma_floor
        own = FINE + MIDDLE
        self.layers = nn.Sequential(
            nn.Linear(2 * FEATURES, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU()
        )
        self.head = nn.Linear(WIDTH, 3 * own + 1)
        self.register_buffer("spread", torch.ones(()))  # set after training: params.Train.rescale

    def start(self) -> None:
        """Weights to begin training with: PyTorch's, and Gaussians about the two forecasts."""
        own = FINE + MIDDLE
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        with torch.no_grad():
            self.head.weight *= 0.1
            bias = torch.zeros(3, own)
            bias[2, :FINE] = torch.linspace(-1.5, 2.0, FINE)
            bias[2, FINE:] = torch.linspace(-0.5, 1.0, MIDDLE)
            self.head.bias.copy_(torch.cat([bias.flatten(), torch.zeros(1)]))

    def forward(
        self,
        spacing: Tensor,
        solution: Solution,
        alone: Forecast,
        earlier: Solution | None = None,
        known: Tensor | None = None,
    ) -> tuple[Forecast, Tensor]:
        """Forecast after every position.

        Parameters
        ----------
        spacing : float64 tensor, shape (B, T)
        solution : fields are float64 tensors, shape (B, T)
        alone : what the network says without the solutions, shapes (B, T, K)
        earlier : fields of shape (B, 1), the solution before the first; None: there is none
        known : float32 tensor, shape (B, 1, 11)
            Features of the token before the first; None: there is none.

        Returns
        -------
        log_pi, mu, sigma : float64 tensors, shape (B, T, K + 6)
            The Gaussians of `alone` first.
        features : (B, 1, 11), of the last token
        """
        new = features(spacing, solution, earlier)
        before = torch.zeros_like(new[:, :1]) if known is None else known
        both = torch.cat([new, torch.cat([before, new[:, :-1]], 1)], -1)
        found = self.head(self.layers(both)).double()
        own = FINE + MIDDLE
        log_pi, mu, sigma = found[..., : 3 * own].chunk(3, -1)
        log_pi = F.log_softmax(torch.cat([log_pi, found[..., -1:]], -1), -1)
        sigma = self.spread * (F.softplus(sigma) + self.sigma_floor)
        anchor = _repeat(solution.fine, solution.middle)
        unit = _repeat(solution.fine_sd, solution.middle_sd)
        forecast = (
            torch.cat([alone[0] + log_pi[..., -1:], log_pi[..., :-1]], -1),
            torch.cat([alone[1], anchor + unit * mu], -1),
            torch.cat([alone[2], unit * sigma], -1),
        )
        return forecast, new[:, -1:]


def _repeat(fine: Tensor, middle: Tensor) -> Tensor:
    """One column for each Gaussian of its own, (..., 6)."""
    parts = [fine[..., None].expand(*fine.shape, FINE)]
    parts.append(middle[..., None].expand(*middle.shape, MIDDLE))
    return torch.cat(parts, -1)


def features(spacing: Tensor, solution: Solution, earlier: Solution | None = None) -> Tensor:
    """Describe the solution of the inverse problem to a token, at about unit scale.

    The three forecasts, logs of their deviations, how far they lie apart, the misfit, and how far
    the forecasts made one position earlier were from this token's spacing.

    Parameters
    ----------
    spacing : shape (B, T)
    solution : fields of shape (B, T)
    earlier : fields of shape (B, 1)
        That before the first of them; None: there is none.

    Returns
    -------
    float32 tensor, shape (B, T, 11)
        Row t depends on rows up to t of both.
    """
    means = torch.stack([solution.fine, solution.middle, solution.coarse], -1)
    sds = torch.stack([solution.fine_sd, solution.middle_sd, solution.coarse_sd], -1)
    if earlier is None:
        before, width = (F.pad(part[:, :-1, :2], (0, 0, 1, 0), value=1.0) for part in (means, sds))
    else:
        first = torch.stack([earlier.fine, earlier.middle], -1)
        before = torch.cat([first, means[:, :-1, :2]], 1)
        first = torch.stack([earlier.fine_sd, earlier.middle_sd], -1)
        width = torch.cat([first, sds[:, :-1, :2]], 1)
    surprise = (spacing[..., None] - before) / width
    parts = [
        (means - 1) / SCALE,
        sds.log() / 4 + 1,
        torch.asinh((solution.middle - solution.fine) / solution.middle_sd)[..., None],
        torch.asinh((solution.coarse - solution.fine) / solution.coarse_sd)[..., None],
        (torch.log1p(solution.misfit) / 4 - 1)[..., None],
        torch.asinh(surprise) / 2,
    ]
    return torch.cat(parts, -1).float()
