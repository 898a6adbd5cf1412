"""Scores of many forecasters on the same targets, with errors that know neighbours are dependent.

Scores are kept target by target; means over any part of them get a standard error from a block
bootstrap: blocks of consecutive targets are drawn with replacement (Kuensch, Annals of Statistics
17 (1989)), long enough that what one block holds says next to nothing about another.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from zetalib import atomic, progress
from zetalib.data.window import Windows, targets
from zetalib.densities.density import Density
from zetalib.errors import ZetaError
from zetalib.scoring.bootstrap import blocks, bootstrap, difference, position

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLUMNS = ("nll", "crps", "error", "pit", "width")
POSITIONS = (1, 8, 16, 24, 32, 48, 64, 96, 128, 192)  # spacings known: where classes begin
LEVEL = 0.9  # of the interval whose coverage and width are kept


def by_target(
    density: Density, y: Floats, interval: tuple[Floats, Floats] | None = None
) -> pd.DataFrame:
    """Scores of each target, by its place: nll, crps, error (mean less truth), pit, 90 % width.

    `interval`: the ends of its central 90 % intervals, where they are known.
    """
    tail = (1 - LEVEL) / 2
    low, high = interval or (density.quantile(tail), density.quantile(1 - tail))
    return pd.DataFrame(
        {
            "nll": -density.logpdf(y),
            "crps": density.crps(y),
            "error": density.mean() - y,
            "pit": density.cdf(y),
            "width": high - low,
        }
    )


def scored(
    rival: Callable[[Windows], Density], windows: Windows, every: int = 1, batch: int = 64
) -> pd.DataFrame:
    """:func:`by_target` of a rival on the targets of each `every`-th window, some at a time.

    The index is the place of a target among those of all windows.
    """
    kept, width = windows[::every], windows.spacing.shape[1] - 1
    parts = [kept[i : i + batch] for i in range(0, len(kept), batch)]
    tracked = progress.track(parts, f"batches of {batch} windows")
    frame = pd.concat([by_target(rival(part), targets(part)) for part in tracked])
    place = np.arange(0, len(windows), every)[:, None] * width + np.arange(width)
    return frame.set_axis(place.ravel(), axis=0)


def write(path: str | Path, scores: dict[str, pd.DataFrame]) -> None:
    """Keep scores by forecaster, with the places of their targets, in one Parquet file."""
    frame = pd.concat(scores, names=["forecaster", "place"]).reset_index()
    with atomic.replacing(path) as aside:
        frame.to_parquet(aside, index=False, compression="zstd")


def read(path: str | Path, count: int | None = None) -> dict[str, pd.DataFrame]:
    """What :func:`write` kept, in its order.

    Parameters
    ----------
    count : targets there are, so that places are 0 ... count - 1; None: places are not checked

    Raises
    ------
    ZetaError
        If the file is missing, damaged or of another form; if a number is missing or infinite or a
        place is no target, none is given or it stands twice, by forecaster and place.
    """
    try:
        frame = pd.read_parquet(path)
        groups = frame.groupby("forecaster", sort=False, dropna=False)
        found = {
            str(name): part.set_index("place")[list(COLUMNS)].rename_axis(None)
            for name, part in groups
        }
        problem = "no forecaster in it" if not found else ""
        for name, part in found.items():
            problem = problem or _fault(name, part, count)
    except (OSError, KeyError, ValueError, TypeError) as error:
        problem = f"not a table of scores ({' '.join(str(error).split())})"
    if problem:
        raise ZetaError(path, problem, "Run `dvc repro -f baselines`.")
    return found


def _fault(name: str, scores: pd.DataFrame, count: int | None) -> str:
    """What is wrong with one forecaster's scores; nothing if all is well."""
    place, values = scores.index.to_numpy(), scores.to_numpy(dtype=np.float64)
    if not np.issubdtype(place.dtype, np.integer):
        return f"{name}: places are {place.dtype}, expected whole numbers"
    if (np.diff(place) <= 0).any():
        k = (np.diff(place) <= 0).argmax()
        return f"{name}: place {place[k + 1]} after {place[k]}, expected a higher one"
    if count is not None and not 0 <= place[0] <= place[-1] < count:
        return f"{name}: places {place[0]} to {place[-1]}, expected some of 0 to {count - 1}"
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        what = f"{COLUMNS[column]} is {values[row, column]}"
        return f"{name}: place {place[row]}: {what}, expected a finite number"
    return ""


