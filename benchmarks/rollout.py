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
from zetalib.forecasting import rollout
from zetalib.forecasting.decoding import Decoder
from zetalib.forecasting.forecasts import next_spacing
from zetalib.forecasting.rollout import Floats, Forecaster
from zetalib.inverse import solutions
from zetalib.inverse.extrapolate import Coasting
from zetalib.network import model

MODELS = ("data/results/E0-small-1337/model", "data/results/arithmetic-small-42/model")
CONTEXT = 128


class Rollouts:
    """A model on a number of contexts; what the inversion says of them is shared by all ways."""

    def __init__(self, network: model.SpacingMDN, count: int, steps: int) -> None:
        windows = window.load("data/windows", "calibration")
        self.network, self.steps = network, steps
        some = rollout.stretches(windows, count, CONTEXT, steps)
        self.contexts, self.heights = some.contexts, some.heights

    def coasting(self, first: slice) -> Coasting | None:
        """Solved for some of the contexts, in the batches that are rolled out together."""
        if not self.network.config.inversion:
            return None
        found = Coasting(self.network.known, self.steps)
        contexts, heights = self.contexts[first], self.heights[first]
        size = Decoder(self.network, found).batch
        for part in (slice(i, i + size) for i in range(0, len(contexts), size)):
            row = found(contexts[part], heights[part])[:, -1, 0]
            found(np.column_stack([contexts[part], row]), heights[part])
        return found

    def seconds(self, run: Forecaster, first: slice) -> float:
        """CPU seconds of rollouts of some of them."""
        began = time.process_time()
        rollout.rollout(
            run,
            self.contexts[first],
            self.heights[first],
            self.steps,
            "mean",
            longest=self.network.context,
        )
        return time.process_time() - began

    def difference(self, first: slice) -> float:
        """The largest between outputs of both ways."""
        coasting = [self.coasting(first) for _ in range(2)]
        kept = Decoder(self.network, coasting[0])
        whole = next_spacing(self.network, coasting=coasting[1])
        worst = []

        def both(context: Floats, height: Floats) -> Mixture:
            one, other = kept(context, height), whole(context, height)
            parts = ((one.pi, other.pi), (one.mu, other.mu), (one.sigma, other.sigma))
            worst.append(max(float(np.abs(a - b).max()) for a, b in parts))
            return other

        self.seconds(both, first)
        return max(worst)


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
    known = solutions.load("data/inversion/calibration.safetensors")
    with threadpool_limits(1):
        for folder in a.models:
            runs = Rollouts(model.load(Path(folder), known), a.trajectories, a.steps)
            everyone = slice(None)
            runs.difference(slice(0, 2))  # compile
            began = time.process_time()
            coasting = runs.coasting(everyone)
            solving = time.process_time() - began
            kept = runs.seconds(Decoder(runs.network, coasting), everyone)
            alone = 0.0
            for i in range(a.alone):
                one = slice(i, i + 1)
                naive = next_spacing(runs.network, coasting=runs.coasting(one))
                alone += runs.seconds(naive, one) * a.trajectories / a.alone
            some = slice(0, a.batched)
            naive = next_spacing(runs.network, coasting=runs.coasting(some))
            batched = runs.seconds(naive, some) * a.trajectories / a.batched
            print(
                f"| {folder} | {solving:.1f} | {kept:.1f} | {alone:.0f} | {batched:.0f} |"
                f" {alone / kept:.0f}x, {batched / kept:.0f}x |"
                f" {runs.difference(slice(0, 16)):.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
