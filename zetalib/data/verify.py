"""The gate: are these all the zeros, in order, where they belong, and do they look like zeros?

Two instruments see a fault. *Counting*: S(t) = N(t) - theta(t)/pi - 1 has so small an integral
that its mean over `WINDOW` zeros stays near 0 (Turing 1953; |integral| < 2.067 + 0.059 log t,
Trudgian 2011), while a lost zero moves it to -1 and a zero too many to +1, from there to the end.
*Recomputing*: the Riemann-Siegel formula gives every zero and its rank anew
(:mod:`zetalib.sources.riemann_siegel`), which names the faulty rank and sees a displaced zero too.

Above t = `siegel.HIGHEST` = 10^12 the sum is too long to recompute anything, and float64 has too
few digits for theta: there S is followed from zero to zero by the exact gaps. Where a float64
height is still finer than a tenth of a spacing (to 1.4e14) the first zero ties it to theta/pi + 1;
higher up only its own mean does: a zero lost or one too many on the way shows all the same, a
first rank that is wrong does not (source `table` counts that one).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zetalib import shares
from zetalib.data import parquet_folders
from zetalib.data.parquet_folders import Map, Part
from zetalib.data.unfold import BINS, BINS_PER_SPACING, MAX_LAG, Accumulator
from zetalib.errors import ZetaError
from zetalib.params import Verify
from zetalib.sources import riemann_siegel
from zetalib.sources.riemann_siegel import Stretch
from zetalib.theory.zeta import spacings as unfolded
from zetalib.theory.zeta import surmise_mass

Floats = NDArray[np.float64]

WINDOW = 64  # zeros over which S(t) is averaged
LIMIT = 0.5  # of that mean: half of what one zero changes
CHUNKS = 10  # by height, to see whether the statistics stand still
SLICES = 200  # by rank, of the plot of S(t)
FEWEST = 120  # spacings, to say anything about ten chunks of them
REFERENCE = 512  # zeros whose mean S is taken for 0 where heights do not tell
ROUGH = 0.01  # mean spacings: a zero so little away is one that was rounded
FINE = 0.1  # mean spacings: of a float64 height, to count with it
CELL = 0.05  # mean spacings: of the density that is compared with the surmise

_ROUNDED = (
    "Nothing further was run. If the heights are rounded, set verify.tolerance above that; else "
    "fetch these zeros again."
)
_REMEDY = "Nothing further was run. Fetch these zeros again (for points that are not: verify.zeta)."


@dataclass(frozen=True)
class Fault:
    """One zero that is not as it should be.

    Attributes
    ----------
    kind : str
        "missing", "extra" or "displaced".
    rank : int
        Of the zero in the table; for a missing one, the rank it would have.
    height : float
    distance : float
        Of a displaced zero from its place, in mean spacings; else 0.
    """

    kind: str
    rank: int
    height: float
    distance: float = 0.0

    def __str__(self) -> str:
        where = f"of rank {self.rank} at t = {self.height!r}"
        if self.kind == "missing":
            return f"the zero {where} is missing"
        if self.kind == "extra":
            return f"the zero {where} is one too many"
        return f"the zero {where} is {self.distance:.3g} mean spacings from its place"


def s_of_t(n: NDArray[np.int64], gamma: Floats) -> Floats:
    """S(t) at each zero, the mean of its values on either side: n - 1/2 - theta/pi - 1."""
    return np.asarray((n - 0.5) - riemann_siegel.count_smooth(gamma))


def s_by_gaps(
    n: NDArray[np.int64], gamma: Floats, gap: Floats, first: float | None
) -> tuple[Floats, float]:
    """S(t) at successive zeros of great height, and the ulp of a height in mean spacings.

    Parameters
    ----------
    n, gamma, gap : arrays, shape (m,), m > 0
        Ranks, heights, and exact distances to the next zero.
    first : float or None
        S at the first of them, if it is known from the zeros before.
    """
    steps = np.cumsum(unfolded(gamma[:-1], gap[:-1]))
    s = (n - n[0]) - np.concatenate([[0.0], steps])
    start = float(gamma[0])
    ulp = float(np.spacing(start)) * math.log(start / (2 * math.pi)) / (2 * math.pi)
    if ulp <= FINE:
        first = float(int(n[0]) - Decimal("0.5") - riemann_siegel.count_smooth_exactly(start))
    elif first is None:
        first = -float(s[:REFERENCE].mean())
    return np.asarray(s + first), ulp


def running_mean(s: Floats) -> Floats:
    """Means of S over `WINDOW` successive zeros (over all, if fewer), in the order of rank."""
    if len(s) <= WINDOW:
        return np.array([s.mean()]) if len(s) else np.empty(0)
    total = np.concatenate([[0.0], np.cumsum(s)])
    return np.asarray((total[WINDOW:] - total[:-WINDOW]) / WINDOW)


def locate(
    n: NDArray[np.int64], gamma: Floats, s: Floats | None = None, spacing: Floats | None = None
) -> Fault | None:
    """The first miscount in a table, from the running mean of S and the spacings around alone.

    The rank named is the likeliest place of the step in S, given the density of single spacings,
    s^2 exp(-4 s^2 / pi), and of double ones, s^7 exp(-0.94 s^2), in the unitary ensemble.

    Parameters
    ----------
    n, gamma : arrays, shape (m,)
        Ranks and heights of successive zeros; what comes before them is right.
    s, spacing : float64 arrays, shapes (m,) and at least (m - 1,)
        S and the spacings after the zeros; None: as the heights tell.
    """
    s = s_of_t(n, gamma) if s is None else s
    mean = running_mean(s)
    beyond = np.flatnonzero(np.abs(mean) > LIMIT)
    if len(beyond) == 0:
        return None
    lost = mean[beyond[0]] < 0
    lo = max(int(beyond[0]) - WINDOW // 2, 0)
    hi = min(int(beyond[0]) + 2 * WINDOW, len(s))
    part, heights = s[lo:hi], gamma[lo:hi]
    spacing = (
        np.diff(riemann_siegel.count_smooth(heights)) if spacing is None else spacing[lo : hi - 1]
    )
    # Squares about a step of one at k, less those about none: the likelihood of the step there.
    step = -1.0 if lost else 1.0
    squares = np.cumsum((part**2 - (part - step) ** 2)[::-1])[::-1]
    likely = squares / (2 * _VARIANCE)
    with np.errstate(divide="ignore"):  # a zero given twice: certain
        single, double = _single(spacing), _double(spacing)
    if lost:  # one spacing instead of two, before zero k
        likely[1:] += double - single
        likely[0] = -np.inf
    else:  # two spacings instead of one, on either side of zero k
        two = spacing[:-1] + spacing[1:]
        likely[1:-1] += _single(two) - single[:-1] - single[1:]
        likely[[0, -1]] = -np.inf
    k = int(np.argmax(likely))
    if lost:
        return Fault("missing", int(n[lo + k]), float(heights[k - 1 : k + 1].mean()))
    return Fault("extra", int(n[lo + k]), float(heights[k]))


_GOLDEN = 0.6180339887498949
_VARIANCE = 0.25  # of S, about


def _single(s: Floats) -> Floats:
    return np.asarray(np.log(32 / np.pi**2) + 2 * np.log(s) - 4 * s**2 / np.pi)


def _double(s: Floats) -> Floats:
    b = 0.93957  # mean two
    return np.asarray(np.log(b**4 / 3) + 7 * np.log(s) - b * s**2)


def compare(
    first: int, gamma: Floats, known: Stretch, tolerance: float
) -> tuple[Fault | None, Floats]:
    """Zeros of a table against the same ranks computed anew.

    Parameters
    ----------
    first : int
        Rank of gamma[0]; the ranks after it follow.
    gamma : float64 array, shape (m,)
    known : Stretch
    tolerance : float
        In mean spacings, beyond what float64 heights resolve.

    Returns
    -------
    fault : Fault or None
        The first zero that is not where it belongs.
    distance : float64 array
        Of each rank that both have, up to the fault, in mean spacings.
    """
    start = max(first, known.before + 1)
    stop = min(first + len(gamma), known.before + len(known.offset) + 1)
    if stop <= start:
        return None, np.empty(0)
    table = gamma[start - first : stop - first]
    place = known.lo + known.offset
    true = place[start - known.before - 1 : stop - known.before - 1]
    density = np.log(true / (2 * np.pi)) / (2 * np.pi)
    distance = (table - true) * density
    allowed = tolerance + 2 * np.spacing(true) * density
    off = np.flatnonzero(np.abs(distance) > allowed)
    if len(off) == 0:
        return None, np.asarray(np.abs(distance))
    k = int(off[0])
    rank, index = start + k, start + k - known.before - 1

    def meets(t: float, other: int) -> bool:
        return 0 <= other < len(place) and abs(t - place[other]) * density[k] <= allowed[k]

    here, later = float(table[k]), start - first + k + 1
    beyond = index + 1 == len(place) and here >= known.hi
    last = later == len(gamma) and here < true[k]
    if beyond or meets(here, index + 1):
        fault = Fault("missing", rank, float(true[k]))
    elif last or (later < len(gamma) and meets(float(gamma[later]), index)):
        fault = Fault("extra", rank, here)
    else:
        fault = Fault("displaced", rank, here, float(distance[k]))
    return fault, np.asarray(np.abs(distance[:k]))


@dataclass
class Seen:
    """What was seen of one file; `merge` takes in that of the next.

    Attributes
    ----------
    largest_mean : float
        Of |running mean of S|.
    recomputed : int
        Zeros compared with their recomputation.
    farthest : float
        The largest distance of one from it, in mean spacings.
    far : int
        Zeros above `siegel.HIGHEST`, counted by their gaps.
    coarsest : float
        The largest ulp of their heights, in mean spacings.
    slices : dict
        For each slice of ranks: zeros, sum of heights, of S and of S^2, smallest and largest S.
    segments : dict
        For each segment of spacings between two of the bounds asked for: their statistics.
    """

    largest_mean: float = 0.0
    recomputed: int = 0
    farthest: float = 0.0
    far: int = 0
    coarsest: float = 0.0
    slices: dict[int, Floats] = field(default_factory=dict)
    segments: dict[int, Accumulator] = field(default_factory=dict)

    def merge(self, other: Seen) -> None:
        self.largest_mean = max(self.largest_mean, other.largest_mean)
        self.recomputed += other.recomputed
        self.farthest = max(self.farthest, other.farthest)
        self.far += other.far
        self.coarsest = max(self.coarsest, other.coarsest)
        for k, row in other.slices.items():
            self.slices[k] = _add_slices(self.slices[k], row) if k in self.slices else row
        for k, found in other.segments.items():
            self.segments.setdefault(k, Accumulator()).merge(found)


def _add_slices(a: Floats, b: Floats) -> Floats:
    return np.array([*(a[:4] + b[:4]), min(a[4], b[4]), max(a[5], b[5])])


def check_zeros(
    path: Path, previous: Path | None, first: int, zeros: int, params: Verify, zeta: bool
) -> Seen:
    """Check one file of decoded zeros; `first` and `zeros` are those of the whole data set.

    Raises
    ------
    ZetaError
        Naming the rank and the height of the first fault.
    """
    seen = Seen()
    held_n: NDArray[np.int64] = np.empty(0, np.int64)
    held: Floats = np.empty(0)
    held_gap: Floats = np.empty(0)
    if previous is not None:
        last = len(parquet_folders.groups(previous)) - 1
        n, gamma, gap = _columns(previous, last)
        held_n, held, held_gap = n[-WINDOW:], gamma[-WINDOW:], gap[-WINDOW:]
    anew = _Anew(params) if zeta else None
    known: float | None = None  # S at the first zero held
    for group in range(len(parquet_folders.groups(path))):
        n, gamma, gap = _columns(path, group)
        _check_order(path, n, gamma, gap, held_n[-1:], held[-1:], first + zeros - 1)
        around_n, around = np.concatenate([held_n, n]), np.concatenate([held, gamma])
        around_gap = np.concatenate([held_gap, gap])
        far = bool(around[-1] > riemann_siegel.HIGHEST)
        if far:
            s, ulp = s_by_gaps(around_n, around, around_gap, known)
            seen.far += len(n)
            seen.coarsest = max(seen.coarsest, ulp)
        else:
            s = s_of_t(around_n, around)
        _slice(seen, (n - first) * SLICES // zeros, gamma, s[len(held) :])
        held_n, held, held_gap = around_n[-WINDOW:], around[-WINDOW:], around_gap[-WINDOW:]
        known = float(s[-len(held)])
        if anew is None:
            continue
        largest = float(np.abs(running_mean(s)).max())
        if largest > LIMIT and far:
            tied = seen.coarsest <= FINE
            raise _say(path, _far_fault(around_n, around, around_gap, s, tied))
        counted = locate(around_n, around) if largest > LIMIT else None
        if counted is not None:
            raise _say(path, anew.name(around_n, around, counted))
        seen.largest_mean = max(seen.largest_mean, largest)
        fault = None if far else anew.take(int(n[0]), gamma, seen)
        if fault is not None:
            raise _say(path, fault)
    if anew is not None:
        fault = anew.finish(seen)
        if fault is not None:
            raise _say(path, fault)
    return seen


def _far_fault(n: NDArray[np.int64], gamma: Floats, gap: Floats, s: Floats, tied: bool) -> Fault:
    """The miscount that a running mean of `s` beyond `LIMIT` shows, from the gaps alone."""
    spacing = unfolded(gamma, gap)
    # What comes before it is right: where S is tied to nothing else, let it be 0 there.
    fault = None if tied else locate(n, gamma, s - s[:WINDOW].mean(), spacing)
    fault = fault or locate(n, gamma, s, spacing)
    assert fault is not None
    return fault


def _columns(path: Path, group: int) -> tuple[NDArray[np.int64], Floats, Floats]:
    table = parquet_folders.read_group(path, group, ["n", "gamma", "gap"])
    gap = table["gap"].to_numpy(zero_copy_only=False)
    return table["n"].to_numpy(), table["gamma"].to_numpy(), gap


def _say(path: Path, fault: Fault) -> ZetaError:
    remedy = _ROUNDED if 0 < abs(fault.distance) < ROUGH else _REMEDY
    return ZetaError(path, str(fault), remedy)


def _check_order(
    path: Path,
    n: NDArray[np.int64],
    gamma: Floats,
    gap: Floats,
    last_n: NDArray[np.int64],
    last: Floats,
    highest: int,
) -> None:
    ranks, heights = np.concatenate([last_n, n]), np.concatenate([last, gamma])
    bad = np.flatnonzero(np.diff(ranks) != 1)
    if len(bad):
        before, after = ranks[bad[0]], ranks[bad[0] + 1]
        problem = f"rank {after} at t = {float(heights[bad[0] + 1])!r} follows rank {before}"
        raise ZetaError(path, problem, _REMEDY)
    # Heights of close zeros may round to one float64, but their exact gap is positive.
    bad = np.flatnonzero(np.diff(heights) < 0)
    if len(bad):
        k = int(bad[0]) + 1
        problem = (
            f"the zero of rank {ranks[k]} at t = {float(heights[k])!r} lies below the one before"
        )
        raise ZetaError(path, problem, _REMEDY)
    bad = np.flatnonzero(~(gap > 0) & (n != highest))  # the very last zero has none
    if len(bad):
        k = int(bad[0])
        problem = f"the gap after the zero of rank {n[k]} at t = {float(gamma[k])!r} is {gap[k]}"
        raise ZetaError(path, problem, _REMEDY)


def _slice(seen: Seen, which: NDArray[np.int64], gamma: Floats, s: Floats) -> None:
    starts = np.flatnonzero(np.diff(which, prepend=-1))
    for start, stop in itertools.pairwise([*starts, len(which)]):
        part = s[start:stop]
        row = [len(part), gamma[start:stop].sum(), part.sum(), (part**2).sum()]
        k, found = int(which[start]), np.array([*row, part.min(), part.max()])
        seen.slices[k] = _add_slices(seen.slices[k], found) if k in seen.slices else found


class _Anew:
    """Zeros of a file, taken in order, against stretches computed anew."""

    def __init__(self, params: Verify) -> None:
        self._params = params
        self._first, self._gamma = 0, np.empty(0)
        self._pieces: Iterator[tuple[int, int]] | None = None
        self._next = (0, 0)
        self._begun = False

    def take(self, first: int, gamma: Floats, seen: Seen) -> Fault | None:
        if self._pieces is None:
            self._first = first
            self._pieces = riemann_siegel.pieces_from(float(gamma[0]))
            self._next = next(self._pieces)
        self._gamma = np.concatenate([self._gamma, gamma])
        while self._next[1] <= self._gamma[-1]:
            fault = self._one(seen)
            if fault is not None:
                return fault
        return None

    def finish(self, seen: Seen) -> Fault | None:
        """The last piece reaches beyond the file."""
        return self._one(seen) if len(self._gamma) else None

    def _one(self, seen: Seen) -> Fault | None:
        lo, hi = self._next
        share = self._params.recompute
        assert self._pieces is not None
        self._next = next(self._pieces)
        fault = None
        # Spread evenly over all heights, and one a file at least.
        chosen = lo / 2 * _GOLDEN % 1.0 < share or (share > 0 and not self._begun)
        self._begun = True
        if chosen:
            fault, distance = self._against(lo, hi, self._first, self._gamma)
            seen.recomputed += len(distance)
            seen.farthest = max(seen.farthest, float(distance.max(initial=0.0)))
        # Ranks decide what is compared: keep some zeros below in case the counts disagree.
        keep = max(int(np.searchsorted(self._gamma, hi)) - WINDOW, 0)
        self._first, self._gamma = self._first + keep, self._gamma[keep:]
        return fault

    def _against(self, lo: int, hi: int, first: int, gamma: Floats) -> tuple[Fault | None, Floats]:
        for finer in (1, 2, 8):  # a fault: the table's, or the search's?
            known = riemann_siegel.stretch(lo, hi, finer)
            fault, distance = compare(first, gamma, known, self._params.tolerance)
            if fault is None:
                break
        return fault, distance

    def name(self, n: NDArray[np.int64], gamma: Floats, counted: Fault) -> Fault:
        """The exact rank of a miscount found near `counted`."""
        k = int(np.searchsorted(gamma, counted.height))
        low, high = float(gamma[max(k - WINDOW, 0)]), float(gamma[min(k + WINDOW, len(gamma) - 1)])
        for lo, hi in riemann_siegel.pieces_from(low):
            fault, _ = self._against(lo, hi, int(n[0]), gamma)
            if fault is not None:
                return fault
            if lo > high:
                return counted
        raise AssertionError("pieces have no end")


def check_spacings(path: Path, zeros: Path, first: int, bounds: list[int], largest: float) -> Seen:
    """Check one file of spacings against its file of zeros; statistics of each of its segments.

    `first` is the rank of the data set's first spacing; `bounds` of segments count spacings from
    there.

    Raises
    ------
    ZetaError
        If these are not spacings of those zeros, or one is larger than `largest`.
    """
    seen = Seen()
    for group in range(len(parquet_folders.groups(path))):
        table = parquet_folders.read_group(path, group, ["n", "gamma", "spacing"])
        n, spacing = table["n"].to_numpy(), table["spacing"].to_numpy()
        known = parquet_folders.read_group(zeros, group, ["n", "gamma"]).slice(0, len(n))
        if not known.equals(table.select(["n", "gamma"])):
            raise ZetaError(
                path, f"not the spacings of {zeros}", "Unfold again: `dvc repro unfold`."
            )
        bad = np.flatnonzero(spacing > largest)
        if len(bad):
            k = int(bad[0])
            problem = (
                f"the spacing after the zero of rank {n[k]} at t = {table['gamma'][k].as_py()!r} "
                f"is {spacing[k]:.3f} mean spacings"
            )
            raise ZetaError(path, problem, _REMEDY)
        cuts = np.searchsorted(n - first, bounds)
        for k, (start, stop) in enumerate(itertools.pairwise([0, *cuts, len(n)])):
            if stop > start:
                seen.segments.setdefault(k, Accumulator()).add(spacing[start:stop])
    return seen


def verify_folders(
    zeros: str | Path,
    spacings: str | Path,
    params: Verify,
    *,
    zeta: bool,
    val_fraction: float,
    run: Map = starmap,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Verify a decoded and unfolded data set, file by file.

    Parameters
    ----------
    zeros, spacings : folders of the stages decode and unfold
    params : Verify
    zeta : bool
        Whether the points claim to be zeta's zeros: count and recompute them.
    val_fraction : float
        Of the spacings, the highest ones, compared with the rest.

    Returns
    -------
    metrics : dict, as in metrics/verify.json
    plots : tables by name: density, stationarity, autocorrelation, s_of_t

    Raises
    ------
    ZetaError
        Naming file, rank and height of the first fault.
    """
    files, unfolded = (
        parquet_folders.parts(Path(zeros).absolute()),
        parquet_folders.parts(Path(spacings).absolute()),
    )
    total, count = sum(p.rows for p in files), sum(p.rows for p in unfolded)
    if count < FEWEST:
        problem = f"{count} spacings are too few to verify"
        raise ZetaError(spacings, problem, f"Take {FEWEST + 1} zeros or more.")
    files, unfolded = [p for p in files if p.rows], [p for p in unfolded if p.rows]
    first = int(parquet_folders.read_group(files[0].path, 0, ["n"])["n"][0].as_py())
    bounds = sorted({count * k // CHUNKS for k in range(1, CHUNKS)} | {_tail(count, val_fraction)})
    if zeta and params.recompute > 0:
        _check_affordable(files[-1])
    seen = Seen()
    before: list[Part | None] = [None, *files[:-1]]
    calls = (
        (part.path, old.path if old else None, first, total, params, zeta)
        for part, old in zip(files, before, strict=True)
    )
    for found in run(check_zeros, calls):
        seen.merge(found)
    largest = params.max_spacing if zeta else np.inf
    paths = {part.path.name: part.path for part in files}
    pairs = (
        (p.path, paths.get(p.path.name, Path(zeros) / p.path.name), first, bounds, largest)
        for p in unfolded
    )
    for found in run(check_spacings, pairs):
        seen.merge(found)
    return _report(seen, total, first, count, bounds, val_fraction, zeta)


def _check_affordable(last: Part) -> None:
    """Refuse to recompute zeros where the Riemann-Siegel sum is too long: before it is begun."""
    group = len(parquet_folders.groups(last.path)) - 1
    top = float(parquet_folders.read_group(last.path, group, ["gamma"])["gamma"][-1].as_py())
    if top > riemann_siegel.HIGHEST:
        terms, size, seconds = riemann_siegel.cost(top)
        problem = (
            f"zeros at t = {top:.4g} cannot be recomputed: sums of {terms:.2g} terms, "
            f"{size / 1e9:.2g} GB of memory and {_time(seconds)} for their tables; "
            f"the limit is t = {riemann_siegel.HIGHEST:.0e}"
        )
        remedy = "Set verify.recompute to 0 (they are counted still), or verify.zeta to false."
        raise ZetaError("params.yaml: verify.recompute", problem, remedy)


def _time(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.0f} hours"


def _tail(count: int, val_fraction: float) -> int:
    return count - shares.part(count, val_fraction)


def _density(found: Accumulator) -> tuple[Floats, Floats, Floats]:
    """Edges of cells up to 5, the share of spacings in each, and the surmise's."""
    wide = round(CELL * BINS_PER_SPACING)
    cells = round(5 / CELL)
    share = found.histogram[:BINS].reshape(-1, wide).sum(axis=1) / found.count
    edges = np.asarray(CELL * np.arange(cells + 1), dtype=np.float64)
    return edges, np.asarray(share[:cells]), surmise_mass(edges)


def _report(
    seen: Seen,
    zeros: int,
    first: int,
    count: int,
    bounds: list[int],
    val_fraction: float,
    zeta: bool,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    starts = [0, *bounds]
    everything = Accumulator()
    chunks = [Accumulator() for _ in range(CHUNKS)]
    train, val = Accumulator(), Accumulator()
    for k in sorted(seen.segments):
        found = seen.segments[k]
        everything.merge(found)
        chunks[_chunk(starts[k], count)].merge(found)
        (val if starts[k] >= _tail(count, val_fraction) else train).merge(found)
    edges, share, expected = _density(everything)
    some = share > 0
    rows = [chunk.statistics() for chunk in chunks]
    by_chunk = np.array([chunk.autocorrelation() for chunk in chunks])
    acf = everything.autocorrelation()
    error = by_chunk.std(axis=0, ddof=1) / np.sqrt(CHUNKS)
    spread = {name: np.array([row[name] for row in rows]) for name in ("mean", "std")}
    metrics: dict[str, Any] = {
        "zeros": zeros,
        "first_rank": first,
        "kl_gue": float((share[some] * np.log(share[some] / expected[some])).sum()),
        "l1_gue": float(np.abs(share - expected).sum()),
        "above_3": everything.above_3 / everything.count,
        "chunks": {
            f"{name}_{which}": float(getattr(values, which)())
            for name, values in spread.items()
            for which in ("min", "max")
        },
        "val_minus_train": {
            name: val.statistics()[name] - train.statistics()[name] for name in ("mean", "std")
        },
        "acf": {str(k): float(acf[k - 1]) for k in range(1, MAX_LAG + 1)},
        "acf_error": {str(k): float(error[k - 1]) for k in range(1, MAX_LAG + 1)},
    }
    middle = (edges[1:] + edges[:-1]) / 2
    shown = middle < 3.5
    plots = {
        "density": pd.concat(
            [
                pd.DataFrame({"s": middle, "density": d / CELL, "series": name})[shown]
                for name, d in (("zeros", share), ("GUE surmise", expected))
            ]
        ),
        "stationarity": pd.DataFrame(
            {
                "chunk": range(1, CHUNKS + 1),
                "mean": spread["mean"],
                "std": spread["std"],
                "acf1": by_chunk[:, 0],
                "max": [row["max"] for row in rows],
                "above_3": [chunk.above_3 / chunk.count for chunk in chunks],
            }
        ),
        "autocorrelation": pd.DataFrame(
            {
                "lag": range(1, MAX_LAG + 1),
                "acf": acf,
                "low": acf - 2 * error,
                "high": acf + 2 * error,
            }
        ),
    }
    table = np.array([seen.slices[k] for k in sorted(seen.slices)])
    size = table[:, 0]
    metrics["s"] = {
        "mean": float(table[:, 2].sum() / zeros),
        "rms": float(np.sqrt(table[:, 3].sum() / zeros)),
        "largest": float(np.abs(table[:, 4:]).max()),
    }
    plots["s_of_t"] = pd.DataFrame(
        {
            "height": table[:, 1] / size,
            "mean": table[:, 2] / size,
            "rms": np.sqrt(table[:, 3] / size),
            "smallest": table[:, 4],
            "largest": table[:, 5],
        }
    )
    if zeta:
        metrics["counted"] = {"largest_running_mean": seen.largest_mean, "limit": LIMIT}
        metrics["recomputed"] = {
            "zeros": seen.recomputed,
            "farthest": float(f"{seen.farthest:.2g}"),  # its further digits are the machine's
        }
        if seen.far:
            metrics["counted"]["by_gaps"] = {
                "zeros": seen.far,
                "ulp": float(f"{seen.coarsest:.3g}"),  # of a height, in mean spacings
                "first_rank_checked": seen.coarsest <= FINE,
            }
    return metrics, plots


def _chunk(start: int, count: int) -> int:
    return max(k for k in range(CHUNKS) if count * k // CHUNKS <= start)


def say(metrics: dict[str, Any]) -> str:
    """The verdict in a line."""
    what = "zeros" if "counted" in metrics else "points"
    said = f"{metrics['zeros']:,} {what} from rank {metrics['first_rank']:,}"
    if "counted" in metrics:
        counted, anew = metrics["counted"], metrics["recomputed"]
        said += (
            f": none missing, none too many (running mean of S at most "
            f"{counted['largest_running_mean']:.3f}); {anew['zeros']:,} recomputed"
        )
        if anew["zeros"]:
            said += f", at most {anew['farthest']:.1e} mean spacings away"
        if not counted.get("by_gaps", {}).get("first_rank_checked", True):
            said += (
                f"; the first rank is not checked, the heights, to {counted['by_gaps']['ulp']:.1e} "
                "mean spacings, do not tell it: counted by the gaps from there on"
            )
    return f"{said}; KL to the GUE surmise {metrics['kl_gue']:.3g}"