def summary(scores: pd.DataFrame, block: Ints, seed: int = 0) -> dict[str, float]:
    """Means with standard errors (`..._se`) over blocks; KS distance of the PIT to uniform.

    Parameters
    ----------
    scores : as :func:`by_target` gives them, one row a target
    block : shape (rows,)
        Block of each row; rows of block -1 count for means but for no error.
    """
    pit = scores["pit"].to_numpy()
    columns = {
        "nll": scores["nll"].to_numpy(),
        "crps": scores["crps"].to_numpy(),
        "mae": np.abs(scores["error"].to_numpy()),
        "rmse": scores["error"].to_numpy() ** 2,
        "pit_mean": pit,
        "coverage": (np.abs(pit - 0.5) <= LEVEL / 2).astype(np.float64),
        "width": scores["width"].to_numpy(),
    }
    values = np.stack(list(columns.values()))
    mean, drawn = values.mean(1), bootstrap(values, block, seed)
    root = list(columns).index("rmse")
    mean[root], drawn[:, root] = np.sqrt(mean[root]), np.sqrt(drawn[:, root])
    found: dict[str, float] = {}
    for i, name in enumerate(columns):
        found[name] = float(mean[i])
        found[f"{name}_se"] = float(drawn[:, i].std(ddof=1))
    found["pit_std"] = float(pit.std())
    found["pit_ks"] = float(stats.kstest(pit, "uniform").statistic)
    return found


def by_class(scores: pd.DataFrame, kind: Ints, block: Ints) -> dict[int, dict[str, Any]]:
    """:func:`summary` of each class of targets; `kind` is the class of each row."""
    found = {}
    for k in np.unique(kind):
        rows = kind == k
        found[int(k)] = {"targets": int(rows.sum()), **summary(scores[rows], block[rows])}
    return found


def fifths(windows: int, length: int) -> Ints:
    """Which fifth by height, 0 (lowest) ... 4, each target lies in."""
    return np.repeat(np.arange(windows) * 5 // windows, length - 1)


def position_class(known: Ints) -> Ints:
    """The entry of `POSITIONS` at or below each number of known spacings."""
    starts = np.array(POSITIONS)
    return np.asarray(starts[np.searchsorted(starts, known, "right") - 1])


def compare(
    scores: dict[str, pd.DataFrame], windows: int, length: int, block: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """One table of forecasters on the same targets, and the law: NLL against what is known.

    Parameters
    ----------
    scores : by name, as :func:`scored` gives them; the first, which has all targets, is compared
        with each of the others on the targets of that one
    windows, length : of the windows the targets are in
    block : windows in a block of the bootstrap

    Returns
    -------
    metrics : dict
        By name: :func:`summary`; `by_height`, fifths; `by_known`, classes of spacings known; and
        `behind`, by how many nats the first is better, with its standard error.
    law : DataFrame
        known, nll, se, series: one row a class and forecaster.
    """
    number = blocks(windows * (length - 1), block * (length - 1))
    known = position_class(position(windows, length))
    height = fifths(windows, length)
    first = next(iter(scores.values()))
    metrics, law = {}, []
    for name, frame in scores.items():
        place = frame.index.to_numpy()
        block_of, same = number[place], first["nll"].loc[place].to_numpy()
        gap = difference(frame["nll"].to_numpy(), same, block_of)
        by_known = by_class(frame, known[place], block_of)
        metrics[name] = {
            "targets": len(frame),
            **summary(frame, block_of),
            "behind": {"nll": gap[0], "se": gap[1]},
            "by_height": by_class(frame, height[place], block_of),
            "by_known": by_known,
        }
        law += [
            {"known": k, "nll": part["nll"], "se": part["nll_se"], "series": name}
            for k, part in by_known.items()
        ]
    return metrics, pd.DataFrame(law)
