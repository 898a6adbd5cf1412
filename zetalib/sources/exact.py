"""Zeros computed from scratch: FLINT's rigorous balls, rounded to the archive's 2^-101.

Reference: FLINT's acb_dirichlet module (https://flintlib.org/doc/acb_dirichlet.html). It isolates
zeros on the critical line and proves their number (Turing's method), then refines them in ball
arithmetic: rank and digits are certain.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from itertools import pairwise
from pathlib import Path

from flint import acb, arb, ctx

from zetalib import atomic
from zetalib.archive import codec, fixed_point, layout
from zetalib.archive.codec import Block, Header
from zetalib.errors import ZetaError
from zetalib.params import Download

BITS = 180  # of working precision: a zero up to t = 3e10 takes 136, the rest pins the rounding
TOP = 30_610_046_000.0  # where the archive ends
BATCH = 500  # zeros a call: the cost of one is the same from 25 on, more keep more threads busy
COST = 1.6  # computing n zeros takes about n^1.6 (measured up to n = 30,000): for the ETA only
EVERY = 5.0  # seconds between lines


def heights(first: int, count: int, bits: int = BITS) -> list[int]:
    """Zeros of ranks `first` ... `first + count - 1`, each the nearest multiple of 2^-101.

    Computed in this process (in `flint.ctx.threads` threads) at `bits` of precision. A zero whose
    ball does not decide the rounding is computed again with twice the bits, until it does.

    Raises
    ------
    ValueError
        If `first` is below 1 or `count` below 0.
    """
    if first < 1 or count < 0:
        raise ValueError(f"{count} zeros from rank {first}: ranks start at 1")
    if count == 0:
        return []
    with ctx.workprec(bits):
        found = [_nearest(zero.imag) for zero in acb.zeta_zeros(first, count)]
    return [
        heights(first + k, 1, 2 * bits)[0] if height is None else height
        for k, height in enumerate(found)
    ]


def _nearest(gamma: arb) -> int | None:
    """The multiple of 2^-101 nearest to every number in the ball, or None if they disagree."""
    unit = (gamma * (1 << fixed_point.UNIT_BITS) + arb(0.5)).floor().unique_fmpz()
    return None if unit is None else int(unit)


def count(t: float) -> int:
    """N(t), the number of zeros with 0 < gamma <= t, exactly.

    Raises
    ------
    ValueError
        If `t` is not finite.
    """
    if not math.isfinite(t):
        raise ValueError(f"a height must be finite, got {t!r}")
    bits = BITS
    while True:  # ends: no zero is a float64, so some precision tells them apart
        with ctx.workprec(bits):
            zeros = arb(t).zeta_nzeros().unique_fmpz()
        if zeros is not None:
            return int(zeros)
        bits *= 2


def write(params: Download, folder: Path) -> None:
    """All zeros up to ``download.to_height`` in the archive's files and blocks, computed here.

    The last block ends at ``to_height``; elsewhere the files equal the archive's bit for bit.
    Every finished block is kept in ``checkpoints/exact`` beside `folder` until all is done, so
    that a run that was stopped goes on where it was.

    Raises
    ------
    ZetaError
        If there is no zero up to ``to_height``, or it lies above the archive's top.
    """
    end = params.to_height
    if end is None or end > TOP or not (total := count(end)):
        raise ZetaError(
            "params.yaml: download.to_height",
            f"it is {end}; the first zero lies at 14.13, the archive's last at {TOP:.5g}",
            "Set a height between the two, e.g. -S download.to_height=5000.",
        )
    kept = folder.parent / "checkpoints" / "exact"
    progress = _Progress(total)
    for bounds in layout.bounds():
        if bounds[0] >= end:
            break
        cut = [t for t in bounds if t < end]
        if len(cut) < len(bounds):
            cut.append(end)
        blocks = [_block(t0, t1, kept, progress) for t0, t1 in pairwise(cut)]
        atomic.write_bytes(folder / codec.file_name(cut[0]), codec.encode(blocks))
    shutil.rmtree(kept)


def _block(t0: float, t1: float, kept: Path, progress: _Progress) -> Block:
    """The block from `t0` to `t1`: the one kept by an earlier run, or computed and kept."""
    header = Header(t0, t1, count(t0), count(t1), offset=8)
    path = kept / codec.file_name(t0)
    block = _reuse(path, header)
    if block is None:
        found: list[int] = []
        for first in range(header.n0 + 1, header.n1 + 1, BATCH):
            found += _in_threads(first, min(BATCH, header.n1 + 1 - first))
            progress.computed(header.n0 + len(found))
        block = Block(header, fixed_point.from_ints(found))
        atomic.write_bytes(path, codec.encode([block]))  # checks them against t0, t1 and counts
    progress.passed(header.n1)
    return block


def _reuse(path: Path, header: Header) -> Block | None:
    """The block in `path` if it is the one of `header` and undamaged.

    Its last zero is the sum of all its distances: computed anew, it vouches for every bit.
    """
    if not path.exists():
        return None
    try:
        (block,) = codec.read_blocks(path)
    except (ZetaError, ValueError):
        return None
    last = fixed_point.to_ints(block.heights[-1:])
    return block if block.header == header and last == heights(header.n1, len(last)) else None


def _in_threads(first: int, number: int) -> list[int]:
    """:func:`heights` in one FLINT thread a core (threads of Python's would wait for the GIL)."""
    before = ctx.threads
    ctx.threads = os.cpu_count() or 1
    try:
        return heights(first, number)
    finally:
        ctx.threads = before


class _Progress:
    """A line every few seconds: zeros done, speed, time left."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.start = self.last = 0  # ranks where this run started to compute, and where it is
        self.began = self.said = time.monotonic()

    def passed(self, rank: int) -> None:
        """All up to `rank` are there; what an earlier run left does not count for the speed."""
        if self.last == self.start:
            self.start = self.last = rank
            self.began = time.monotonic()

    def computed(self, rank: int) -> None:
        """All up to `rank` are computed."""
        self.last, now = rank, time.monotonic()
        if now - self.said < EVERY and rank < self.total:
            return
        self.said, elapsed = now, max(now - self.began, 1e-9)
        work = [float(n) ** COST for n in (self.start, rank, self.total)]
        eta = elapsed * (work[2] - work[1]) / (work[1] - work[0])
        speed = (rank - self.start) / elapsed
        print(
            f"exact: {rank:,} of {self.total:,} zeros | {speed:.0f} zeros/s | "
            f"ETA: {eta:.0f}s | elapsed: {elapsed:.0f}s",
            flush=True,
        )
