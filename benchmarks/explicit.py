"""The law of how predictable the zeros are: scores of the explicit formula by spacings known.

    python -m benchmarks.explicit [--context 1024 [--stretches 64] [--targets 32]] [--fit]

Without a context, the targets of the windows of the val split, each from its window so far; with
one, targets at evenly spread places of the val tail from so many spacings before them. A long
stretch serves consecutive targets, so that a context is up to `targets` shorter than it says;
standard errors are over stretches. `--fit` takes the top of the train split in place of the tail,
heights blurred as they are in the tail (rounded to 10^4), and fits rows of `explicit.SHAPE`
to every other window or stretch and scores the rest. The last two columns are what a linear
forecast of S could do: :func:`zetalib.baselines.explicit_formula.unresolved`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from zetalib import compute
from zetalib.baselines import explicit_formula
from zetalib.data import window
from zetalib.densities.histogram import Gridded
from zetalib.scoring import contexts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOP = 166  # windows of the train split to fit to, as `train.dev_fraction`
BLUR = 1e4  # height
CURVE = (1, 8, 16, 32, 64, 96, 128, 192, 256)
BATCH = 16  # stretches at a time


def places(fit: bool, context: int | None, number: int, targets: int) -> tuple[Floats, Floats]:
    """Stretches (M, T), the last spacing a target, and the heights told of their first zeros."""
    splits = [window.load("data/windows", name) for name in window.SPLITS]
    record, end = contexts.joined(splits), len(splits[0])
    part = (end - TOP, end) if fit else (end + len(splits[1]), sum(map(len, splits)))
    if context is None:
        found = record[slice(*part)]
        chosen = np.unique(np.linspace(0, len(found) - 1, min(number, len(found))).round())
        spacing, height = found.spacing[chosen.astype(int)], found.gamma[chosen.astype(int)]
    else:
        found = contexts.stretches(record, part, context, number, targets)
        spacing, height = found.spacing, found.gamma
    told = torch.round(height / BLUR) * BLUR if fit else window.rounded_height(height)
    return spacing.numpy(), told.numpy()


def likelihoods(
    spacing: Floats, height: Floats, first: int, smoothing: explicit_formula.Smoothing | None
) -> tuple[Floats, Floats]:
    """Of all stretches, (M, T - first, C); the targets (M, T - first)."""

    def one(stretch: Floats, at: float) -> NDArray[np.float32]:
        found = explicit_formula.likelihoods(stretch[:-1], at, first, smoothing)
        return np.asarray(found - found.max(1, keepdims=True), np.float32)

    found = compute.map_threads(zip(spacing, height.tolist(), strict=True), one)
    return np.stack(found), spacing[:, first:]


def fitted(likelihood: Floats, y: Floats) -> Floats:
    """The row of the shape that makes targets `y` (m,) most likely."""
    cell = np.clip(
        np.searchsorted(explicit_formula.EDGES, y, "right") - 1,
        0,
        len(explicit_formula.CENTRES) - 1,
    )
    powers = np.stack(
        [np.log(explicit_formula.CENTRES), explicit_formula.CENTRES, explicit_formula.CENTRES**2]
    )

    def loss(x: Floats) -> float:
        log = math.exp(x[0]) * likelihood + x[1:4] @ powers
        mass = np.exp(log[np.arange(len(y)), cell] - log.max(1))
        mass = mass / np.exp(log - log.max(1, keepdims=True)).sum(1)
        floor = 1 / (1 + math.exp(-x[4]))
        return -float(np.log((1 - floor) * mass + floor * explicit_formula.SURMISE[cell]).mean())

    begin = np.array([math.log(0.7), 1.0, 0.0, -0.5, -5.0])
    found = minimize(loss, begin, method="Powell", options={"maxiter": 6, "ftol": 1e-4})
    x = found.x
    return np.array([math.exp(x[0]), *x[1:4], 1 / (1 + math.exp(-x[4]))])


def scored(forecast: Gridded, y: Floats) -> Floats:
    """Of each target: NLL, absolute and squared error, CRPS, PIT, (5, m)."""
    error = forecast.mean() - y
    return np.stack(
        [-forecast.logpdf(y), np.abs(error), error**2, forecast.crps(y), forecast.cdf(y)]
    )


def line(low: int, high: int, score: Floats, height: float) -> str:
    """A row of the table for `low` ... `high` spacings known; `score` is (5, M, t)."""
    span = (low + high) / 2 / explicit_formula.density(height)
    lines, left = explicit_formula.unresolved(span, height)
    mean = score.mean((1, 2))
    error = score[0].mean(1).std() / math.sqrt(max(score.shape[1] - 1, 1))
    ks = stats.kstest(score[4].ravel(), "uniform").statistic
    figures = f"{mean[0]:.3f} ± {error:.3f} | {mean[1]:.4f} | {math.sqrt(mean[2]):.4f}"
    figures += f" | {mean[3]:.4f} | {ks:.3f} | {lines} | {left:.3f}"
    return f"| {low}-{high} | {score[0].size} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--context", type=int)
    parser.add_argument("--stretches", type=int, default=10**6)
    parser.add_argument("--targets", type=int, default=32)
    parser.add_argument("--smoothing", nargs=3, metavar=("WIDTH", "NOISE", "CUTOFF"))
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    smoothing = None
    if arguments.smoothing:
        width, noise, cutoff = arguments.smoothing
        smoothing = explicit_formula.Smoothing(float(width), float(noise), int(cutoff))
    spacing, height = places(
        arguments.fit, arguments.context, arguments.stretches, arguments.targets
    )
    first = 1 if arguments.context is None else spacing.shape[1] - arguments.targets
    lengths = np.arange(first, spacing.shape[1])
    row = np.searchsorted(explicit_formula.LENGTHS, lengths, "right") - 1
    shape, parts, began = explicit_formula.SHAPE.copy(), [], time.perf_counter()
    with threadpool_limits(1, "blas"):
        if arguments.fit:
            learn, y = likelihoods(spacing[1::2], height[1::2], first, smoothing)
            for r in np.unique(row):
                mine = learn[:, row == r].reshape(-1, learn.shape[2])
                shape[r] = fitted(mine, y[:, row == r].ravel())
                print(explicit_formula.LENGTHS[r], np.round(shape[r], 4).tolist(), flush=True)
            spacing, height = spacing[::2], height[::2]
        for i in range(0, len(spacing), BATCH):
            found, y = likelihoods(spacing[i : i + BATCH], height[i : i + BATCH], first, smoothing)
            forecast = explicit_formula.shaped(
                found.reshape(-1, found.shape[2]), np.tile(lengths, len(y)), shape
            )
            parts.append(scored(forecast, y.ravel()).reshape(5, *y.shape))
    score = np.concatenate(parts, 1)
    print(f"{smoothing or 'default smoothing'}, {time.perf_counter() - began:.0f} s")
    print("| spacings known | targets | NLL | MAE | RMSE | CRPS | PIT KS | lines told apart | sd |")
    print("|---|---|---|---|---|---|---|---|---|")
    for low, high in itertools.pairwise(CURVE):
        inside = (lengths >= low) & (lengths < high)
        if inside.any():
            print(line(low, high - 1, score[:, :, inside], height[0]))
    print(line(lengths[0], lengths[-1], score, height[0]))


if __name__ == "__main__":
    main()
