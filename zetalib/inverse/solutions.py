"""What the inverse problem says of the next zero, and solutions kept by stretch and in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from zetalib import atomic, compute
from zetalib.errors import ZetaError
from zetalib.inverse import extrapolate, solver
from zetalib.inverse import noise as inexact
from zetalib.types import Floats

_AHEAD = "ahead_"  # and the spacings known: names of arrays in a file
KEY = 8  # number of leading spacings hashed to look a stretch up


class Solution(NamedTuple):
    """Forecasts of the next spacing by the inverse problem, and how well it is solved.

    Numpy arrays or torch tensors of one shape, (..., T): entry t is from spacings 0 ... t of its
    own stretch alone. In mean spacings but for the misfit.

    Attributes
    ----------
    fine, fine_sd : mean and standard deviation (Laplace) with all steps of the noise taken
    middle, middle_sd : with the noise at :data:`zetalib.inverse.solver.MIDDLE_LEVEL`
    coarse, coarse_sd : with the noise at its first level
    misfit : squared residuals over their variances, and the prior's part
    """

    fine: Any
    fine_sd: Any
    middle: Any
    middle_sd: Any
    coarse: Any
    coarse_sd: Any
    misfit: Any

    @staticmethod
    def of(stacked: Any) -> Solution:
        """From an array or tensor (..., 7), as the solver writes it; no copy."""
        return Solution(*(stacked[..., i] for i in range(len(Solution._fields))))

    def at(self, part: Any) -> Solution:
        """Of some entries."""
        return Solution(*(values[part] for values in self))


class SolutionCache:
    """Solutions by stretch, and the zeros ahead of them: what was solved is not solved again.

    Both depend on nothing but the stretch, the height and `noise` (:mod:`zetalib.inverse.noise`;
    None: estimated), so that this changes no result.
    """

    def __init__(self, noise: float | None = None) -> None:
        self.noise = noise
        self._solved: dict[tuple[float, bytes], tuple[Floats, Floats]] = {}
        self._ahead: dict[tuple[float, int, bytes], tuple[Floats, Floats]] = {}

    def __call__(self, spacing: Floats, height: Floats) -> Solution:
        """Solutions along stretches (W, T) at rounded heights (W,): fields of shape (W, T)."""
        return Solution.of(self.stacked(spacing, height))

    def stacked(self, spacing: Floats, height: Floats) -> Floats:
        """The same in one array, (W, T, 7)."""
        rows = [self._look_up(s, h) for s, h in zip(spacing, height.tolist(), strict=True)]
        missing = [i for i, row in enumerate(rows) if row is None]
        if missing:
            new = inexact.forecasts(spacing[missing], height[missing], self.noise)
            for i, computed in zip(missing, new, strict=True):
                rows[i] = computed
        found = [row for row in rows if row is not None]
        return np.stack(found) if found else np.empty((*spacing.shape, len(Solution._fields)))

    def _look_up(self, spacing: Floats, height: float) -> Floats | None:
        kept = self._solved.get((height, spacing[:KEY].tobytes()))
        t = len(spacing)
        if kept is None or not np.array_equal(kept[0][:t], spacing):
            return None
        return kept[1][:t]

    def add(self, spacing: Floats, height: Floats, forecasts: Floats) -> None:
        """Keep what :func:`zetalib.inverse.noise.forecasts` gave, (W, T, 7), of its arguments."""
        for s, h, f in zip(spacing, height.tolist(), forecasts, strict=True):
            key = h, s[:KEY].tobytes()
            if key not in self._solved or len(self._solved[key][0]) <= len(s):
                self._solved[key] = (s, f)

    def ahead(self, spacing: Floats, height: Floats, number: int) -> Floats:
        """The `number` zeros after stretches (W, T): :func:`zetalib.inverse.extrapolate.ahead`.

        Returns
        -------
        shape (W, number, 7): :data:`zetalib.inverse.extrapolate.COLUMNS`
        """
        misfit = self(spacing, height).misfit[:, -1]
        keys = [
            (h, len(s), s[:KEY].tobytes()) for s, h in zip(spacing, height.tolist(), strict=True)
        ]
        tables = [self._ahead.get(key) for key in keys]
        missing = [
            i
            for i, table in enumerate(tables)
            if table is None or len(table[1]) < number or not np.array_equal(table[0], spacing[i])
        ]
        calls = [
            (spacing[i], float(height[i]), float(misfit[i]), number, self.noise) for i in missing
        ]
        if calls:
            new = compute.map_threads(calls, extrapolate.ahead)
            for i, computed in zip(missing, new, strict=True):
                tables[i] = self._ahead[keys[i]] = (spacing[i], computed)
        found = [table[1][:number] for table in tables if table is not None]
        return np.stack(found) if found else np.empty((0, number, len(extrapolate.COLUMNS)))

    def prepare(self, spacing: Floats, height: Floats, number: int) -> None:
        """Solve stretches (W, T) and the zeros ahead of them, and keep both."""
        self.add(spacing, height, self.stacked(spacing, height))
        self.ahead(spacing, height, number)

    def add_ahead(self, spacing: Floats, height: Floats, ahead: Floats) -> None:
        """Keep what :meth:`ahead` gave, (W, number, 7), of its arguments."""
        for s, h, table in zip(spacing, height.tolist(), ahead, strict=True):
            self._ahead[h, len(s), s[:KEY].tobytes()] = (s, table)


class Extrapolation:
    """Solutions along contexts that grow by a model's own forecasts.

    A forecast that is fed back is no evidence: contexts are solved, and from then on the zeros
    ahead of them are read off, whatever of a context's beginning is dropped.

    Parameters
    ----------
    cache : what is solved already, and will be
    contexts : shape (B, T)
    heights : shape (B,), rounded, of the zeros before them
    steps : spacings to come, at most
    copies : of each context, in a row, which go on apart
    """

    def __init__(
        self, cache: SolutionCache, contexts: Floats, heights: Floats, steps: int, copies: int = 1
    ) -> None:
        t = contexts.shape[1]
        solved = cache.stacked(contexts, heights)
        cache.add(contexts, heights, solved)  # where nobody has prepared it
        if steps:
            self._ahead = cache.ahead(contexts, heights, steps + 1).repeat(copies, 0)
        self._rows = np.empty((copies * len(contexts), t + steps, solved.shape[2]))
        self._rows[:, :t] = solved.repeat(copies, 0)
        self._end, self._steps, self._place = t, 0, np.zeros(len(self._rows))

    def recent(self, spacings: int) -> Solution:
        """Solutions after each of the last so many spacings, fields (copies B, spacings)."""
        return Solution.of(self._rows[:, self._end - spacings : self._end])

    def step(self, spacing: Floats) -> None:
        """Go on by one spacing each, (copies B,)."""
        self._place += np.clip(spacing, 0, solver.MAX_SPACING)
        self._steps += 1
        place, deviation = self._ahead[:, self._steps, : extrapolate.ROOT].T
        row = self._rows[:, self._end]
        row[:, 0:6:2] = np.clip(place - self._place, *extrapolate.STEPS)[:, None]
        row[:, 1:6:2] = deviation[:, None]
        row[:, 6] = self._rows[:, self._end - 1, 6]
        self._end += 1


def save(
    path: str | Path,
    spacing: Floats,
    height: Floats,
    forecasts: Floats,
    ahead: Mapping[int, Floats] = MappingProxyType({}),
    noise: float | None = None,
) -> None:
    """Keep solutions in a file, for :func:`load`.

    `ahead`: zeros after the first so many spacings of each stretch (:meth:`SolutionCache.ahead`);
    `noise`: what they were solved with.
    """
    arrays = {"spacing": spacing, "height": height, "forecasts": forecasts}
    arrays |= {} if noise is None else {"noise": np.array([noise])}
    arrays |= {f"{_AHEAD}{t}": table for t, table in ahead.items()}
    content = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    atomic.write_bytes(path, content)


def load(*paths: str | Path) -> SolutionCache:
    """What files written by :func:`save` hold.

    Raises
    ------
    ZetaError
        If a file is missing, damaged or of another form.
    """
    cache = SolutionCache()
    for path in paths:

        def refused(problem: str, path: str | Path = path) -> ZetaError:
            return ZetaError(path, problem, "Run `dvc repro -f invert extrapolate`.")

        try:
            arrays = safetensors.numpy.load_file(path)
            spacing, height, forecasts = (arrays[k] for k in ("spacing", "height", "forecasts"))
            ahead = {int(k.removeprefix(_AHEAD)): v for k, v in arrays.items() if _AHEAD in k}
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            problem = f"not a file of solutions ({' '.join(str(error).split())})"
            raise refused(problem) from None
        shape = (*spacing.shape, len(Solution._fields))
        if forecasts.shape != shape or len(height) != len(spacing):
            problem = f"forecasts of shape {forecasts.shape} for windows of shape {spacing.shape}"
            raise refused(problem)
        for name, values in arrays.items():
            if values.dtype != np.float64 or not np.isfinite(values).all():
                problem = f"{name} holds {values.dtype} or what is not finite, expected numbers"
                raise refused(f"{problem} of float64")
        if not (forecasts[:, :, 1:6:2] > 0).all():
            raise refused("a standard deviation is not above 0")
        given = arrays.get("noise")
        if given is not None and (given.shape != (1,) or not given[0] > 0):
            raise refused("the noise is not one number above 0")
        cache.noise = None if given is None else float(given[0])
        cache.add(spacing, height, forecasts)
        for t, table in ahead.items():
            if not 0 < t <= spacing.shape[1] or table.shape != (
                len(spacing),
                *table.shape[1:2],
                len(extrapolate.COLUMNS),
            ):
                raise refused(f"zeros ahead of {t} spacings have shape {table.shape}")
            if not (table[:, :, extrapolate.SD] > 0).all():
                raise refused(f"a standard deviation ahead of {t} spacings is not above 0")
            cache.add_ahead(spacing[:, :t], height, table)
    return cache


def load_split(split: str) -> SolutionCache:
    """All that stages invert and rollouts solved of a split."""
    ahead = sorted(Path("data/rollouts").glob(f"{split}_*.safetensors"))
    return load(f"data/inversion/{split}.safetensors", *ahead)
