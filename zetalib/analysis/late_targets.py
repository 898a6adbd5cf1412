"""Targets late in their windows, and what the explicit formula says of them.

Three quarters of a window lie behind each: operators and layers of networks are looked at there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from torch import Tensor

from zetalib import atomic
from zetalib.baselines import explicit_formula
from zetalib.data.window import Windows, density
from zetalib.errors import ZetaError
from zetalib.types import Floats

KNOWN = 0.75  # of a window lies behind every target
POSITIONS = 16  # targets in a window, evenly spread over the rest


@dataclass(frozen=True)
class Targets:
    """Inputs `spacing` (W, T), `height` (W,), places `at` (P,) of targets, truth `y` (W, P)."""

    spacing: Tensor
    height: Tensor
    at: NDArray[np.int64]
    y: Floats

    @staticmethod
    def of(windows: Windows, count: int) -> Targets:
        """Of at most `count` evenly spread windows."""
        chosen = np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int)
        spacing = windows.spacing[chosen]
        length = spacing.shape[1] - 1
        at = np.unique(np.linspace(KNOWN * length, length - 1, POSITIONS).round().astype(int))
        height = windows.heights()[chosen]
        return Targets(spacing[:, :-1], height, at, spacing[:, 1:].numpy()[:, at])

    @property
    def known(self) -> int:
        """Spacings behind every target."""
        return int(self.at[0]) + 1

    @property
    def reach(self) -> float:
        """Height of a window's spacings, mean."""
        return float((self.spacing.sum(1) / density(self.height)).mean())

    def lags(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Place of each target's spacing -k in its window, (P, K), and whether there is one."""
        place = self.at[:, None] - np.arange(self.at[-1] + 1)
        return np.maximum(place, 0), place >= 0


def explicit_means(targets: Targets) -> Floats | None:
    """Means of the explicit formula's forecasts, (W, P); None at heights it is not for."""
    height = targets.height.numpy()
    if height.min() < explicit_formula.LOWEST or height.max() > explicit_formula.HIGHEST:
        return None
    found = []
    for spacing, at in zip(targets.spacing.numpy(), height.tolist(), strict=True):
        means = explicit_formula.forecasts(spacing, at, targets.known).mean()
        found.append(means[targets.at + 1 - targets.known])
    return np.stack(found)


def write_means(path: str | Path, means: Floats | None) -> None:
    """Keep :func:`explicit_means` in a file, if there are any."""
    arrays = {} if means is None else {"means": means}
    atomic.write_bytes(path, safetensors.numpy.save(arrays))


def read_means(path: str | Path) -> Floats | None:
    """What :func:`write_means` kept.

    Raises
    ------
    ZetaError
        If the file is missing, damaged or of another form.
    """
    try:
        means = safetensors.numpy.load_file(path).get("means")
        if means is None or (means.ndim == 2 and np.isfinite(means).all()):
            return means
        problem = f"means of shape {means.shape}, finite numbers of shape (W, P) expected"
    except (OSError, safetensors.SafetensorError) as error:
        problem = f"not a file of forecasts' means ({' '.join(str(error).split())})"
    raise ZetaError(path, problem, "Run `dvc repro -f laws`.")
