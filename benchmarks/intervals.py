"""How many classes of width, and which online step: chosen below the val tail.

python -m benchmarks.intervals: fits to the dev slice (the top of the training windows) and scores
on the calibration split; then to that split's lower half, scored on its upper. For each number of
classes the root mean square over twentieths by predicted width of coverage less level, in percent;
for each step the same over stretches of 1020 targets, beside what independent targets scatter.
"""

import math

import numpy as np

from zetalib import params
from zetalib.data import window
from zetalib.forecasting import forecasts
from zetalib.inverse import solutions
from zetalib.network import model
from zetalib.scoring import conformal
from zetalib.scoring.conformal import Floats, Interval

CLASSES = (1, 3, 5, 10, 20, 40)
STEPS = (0.003, 0.01, 0.03, 0.1)
STRETCH = 1020  # targets

Sample = tuple[dict[str, Interval], Floats]


def sample(split: str, levels: list[float], share: float = 1.0) -> Sample:
    """Raw intervals by level and truths of the top `share` of a split."""
    windows = window.load("data/windows", split)
    network, cache = model.load("data/model"), solutions.load(f"data/inversion/{split}.safetensors")
    some = windows[len(windows) - math.ceil(share * len(windows)) :]
    found = forecasts.forecast(network, some, cache)
    return {str(q): conformal.interval(found.mixture, q) for q in levels}, found.y


def part(of: Sample, rows: slice) -> Sample:
    """Some rows of a sample."""
    return {key: (low[rows], high[rows]) for key, (low, high) in of[0].items()}, of[1][rows]


def off(inside: Floats, group: Floats, level: float) -> float:
    """Root mean square over groups of coverage less level, in percent."""
    covered = np.array([inside[group == k].mean() for k in np.unique(group)])
    return float(100 * np.sqrt(np.mean((covered - level) ** 2)))


def show(name: str, below: Sample, above: Sample) -> None:
    """Print both choices, fitted to one sample and scored on another."""
    (raws, y), m = above, len(above[1])
    stretch = np.arange(m) * (m // STRETCH) // m
    for key, raw in raws.items():
        level = float(key)
        twentieth = (raw[1] - raw[0]).argsort().argsort() * 20 // m
        classes = []
        for count in CLASSES:
            low, high = conformal.fit(below[0][key], below[1], level, count).adaptive(raw)
            classes.append(off((low <= y) & (y <= high), twentieth, level))
        found = conformal.fit(below[0][key], below[1], level, 10)
        scores, kind = conformal.ratio(raw, y), found.kind(raw)
        steps = []
        for step in STEPS:
            inside = scores <= conformal.track(scores, kind, found.factors, level, step)
            steps.append(off(inside, stretch, level))
        scatter = 100 * math.sqrt(level * (1 - level) / STRETCH)
        print(
            f"{name} {level:.0%}: {CLASSES} classes "
            + " ".join(f"{value:.2f}" for value in classes)
            + f" | steps {STEPS} "
            + " ".join(f"{value:.2f}" for value in steps)
            + f", independent {scatter:.2f}"
        )


def main() -> None:
    p = params.load()
    dev = sample("train", p.calibrate.levels, p.train.dev_fraction)
    calibration = sample("calibration", p.calibrate.levels)
    half = len(calibration[1]) // 2
    show("dev slice to calibration", dev, calibration)
    show(
        "lower to upper half", part(calibration, slice(half)), part(calibration, slice(half, None))
    )


if __name__ == "__main__":
    main()
