"""Have learned frequencies tuned themselves to the primes? Null tests.

Logs of primes lie so close that a frequency put anywhere is near one: 32 primes reach over 4.2
radians a unit of height, and a window of 255 spacings at height 10^6 tells frequencies apart to
0.05. So a match means nothing until it is compared with the matches of frequencies that know no
primes. Three nulls, each with p-values from draws of the null itself:

- near: as many frequencies, uniform over the range of the log primes, end as near to them.
- toward: where each frequency began does not tell where it went: turning displacements about
  leaves them as near to log primes. For frequencies that began at random places.
- stay: frequencies that began at log p moved no less than those that began at random places of
  the same range: which is which does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DRAWS = 20_000


@dataclass(frozen=True)
class Test:
    """A statistic, what the null expects of it (mean), and P(null is at least as extreme)."""

    statistic: float
    expected: float
    p: float


def distance(frequency: Array, logs: Array) -> Array:
    """Distance of frequencies (N,) to the nearest of `logs` (P,), in their unit."""
    return np.asarray(np.abs(frequency[..., None] - logs).min(-1))


def near(end: Array, logs: Array, within: float, seed: int, draws: int = DRAWS) -> Test:
    """How many of the frequencies `end` (N,) lie `within` of one of `logs`, against chance."""
    rng = np.random.default_rng(seed)
    uniform = rng.uniform(logs.min(), logs.max(), (draws, end.size))
    null = (distance(uniform, logs) <= within).sum(1)
    return _test(float((distance(end, logs) <= within).sum()), null)


def toward(start: Array, end: Array, logs: Array, seed: int, draws: int = DRAWS) -> Test:
    """How much nearer to `logs` frequencies (N,) ended than they began, mean; signs turned."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (draws, start.size))
    before = distance(start, logs).mean()
    null = before - distance(start + signs * (end - start), logs).mean(1)
    return _test(float(before - distance(end, logs).mean()), null)


def stay(moved: Array, others: Array, seed: int, draws: int = DRAWS) -> Test:
    """How much less `moved` (N,), displacements, than `others` (M,) in mean size; labels mixed."""
    moved, others = np.abs(moved), np.abs(others)
    rng = np.random.default_rng(seed)
    pooled = np.tile(np.concatenate([moved, others]), (draws, 1))
    mixed = rng.permuted(pooled, axis=1)
    null = mixed[:, moved.size :].mean(1) - mixed[:, : moved.size].mean(1)
    return _test(float(others.mean() - moved.mean()), null)


def _test(statistic: float, null: NDArray[np.float64 | np.int64]) -> Test:
    # The observed one counts among the draws: a p-value of zero cannot be had by drawing.
    extreme = (null >= statistic - 1e-12).sum()
    return Test(statistic, float(null.mean()), float((extreme + 1) / (null.size + 1)))
