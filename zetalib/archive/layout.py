"""The layout of the archive: which heights lie in which block of which file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray

from zetalib.archive import codec, fixed_point
from zetalib.archive.codec import Block, Header

FIRST = 14.0  # the first block's t0
BLOCK = 2100.0  # height of every block but the first, which ends at 5000


def bounds(height: float = FIRST) -> Iterator[list[float]]:
    """Block bounds of the archive's files, one list of heights a file, without end.

    One block 14 to 5000; then blocks of 2100: 10, 100, 100, and 1000 in every further file.
    The first list is that of the file which `height` falls into.
    """
    if height < 5000.0:
        yield [FIRST, 5000.0]
    start = 5000.0
    for blocks in (10, 100, 100):
        if height < start + blocks * BLOCK:
            yield [start + BLOCK * k for k in range(blocks + 1)]
        start += blocks * BLOCK
    for number in count(int(max(height - start, 0.0) // (1000 * BLOCK))):
        low = start + 1000 * BLOCK * number
        yield [low + BLOCK * k for k in range(1001)]


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
            blocks.append(Block(Header(t0, end, n0, n1, 0), fixed_point.from_floats(gamma[n0:n1])))
        if not blocks:
            return
        yield codec.file_name(heights[0]), codec.encode(blocks)
