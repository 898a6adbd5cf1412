"""Where spacings are from: their height from nothing but themselves, and forecasts without it.

The density of zeros sets how fast the waves of the primes go by: in the unfolded coordinate u, S at
the zeros, j - u_j, is made of frequencies log(p^k) / 2 pi rho with rho = log(T / 2 pi) / 2 pi. So
the height is looked for twice. The explicit formula for S (docs/reference.md, 2.3), linear with
Gaussian amplitudes, says how likely the spacings are at each of many heights, in closed form. Then
the inverse problem is solved at heights about the likeliest, and the solution under which the
spacings are the likeliest by far (:func:`zetalib.inverse.noise.log_evidence`) gives the height to
seven digits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from zetalib.compute import map_threads
from zetalib.inverse.noise import log_evidence
from zetalib.inverse.riemann_siegel_model import MAX_HEIGHT, MIN_HEIGHT
from zetalib.inverse.solver import COLUMNS, MISFIT, NO_ROOT, SequentialSolver
from zetalib.theory.primes import prime_powers
from zetalib.types import Floats

LARGEST = 120  # prime powers whose waves the coarse search knows
NOISE = 0.02  # variance of the rest of S at the zeros: docs/reference.md, 2.3
CONSTANT = 1.0  # prior variance of the constant in S
# Steps of log T: the waves of the largest prime powers turn by a radian over a stretch where log T
# is off by 2 pi rho / (h log p); half of that.
TURN = 0.5
BATCH = 64  # heights at a time
PEAKS = 8  # of the coarse search that are looked at closely
# Between trial heights of the solver, in log T: four fifths of two standard deviations of its
# prior, LOG_HEIGHT_SD; and how far from a peak.
CLOSE, AROUND = 0.004, 0.03
# Forecasts look for the height anew after so many spacings, until it is certain: likelier than any
# that differs by more than `SAME` in log T by `CERTAIN` nats.
CHECKS = (32, 48, 64, 96, 128, 192)
CERTAIN, SAME = 20.0, 0.002


class Place(NamedTuple):
    """A height found: T of the zero before the first spacing, log evidence, and by how many nats it
    is likelier than the next that differs.
    """

    height: float
    evidence: float
    margin: float


def bounds(height: float, digits: int) -> tuple[float, float]:
    """Heights that round to `height` with so many significant digits, from 1; all, with none."""
    if digits < 1:
        return MIN_HEIGHT, MAX_HEIGHT
    unit = 10.0 ** (math.floor(math.log10(height)) - digits + 1)
    below = unit / 10 if height <= unit * 10.0 ** (digits - 1) * (1 + 1e-9) else unit
    return max(height - below / 2, MIN_HEIGHT), min(height + unit / 2, MAX_HEIGHT)


def coarse_evidence(spacing: Floats, heights: Floats) -> Floats:
    """Log probability of S at the zeros of a stretch (T,) by the explicit formula, for each height.

    Up to a constant; the height is that of the zero before the first spacing.
    """
    q, mangoldt = prime_powers(LARGEST)
    powers = np.log(q)
    size = mangoldt / (math.pi * powers * np.sqrt(2 * q))
    u = np.append(0.0, np.cumsum(spacing))
    s = np.arange(len(u)) - u
    found = []
    for i in range(0, len(heights), BATCH):
        t = heights[i : i + BATCH, None]
        rho = np.log(t / (2 * math.pi)) / (2 * math.pi)
        h = u / rho
        h = h - h**2 / (4 * math.pi * t * rho)  # density grows with height: to first order
        phase = h[..., None] * powers
        design = np.concatenate(
            [np.sin(phase) * size, np.cos(phase) * size, np.full((*h.shape, 1), CONSTANT**0.5)], -1
        )
        gram = np.swapaxes(design, 1, 2) @ design / NOISE + np.eye(design.shape[2])
        projected = np.swapaxes(design, 1, 2) @ s / NOISE
        lower = np.linalg.cholesky(gram)
        solved = np.linalg.solve(lower, projected[..., None])[..., 0]
        log_det = 2 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1)
        found.append(0.5 * np.square(solved).sum(1) - 0.5 * log_det)
    return np.concatenate(found)


def find_height(spacing: Floats, low: float, high: float) -> Place:
    """The height between `low` and `high` at which a stretch (T,) is the likeliest."""
    ends = math.log(low), math.log(high)
    trials = []
    at = ends[0]
    while at < ends[1] + CLOSE:
        trials.append(at)
        rho = (at - math.log(2 * math.pi)) / (2 * math.pi)
        at += TURN * 2 * math.pi * rho / (len(spacing) / rho * math.log(LARGEST))
    grid = np.array(trials)
    if ends[1] - ends[0] > 2 * AROUND:
        evidence = coarse_evidence(spacing, np.exp(grid))
        inner = np.append(evidence, -np.inf)
        peak = (inner[:-1] >= np.append(-np.inf, evidence[:-1])) & (inner[:-1] >= inner[1:])
        order = np.flatnonzero(peak)[np.argsort(-evidence[peak])][:PEAKS]
        near = [np.arange(grid[i] - AROUND, grid[i] + AROUND, CLOSE) for i in order]
        fine = np.unique(np.round(np.concatenate(near) / CLOSE)) * CLOSE
    else:
        fine = np.arange(ends[0], ends[1] + CLOSE, CLOSE)
    fine = np.clip(fine, *ends)
    best: list[tuple[float, float]] = []
    for log_height in np.unique(fine):
        solver = SequentialSolver(math.exp(log_height), len(spacing))
        solver.append(spacing, len(spacing) - 1)
        best.append((log_evidence(solver), _refined(solver)))
    best.sort(reverse=True)
    highest, log_height = best[0]
    others = [e for e, other in best if abs(other - log_height) > SAME]
    margin = highest - max(others, default=-math.inf)
    return Place(math.exp(log_height), highest, margin if math.isfinite(highest) else 0.0)


def _refined(solver: SequentialSolver) -> float:
    """Log of T by a solution: of the height it was given, and of the scale that it found."""
    height = float(solver.state.scalars[0])
    rho = math.log(height / (2 * math.pi)) / (2 * math.pi)
    stretch = 1 + float(solver.state.x[solver.tables.scale])
    return math.log(2 * math.pi) + 2 * math.pi * rho / max(stretch, 0.5)


def follow(spacing: Floats, low: float, high: float) -> Floats:
    """Forecast along one stretch whose height lies between two: shape (T, 7), see `COLUMNS`.

    Row t is from spacings 0 ... t alone, the height too. Until one is looked for, and while nothing
    fits, the forecast is the mean spacing.
    """
    found = np.zeros((len(spacing), len(COLUMNS)))
    found[:, 0:MISFIT:2], found[:, 1:MISFIT:2] = NO_ROOT
    for check in CHECKS:
        if check > len(spacing):
            break
        place = find_height(spacing[:check], low, high)
        if not math.isfinite(place.evidence):
            continue
        solver = SequentialSolver(place.height, len(spacing))
        found[check - 1 :] = solver.append(spacing, check - 1)
        if place.margin > CERTAIN:
            break
    return found


def forecasts(spacing: Floats, low: Floats, high: Floats) -> Floats:
    """Forecast along many stretches (W, T), heights between (W,) and (W,): shape (W, T, 7)."""
    calls = list(zip(spacing, low.tolist(), high.tolist(), strict=True))
    rows = map_threads(calls, follow)
    return np.stack(rows) if rows else np.empty((*spacing.shape, len(COLUMNS)))
