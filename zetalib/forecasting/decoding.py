"""A network along growing contexts: one row a layer for each spacing, keys and values kept.

A causal pass gives a spacing's keys and values once and for all: what follows does not move them.
That holds while positions count from the context's first zero; a context that has grown to what
the network takes keeps its newer half (rounded down), which is read once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from zetalib.densities.mixture import Mixture
from zetalib.forecasting.forecasts import to_mixture
from zetalib.inverse.solutions import Extrapolation, Solution, SolutionCache
from zetalib.network.attention import KVCache
from zetalib.network.model import SpacingMDN
from zetalib.types import Floats

# Contexts whose keys are kept at a time: fewer, and what does not grow with them weighs more; more,
# and their keys leave the cache of the processor.
ROWS = 128


class Forecaster(Protocol):
    """What forecasts the next spacing of contexts that grow by one spacing at a time."""

    def prepare(self, contexts: Floats, heights: Floats, steps: int) -> None:
        """Do what is done once for contexts, however they go on, and is shared by processes."""

    def begin(self, contexts: Floats, heights: Floats, steps: int, copies: int = 1) -> Mixture:
        """Forecast what follows contexts (B, T): mixtures (copies B, K), copies in a row.

        `heights`, (B,), are rounded ones of the contexts' first zeros. They are not moved on when
        a context loses its beginning: a rollout is far shorter than what rounding hides. `steps`
        spacings may follow.
        """

    def step(self, spacing: Floats) -> Mixture:
        """Take on one spacing each, (copies B,), and forecast what follows."""


class Growing:
    """Contexts (copies B, T) that grow by a spacing each, solved ahead where a cache is given.

    Once they are as long as a forecaster takes they keep their newer half.
    """

    def __init__(
        self,
        contexts: Floats,
        heights: Floats,
        steps: int,
        copies: int,
        longest: int | None,
        cache: SolutionCache | None,
    ) -> None:
        self.spacing, self.heights = contexts.repeat(copies, 0), heights.repeat(copies)
        self._longest = longest
        self._solved = None
        if cache is not None:
            self._solved = Extrapolation(cache, contexts, heights, steps, copies)

    def grow(self, spacing: Floats) -> bool:
        """Take on one spacing each; whether the beginning was dropped for it."""
        held = self.spacing.shape[1]
        full = self._longest is not None and held >= self._longest
        kept = self.spacing[:, held - held // 2 :] if full else self.spacing
        self.spacing = np.column_stack([kept, spacing])
        if self._solved is not None:
            self._solved.step(spacing)
        return full

    def solution(self, spacings: int) -> Solution | None:
        """Solutions after each of the last so many spacings."""
        return None if self._solved is None else self._solved.recent(spacings)


# Contexts (B, T), heights, solutions if there are any, and steps so far to what follows, (B, K).
Whole = Callable[[Floats, Floats, Solution | None, int], Mixture]


class Recomputed:
    """A forecaster from a function of whole contexts.

    For what changes earlier rows, so that nothing of them can be kept.
    """

    def __init__(
        self, function: Whole, longest: int | None = None, cache: SolutionCache | None = None
    ) -> None:
        self._function, self._longest, self._cache = function, longest, cache

    def prepare(self, contexts: Floats, heights: Floats, steps: int) -> None:
        """As :meth:`Forecaster.prepare`."""
        if self._cache is not None:
            self._cache.prepare(contexts, heights, steps + 1)

    def begin(self, contexts: Floats, heights: Floats, steps: int, copies: int = 1) -> Mixture:
        """As :meth:`Forecaster.begin`."""
        self._contexts = Growing(contexts, heights, steps, copies, self._longest, self._cache)
        self._steps = 0
        return self._forecast()

    def step(self, spacing: Floats) -> Mixture:
        """As :meth:`Forecaster.step`."""
        self._contexts.grow(spacing)
        self._steps += 1
        return self._forecast()

    def _forecast(self) -> Mixture:
        spacing = self._contexts.spacing
        solution = self._contexts.solution(spacing.shape[1])
        return self._function(spacing, self._contexts.heights, solution, self._steps)


class Decoder:
    """A network as a forecaster.

    The numbers of a pass over the whole context, to rounding.

    Parameters
    ----------
    network : without a leaky mask, whose slots are moved by all that follows
    cache : what is solved already, with `config.inversion`
    """

    def __init__(self, network: SpacingMDN, cache: SolutionCache | None = None) -> None:
        if network.memory_config.mask == "leaky":
            raise ValueError("slots that see what follows have no keys to be kept")
        self.network = network.eval()
        self.device = next(network.parameters()).device
        self._solutions = None
        if network.config.inversion:
            self._solutions = SolutionCache() if cache is None else cache
        slots = 0 if network.memory is None else network.memory_config.slots
        self._room = network.context + slots

    def prepare(self, contexts: Floats, heights: Floats, steps: int) -> None:
        """As :meth:`Forecaster.prepare`."""
        if self._solutions is not None:
            self._solutions.prepare(contexts, heights, steps + 1)

    def begin(self, contexts: Floats, heights: Floats, steps: int, copies: int = 1) -> Mixture:
        """As :meth:`Forecaster.begin`."""
        longest = self.network.context
        self._contexts = Growing(contexts, heights, steps, copies, longest, self._solutions)
        solution, cache = self._contexts.solution(contexts.shape[1]), KVCache(self._room)
        if solution is not None:
            solution = solution.at(slice(None, None, copies))
        mixture = self._forecast(contexts, heights, solution, cache)
        self._cache = cache.repeat(copies) if copies > 1 else cache
        parts = (mixture.pi, mixture.mu, mixture.sigma)
        return Mixture(*(a.repeat(copies, 0) for a in parts))

    def step(self, spacing: Floats) -> Mixture:
        """As :meth:`Forecaster.step`."""
        new = spacing[:, None]
        if self._contexts.grow(spacing):
            self._cache, new = KVCache(self._room), self._contexts.spacing
        solution = self._contexts.solution(new.shape[1])
        return self._forecast(new, self._contexts.heights, solution, self._cache)

    @torch.inference_mode()
    def _forecast(
        self, spacing: Floats, heights: Floats, solution: Solution | None, cache: KVCache
    ) -> Mixture:
        """Add spacings (B, L) to the cache and forecast what follows the last."""
        x = torch.from_numpy(spacing).to(self.device, self.network.takes)
        h = torch.from_numpy(heights).to(self.device)
        last = torch.tensor([cache.spacings + spacing.shape[1] - 1], device=self.device)
        if solution is not None:
            solution = Solution(*(torch.from_numpy(part).to(self.device) for part in solution))
        log_pi, mu, sigma = self.network(x, h, solution, at=last, cache=cache)
        return to_mixture((log_pi[:, 0], mu[:, 0], sigma[:, 0]))
