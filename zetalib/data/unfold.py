"""Unfolding: heights to spacings of mean one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zetalib import provenance
from zetalib.data import parquet_folders
from zetalib.data.parquet_folders import Map, Part
from zetalib.errors import ZetaError
from zetalib.theory.zeta import Variant, spacings

Floats = NDArray[np.float64]

SCHEMA = pa.schema([("n", pa.int64()), ("gamma", pa.float64()), ("spacing", pa.float64())])
LAGS = (1, 2, 3, 5, 10)  # of the autocorrelations reported
MAX_LAG = 10
BINS = 1000  # of a histogram
BINS_PER_SPACING = 100  # up to 10 mean spacings; larger ones are in one more bin

_CODE = parquet_folders.code(__file__)


@dataclass(slots=True)
class Accumulator:
    """Statistics of a sequence of spacings, taken piece by piece.

    The result depends on the sequence and where it is cut into pieces, to the last bit, and to
    rounding on the sequence alone. Sums are about 1, the mean of unfolded spacings, so that nothing
    cancels; numpy's own summation, not BLAS, whose result depends on its number of threads.

    Attributes
    ----------
    count : int
    sum, squares : float
        Sums of s - 1 and (s - 1)^2.
    min, max : float
    products : float64 array, shape (MAX_LAG,)
        Sum of (s_i - 1)(s_{i+k} - 1) at lag k = 1 ... MAX_LAG.
    above_3 : int
        Spacings larger than 3.
    histogram : int64 array, shape (BINS + 1,)
        Spacings by size in steps of 1 / BINS_PER_SPACING; the last bin is open.
    head, tail : float64 arrays, shape (at most MAX_LAG,)
        The first and the last s - 1, for the products across a seam.
    """

    count: int = 0
    sum: float = 0.0
    squares: float = 0.0
    min: float = np.inf
    max: float = -np.inf
    products: Floats = field(default_factory=lambda: np.zeros(MAX_LAG))
    above_3: int = 0
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS + 1, np.int64))
    head: Floats = field(default_factory=lambda: np.empty(0))
    tail: Floats = field(default_factory=lambda: np.empty(0))

    def add(self, spacing: Floats) -> None:
        """Take in the spacings, shape (n,), positive and finite, that follow those so far."""
        if len(spacing) == 0:
            return
        d = spacing - 1
        lags = range(1, MAX_LAG + 1)
        # int64 of a huge float is undefined: cap before the conversion.
        bins = np.minimum(spacing * BINS_PER_SPACING, BINS).astype(np.int64)
        piece = Accumulator(
            count=len(d),
            sum=float(d.sum()),
            squares=float((d * d).sum()),
            min=float(spacing.min()),
            max=float(spacing.max()),
            products=np.array([float((d[:-k] * d[k:]).sum()) for k in lags]),
            above_3=int((spacing > 3).sum()),
            histogram=np.bincount(bins, minlength=BINS + 1),
            head=d[:MAX_LAG].copy(),
            tail=d[-MAX_LAG:].copy(),
        )
        self.merge(piece)

    def merge(self, other: Accumulator) -> None:
        """Take in the spacings of `other`, which follow those so far."""
        seam = np.concatenate([self.tail, other.head])
        middle = len(self.tail)
        across = np.zeros(MAX_LAG)
        for k in range(1, MAX_LAG + 1):
            start, stop = max(middle - k, 0), min(middle, len(seam) - k)  # left of the seam
            if start < stop:
                across[k - 1] = float((seam[start:stop] * seam[start + k : stop + k]).sum())
        self.products = self.products + across + other.products
        self.count += other.count
        self.sum += other.sum
        self.squares += other.squares
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)
        self.above_3 += other.above_3
        self.histogram = self.histogram + other.histogram
        self.head = np.concatenate([self.head, other.head])[:MAX_LAG]
        self.tail = np.concatenate([self.tail, other.tail])[-MAX_LAG:]

    def autocorrelation(self) -> Floats:
        """At lags 1 ... MAX_LAG; NaN where there is no such lag."""
        n, found = self.count, np.full(MAX_LAG, np.nan)
        if n == 0:
            return found
        mean = self.sum / n
        power = self.squares - n * mean * mean
        for k in range(1, min(MAX_LAG, n - 1) + 1):
            without_last = self.sum - float(self.tail[-k:].sum())
            without_first = self.sum - float(self.head[:k].sum())
            product = self.products[k - 1] - mean * (without_last + without_first)
            found[k - 1] = (product + (n - k) * mean * mean) / power
        return found

    def statistics(self) -> dict[str, float]:
        """Count, mean, std, min, max and the autocorrelations at LAGS."""
        mean = self.sum / self.count
        found = {
            "count": self.count,
            "mean": 1 + mean,
            "std": float(np.sqrt(self.squares / self.count - mean * mean)),
            "min": self.min,
            "max": self.max,
        }
        acf = self.autocorrelation()
        found.update({f"acf{k}": float(acf[k - 1]) for k in LAGS if np.isfinite(acf[k - 1])})
        return found


def unfold_folder(
    zeros: str | Path, out: str | Path, variant: Variant = "B", run: Map = starmap
) -> Accumulator:
    """Unfold a decoded data set file by file; returns the statistics of the spacings.

    Writes, for each file, Parquet with columns `n`, `gamma` and `spacing`: the spacing from zero
    n to zero n + 1. The last zero of all has none and is left out. What is in `out` already and
    would come out the same is kept. Memory is that of a row group for each of the files `run`
    has under way.

    Raises
    ------
    ZetaError
        As :func:`zetalib.data.parquet_folders.parts`; on a spacing that is not positive and finite;
        when there is no spacing at all. `out` is then left without its index.
    """
    zeros, out = Path(zeros).absolute(), Path(out).absolute()  # a worker may be elsewhere
    calls = ((part, out / part.path.name, variant, _CODE) for part in parquet_folders.parts(zeros))
    total = Accumulator()
    with parquet_folders.rebuilding(out) as parts:
        for part, found in run(unfold, calls):
            parts.append(part)
            total.merge(found)
        if total.count == 0:
            raise ZetaError(zeros, "no two zeros, so no spacing", "Take more zeros.")
    return total


def unfold(source: Part, out: Path, variant: Variant, code: str) -> tuple[Part, Accumulator]:
    """Bring the spacings of one file of a decoded data set up to date; their statistics.

    `code` is the digest of the caller's code, which must be this process's.
    """
    parquet_folders.check_code(out, code, _CODE)
    key = provenance.key(_CODE, variant, source.key)
    found, total = parquet_folders.whole(out), Accumulator()
    if found is not None and found.key == key:
        for group, _ in enumerate(parquet_folders.groups(out)):
            total.add(parquet_folders.read_group(out, group, ["spacing"])["spacing"].to_numpy())
        return found, total
    with parquet_folders.writing(out, SCHEMA, key) as writer:
        for group, _ in enumerate(parquet_folders.groups(source.path)):
            table = parquet_folders.read_group(source.path, group, ["n", "gamma", "gap"])
            if table["gap"].null_count:  # the last zero of all
                table = table.filter(table["gap"].is_valid())
            gamma, gap = table["gamma"].to_numpy(), table["gap"].to_numpy()
            spacing = spacings(gamma, gap, variant)
            good = np.isfinite(spacing) & (spacing > 0)
            if not good.all():
                bad = int(np.argmin(good))
                rank, height = table["n"][bad].as_py(), gamma[bad]
                problem = f"spacing {spacing[bad]} after the zero of rank {rank} at t = {height}"
                raise ZetaError(source.path, problem, "Delete it, then `dvc repro decode`.")
            if len(spacing):
                table = pa.table([table["n"], table["gamma"], pa.array(spacing)], schema=SCHEMA)
                writer.write_table(table, row_group_size=len(spacing))
            total.add(spacing)
    return Part(out, total.count, key), total
