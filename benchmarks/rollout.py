"""Rollouts with keys kept against passes over the whole context: time, and the same outputs.

    python -m benchmarks.rollout [--models FOLDER ...] [--trajectories 1000] [--steps 200]
        [--alone 2] [--batched 50]

On windows of the calibration split, the mean fed back, one thread. The naive ways run every step
over the whole context: one trajectory at a time (`--alone` of them) and in one batch (`--batched`);
their seconds are scaled to all trajectories. With the inversion, contexts that windows begin with
are solved beforehand in all ways alike: what that takes is told apart. Differences are of pi, mu
and sigma on the contexts of the naive batch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from zetalib.data import window
from zetalib.densities.mixture import Mixture
from zetalib.forecasting import stretches
from zetalib.forecasting.decoding import ROWS, Decoder, Forecaster, Recomputed
from zetalib.forecasting.forecasts import next_spacing
from zetalib.inverse import solutions
from zetalib.inverse.solutions import SolutionCache
from zetalib.network import model
from zetalib.types import Floats

MODELS = ("data/results/E0-small-1337/model", "data/results/arithmetic-small-42/model")
CONTEXT = 128


class Both:
    """Two forecasters on the same contexts, and how far their outputs are apart at most."""

    def __init__(self, one: Forecaster, other: Forecaster) -> None:
        self.one, self.other, self.worst = one, other, 0.0

    def prepare(self, contexts: Floats, heights: Floats, steps: int) -> None:
        self.one.prepare(contexts, heights, steps)
        self.other.prepare(contexts, heights, steps)

    def begin(self, contexts: Floats, heights: Floats, steps: int, copies: int = 1) -> Mixture:
        given = contexts, heights, steps, copies
        return self._compared(self.one.begin(*given), self.other.begin(*given))

    def step(self, spacing: Floats) -> Mixture:
        return self._compared(self.one.step(spacing), self.other.step(spacing))

    def _compared(self, one: Mixture, other: Mixture) -> Mixture:
        parts = ((one.pi, other.pi), (one.mu, other.mu), (one.sigma, other.sigma))
        self.worst = max(self.worst, *(float(np.abs(a - b).max()) for a, b in parts))
        return other


class Rollouts:
    """A model on a number of contexts; what the inversion says of them is shared by all ways."""

    def __init__(
        self, network: model.SpacingMDN, cache: SolutionCache, count: int, steps: int
    ) -> None:
        windows = window.load("data/windows", "calibration")
        self.network, self.steps = network, steps
        self.cache = cache if network.config.inversion else None
        some = stretches.stretches(windows, count, CONTEXT, steps)
        self.contexts, self.heights = some.contexts, some.heights

    def kept(self) -> Decoder:
        """Keys are kept."""
        return Decoder(self.network, self.cache)

    def whole(self) -> Recomputed:
        """Every step is a pass over the whole context."""
        return Recomputed(next_spacing(self.network), self.network.context, self.cache)

    def solve(self, part: slice) -> None:
        """What the inversion says of some of them, once and for all."""
        self.kept().prepare(self.contexts[part], self.heights[part], self.steps)

    def roll(self, run: Forecaster, part: slice) -> None:
        """The mean fed back, as in rollouts of the library but in this process."""
        contexts, heights = self.contexts[part], self.heights[part]
        for i in range(0, len(contexts), ROWS):
            some = slice(i, i + ROWS)
            mixture = run.begin(contexts[some], heights[some], self.steps - 1)
            for _ in range(self.steps - 1):
                mixture = run.step(mixture.mean())

    def seconds(self, run: Forecaster, part: slice) -> float:
        """CPU seconds of rollouts of some of them."""
        began = time.process_time()
        self.roll(run, part)
        return time.process_time() - began

    def difference(self, part: slice) -> float:
        """The largest between outputs of both ways."""
        both = Both(self.kept(), self.whole())
        self.roll(both, part)
        return both.worst


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="*", default=[*MODELS, "data/model"])
    parser.add_argument("--trajectories", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--alone", type=int, default=2)
    parser.add_argument("--batched", type=int, default=50)
    a = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | solving, s | kept, s | alone, s | batched, s | ratios | differ by |")
    print("|---|---|---|---|---|---|---|")
    with threadpool_limits(1):
        for folder in a.models:
            network = model.load(Path(folder))
            cache = solutions.load("data/inversion/calibration.safetensors")
            runs = Rollouts(network, cache, a.trajectories, a.steps)
            runs.difference(slice(0, 2))  # compile
            began = time.process_time()
            runs.solve(slice(None))
            solving = time.process_time() - began
            kept = runs.seconds(runs.kept(), slice(None))
            alone = sum(runs.seconds(runs.whole(), slice(i, i + 1)) for i in range(a.alone))
            alone *= a.trajectories / a.alone
            batched = runs.seconds(runs.whole(), slice(0, a.batched)) * a.trajectories / a.batched
            print(
                f"| {folder} | {solving:.1f} | {kept:.1f} | {alone:.0f} | {batched:.0f} |"
                f" {alone / kept:.0f}x, {batched / kept:.0f}x |"
                f" {runs.difference(slice(0, 16)):.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
