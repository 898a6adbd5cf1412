"""Solutions kept by stretch and in files: what was solved is not solved again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from zetalib import atomic
from zetalib.errors import ZetaError
from zetalib.inverse import solver
from zetalib.inverse.solver import COLUMNS

Floats = NDArray[np.float64]

KEY = 8  # number of leading spacings hashed to look a stretch up


class SolutionCache:
    """Forecasts by stretch: what was computed before is not computed again.

    A forecast depends on nothing but its stretch and the height, so that this changes no result.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[float, bytes], tuple[Floats, Floats]] = {}

    def __deepcopy__(self, _: object) -> SolutionCache:
        return self  # nothing in it belongs to one model

    def __call__(self, spacing: Floats, height: Floats) -> Floats:
        """As :func:`zetalib.inverse.solver.forecasts`."""
        found = [self._look_up(s, h) for s, h in zip(spacing, height.tolist(), strict=True)]
        missing = [i for i, known in enumerate(found) if known is None]
        if missing:
            new = solver.forecasts(spacing[missing], height[missing])
            for i, computed in zip(missing, new, strict=True):
                found[i] = computed
        return np.stack([known for known in found if known is not None])

    def _look_up(self, spacing: Floats, height: float) -> Floats | None:
        known = self._found.get((height, spacing[:KEY].tobytes()))
        t = len(spacing)
        if known is None or not np.array_equal(known[0][:t], spacing):
            return None
        return known[1][:t]

    def add(self, spacing: Floats, height: Floats, found: Floats) -> None:
        """Keep forecasts `found` (W, T, 7) of stretches (W, T) at rounded heights (W,)."""
        for s, h, f in zip(spacing, height.tolist(), found, strict=True):
            self._found[h, s[:KEY].tobytes()] = (s, f)


def save(path: str | Path, spacing: Floats, height: Floats, found: Floats) -> None:
    """Keep forecasts in a file, for :func:`load`."""
    arrays = {"spacing": spacing, "height": height, "forecasts": found}
    content = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    atomic.write_bytes(path, content)


def load(*paths: str | Path) -> SolutionCache:
    """What files written by :func:`save` hold.

    Raises
    ------
    ZetaError
        If a file is missing, damaged or of another form.
    """
    known = SolutionCache()
    for path in paths:
        try:
            arrays = safetensors.numpy.load_file(path)
            spacing, height, found = (arrays[k] for k in ("spacing", "height", "forecasts"))
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            problem = f"not a file of inversions ({' '.join(str(error).split())})"
            raise ZetaError(path, problem, "Run `dvc repro -f invert`.") from None
        if found.shape != (*spacing.shape, len(COLUMNS)) or len(height) != len(spacing):
            problem = f"forecasts of shape {found.shape} for windows of shape {spacing.shape}"
            raise ZetaError(path, problem, "Run `dvc repro -f invert`.")
        for name, values in (("spacing", spacing), ("height", height), ("forecasts", found)):
            if values.dtype != np.float64 or not np.isfinite(values).all():
                problem = f"{name} holds {values.dtype} or what is not finite, expected numbers"
                raise ZetaError(path, f"{problem} of float64", "Run `dvc repro -f invert`.")
        if not (found[:, :, 1:6:2] > 0).all():
            problem = "a standard deviation is not above 0"
            raise ZetaError(path, problem, "Run `dvc repro -f invert`.")
        known.add(spacing, height, found)
    return known
