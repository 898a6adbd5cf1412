"""The shipped forecaster where it was not trained: noise, other heights, no height, no zeros.

    python -m benchmarks.off_the_path [--windows 48] [--only noise,controls,heights,ranks,long]

With the weights of data/model, which have seen exact zeros at 10^6 alone. Noise is added to the
zeros' places in inputs and targets, and is not told. Windows of the first three tables are of the
calibration split, evenly spread, so that the tail is not looked at.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from zetalib.data import window
from zetalib.forecasting.forecasts import to_mixture
from zetalib.inverse import noise, trial_heights
from zetalib.inverse.solutions import Solution
from zetalib.network import model, trust
from zetalib.sources import riemann_siegel
from zetalib.theory import unitary_ensemble, zeta

Floats = NDArray[np.float64]

LENGTH, MODEL = 256, "data/model"
RANKS = {"10^7": 4_992_381, "10^8": 42_653_550, "10^9": 371_870_204}  # heights of those zeros
LONG_HEIGHT, LONG = 80_000_000, 1024


def score(name: str, spacing: Floats, height: Floats, solved: Floats, last: int = 0) -> str:
    """A row: NLL of the forecaster and of what it weighs, coverage, the worst target."""
    network = model.load(MODEL)
    x, h = torch.from_numpy(spacing), torch.from_numpy(height)
    nll, experts, inside = [], [], []
    for i in range(0, len(x), 16):
        part = slice(i, i + 16)
        trace = None
        if x.shape[1] - 1 <= network.context:
            trace = model.Trace(probabilities=False)
        solution = Solution.of(torch.from_numpy(solved[part]))
        with torch.no_grad():
            found = network(x[part, :-1], h[part], solution, trace=trace)
        y = x[part, 1:]
        nll.append(-trust.log_density(found, y).numpy()[:, -last:])
        if trace is not None and trace.experts is not None:
            experts.append([-float(trust.log_density(e, y).mean()) for e in trace.experts])
        mixture = to_mixture(trust.select(found, slice(-last, None)))
        low, high = mixture.quantile(0.05), mixture.quantile(0.95)
        seen = y.numpy()[:, -last:]
        inside.append((low <= seen) & (seen <= high))
    scores, covered = np.concatenate(nll), np.concatenate(inside).mean()
    each = [f"{v:.3f}" for v in np.mean(experts, 0)] if experts else ["", "", ""]
    error = scores.mean(1).std(ddof=1) / math.sqrt(len(scores))
    cells = [f"{scores.mean():.3f} ({error:.3f})", f"{covered:.1%}", *each]
    return f"| {name} | {' | '.join(cells)} | {scores.max():.1f} |"


def chosen(count: int) -> tuple[Floats, Floats, Floats]:
    """Spacings, rounded heights and heights of windows of the calibration split."""
    windows = window.load("data/windows", "calibration")
    rows = np.unique(np.linspace(0, len(windows) - 1, count).round().astype(int))
    spacing = windows.spacing.double().numpy()[rows]
    return spacing, windows.heights().numpy()[rows], windows.gamma.numpy()[rows]


def noisy(count: int) -> Iterator[str]:
    """Noise of the zeros' places; rounded spacings."""
    spacing, height, _ = chosen(count)
    rng = np.random.default_rng(0)
    places = np.concatenate([np.zeros((len(spacing), 1)), spacing.cumsum(1)], 1)
    cases = {"exact": spacing}
    for size in (1e-6, 1e-4, 1e-3):
        moved = places + size * rng.standard_normal(places.shape)
        cases[f"noise {size:g}"] = np.diff(moved, axis=1)
    cases["float32"] = spacing.astype(np.float32).astype(np.float64)
    cases["spacings to 3 digits"] = np.round(spacing, 3)
    for name, x in cases.items():
        yield score(name, x, height, noise.forecasts(x[:, :-1], height))


def controls(count: int) -> Iterator[str]:
    """Points that are no zeros of zeta, at the same heights."""
    spacing, height, _ = chosen(count)
    rng = np.random.default_rng(0)
    size = len(spacing) * LENGTH
    points = np.sort(unitary_ensemble.points(1 << size.bit_length(), rng))[: size + 1]
    cases = {
        "GUE": np.diff(points / np.diff(points).mean()).reshape(-1, LENGTH),
        "shuffled": rng.permutation(spacing.ravel()).reshape(-1, LENGTH),
        "Poisson": rng.exponential(size=spacing.shape),
    }
    for name, x in cases.items():
        yield score(name, x, height, noise.forecasts(x[:, :-1], height))


def heights(count: int) -> Iterator[str]:
    """Heights known to some digits, or not at all."""
    spacing, _, gamma = chosen(count)
    for digits in (2, 1, 0):
        text = [np.format_float_scientific(g, max(digits, 1) - 1) for g in gamma]
        ends = np.array([trial_heights.bounds(float(t), digits) for t in text])
        solved = trial_heights.forecasts(spacing[:, :-1], *ends.T)
        told = np.array([float(t) for t in text])
        yield score(f"height to {digits} digits", spacing, told, solved)


def at_height(height: float, count: int, length: int) -> tuple[Floats, Floats]:
    """Windows of zeros from a height on, ten lengths apart, and their rounded heights."""
    rows, first = [], []
    step = 10 * length * 2 * math.pi / math.log(height / (2 * math.pi))
    for k in range(count):
        start = round(height + k * step)
        offset = riemann_siegel.stretch(start, start + length + length % 2).offset[: length + 1]
        rows.append(zeta.spacings(start + offset[:-1], np.diff(offset)))
        first.append(start + offset[0])
    return np.array(rows), window.rounded_height(torch.tensor(first, dtype=torch.float64)).numpy()


def ranks(count: int) -> Iterator[str]:
    """Other heights than that of the training windows."""
    for name, height in RANKS.items():
        x, h = at_height(height, count, LENGTH)
        yield score(f"rank {name}", x, h, noise.forecasts(x[:, :-1], h))


def long(count: int) -> Iterator[str]:
    """Long windows at 8 10^7: the last 256 targets."""
    x, h = at_height(LONG_HEIGHT, count, LONG)
    began = time.process_time()
    solved = noise.forecasts(x[:, :-1], h)
    seconds = (time.process_time() - began) / count
    yield score(f"1024 at 8e7, last 256 targets, {seconds:.1f} CPU s each", x, h, solved, 256)
    error = np.abs(solved[:, -256:, 0] - x[:, -256:])
    yield f"| median error of the inversion there: {np.median(error):.1e} | | | | | | |"


TABLES = {"noise": noisy, "controls": controls, "heights": heights, "ranks": ranks, "long": long}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=48)
    parser.add_argument("--only", default=",".join(TABLES))
    arguments = parser.parse_args()
    print("| windows | NLL (SE) | 90 % covers | marginal | network | informed | worst target |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.only.split(","):
        for row in TABLES[name](arguments.windows):
            print(row, flush=True)


if __name__ == "__main__":
    main()
