"""Error of a spacing at four heights: ours and the formula that subtracts u, against arb.

    python -m benchmarks.precision

Heights are exact integers of 2^-101: real zeros from FLINT, and synthetic ones whose gaps are
spread evenly in logarithm from 10^-12 to 3 mean spacings. They are written as a `.dat` file,
decoded and unfolded as the pipeline does it. The reference is the increment of
u(t) = t/(2 pi) log(t/(2 pi e)) between the integers themselves, in ball arithmetic at 300 bits.
Errors are in mean spacings; the relative one is the largest.
"""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from flint import arb, ctx
from numpy.typing import NDArray

from zetalib.archive import codec, fixed_point
from zetalib.archive.codec import Block, Header
from zetalib.sources import exact
from zetalib.theory import zeta

Floats = NDArray[np.float64]

REAL = {1e3: 500, 1e6: 500, 1e8: 300, 3e10: 100}  # spacings: a zero at the top takes half a second
SYNTHETIC = 2000
BITS = 300


def synthetic(height: float, count: int, rng: np.random.Generator) -> list[int]:
    """`count` + 1 heights above `height` in units of 2^-101, all bits of the gaps in use."""
    mean = 2 * np.pi / np.log(height / (2 * np.pi))
    gaps = mean * 10 ** rng.uniform(-12, np.log10(3), count)
    below = rng.integers(0, 1 << 40, count + 1)  # bits that a float64 gap leaves at zero
    steps = [(int(g * 2.0**61) << 40) + int(b) for g, b in zip(gaps, below[1:], strict=True)]
    heights = [fixed_point.float_to_int(height) + int(below[0])]
    for step in steps:
        heights.append(heights[-1] + step)
    return heights


def through_the_archive(heights: list[int], n0: int) -> tuple[Floats, Floats]:
    """Heights, shape (n,), and gaps, shape (n - 1,), decoded from a file that holds `heights`."""
    unit = 1 << fixed_point.UNIT_BITS
    t0, t1 = float((heights[0] - 1) // unit), float(heights[-1] // unit + 1)
    block = Block(Header(t0, t1, n0, n0 + len(heights), 0), fixed_point.from_ints(heights))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / codec.file_name(t0)
        path.write_bytes(codec.encode([block]))
        (decoded,) = codec.read_blocks(path)
        if fixed_point.to_ints(decoded.heights) != heights:
            raise SystemExit(f"{path.name}: the integers came back changed")
        _, gamma, gap = codec.decode_file(path, None)
    return gamma, gap[:-1]


def reference(heights: list[int]) -> list[arb]:
    """Spacings from the integers, in balls."""
    with ctx.workprec(BITS):
        circle = 2 * arb.pi()
        at = [arb(height) / (1 << fixed_point.UNIT_BITS) for height in heights]
        u = [t / circle * ((t / circle).log() - 1) for t in at]
        return [after - before for before, after in pairwise(u)]


def errors(found: Floats, true: list[arb]) -> tuple[float, float, float]:
    """Largest, root-mean-square and largest relative error of `found`, shape (n,)."""
    with ctx.workprec(BITS):
        off = [abs(arb(value) - ball) for value, ball in zip(found.tolist(), true, strict=True)]
        relative = max(float(e / ball) for e, ball in zip(off, true, strict=True))
    absolute = np.array([float(e) for e in off])
    return float(absolute.max()), float(np.sqrt(np.mean(absolute**2))), relative


def main() -> None:
    """Print the table."""
    ctx.threads = os.cpu_count() or 1
    rng = np.random.default_rng(0)
    print("| height | spacings | ours: max | rms | relative | naive: max | rms | relative |")
    print("|---|---|---|---|---|---|---|---|")
    for height, count in REAL.items():
        n0 = exact.count(height)
        for kind, heights in {
            "real": exact.heights(n0 + 1, count + 1),
            "synthetic": synthetic(height, SYNTHETIC, rng),
        }.items():
            gamma, gap = through_the_archive(heights, n0)
            true = reference(heights)
            u = gamma / (2 * np.pi) * np.log(gamma / (2 * np.pi * np.e))
            ours = errors(zeta.spacings(gamma[:-1], gap), true)
            naive = errors(np.diff(u), true)
            figures = " | ".join(f"{figure:.1e}" for figure in ours + naive)
            print(f"| {height:.0e} | {len(true)} {kind} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
