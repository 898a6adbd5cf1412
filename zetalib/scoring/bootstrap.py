"""Standard errors of means over consecutive targets, which are dependent: the block bootstrap.

Blocks of consecutive targets are drawn with replacement (Kuensch, Annals of Statistics 17 (1989)),
long enough that what one block holds says next to nothing about another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zetalib.errors import ZetaError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DRAWS = 1000


def blocks(count: int, length: int) -> Ints:
    """The block of each of `count` consecutive targets, `length` in a block; what is left: -1.

    Raises
    ------
    ZetaError
        If there are fewer than ten blocks: too few for an error.
    """
    whole = count // length
    if whole < 10:
        problem = f"{count} targets are {whole} blocks of {length}"
        raise ZetaError("block bootstrap", problem, "Use ten blocks or more.")
    found = np.arange(count) // length
    return np.where(found < whole, found, -1)


def bootstrap(values: Floats, block: Ints, seed: int, draws: int = DRAWS) -> Floats:
    """Means over blocks drawn with replacement.

    Parameters
    ----------
    values : shape (columns, rows)
    block : shape (rows,), -1 for rows that belong to none

    Returns
    -------
    shape (draws, columns)

    Raises
    ------
    ZetaError
        If there is no block.
    """
    inside = block >= 0
    if not inside.any():
        problem = "no whole block among the rows of a class"
        raise ZetaError("params.yaml: baselines", problem, "Lower block or explicit_every.")
    _, number = np.unique(block[inside], return_inverse=True)
    size = np.bincount(number).astype(np.float64)
    sums = np.stack([np.bincount(number, v) for v in values[:, inside]])
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(size), np.full(len(size), 1 / len(size)), draws)
    return np.asarray((times @ sums.T) / (times @ size)[:, None])


def difference(one: Floats, other: Floats, block: Ints, seed: int = 0) -> tuple[float, float]:
    """Mean of `one` - `other`, target by target, and its standard error: is a difference real?"""
    gap = (one - other)[None]
    return float(gap.mean()), float(bootstrap(gap, block, seed).std(ddof=1))


def position(windows: int, length: int) -> Ints:
    """Spacings known of each target's window: 1 ... T - 1, window after window."""
    return np.tile(np.arange(1, length), windows)
