"""The transition: how well the next zero is known from how many, and what a forecast costs.

    python -m benchmarks.inversion [--windows 32] [--long]

On windows of the calibration split, evenly spread; `--long` joins four consecutive windows each.
Seconds a forecast are those of one core for a whole stretch, over its spacings.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from zetalib.data import window
from zetalib.inverse import solver

Floats = NDArray[np.float64]

EDGES = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
JOINED = 4  # windows, for the long stretches


def stretches(count: int, joined: int) -> tuple[Floats, Floats]:
    """`count` stretches of so many consecutive windows each and their rounded heights."""
    windows = window.load("data/windows", "calibration")
    whole = len(windows) // joined
    spacing = windows.spacing.numpy()[: whole * joined].reshape(whole, -1)
    height = windows.heights().numpy()[: whole * joined : joined]
    chosen = np.unique(np.linspace(0, whole - 1, min(count, whole)).round().astype(int))
    return spacing[chosen], height[chosen]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    spacing, height = stretches(arguments.windows, JOINED if arguments.long else 1)
    with threadpool_limits(1, "blas"):
        solver.follow(spacing[0, :2], height[0])  # compile
        start = time.process_time()
        found = [solver.follow(s[:-1], h) for s, h in zip(spacing, height.tolist(), strict=True)]
        seconds = time.process_time() - start
    forecast = np.stack(found)
    error, claimed = np.abs(forecast[..., 0] - spacing[:, 1:]), forecast[..., 1]
    length = error.shape[1]
    print(
        f"{len(spacing)} stretches of {length + 1} spacings at {height[0]:g} ... {height[-1]:g}\n"
    )
    print("| spacings | median error | median sd | below 1e-2 | below 1e-4 |")
    print("|---|---|---|---|---|")
    edges = [edge for edge in EDGES if edge <= length] + [length + 1]
    for low, high in itertools.pairwise(edges):
        e, sd = error[:, low - 1 : high - 1], claimed[:, low - 1 : high - 1]
        cells = [f"{np.median(e):.1e}", f"{np.median(sd):.1e}"]
        cells += [f"{(e < bound).mean():.1%}" for bound in (1e-2, 1e-4)]
        print(f"| {low}-{high - 1} | {' | '.join(cells)} |")
    print(f"\n{seconds / error.size:.2e} s a forecast, {seconds / len(spacing):.3f} s a stretch")


if __name__ == "__main__":
    main()
