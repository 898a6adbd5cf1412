"""How exact spacings are, from what they say: the noise of the equations, and stretches with it.

Zeros may be given to all their digits, or rounded, or measured. The solver takes the residuals of
its equations to have a standard deviation, its noise. Where that is too small for the spacings, no
solution fits them: the misfit shows it. Then the noise is the one under which they are the most
likely. With J the derivatives of the residuals by the n zeros, in prior standard deviations of the
unknowns, and b their targets (:mod:`zetalib.inverse.least_squares`), Laplace's approximation to the
log probability of a stretch is, but for a constant,

    -1/2 b^T (J J^T + sigma^2)^-1 b - 1/2 log det(J J^T + sigma^2),

the first term being half of the misfit, and the determinant the square of that of R.
"""

from __future__ import annotations

import math

import numpy as np

from zetalib.compute import map_threads
from zetalib.inverse.riemann_siegel_model import COUNT
from zetalib.inverse.solver import (
    COLUMNS,
    LOWEST_NOISE,
    MISFIT,
    SD,
    SPACING,
    SequentialSolver,
)
from zetalib.types import Floats

# Noises that are tried: half a decade apart, from the least that any solver takes.
CANDIDATES = LOWEST_NOISE * 10.0 ** (0.5 * np.arange(14))
# Where exact zeros are solved at height 10^6 twice over, and this deviation is not reached: the
# noise may be too small for any solution to be found.
LONG, UNSOLVED_SD = 64, 0.02
# A stretch is suspect where its misfit is more than so many a zero (exact zeros: one or less once
# solved, 30 on the way), or where a forecast missed by so many deviations. Not tuned.
SUSPECT, MISS = 4.0, 6.0
# The noise of one that was suspect is estimated after so many zeros at the earliest and again after
# each quarter more, until it is the least again. With fewer zeros hardly any noise shows.
FEW, AGAIN = 24, 1.25
# Nats by which a noise must be likelier than the least: what looks like noise early may be a
# solution that is not the true one.
BETTER = 6.0


def log_evidence(solver: SequentialSolver) -> float:
    """Log probability of a stretch under the solver's last noise, but for a constant.

    -inf where no solution passes it.
    """
    state, n, unknowns = solver.state, int(solver.state.scalars[COUNT]), len(solver.state.x)
    noise = solver.noise
    if noise > solver.noise_levels[-1]:
        return -math.inf
    if n <= unknowns:
        log_det = 2 * np.log(np.abs(state.diagonal[:n])).sum()
    else:
        log_det = 2 * np.log(np.abs(state.triangle.diagonal()[:unknowns])).sum()
        log_det += 2 * (n - unknowns) * math.log(noise)
    return float(-0.5 * solver.misfit - 0.5 * log_det)


def is_suspect(solver: SequentialSolver) -> bool:
    """Whether a stretch solved once does not fit the noise, or is not solved though it is long."""
    zeros = int(solver.state.scalars[COUNT])
    unsolved = solver.noise > solver.noise_levels[-1] and zeros >= LONG
    return bool(unsolved or solver.misfit > SUSPECT * zeros)


def estimate(spacing: Floats, height: float) -> float:
    """The noise under which a stretch (T,) is the most likely, of `CANDIDATES`.

    The least, if no other is likelier by `BETTER` nats.
    """
    values: list[float] = []
    for noise in CANDIDATES:
        solver = SequentialSolver(height, len(spacing), noise=float(noise))
        solver.append(spacing, len(spacing) - 1)
        values.append(log_evidence(solver))
        if max(values) > -math.inf and len(values) > np.argmax(values) + 3:
            break  # less and less likely
    best = int(np.argmax(values))
    return float(CANDIDATES[best if values[best] > values[0] + BETTER else 0])


def follow(spacing: Floats, height: float, noise: float | None = None) -> Floats:
    """Forecast along one stretch: as :func:`zetalib.inverse.solver.follow`, (T, 7).

    Row t is from spacings 0 ... t alone, the noise too.

    Parameters
    ----------
    noise : standard deviation of the zeros' places, in mean spacings; None: estimated
    """
    if noise is not None:
        return _followed(spacing, height, max(noise, LOWEST_NOISE), 0)
    least = LOWEST_NOISE
    found, level, start = _followed(spacing, height, least, 0), least, 0
    zeros = np.arange(len(spacing)) + 2
    again = float(FEW)
    while True:
        suspect = found[:, MISFIT] > SUSPECT * zeros
        missed = np.abs(spacing[1:] - found[:-1, SPACING]) > MISS * found[:-1, SD]
        suspect[1:] |= missed
        suspect |= level > least
        suspect |= (found[:, SD] > UNSOLVED_SD) & (zeros >= LONG)
        suspect[: start + 1] = False
        suspect &= zeros >= again
        if not suspect.any():
            return found
        start = int(suspect.argmax())
        again = zeros[start] * AGAIN
        better = estimate(spacing[: start + 1], height)
        if better != level:
            level = better
            found[start:] = _followed(spacing, height, level, start)


def _followed(spacing: Floats, height: float, noise: float, start: int) -> Floats:
    """Forecasts after spacings `start` ... of a stretch with a noise."""
    return SequentialSolver(height, len(spacing), noise=noise).append(spacing, start)


def forecasts(spacing: Floats, height: Floats, noise: float | None = None) -> Floats:
    """Forecast along many stretches (W, T) with heights (W,), in threads: shape (W, T, 7)."""
    calls = [(s, h, noise) for s, h in zip(spacing, height.tolist(), strict=True)]
    rows = map_threads(calls, follow)
    return np.stack(rows) if rows else np.empty((*spacing.shape, len(COLUMNS)))
