"""The layout of the archive: which heights lie in which block of which file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise, repeat

import numpy as np
from numpy.typing import NDArray

from zetalib import fixed, platt
from zetalib.platt import Block, Header

FIRST = 14.0  # the first block's t0
BLOCK = 2100.0  # height of every block but the first, which ends at 5000


def bounds() -> Iterator[list[float]]:
    """Block bounds of the archive's files, one list of heights a file, without end.

    One block 14 to 5000; then blocks of 2100: 10, 100, 100, and 1000 in every further file.
    """
    yield [FIRST, 5000.0]
    start = 5000.0
    for blocks in chain([10, 100, 100], repeat(1000)):
        heights = [start + BLOCK * k for k in range(blocks + 1)]
        yield heights
        start = heights[-1]


def files(gamma: NDArray[np.float64]) -> Iterator[tuple[str, bytes]]:
    """Encode the first zeros, float64 heights of ranks 1, 2, ..., as (name, content) of files.

    Files and blocks are those of the archive up to the last zero; the last block ends there.
    Every float64 height is a multiple of 2^-101, so nothing is rounded.
    """
    for heights in bounds():
        blocks = []
        for t0, t1 in pairwise(heights):
            n0, n1 = (int(np.searchsorted(gamma, t, side="right")) for t in (t0, t1))
            if n0 == len(gamma):
                break
            end = float(gamma[-1]) if n1 == len(gamma) else t1
            blocks.append(Block(Header(t0, end, n0, n1, 0), fixed.from_floats(gamma[n0:n1])))
        if not blocks:
            return
        yield platt.file_name(heights[0]), platt.encode(blocks)
