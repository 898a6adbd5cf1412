"""Zeros by the Riemann-Siegel formula: any range of heights, at millions of zeros a second.

    Z(t) = 2 sum_{n <= N} n^(-1/2) cos(theta(t) - t log n) + R(t),   N = floor(sqrt(t / 2 pi)),

with the correction terms C0 ... C4 in R (H. M. Edwards, Riemann's Zeta Function, section 7.4;
W. Gabcke, 1979: after C4 the error is below 0.017 t^(-11/4)). On a uniform grid of heights the
sum is a type-1 non-uniform FFT with frequencies log n, which FINUFFT evaluates; the zeros of Z,
a band-limited function, follow from its samples (:mod:`zetalib.theory.bandlimited`). Ranks are not
assumed but counted, by Turing's method, and a count that does not close is an error.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache
from itertools import pairwise
from pathlib import Path

import finufft
import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.special import lambertw

from zetalib import compute
from zetalib.archive import codec, fixed_point, layout
from zetalib.archive.codec import Block, Header
from zetalib.errors import ZetaError
from zetalib.kernels import cached
from zetalib.params import Download
from zetalib.sources import exact
from zetalib.theory import bandlimited

Floats = NDArray[np.float64]

LOWEST = 200  # below, the expansion is too weak: those zeros come from python-flint
HIGHEST = 1e12  # above, float64 counts of zeros run out of digits
TERM_BYTES = 80  # of memory for a term of the main sum, measured to t = 1e14
TERM_SECONDS = 6e-6  # for its logarithm, likewise
ACCURACY = 1e-12  # of the non-uniform FFT, relative

_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
_REACH = 0.5  # of a stretch in sqrt(t / 2 pi)
_SAMPLES = 1 << 17
_FINEST = 8
_DEGREE = 31  # of the Chebyshev series along a stretch; their tails are cut
_MASK = 0xFFFF_FFFF_FFFF_FFFF


@cache
def corrections() -> Floats:
    """Taylor coefficients of C0 ... C4 about p = 1/2, shape (5, 64).

    p is the fraction of sqrt(t / 2 pi); all are derivatives of
    Psi(p) = cos(2 pi (p^2 - p - 1/16)) / cos(2 pi p) (Edwards, section 7.4).
    """
    kept, highest = 64, 12
    terms = kept + highest
    with localcontext() as context:
        context.prec = 100
        # About z = p - 1/2 it is -cos(2 pi z^2 - 5 pi / 8) / cos(2 pi z), both plain series.
        root = Decimal(2).sqrt()
        cos, sin = -(2 - root).sqrt() / 2, (2 + root).sqrt() / 2  # of 5 pi / 8
        above, below = [Decimal(0)] * terms, [Decimal(0)] * terms
        for k in range(terms // 2):
            turned = (cos, sin, -cos, -sin)[k % 4]
            above[2 * k] = -turned * (2 * _PI) ** k / math.factorial(k)
            below[2 * k] = (-1) ** k * (2 * _PI) ** (2 * k) / math.factorial(2 * k)
        psi: list[Decimal] = []
        for k in range(terms):
            psi.append(above[k] - sum((psi[j] * below[k - j] for j in range(k)), Decimal(0)))
        q = _PI**2
        recipe: list[list[tuple[int, Decimal]]] = [
            [(0, Decimal(1))],
            [(3, -1 / (96 * q))],
            [(2, 1 / (64 * q)), (6, 1 / (18432 * q**2))],
            [(1, -1 / (64 * q)), (5, -1 / (3840 * q**2)), (9, -1 / (5308416 * q**3))],
            [
                (0, 1 / (128 * q)),
                (4, 19 / (24576 * q**2)),
                (8, 11 / (5898240 * q**3)),
                (12, 1 / (2038431744 * q**4)),
            ],
        ]
        return np.array(
            [
                [
                    float(sum(w * psi[k + order] * math.perm(k + order, order) for order, w in row))
                    for k in range(kept)
                ]
                for row in recipe
            ]
        )


def remainder(t: Floats, terms: int) -> Floats:
    """R(t) after `terms` terms of the main sum, to 0.017 t^(-11/4). Shape (m,) to (m,).

    `terms` may be one off floor(sqrt(t / 2 pi)) near where that changes: C0 ... C4 are entire.
    """
    tau = np.sqrt(t / (2 * np.pi))
    powers = np.vander(tau - terms - 0.5, corrections().shape[1], increasing=True)
    found = np.zeros_like(t)
    for row in (corrections() @ powers.T)[::-1]:
        found = found / tau + row
    return np.asarray((1.0 if terms % 2 else -1.0) / np.sqrt(tau) * found)


@cache
def _turns(size: int) -> NDArray[np.uint64]:
    """frac(log(n) / 2 pi) for n = 1 ... size as (high, low) words of 128 bits, shape (size, 2)."""
    bits = 192
    with localcontext() as context:
        context.prec = 80
        per_turn = int(Decimal(2) ** bits / (2 * _PI))
    words = np.empty((size, 2), dtype=np.uint64)
    log = 0
    for n in range(1, size + 1):
        if n > 1:  # log n - log(n - 1) = 2 artanh(1 / (2 n - 1))
            odd = 2 * n - 1
            power, k = (2 << bits) // odd, 1
            while power:
                log += power // k
                power //= odd * odd
                k += 2
        turn = (log * per_turn) >> (2 * bits - 128)
        words[n - 1] = (turn >> 64) & _MASK, turn & _MASK
    return words


def _turns_of(size: int) -> NDArray[np.uint64]:
    return _turns(1 << max(size - 1, 1).bit_length())[:size]


@cached(nogil=True)
def _phases(center: np.uint64, turns: NDArray[np.uint64], out: Floats) -> None:
    """out[n - 1] = center * log n mod 2 pi, in [-pi, pi); the product is exact modulo one turn."""
    half, mask = np.uint64(32), np.uint64(0xFFFF_FFFF)
    c0, c1 = center & mask, center >> half
    for n in range(turns.shape[0]):
        high, low = turns[n, 0], turns[n, 1]
        l0, l1 = low & mask, low >> half
        middle = ((c0 * l0) >> half) + ((c0 * l1) & mask) + ((c1 * l0) & mask)
        carry = c1 * l1 + ((c0 * l1) >> half) + ((c1 * l0) >> half) + (middle >> half)
        out[n] = np.float64(np.int64(center * high + carry)) * (2 * np.pi / 2.0**64)


def theta(center: int) -> float:
    """The Riemann-Siegel theta function at the integer height `center`, mod 2 pi."""
    with localcontext() as context:
        context.prec = 60
        t = Decimal(center)
        value = (t / 2) * ((t / (2 * _PI)).ln() - 1) - _PI / 8
        value += 1 / (48 * t) + 7 / (5760 * t**3) + 31 / (80640 * t**5)
        return float(value.remainder_near(2 * _PI))


def count_smooth(t: Floats) -> Floats:
    """theta(t) / pi + 1, the smooth part of N(t): what is left is S(t). Shape (m,)."""
    small = (1 / (48 * t) + 7 / (5760 * t**3) + 31 / (80640 * t**5)) / np.pi
    return np.asarray(t / (2 * np.pi) * np.log(t / (2 * np.pi * np.e)) + 0.875 + small)


def count_smooth_exactly(t: float) -> Decimal:
    """:func:`count_smooth` of one height to 40 digits, where float64 has too few."""
    with localcontext() as context:
        context.prec = 60
        x = Decimal(t)
        turns = x / (2 * _PI)
        return turns * (turns.ln() - 1) + Decimal("0.875") + 1 / (48 * x * _PI)


@cached(nogil=True)
def _assemble(
    sums: NDArray[np.complex128], cosine: Floats, sine: Floats, rest: Floats, out: Floats
) -> None:
    """Set `out` to 2 Re(sums (cos + i sin)) + rest; the last three are Chebyshev series."""
    half = len(out) // 2
    size = max(len(cosine), len(sine), len(rest))
    lanes = 64
    for start in range(0, len(out), lanes):
        u, c1, c2 = np.empty(lanes), np.zeros(lanes), np.zeros(lanes)
        s1, s2 = np.zeros(lanes), np.zeros(lanes)
        r1, r2 = np.zeros(lanes), np.zeros(lanes)
        for j in range(lanes):
            u[j] = 2.0 * (start + j - half) / half
        for d in range(size - 1, 0, -1):
            c, s, r = cosine[d], sine[d], rest[d]
            for j in range(lanes):
                c1[j], c2[j] = u[j] * c1[j] - c2[j] + c, c1[j]
                s1[j], s2[j] = u[j] * s1[j] - s2[j] + s, s1[j]
                r1[j], r2[j] = u[j] * r1[j] - r2[j] + r, r1[j]
        for j in range(min(lanes, len(out) - start)):
            x = 0.5 * u[j]
            c = x * c1[j] - c2[j] + cosine[0]
            s = x * s1[j] - s2[j] + sine[0]
            r = x * r1[j] - r2[j] + rest[0]
            value = sums[start + j]
            out[start + j] = 2.0 * (value.real * c - value.imag * s) + r


@cache
def _to_series() -> Floats:
    """Matrix from values at the Chebyshev points to the coefficients of the series."""
    matrix = chebyshev.chebvander(chebyshev.chebpts1(_DEGREE + 1), _DEGREE) * 2 / (_DEGREE + 1)
    matrix[:, 0] /= 2
    return np.asarray(matrix)


def z_grid(center: int, step: float, size: int) -> Floats:
    """Z at the heights center + (k - size // 2) * step, k = 0 ... size - 1.

    Parameters
    ----------
    center : int
        A height; integer, so that center * log n is reduced modulo 2 pi exactly.
    step : float
        Of the grid. The grid may reach to where sqrt(t / 2 pi) differs by one from its value at
        `center`: the number of terms is that of `center` throughout.
    size : int
        Even number of samples.

    Returns
    -------
    float64 array, shape (size,)
        Its error is about 1e-11 plus 0.017 t^(-11/4).
    """
    slope = 0.5 * math.log(center / (2 * math.pi))  # theta'(center)
    terms = int(math.sqrt(center / (2 * math.pi)))
    phases = np.empty(terms)
    _phases(np.uint64(center), _turns_of(terms), phases)
    n = np.arange(1.0, terms + 1)
    strengths = np.exp(1j * (theta(center) - phases)) / np.sqrt(n)
    # The grid's own frequency is taken out of theta and put into the transform.
    points = step * (np.log(n) - slope)
    sums = finufft.nufft1d1(
        points, strengths, size, eps=ACCURACY, isign=-1, nthreads=1, upsampfac=2.0
    )
    reach = step * (size // 2)

    delta = reach * chebyshev.chebpts1(_DEGREE + 1)
    t = center + delta
    # theta(t) less its tangent at the centre
    bend = 0.5 * (t * np.log1p(delta / center) - delta)
    bend += (1 / t - 1 / center) / 48 + 7 / 5760 * (t**-3 - float(center) ** -3)
    series = np.stack([np.cos(bend), np.sin(bend), remainder(t, terms)]) @ _to_series()
    needed = int(np.flatnonzero(np.abs(series).max(axis=0) > 1e-15)[-1]) + 1
    out = np.empty(size)
    _assemble(sums, *series[:, :needed], out)
    return out


@dataclass(frozen=True)
class Stretch:
    """The zeros of one stretch of heights, lo <= gamma < hi.

    Attributes
    ----------
    lo, hi : int
        Bounds of the stretch.
    before : int
        Number of all zeros below `lo`, counted from this stretch alone (see :func:`stretch`).
    offset : float64 array, shape (m,)
        Heights less `lo`: exact to 1e-11 where a float64 height would hold four digits less.
    """

    lo: int
    hi: int
    before: int
    offset: Floats


class CountError(ArithmeticError):
    """Zeros found and zeros counted disagree: `args` are lo, hi, found, counted."""


def cost(t: float) -> tuple[int, float, float]:
    """Terms of the main sum at height t; bytes and seconds its tables take, about.

    Measured on one core of 2026, at t = 1e12 (1e14): 3.3 s (17 s) and 0.1 GB (0.3 GB) for the
    tables, then 0.2 s (0.6 s) for a stretch of 40,000 zeros.
    """
    terms = int(math.sqrt(t / (2 * math.pi)))
    return terms, float(TERM_BYTES * terms), TERM_SECONDS * terms


def _samples(lo: int, hi: int, finer: int) -> tuple[Floats, float]:
    """Z over the stretch and `MARGIN` samples on either side, and the step."""
    step = math.pi / (0.5 * math.log((hi + 10) / (2 * math.pi))) / bandlimited.OVERSAMPLING / finer
    half = math.ceil((hi - lo) / 2 / step)
    step = (hi - lo) / 2 / half
    return z_grid((lo + hi) // 2, step, 2 * (half + bandlimited.MARGIN)), step


def stretch(lo: int, hi: int, finer: int = 1) -> Stretch:
    """All zeros with lo <= gamma < hi, and how many lie below.

    The number below `lo` is the integer nearest to the mean, over the zeros found, of
    theta(gamma)/pi + 1 less their place in the stretch: that is Turing's method, for the integral
    of S(t) over any range is less than 2.067 + 0.059 log t (Trudgian 2011), far less than the
    stretch's length. Zeros missed show: this stretch's number is then not that of the one before
    plus the zeros found there, or the next one's not this one's plus those found here.

    Parameters
    ----------
    lo, hi : int
        One of :func:`pieces`.
    finer : int
        Sample so many times as densely, and from 4 on search every interval: after a miss.
    """
    if lo < LOWEST:
        known = exact.heights(1, exact.count(hi))
        origin = lo << fixed_point.UNIT_BITS
        return Stretch(
            lo, hi, 0, np.array([(g - origin) / 2.0**fixed_point.UNIT_BITS for g in known])
        )
    samples, step = _samples(lo, hi, finer)
    last = len(samples) - bandlimited.MARGIN
    at = bandlimited.zeros(samples, bandlimited.MARGIN, last, thorough=finer > 2)
    offset = (at - bandlimited.MARGIN) * step
    excess = count_smooth(lo + offset) - np.arange(len(offset)) - 0.5
    return Stretch(lo, hi, round(float(excess.mean())), offset)


def pieces(bounds: list[float]) -> list[tuple[int, int]]:
    """Stretches (lo, hi) that one transform each can search, for a file of these block bounds.

    They depend on the file alone, not on the range wanted of it, so that a zero's digits do not
    either. The first one, up to `LOWEST`, is left to python-flint.
    """
    lo, end = int(bounds[0]), int(bounds[-1])
    found = []
    while lo < end:
        if lo < LOWEST:
            found.append((lo, LOWEST))
            lo = LOWEST
        tau = math.sqrt(lo / (2 * math.pi))
        # sqrt(t / 2 pi) may leave the unit interval of the stretch's middle by a quarter; 2^17
        # samples keep the transform in the cache.
        by_terms = 4 * math.pi * tau * _REACH
        by_samples = _SAMPLES * math.pi / math.log(tau) / bandlimited.OVERSAMPLING
        size = min(by_terms, by_samples)
        size = int(size // layout.BLOCK * layout.BLOCK) or max(int(size) // 2 * 2, 2)
        found.append((lo, min(lo + size, end)))
        lo = found[-1][1]
    return found


def closed(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """The stretches but the last, each checked to fill the count up to the one after it.

    Where the count does not close, both neighbours are searched anew, ever more closely.

    Raises
    ------
    CountError
        If that does not help.
    """
    before: Stretch | None = None
    for after in stretches:
        if before is not None:
            finer = 1
            while before.before + len(before.offset) != after.before:
                finer *= 2
                if finer > _FINEST:
                    counted = after.before - before.before
                    raise CountError(before.lo, before.hi, len(before.offset), counted)
                before = stretch(before.lo, before.hi, finer)
                after = stretch(after.lo, after.hi, finer)
            yield before
        before = after


def _height_of(count: float) -> float:
    """Where theta(t) / pi + 1 is `count`, roughly."""
    x = max(count - 0.875, 1.0)
    return float(2 * np.pi * np.e * np.exp(lambertw(x / np.e).real))


def pieces_from(height: float) -> Iterator[tuple[int, int]]:
    """All stretches from the one that holds `height`, without end."""
    for bounds in layout.bounds(height):
        yield from (piece for piece in pieces(bounds) if piece[1] > height)


def before_rank(rank: int) -> float:
    """A height between the zeros of ranks `rank` - 1 and `rank`."""
    if rank == 1:
        return layout.FIRST
    guess = _height_of(rank - 0.5)
    while True:
        found = stretch(*next(pieces_from(max(guess, layout.FIRST))))
        place = rank - 1 - found.before
        if place < 0:
            guess = found.lo - 1.0
        elif place >= len(found.offset):
            guess = float(found.hi)
        elif place == 0:
            return float(found.lo)
        else:
            return found.lo + float(found.offset[place - 1 : place + 1].mean())


def _in_order(stretches: Iterator[tuple[int, int]]) -> Iterator[Stretch]:
    """Each stretch searched, a thread a core, in order and only a few ahead."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as executor:
        yield from compute.Pool(executor.submit, workers).map(stretch, stretches)


class _Zeros:
    """Zeros handed out block by block from closed stretches in order."""

    def __init__(self, from_height: float) -> None:
        lo, _ = next(pieces_from(from_height))
        # One stretch more before the first: its end counts what the first one starts with.
        stretches = pieces_from(max(lo - 1.0, layout.FIRST))
        self._stretches = closed(_in_order(stretches))
        first = next(held for held in self._stretches if held.hi > from_height)
        self._held = [first]
        at = np.searchsorted(first.offset, from_height - first.lo, side="right")
        self.rank = first.before + int(at)

    def between(self, t0: float, t1: float) -> tuple[Floats, float]:
        """Distances from t0: of the zeros with t0 < gamma <= t1, and of the one after them."""
        while True:
            if self._held[-1].hi > t1:
                offset = np.concatenate([(held.lo - t0) + held.offset for held in self._held])
                first, last = np.searchsorted(offset, [0.0, t1 - t0], side="right")
                if last < len(offset):
                    self._held = [held for held in self._held if held.hi > t1]
                    return offset[first:last], float(offset[last])
            self._held.append(next(self._stretches))


def _blocks(zeros: _Zeros, bounds: list[float], last: int | None) -> Iterator[Block]:
    """Blocks between the bounds, up to the zero of rank `last` if one is given."""
    for t0, t1 in pairwise(bounds):
        offset, after = zeros.between(t0, t1)
        n0 = zeros.rank
        if last is not None and n0 + len(offset) >= last:
            offset, beyond = np.split(offset, [last - n0])
            t1 = t0 + (float(offset[-1]) + float(beyond[0] if len(beyond) else after)) / 2
        zeros.rank += len(offset)
        yield Block(Header(t0, t1, n0, zeros.rank, 0), fixed_point.above(t0, offset))
        if zeros.rank == last:
            return


def fetch(params: Download, folder: Path) -> None:
    """The source `siegel`: any range of zeros by height or rank, as archive files.

    The range starts at `from_height`, just below the zero of rank `first_rank`, or at 14; it ends
    at `to_height` or after `max_zeros` zeros.

    Raises
    ------
    ZetaError
        If the range is empty or lies too high, or if a count does not close.
    """
    try:
        _fetch(params, folder)
    except CountError as error:
        lo, hi, found, counted = error.args
        raise ZetaError(
            "download.source siegel",
            f"{found} zeros were found between t = {lo} and {hi}, but {counted} counted",
            "Please report it; download.source=exact does not depend on the search.",
        ) from None


def _fetch(params: Download, folder: Path) -> None:
    start = layout.FIRST
    if params.from_height is not None:
        start = max(start, params.from_height)
    elif params.first_rank is not None:
        _check_height(_height_of(params.first_rank))
        start = before_rank(params.first_rank)
    below = float(count_smooth(np.array([start]))[0])
    end = params.to_height or _height_of(below + (params.max_zeros or 0) + 1)
    _check_height(max(start, end))
    empty = f"there is no zero between t = {start!r} and {end!r}"
    if end <= start:
        raise ZetaError("params.yaml: download", empty, "Correct the range.")
    zeros = _Zeros(start)
    first = zeros.rank
    if params.first_rank is not None and first != params.first_rank - 1:
        raise CountError(int(start), int(start), params.first_rank - 1, first)
    last = None if params.max_zeros is None else first + params.max_zeros
    wanted = params.max_zeros or int(count_smooth(np.array([params.to_height]))[0]) - first
    began = time.monotonic()
    for heights in layout.bounds(start):
        top = min(params.to_height or heights[-1], heights[-1])
        bounds = [max(start, heights[0]), *(t for t in heights[1:] if start < t < top), top]
        path = folder / codec.file_name(bounds[0])
        codec.write_file(path, _blocks(zeros, bounds, last))
        done, seconds = zeros.rank - first, time.monotonic() - began
        print(
            f"{path.name}: {done:,} of {max(wanted, done):,} zeros, {done / seconds:,.0f} zeros/s, "
            f"{max(wanted - done, 0) * seconds / max(done, 1):.0f} s left",
            flush=True,
        )
        if zeros.rank == last or bounds[-1] == params.to_height:
            break
    if zeros.rank == first:
        raise ZetaError("params.yaml: download", empty, "Correct the range.")


def _check_height(highest: float) -> None:
    if highest > HIGHEST:
        problem = f"the range reaches t = {highest:.4g}"
        raise ZetaError("params.yaml: download", problem, f"Stay below {HIGHEST:.0e}.")
