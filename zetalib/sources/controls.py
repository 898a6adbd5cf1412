"""Control sources: point sequences that are not zeros of zeta, in the archive's layout.

A control is a sequence of points of mean density one. It is put at the heights that unfold to it
(variant B), so that the whole pipeline runs on it unchanged and `unfold` gives its spacings back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zetalib.archive import codec, fixed_point, layout
from zetalib.archive.codec import Block, Header
from zetalib.archive.fixed_point import Fixed
from zetalib.errors import ZetaError
from zetalib.kernels import cached
from zetalib.params import Download
from zetalib.theory import unitary_ensemble, zeta
from zetalib.theory.primes import prime_numbers

Floats = NDArray[np.float64]

ZEROS = 2_001_052  # points of a control when max_zeros is null: as many as Odlyzko's table has
FIRST = 14.134725141734693  # where the first point is put: the height of the first zero
CHUNK = 1 << 20  # spacings at a time
LONGEST = 8  # a distance from here on has no record: 104 bits of 2^-101
LARGEST_GUE = 1 << 24  # 7 GB of memory, and rounding grows with the size


def gue(params: Download, folder: Path) -> None:
    """Bulk of the Gaussian unitary ensemble: consecutive eigenangles of a Haar-random unitary.

    The matrix has at least ``max_zeros`` rows. Its eigenangles have the sine-kernel statistics of
    the GUE bulk and exactly uniform density, so there is nothing to unfold and no seam.

    Raises
    ------
    ZetaError
        If more points are asked for than one matrix gives.
    """
    count = _count(params)
    if count > LARGEST_GUE:
        problem = f"{count} points of source gue; one random matrix gives up to {LARGEST_GUE}"
        raise ZetaError("params.yaml: download.max_zeros", problem, "Ask for fewer.")
    size = max(1 << (count - 1).bit_length(), 1024)  # below 1024 the matrix's size would show
    points = unitary_ensemble.points(size, np.random.default_rng(params.seed))[:count]
    write(_chunks(np.diff(points)), folder)


def poisson(params: Download, folder: Path) -> None:
    """The Poisson process: independent exponential spacings."""
    rng = np.random.default_rng(params.seed)
    spacings = _count(params) - 1
    starts = range(0, spacings, CHUNK)
    write((rng.standard_exponential(min(CHUNK, spacings - k)) for k in starts), folder)


def shuffled(params: Download, folder: Path, table: Callable[[], Floats]) -> None:
    """The real spacings in random order: their density without their correlations.

    Parameters
    ----------
    table : callable
        Returns the float64 heights of the first :data:`ZEROS` zeros.

    Raises
    ------
    ZetaError
        If more points are asked for than the table has.
    """
    count = _count(params)
    if count > ZEROS:
        problem = f"{count} points of source shuffled; the table it permutes has {ZEROS} zeros"
        raise ZetaError("params.yaml: download.max_zeros", problem, "Ask for fewer, or leave null.")
    gamma = table()[:count]
    spacing = zeta.spacings(gamma[:-1], np.diff(gamma))
    write(_chunks(np.random.default_rng(params.seed).permutation(spacing)), folder)


def primes(params: Download, folder: Path) -> None:
    """Gaps between the primes from 2 on, unfolded by (p_{k+1} - p_k) / log p_k.

    Their mean is not exactly 1 (1.008 over the first 5000, 1.0002 over two million): the sum of the
    spacings up to x is about li(x), and there are fewer primes than that.
    """
    write(_prime_spacings(_count(params)), folder)


def _count(params: Download) -> int:
    return ZEROS if params.max_zeros is None else params.max_zeros


def _chunks(spacing: Floats) -> Iterator[Floats]:
    return (spacing[k : k + CHUNK] for k in range(0, len(spacing), CHUNK))


def _prime_spacings(count: int) -> Iterator[Floats]:
    """Unfolded gaps between the first `count` primes."""
    last = np.empty(0, dtype=np.int64)
    for found in prime_numbers():
        found = np.append(last, found[: count - len(last)])
        yield np.diff(found) / np.log(found[:-1])
        count -= len(found) - 1
        last = found[-1:]
        if count == 1:
            return


def heights(spacing: Floats, start: Fixed) -> Fixed:
    """Heights whose unfolded spacings (variant B) are `spacing`: inverse unfolding.

    Each gap g solves s = [g log(t/(2 pi e)) + (t + g) log1p(g/t)] / (2 pi) by Newton's method at
    the height t reached so far and is added exactly, so no error adds up: a spacing comes back to
    about 1e-15 of itself however far up it lies.

    Parameters
    ----------
    spacing : float64 array, shape (n,), in mean spacings, positive
    start : uint64 array, shape (3,)
        Height of the point before the first spacing, limbs of :mod:`zetalib.archive.fixed_point`,
        above 2 pi.

    Returns
    -------
    uint64 array, shape (n, 3)
        The point after each spacing.
    """
    out = np.empty((len(spacing), fixed_point.LIMBS), dtype=np.uint64)
    _climb(np.ascontiguousarray(spacing), start, out)
    return out


@cached()
def _gap(t: float, spacing: float) -> float:
    """The distance from height t to the point `spacing` mean spacings above it."""
    target = 2 * math.pi * spacing
    density = math.log(t / (2 * math.pi))
    g = target / density  # too far: the density grows; Newton then descends on a convex function
    for _ in range(50):
        lift = math.log1p(g / t)
        step = (g * (density - 1) + (t + g) * lift - target) / (density + lift)
        g -= step
        if abs(step) <= 1e-15 * g:
            break
    return g


@cached()
def _climb(spacing: Floats, start: Fixed, out: Fixed) -> None:
    a0, a1, a2 = start[0], start[1], start[2]
    for i in range(len(spacing)):
        t = float(a2) * 2.0**27 + float(a1) * 2.0**-37 + float(a0) * 2.0**-101
        g = _gap(t, spacing[i]) * 2.0**37
        hi = np.uint64(g)
        lo = np.uint64((g - float(hi)) * 2.0**64)  # both exact: g has 53 bits, hi < 2^63
        a0 += lo
        carry = np.uint64(1) if a0 < lo else np.uint64(0)
        a1 += hi + carry
        if a1 < hi + carry:
            a2 += np.uint64(1)
        out[i, 0], out[i, 1], out[i, 2] = a0, a1, a2


def write(spacings: Iterable[Floats], folder: Path) -> None:
    """Archive files of the points with these spacings, in chunks; memory is that of one file.

    Files and blocks are those of the archive up to the last point, where the last block ends;
    :func:`blocks` says where further ones begin.
    """
    files = layout.bounds()
    bounds = next(files)
    rank = 0
    pending = fixed_point.from_floats(np.array([FIRST]))
    for spacing in spacings:
        pending = np.concatenate([pending, heights(spacing, pending[-1])])
        ceiling = _ceiling(pending)
        while ceiling[-1] > bounds[-1]:
            cut = int(np.searchsorted(ceiling, bounds[-1], side="right"))
            _save(folder, pending[:cut], bounds, rank)
            pending, ceiling, rank = pending[cut:], ceiling[cut:], rank + cut
            bounds = next(files)
    end = fixed_point.to_floats(pending[-1:]).item()
    if fixed_point.float_to_int(end) < fixed_point.to_ints(pending[-1:])[0]:
        end = math.nextafter(end, math.inf)
    _save(folder, pending, [t for t in bounds if t < end] + [end], rank)


def _save(folder: Path, points: Fixed, bounds: list[float], rank: int) -> None:
    name = codec.file_name(bounds[0])
    print(f"writing {name}", flush=True)
    codec.write_file(folder / name, blocks(points, bounds, rank))


def blocks(points: Fixed, bounds: list[float], rank: int) -> Iterator[Block]:
    """Blocks of the points of one file, limbs of shape (n, 3), with `rank` points before them.

    A record cannot say a distance of 8 or more, but it counts from its block's t0: where two
    points may be that far apart, a further block begins just below the upper one.

    Parameters
    ----------
    bounds : list of float
        Ends of the archive's blocks, integers but for the last; the points lie between them.
    """
    ceiling = _ceiling(points)
    ends = np.array(bounds)
    start = ends[np.searchsorted(ends[:-1], ceiling) - 1]
    below = np.maximum(np.append(ends[0], ceiling[:-1]), start)
    ends = np.union1d(ends, ceiling[ceiling - below >= LONGEST] - 1)
    # gamma <= t is ceil(gamma) <= t for an integer t; all points lie below the last end.
    counts = np.append(np.searchsorted(ceiling, ends[:-1], side="right"), len(points)).tolist()
    for (t0, t1), (n0, n1) in zip(pairwise(ends.tolist()), pairwise(counts), strict=True):
        yield Block(Header(t0, t1, rank + n0, rank + n1, 0), points[n0:n1])


def _ceiling(points: Fixed) -> Floats:
    """Heights, limbs of shape (n, 3), rounded up to integers: exact, as comparisons must be."""
    fraction = np.uint64(fixed_point.UNIT_BITS - 64)
    whole = (points[:, 2] << (np.uint64(64) - fraction)) | (points[:, 1] >> fraction)
    rest = (points[:, 0] != 0) | (points[:, 1] << (np.uint64(64) - fraction) != 0)
    return np.asarray(whole + rest, dtype=np.float64)
