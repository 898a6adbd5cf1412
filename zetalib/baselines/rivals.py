"""Forecasters of the next spacing that are no networks, for the same targets.

Each is fitted to windows of the training range and then forecasts positions 2 ... T of windows
from their earlier spacings and rounded heights, as the network does: `fit_*` returns a function
from windows to densities of the targets, window after window (of an autoregression, an object).

- the marginal density of spacings, and the GUE surmise: they look at nothing;
- the sine process given the last gaps (:mod:`zetalib.baselines.sine_process`): what random matrices
  know;
- the explicit formula (:mod:`zetalib.baselines.explicit_formula`): a Gaussian process over the
  primes.
"""

from __future__ import annotations

import numpy as np

from zetalib.baselines import sine_process
from zetalib.baselines.autoregression import Rival
from zetalib.data.window import Windows
from zetalib.densities.histogram import Gridded
from zetalib.theory import zeta
from zetalib.types import Floats

EDGES = np.linspace(0, 5, 126)  # of the densities that look at nothing, in mean spacings


def fit_marginal(windows: Windows) -> Rival:
    """The histogram of the spacings; cells nobody fell into get half a count."""
    counts = np.histogram(windows.spacing.numpy(), EDGES)[0] + 0.5
    return _constant(counts / counts.sum())


def surmise() -> Rival:
    """Wigner's surmise for GUE, nothing fitted."""
    middle = 0.5 * (EDGES[1:] + EDGES[:-1])
    mass = zeta.gue_surmise(middle)
    return _constant(mass / mass.sum())


def _constant(mass: Floats) -> Rival:
    def forecast(windows: Windows) -> Gridded:
        m = len(windows) * (windows.spacing.shape[1] - 1)
        return Gridded(EDGES, np.broadcast_to(mass, (m, len(mass))))

    return forecast


def by_sine_process(gaps: int) -> Rival:
    """The sine process given the last `gaps` spacings, or as many as are known."""

    def forecast(windows: Windows) -> Gridded:
        past = windows.spacing.numpy()[:, :-1]
        count, known = past.shape
        mass = np.empty((count, known, len(sine_process.EDGES) - 1))
        for k in range(1, min(gaps, known)):
            mass[:, k - 1] = sine_process.density(past[:, :k]).mass
        if known >= gaps:
            seen = np.lib.stride_tricks.sliding_window_view(past, gaps, axis=1)
            found = sine_process.density(np.ascontiguousarray(seen.reshape(-1, gaps))).mass
            mass[:, gaps - 1 :] = found.reshape(count, known - gaps + 1, -1)
        return Gridded(sine_process.EDGES, mass.reshape(count * known, -1))

    return forecast
