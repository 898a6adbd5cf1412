"""Where a spacing stands: rotary positions by index, and by the primes.

A rotary head turns the i-th pair of its queries and keys by the angle omega_i x, x the offset of
the token, so that attention sees differences of offsets only.

- index: x is the number of the spacing, omega geometric from 1 down (Su et al., RoFormer, 2021).
- arithmetic (docs/reference.md, 2.4): x = tau_j = (s_1 + ... + s_j)/rho(T), the height of the
  zero that closes spacing j above the window's first zero, and omega = log p: the frequencies of
  the explicit formula S(t) ~ -(1/pi) sum_p sin(t log p)/sqrt(p). Values are turned too, and what
  attention gathers is turned back into the query's frame, so that a layer can form
  sum_j v_j cos((tau_i - tau_j) log p), a step of the Gaussian-process forecast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zetalib import params
from zetalib.theory.primes import first_primes

LADDER = (6.0, 0.02)  # radians a unit of height: the pairs that have no prime
# A learning rate moves weights of order one; frequencies differ by 2 pi/(length of a window).
RESOLUTION = 0.02

Rotation = tuple[Tensor, Tensor]  # cosine and signed sine, (B or 1, L, 1, H or 1, d)


def index_frequencies(pairs: int) -> Tensor:
    """10000^(-i/pairs), float64, shape (1, pairs): the same for all heads."""
    i = torch.arange(pairs, dtype=torch.float64)
    return (10_000.0 ** (-i / pairs))[None]


def arithmetic_frequencies(config: params.Model) -> Tensor:
    """Log primes, then the ladder, dealt to the heads in turn.

    Returns
    -------
    float64 tensor, shape (heads, pairs)
        Radians a unit of height. With `frequencies: random` or `learnable_random` (controls) the
        log primes are replaced by draws of torch's generator, uniform between the least and the
        greatest of them.
    """
    pairs = config.width // config.heads // 2
    first = torch.tensor(first_primes(config.primes), dtype=torch.float64).log()
    if config.frequencies in ("random", "learnable_random") and config.primes:
        low, high = math.log(2), float(first[-1])
        first = low + (high - low) * torch.rand(config.primes, dtype=torch.float64)
    rungs = pairs * config.heads - config.primes
    top, bottom = (math.log10(end) for end in LADDER)
    ladder = torch.logspace(top, bottom, rungs, dtype=torch.float64)
    return torch.cat([first, ladder]).reshape(pairs, config.heads).T.contiguous()


def log_height(height: Tensor) -> Tensor:
    """Log of heights, shape (B,), at unit scale over the range of the archive: (B, 1), float32."""
    return ((height.double().log() - 13) / 2).float()[:, None]


class Rotary(nn.Module):
    """Rotations by frequency times offset.

    Parameters
    ----------
    config : zetalib.params.Model
        With `positions` index or arithmetic. `frequencies: learnable` starts at log p,
        `learnable_random` where `random` stays.
    """

    base: Tensor

    def __init__(self, config: params.Model) -> None:
        super().__init__()
        arithmetic = config.positions == "arithmetic"
        pairs = config.width // config.heads // 2
        frequencies = arithmetic_frequencies(config) if arithmetic else index_frequencies(pairs)
        self.register_buffer("base", frequencies)
        # Those that are a log p, or stand in the place of one.
        place = torch.arange(frequencies.numel()).reshape(pairs, -1).T
        self.of_primes = place < (config.primes if arithmetic else 0)
        self.shift: nn.Parameter | None = None
        if config.frequencies.startswith("learnable"):
            self.shift = nn.Parameter(torch.zeros(frequencies.shape))

    def frequencies(self) -> Tensor:
        """Float64, shape (H, pairs), or (1, pairs) when all heads share them."""
        return self.base if self.shift is None else self.base + RESOLUTION * self.shift.double()

    def forward(self, offset: Tensor) -> Rotation:
        """Rotations at offsets, shape (B or 1, L), float64.

        Whole turns are taken off in float64: angles reach thousands of radians, and are right to
        1e-6 whatever the precision of the network.
        """
        with torch.autocast(offset.device.type, enabled=False):
            turns = offset[:, :, None, None, None] * (self.frequencies() / (2 * math.pi))
            angle = 2 * math.pi * (turns - turns.detach().round()).float()
            cos, sin = angle.cos(), angle.sin()
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def rotate(x: Tensor, rotation: Rotation, back: bool = False) -> Tensor:
    """Turn pairs (i, i + d/2) of the last dimension of `x`, shape (B, L, n, H, d), or turn back.

    The result is float32 at least: rounding angles to bfloat16 would lose the position.
    """
    cos, sin = rotation
    half = x.shape[-1] // 2
    if torch.compiler.is_compiling():  # roll would become scalar code in bfloat16 on a CPU
        turned = torch.cat([x[..., half:], x[..., :half]], -1)
    else:
        turned = x.roll(half, -1)
    return torch.addcmul(x * cos, turned, sin, value=-1 if back else 1)
