"""The source `table`: heights as people hold them, in text, `.npy`, `.npz` or Parquet.

Text is one height a line, or columns (:mod:`zetalib.sources.decimals`), gzipped or not, with
comments (#), a header or a paragraph before the first number. A. Odlyzko's tables
(https://www-users.cse.umn.edu/~odlyzko/zeta_tables/) are read as they are: zeros3, zeros4 and
zeros5 say "Values of gamma - 267653395647" and "10^12 + 1", and hold what is left of gamma.

A table is read piece by piece, in decimals or binary fractions exactly as written, into archive
files. Where heights are beyond what such a file's float64 block bounds can be near to (2^52), the
files hold heights above a base, and the manifest says which.
"""

from __future__ import annotations

import gzip
import itertools
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from flint import arb, ctx
from numpy.typing import NDArray

from zetalib import compute
from zetalib.archive import codec, fixed_point, layout
from zetalib.archive.codec import Block, Header
from zetalib.archive.fixed_point import Fixed
from zetalib.archive.manifest import Besides
from zetalib.errors import ZetaError
from zetalib.kernels import cached
from zetalib.params import Download
from zetalib.sources import decimals
from zetalib.sources.decimals import Lines

PIECE = 1 << 22  # bytes of text, or numbers of an array times 16, at a time
LONGEST_LINE = 1 << 16
HEAD = 1 << 16  # bytes in which the first number must come
HEIGHTS = frozenset(
    {"gamma", "t", "height", "heights", "zero", "zeros", "ordinate", "im", "imag", "y", "value"}
)
RANKS = frozenset({"n", "rank", "index", "number", "k", "no", "i"})
OTHERS = frozenset({"re", "real", "gap", "spacing", "s", "error", "block"})  # of columns passed by
ABSOLUTE = 1 << 52  # below it float64 is finer than 1, and a block may begin next to any zero
COUNTED = 1e12  # above, float64 heights do not tell the count to a zero: it is checked here
RANKED = 1 << 62  # ranks beyond are kept above a base
SAMPLE = 256  # zeros over which S(t) is averaged
COARSE = 1e-3  # of a mean spacing: the inverse problem resolves less
ENOUGH = 0.25  # of that mean: ranks are checked where theory bounds it by this
_BITS = 256  # of working precision: 10^30 to 2^-150

_ROOT = "Correct download.table."


class Piece(NamedTuple):
    """Consecutive rows of a table.

    Attributes
    ----------
    heights : uint64 array, shape (m, 3)
        In units of 2^-101, as in the table (without its base).
    ranks : uint64 array, shape (m,), modulo 2^64; empty if the table has none
    where : callable
        From a row's index to what a user finds it by: "line 17".
    """

    heights: Fixed
    ranks: NDArray[np.uint64]
    where: Any


@dataclass
class Table:
    """A table that is being read.

    Attributes
    ----------
    path : Path
    pieces : iterator of Piece
    base : int or None
        What its header says is to be added to each height.
    first_rank : int or None
        Rank of the first zero, from its header or its column of ranks.
    """

    path: Path
    pieces: Iterator[Piece]
    base: int | None = None
    first_rank: int | None = None


def write(params: Download, folder: Path) -> Besides:
    """The source `table`: ``download.table`` as archive files in `folder`.

    Returns
    -------
    Besides
        The bases of heights and ranks, where these are beyond what the files hold.

    Raises
    ------
    ZetaError
        With file and line, if it is no table of heights that increase; if its ranks contradict
        ``download.first_rank``, or N(t) above t = 10^12, where no later stage can tell.
    """
    path = Path(params.table or "").expanduser()
    if not path.is_file():
        problem = "a folder" if path.is_dir() else "no such file"
        raise ZetaError("params.yaml: download.table", f"{path}: {problem}", "Name your table.")
    with ThreadPoolExecutor(os.cpu_count() or 1) as executor, path.open("rb") as handle:
        table = _open(path, handle, compute.Pool(executor.submit, os.cpu_count() or 1))
        rows = _Rows(table, params.max_zeros)
        place = _place(params, table, rows.next_few())
        ends = _Ends(place)
        last = _write_files(folder, rows, place, ends)
    if params.max_zeros is not None and last < params.max_zeros:
        problem = f"it asks for {params.max_zeros} zeros, {path} has {last}"
        remedy = "Set it to null for all there are."
        raise ZetaError("params.yaml: download.max_zeros", problem, remedy)
    print(ends.judge(path), flush=True)
    print(ends.describe_resolution(), flush=True)
    return Besides(bases=place.bases())


@dataclass(frozen=True)
class _Place:
    """Where a table lies: what is added to its heights and ranks, and what the files are above.

    A height is `base` + the table's; files hold heights above `kept`, ranks above `kept_rank`.
    `shift`, in units of 2^-101, makes the one of the other.
    """

    base: int
    kept: int
    first_rank: int
    kept_rank: int
    given: str  # where the first rank is from

    @property
    def shift(self) -> int:
        return (self.base - self.kept) << fixed_point.UNIT_BITS

    def bases(self) -> dict[str, str]:
        found = {"base_height": str(self.kept)} if self.kept else {}
        return found | ({"base_rank": str(self.kept_rank)} if self.kept_rank else {})


def _place(params: Download, table: Table, start: list[int]) -> _Place:
    """Base and first rank from the parameters, the table, or N(t), given its first heights.

    Ranks counted from N(t): n - 1/2 - theta(t)/pi - 1 is about 0 in the mean.
    """
    if not start:
        raise ZetaError(table.path, "no height in it", _ROOT)
    base = _one("download.base", params.base, table.base, table.path) or 0
    first = start[0]
    if base == first == 0:
        raise ZetaError(table.path, "its first height is 0", "Heights are positive.")
    whole = base + (first >> fixed_point.UNIT_BITS)
    if whole >= 1 << decimals.HEIGHT_BITS:
        problem = f"a height of {whole:.3g}, with its base"
        raise ZetaError(table.path, problem, "Heights must be below 2^91.")
    rank = _one("download.first_rank", params.first_rank, table.first_rank, table.path)
    given = "given"
    if rank is None:
        rank, given = 1, "counted"
        if whole >= 10:
            with ctx.workprec(_BITS):
                counts = [_smooth(base, u) - k for k, u in enumerate(start)]
                middle = (sum(counts, arb(0)) / len(counts)).mid()
                rank = max(int((middle + 1).floor().unique_fmpz()), 1)
    kept = 0
    if whole >= ABSOLUTE:  # the table's own numbers if they are offsets, else above the first zero
        kept = base if base and 0 < first >> fixed_point.UNIT_BITS < ABSOLUTE else whole - 1
    return _Place(base, kept, rank, rank - 1 if rank >= RANKED else 0, given)


def _one(name: str, given: int | None, read: int | None, path: Path) -> int | None:
    if given is not None and read is not None and given != read:
        problem = f"it is {given}, but the table itself says {read}"
        raise ZetaError(f"params.yaml: {name}", f"{problem} ({path})", "Set it to null.")
    return read if given is None else given


class _Rows:
    """The heights of a table in order, looked at and taken in pieces; order and size checked."""

    def __init__(self, table: Table, most: int | None) -> None:
        self._table, self._left = table, most
        self._held: Fixed = np.empty((0, fixed_point.LIMBS), np.uint64)
        self._before: Fixed | None = None
        self._rank: np.uint64 | None = None
        self._shift = 0

    def ended(self) -> bool:
        """Whether all heights are taken."""
        return not self._fill()

    def next_few(self) -> list[int]:
        """Up to `SAMPLE` of the next heights in units of 2^-101; none at the end."""
        return fixed_point.to_ints(self._held[:SAMPLE]) if self._fill() else []

    def shift(self, units: int) -> None:
        """Add `units` of 2^-101 (which may be negative) to all heights from now on."""
        self._shift = units
        self._held = fixed_point.add(self._held, units)
        if self._before is not None:
            self._before = fixed_point.add(self._before, units)

    def take_up_to(self, bound: Fixed) -> Fixed:
        """The next heights held, up to and including `bound`, shape (3,); empty if none is."""
        if not self._fill():
            return self._held
        size = int(_count_up_to(self._held, bound))
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _fill(self) -> bool:
        while not len(self._held):
            piece = None if self._left == 0 else next(self._table.pieces, None)
            if piece is None:
                return False
            heights = piece.heights
            if self._left is not None:
                heights = heights[: self._left]
                self._left -= len(heights)
            self._check_ranks(piece)
            self._held = self._checked(piece, fixed_point.add(heights, self._shift))
        return True

    def _checked(self, piece: Piece, heights: Fixed) -> Fixed:
        if not len(heights):
            return heights
        if self._before is None:
            self._before = fixed_point.add(heights[:1], -1)
        k, why = _check_order(self._before[0], heights)
        if why:
            seen = np.concatenate([self._before, heights])
            a, b = _as_text(seen[k : k + 1]), _as_text(seen[k + 1 : k + 2])
            problem, remedy = {
                1: (f"{b} stands twice", "Remove one of the two lines."),
                2: (f"{b} after {a}: out of order", "Sort the table, or remove what is damaged."),
                3: (
                    f"{b} after {a}: zeros are missing between",
                    "Complete the table, or take a part without a gap above 8.",
                ),
            }[int(why)]
            raise self._fault(piece, int(k), problem, remedy)
        self._before = heights[-1:].copy()
        return heights

    def _check_ranks(self, piece: Piece) -> None:
        ranks = piece.ranks
        if not len(ranks):
            return
        before = ranks[0] - np.uint64(1) if self._rank is None else self._rank
        jump = np.flatnonzero(np.diff(ranks, prepend=before) != 1)
        if len(jump):
            k = int(jump[0])
            problem = f"rank {ranks[k]} follows rank {ranks[k - 1] if k else before}"
            raise self._fault(piece, k, problem, "Give every zero, in order, or heights alone.")
        self._rank = ranks[-1]

    def _fault(self, piece: Piece, row: int, problem: str, remedy: str) -> ZetaError:
        return ZetaError(f"{self._table.path}: {piece.where(row)}", problem, remedy)


def _as_text(height: Fixed) -> str:
    whole, part = divmod(fixed_point.to_ints(height)[0], 1 << fixed_point.UNIT_BITS)
    digits = f"{(part * 10**12 + (1 << 100)) >> fixed_point.UNIT_BITS:012d}".rstrip("0") or "0"
    return f"{whole}.{digits}"


def _write_files(folder: Path, rows: _Rows, place: _Place, ends: _Ends) -> int:
    """Write the archive's files up to the last zero; how many zeros."""
    rows.shift(place.shift)
    first = rows.next_few()[0]
    whole, part = divmod(first, 1 << fixed_point.UNIT_BITS)
    start = float(whole if part else whole - 1)
    rank = place.first_rank - place.kept_rank - 1
    if (
        rank == 0
        and 0 < first - fixed_point.float_to_int(layout.FIRST) < 7 << fixed_point.UNIT_BITS
    ):
        start = layout.FIRST
    writer = _Writer(rows, rank, ends)
    for heights in layout.bounds(start):
        bounds = [start, *(t for t in heights if t > start)]
        codec.write_file(folder / codec.file_name(bounds[0]), writer.blocks(bounds))
        print(f"{codec.file_name(bounds[0])}: {writer.rank - rank:,} zeros so far", flush=True)
        if rows.ended():
            break
        start = bounds[-1]
    return writer.rank - rank


class _Writer:
    """Blocks of a table; `rank` is that of the last zero handed out."""

    def __init__(self, rows: _Rows, rank: int, ends: _Ends) -> None:
        self._rows, self.rank, self._ends = rows, rank, ends

    def blocks(self, bounds: list[float]) -> Iterator[Block]:
        """The blocks between the bounds, the last one cut at the table's last zero."""
        limits = fixed_point.from_floats(np.array(bounds))
        for (t0, t1), limit in zip(itertools.pairwise(bounds), limits[1:], strict=True):
            taken = []
            while len(part := self._rows.take_up_to(limit)):
                taken.append(part)
                self._ends.take(part)
            heights = taken[0] if len(taken) == 1 else np.concatenate([_NONE, *taken])
            ended = self._rows.ended()
            if ended:
                t1 = float(fixed_point.to_floats(heights[-1:])[0])
                if fixed_point.float_to_int(t1) < fixed_point.to_ints(heights[-1:])[0]:
                    t1 = math.nextafter(t1, math.inf)
            n0, self.rank = self.rank, self.rank + len(heights)
            yield Block(Header(t0, t1, n0, self.rank, 0), heights)
            if ended:
                return


_NONE: Fixed = np.empty((0, fixed_point.LIMBS), np.uint64)


class _Ends:
    """The first and the last zeros of a table, to hold its ranks against N(t)."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._first: Fixed = _NONE
        self._last: Fixed = _NONE
        self._count = 0

    def take(self, heights: Fixed) -> None:
        """Take in the next heights, as they stand in the files."""
        if len(self._first) < SAMPLE:
            self._first = np.concatenate([self._first, heights[: SAMPLE - len(self._first)]])
        kept = max(SAMPLE - len(heights), 0)
        self._last = np.concatenate([self._last[len(self._last) - kept :], heights[-SAMPLE:]])
        self._count += len(heights)

    def judge(self, path: Path) -> str:
        """Say whether the ranks agree with N(t).

        S(t) = N(t) - theta(t)/pi - 1 averages to nearly 0 over a stretch of heights: |integral| <
        2.067 + 0.059 log t (T. Trudgian, Math. Comp. 80, 2011), so a rank too high shows as a mean
        near 1.

        Raises
        ------
        ZetaError
            If they do not, above t = 10^12: below it the verify stage counts, and can be told that
            the points are no zeros.
        """
        place = self._place
        ranks = f"ranks {place.first_rank} to {place.first_rank + self._count - 1}"
        low = self._mean_s(self._first, place.first_rank)
        high = self._mean_s(self._last, place.first_rank + self._count - len(self._last))
        if low is None or high is None:
            return f"{ranks}, {place.given}: too few zeros to check them against N(t)"
        off = [round(mean) for mean in (low, high) if abs(mean) > 0.5]
        if not off:
            return f"{ranks}, {place.given}: as N(t) has them (mean S {low:+.2f}, {high:+.2f})"
        problem = f"{ranks}, {place.given}, do not fit N(t): by {low:+.2f} at the lowest zeros, "
        problem += f"by {high:+.2f} at the highest"
        if (
            place.base + (fixed_point.to_ints(self._last[-1:])[0] >> fixed_point.UNIT_BITS)
            < COUNTED
        ):
            return f"{problem}; the verify stage will say more, or skip it (verify.zeta=false)"
        remedy = "Correct download.first_rank and download.base; a difference between the two ends "
        remedy += "means zeros missing or given twice."
        raise ZetaError(path, problem, remedy)

    def describe_resolution(self) -> str:
        """Say how finely the heights are given, in mean spacings: no spacing is known better."""
        units = fixed_point.to_ints(np.concatenate([self._first, self._last]))
        text, step = _resolution(units)
        top = float(self._place.kept + (units[-1] >> fixed_point.UNIT_BITS))
        share = step * math.log(max(top, 14.0) / (2 * math.pi)) / (2 * math.pi)
        said = f"heights are given to {text}: {share:.2g} of a mean spacing"
        return f"{said}; forecasts finer than that are of the rounding" if share > COARSE else said

    def _mean_s(self, heights: Fixed, rank: int) -> float | None:
        """The mean of n - 1/2 - theta(t)/pi - 1; None where it may be far from 0."""
        units = fixed_point.to_ints(heights)
        length = (units[-1] - units[0]) / (1 << fixed_point.UNIT_BITS)
        top = float(self._place.kept + (units[-1] >> fixed_point.UNIT_BITS))
        if top < 200 or length <= 0 or (2.067 + 0.059 * math.log(top)) / length > ENOUGH:
            return None
        with ctx.workprec(_BITS):
            off = [rank + k - arb(0.5) - _smooth(self._place.kept, u) for k, u in enumerate(units)]
            return float((sum(off, arb(0)) / len(off)).mid())


def _resolution(units: list[int]) -> tuple[str, float]:
    """The coarsest power of 1/10 or 1/2 of which all heights, in units of 2^-101, are multiples.

    Returns
    -------
    str, float
        "9 decimals" or "2^-30", and the step.
    """
    one = 1 << fixed_point.UNIT_BITS
    binary = fixed_point.UNIT_BITS - min(
        [(u & -u).bit_length() - 1 for u in units if u] + [fixed_point.UNIT_BITS]
    )

    def is_decimal(u: int, power: int) -> bool:
        nearest = (u * power * 2 + one) // (2 * one)
        return (nearest * one * 2 + power) // (2 * power) == u

    for places in range(30):
        if 2.0**-binary > 10.0**-places:
            break
        if all(is_decimal(u, 10**places) for u in units):
            return f"{places} decimals", 10.0**-places
    return f"multiples of 2^-{binary}", 2.0**-binary


def _smooth(base: int, units: int) -> arb:
    """theta(t)/pi + 1 at t = base + units 2^-101, in the working precision."""
    t = arb(base) + arb(units) / (1 << fixed_point.UNIT_BITS)
    two_pi = 2 * arb.pi()
    small = (1 / (48 * t) + 7 / (5760 * t**3)) / arb.pi()
    return t / two_pi * ((t / two_pi).log() - 1) + arb(7) / 8 + small


@cached(nogil=True)
def _check_order(before: Fixed, heights: Fixed) -> tuple[int, int]:
    """The first row that is equal to (1), below (2) or 8 or more above (3) the one before."""
    b0, b1, b2 = before[0], before[1], before[2]
    for i in range(heights.shape[0]):
        a0, a1, a2 = heights[i, 0], heights[i, 1], heights[i, 2]
        d1 = a1 - b1
        borrow = np.uint64(a0 < b0)
        under = np.uint64(a1 < b1) | np.uint64(d1 < borrow)
        d1 -= borrow
        d2 = a2 - b2 - under
        if d2 >> np.uint64(63) != 0:
            return i, 2
        if d2 != 0 or d1 >> np.uint64(40) != 0:
            return i, 3
        if d1 == 0 and a0 == b0:
            return i, 1
        b0, b1, b2 = a0, a1, a2
    return 0, 0


@cached(nogil=True)
def _count_up_to(heights: Fixed, bound: Fixed) -> int:
    """How many of the heights, in order, are at most `bound`, shape (3,)."""
    low, high = 0, heights.shape[0]
    while low < high:
        middle = (low + high) // 2
        k = 2
        while k > 0 and heights[middle, k] == bound[k]:
            k -= 1
        if heights[middle, k] <= bound[k]:
            low = middle + 1
        else:
            high = middle
    return low


def _open(path: Path, handle: BinaryIO, pool: compute.Pool) -> Table:
    """The table at `path`, by its first bytes: no name's ending is trusted."""
    start = handle.read(8)
    handle.seek(0)
    if start.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        return _array_table(path, _load(path))
    if start.startswith(b"PAR1"):
        return _parquet_table(path)
    known = {
        b"BZh": "bzip2",
        b"\xfd7zXZ": "xz",
        b"\x28\xb5\x2f\xfd": "zstd",
        b"SQLite f": "SQLite",
        b"\x89HDF": "HDF5",
        b"\xff\xfe": "UTF-16",
        b"\xfe\xff": "UTF-16",
        b"%PDF": "PDF",
    }
    for magic, name in known.items():
        if start.startswith(magic):
            problem = f"it is {name}: text, gzipped text, npy, npz and Parquet are read"
            raise ZetaError(path, problem, "Convert it first.")
    stream: BinaryIO = handle
    if start.startswith(b"\x1f\x8b"):
        stream = gzip.GzipFile(fileobj=handle)  # type: ignore[assignment]
        _check_unpacked(path, handle)
    return _text_table(path, _patient(path, stream), pool)


def _check_unpacked(path: Path, handle: BinaryIO) -> None:
    """Refuse a gzip file of what is no text; the handle is left where it was."""
    kinds = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz (or another zip)", b"PAR1": "Parquet"}
    try:
        start = zlib.decompressobj(wbits=31).decompress(handle.read(1 << 12), 8)
    except zlib.error:
        start = b""  # told where the text is read
    handle.seek(0)
    for magic, name in kinds.items():
        if start.startswith(magic):
            remedy = f"Unpack it first: gunzip -k {path.name}."
            raise ZetaError(path, f"a gzip file of {name}", remedy)


def _patient(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    """The bytes of a stream in pieces; damage in a gzip file as one line."""
    done = 0
    while True:
        try:
            piece = stream.read(PIECE)
        except (EOFError, OSError, zlib.error) as error:
            problem = f"damaged gzip, in bytes {done} to {done + PIECE} of its text or behind them"
            problem += f" ({error})"
            raise ZetaError(path, problem, "Fetch it again.") from None
        if not piece:
            return
        done += len(piece)
        yield piece


def _text_table(path: Path, stream: Iterator[bytes], pool: compute.Pool) -> Table:
    """A table in text. Its head is read here; its lines are parsed by the pool, in order."""
    begin = b""
    for piece in stream:
        begin += piece
        if len(begin) > HEAD:
            break
    if begin.startswith(b"\xef\xbb\xbf"):
        begin = begin[3:]
    head = _head(path, begin)
    text = itertools.chain([begin[head.size :]], stream)
    pieces = _parsed(path, _whole_lines(path, text), head, pool)
    return Table(path, pieces, head.base, head.first_rank)


@dataclass(frozen=True)
class _Head:
    """What comes before the first line of numbers: its bytes and lines, and what it says."""

    size: int
    lines: int
    fields: int
    height: int
    rank: int | None
    base: int | None = None
    first_rank: int | None = field(default=None)


_SEPARATOR = re.compile(rb"[ \t\r\v\f]*[,;][ \t\r\v\f]*|[ \t\r\v\f]+")
_PROSE_BASE = re.compile(r"gamma\s*[-\u2212\u2013]\s*(\d[\d,]*)")
_PROSE_RANK = re.compile(r"(\d+)\s*\^\s*(\d+)\s*\+\s*(\d+)")
_LIKE_PLATT = 1 << 20  # blocks: more are no archive file


def _fields(line: bytes) -> list[bytes]:
    return _SEPARATOR.split(line.strip()) if line.strip() else []


def _head(path: Path, begin: bytes) -> _Head:
    """Find the first line of numbers and what its columns are.

    Raises
    ------
    ZetaError
        If there is none in the first `HEAD` bytes, or its columns are not clear.
    """
    where = 0
    said: list[tuple[int, bytes]] = []
    if not begin:
        raise ZetaError(path, "the file is empty", _ROOT)
    if begin.lstrip()[:1] == b"<":
        raise ZetaError(path, "a page of HTML or XML, not a table", "Fetch the table itself.")
    if 0 in begin[:HEAD]:
        problem = "bytes of 0 in it: not text"
        if 0 < int.from_bytes(begin[:8], "little") < _LIKE_PLATT:
            problem = "it looks like one of the archive's files"
            raise ZetaError(path, problem, "Use download.source=directory.")
        raise ZetaError(path, problem, "Convert it to text, npy, npz or Parquet.")
    for number in itertools.count(1):
        stop = begin.find(b"\n", where)
        line = begin[where : stop if stop >= 0 else len(begin)]
        fields = _fields(line)
        if fields and not fields[0].startswith(b"#"):
            _check_no_decimal_comma(path, line, number)
            numbers = [_like_number(f) for f in fields]
            named = len(_names(said)) == len(fields) and any(numbers)
            if named or all(numbers):
                _tell(path, said[:-1] if named else said)
                return _columns(path, fields, where, number, said)
        if fields:
            said.append((number, line))
        where = stop + 1
        if stop < 0 or where > HEAD:
            shown = said[0][1][:60].decode("utf-8", "replace") if said else ""
            problem = f"no line of numbers in its first {min(len(begin), HEAD)} bytes: {shown!r}"
            raise ZetaError(path, problem, _ROOT)
    raise AssertionError("unreachable")


def _check_no_decimal_comma(path: Path, line: bytes, number: int) -> None:
    """Refuse "14,134725", alone or after a rank: no height is whole."""
    if re.fullmatch(rb'("?\d+"?[;\s]\s*)?"?\d+,\d+"?', line.strip()):
        shown = line.strip()[:60].decode("ascii", "replace")
        problem = f"{shown!r}: a decimal comma? No height is a whole number"
        raise ZetaError(f"{path}: line {number}", problem, "Write heights with a decimal point.")


def _tell(path: Path, said: list[tuple[int, bytes]]) -> None:
    """Say what stands before the numbers: a first line that is damaged looks like prose."""
    for number, line in said[:20]:
        print(f"{path}: line {number} passed over: {line[:100].decode('utf-8', 'replace').strip()}")


def _like_number(text: bytes) -> bool:
    """A number, or what stands for one and is refused where the line is parsed."""
    bare = text.strip(b'"').lstrip(b"+-").lower()
    return bool(decimals.NUMBER.fullmatch(text)) or bare in (b"nan", b"inf", b"infinity")


def _columns(
    path: Path, fields: list[bytes], size: int, number: int, said: list[tuple[int, bytes]]
) -> _Head:
    height, rank = 0, None
    names = _names(said)
    if len(names) == len(fields) and not HEIGHTS.isdisjoint(names):
        height = _only(path, number, names, HEIGHTS)
        rank = None if RANKS.isdisjoint(names) else _only(path, number, names, RANKS)
        whole = re.compile(rb'"?\d+"?')
        if whole.fullmatch(fields[height]) and not all(whole.fullmatch(f) for f in fields):
            problem = (
                f"column {names[height]} begins with {fields[height].decode()}, a whole number"
            )
            remedy = "Name the column of heights gamma and that of ranks n."
            raise ZetaError(f"{path}: line {number}", problem, remedy)
    elif len(fields) == 2:
        height, rank = 1, 0
    elif len(fields) > 2:
        problem = f"{len(fields)} columns, and no header that names one of heights"
        remedy = f"Name it gamma and that of ranks n ({', '.join(sorted(HEIGHTS))} are known)."
        raise ZetaError(f"{path}: line {number}", problem, remedy)
    prose = " ".join(line.decode("utf-8", "replace") for _, line in said)
    base = _PROSE_BASE.search(prose)
    power = _PROSE_RANK.search(prose) if base else None
    first = None
    if rank is not None:
        try:
            units = decimals.exact(fields[rank]) or 0
        except ValueError:
            units = 0
        first = units >> fixed_point.UNIT_BITS
        if not first or first << fixed_point.UNIT_BITS != units:
            problem = f"{fields[rank].decode('ascii', 'replace')} is no rank, and stands first"
            remedy = "Two columns without a header are rank and height."
            raise ZetaError(f"{path}: line {number}", problem, remedy)
    elif power and len(power[2]) < 3:
        first = int(power[1]) ** int(power[2]) + int(power[3])
    return _Head(
        size,
        number - 1,
        len(fields),
        height,
        rank,
        int(base[1].replace(",", "")) if base else None,
        first,
    )


def _names(said: list[tuple[int, bytes]]) -> list[str]:
    """Names of columns in the line right above, which may be a comment; none if it is prose.

    A comment is a header if it names nothing but columns: "# my zeros" says what follows.
    """
    line = said[-1][1].strip() if said else b""
    names = [_name(f) for f in _fields(line.lstrip(b"#"))]
    if line.startswith(b"#") and not set(names) <= HEIGHTS | RANKS | OTHERS:
        return []
    return names if len(names) == len(set(names)) and not HEIGHTS.isdisjoint(names) else []


def _name(text: bytes) -> str:
    return re.sub(r"[^a-z]", "", text.decode("utf-8", "replace").lower())


def _only(path: Path, number: int, names: list[str], known: frozenset[str]) -> int:
    found = [k for k, name in enumerate(names) if name in known]
    if len(found) > 1:
        problem = f"columns {names[found[0]]} and {names[found[1]]}: which is it?"
        raise ZetaError(f"{path}: line {number - 1}", problem, "Leave one of them.")
    return found[0]


def _whole_lines(path: Path, stream: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of text that end with a newline."""
    rest = b""
    for piece in stream:
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield rest + piece[:cut]
            rest = piece[cut:]
        else:
            rest += piece
        if len(rest) > LONGEST_LINE:
            problem = f"a line of more than {LONGEST_LINE} characters"
            raise ZetaError(path, problem, "One height a line is expected.")
    if rest:
        yield rest + b"\n"


def _parsed(path: Path, texts: Iterator[bytes], head: _Head, pool: compute.Pool) -> Iterator[Piece]:
    lines = head.lines

    def calls() -> Iterator[tuple[bytes, int, int, int | None]]:
        for text in texts:
            yield text, head.fields, head.height, head.rank

    for text, found in pool.map(_parse, calls()):
        before = lines

        def where(row: int, text: bytes = text, found: Lines = found, before: int = before) -> str:
            return f"line {before + 1 + text.count(NEWLINE, 0, int(found.at[row]))}"

        yield Piece(found.heights, found.ranks, where)
        if found.fault:
            at = found.fault_at
            number = before + 1 + text.count(NEWLINE, 0, at)
            line = text[at : text.index(NEWLINE, at)].strip()
            shown = line[:60].decode("utf-8", "replace")
            problem, remedy = _FAULTS[found.fault]
            said = problem.format(shown=shown, fields=head.fields)
            raise ZetaError(f"{path}: line {number}", said, remedy)
        lines += found.lines


NEWLINE = b"\n"
_FAULTS = {
    decimals.FIELDS: (
        "{shown!r} does not have the {fields} column(s) of the first line of numbers",
        "Give every line the same columns.",
    ),
    decimals.NUMBER_FAULT: ("{shown!r} is no height", "Correct or remove the line."),
    decimals.NEGATIVE: (
        "{shown!r} is negative",
        "Give positive heights; for offsets take a lower download.base.",
    ),
    decimals.NOT_FINITE: ("{shown!r} is not a finite number", "Correct or remove the line."),
    decimals.TOO_HIGH: ("{shown!r} is too high", "Heights must be below 2^91."),
    decimals.RANK_FAULT: ("{shown!r} does not begin with a rank", "Correct or remove the line."),
}


def _parse(text: bytes, fields: int, height: int, rank: int | None) -> tuple[bytes, Lines]:
    return text, decimals.parse_lines(np.frombuffer(text, np.uint8), fields, height, rank)


def _load(path: Path) -> NDArray[Any]:
    """The array of a .npy file, mapped, or the only one (or that named gamma) of a .npz file."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = loaded.files
            chosen = [name for name in names if _name(name.encode()) in HEIGHTS] or names
            found = loaded[chosen[0]] if len(chosen) == 1 else None
    except Exception as error:  # on a damaged file numpy lets through whatever its parsers raise
        said = " ".join(str(error).split())[:100]
        problem = f"numpy cannot read it ({type(error).__name__}: {said})"
        raise ZetaError(path, problem, "Save it anew as float64, not as objects.") from None
    if found is None:
        problem = f"arrays {', '.join(names)[:80]}: which holds the heights?"
        raise ZetaError(path, problem, "Name one gamma, or save it alone.")
    return np.asarray(found)


def _array_table(path: Path, array: NDArray[Any]) -> Table:
    """An array of heights, shape (m,), or of ranks and heights, shape (m, 2), in float64."""
    if array.dtype not in (np.float32, np.float64) or array.ndim not in (1, 2):
        problem = f"an array of {array.dtype}, shape {array.shape}"
        remedy = "Save heights as float64, shape (m,), or ranks and heights, shape (m, 2)."
        raise ZetaError(path, problem, remedy)
    if array.ndim == 2 and array.shape[1] != 2:
        problem = f"an array of shape {array.shape}"
        raise ZetaError(path, problem, "Save heights, shape (m,), or ranks and heights, (m, 2).")
    first = None
    if array.ndim == 2 and len(array):
        first = _first_of(path, array[0, 0])

    def pieces() -> Iterator[Piece]:
        for start in range(0, len(array), PIECE // 16):
            part = np.asarray(array[start : start + PIECE // 16], dtype=np.float64)
            ranks, heights = (part[:, 0], part[:, 1]) if part.ndim == 2 else (None, part)
            yield _floats(path, heights, ranks, start)

    return Table(path, pieces(), first_rank=first)


def _first_of(path: Path, rank: Any) -> int:
    if not (1 <= rank < 2.0**53 and rank == int(rank)):
        raise ZetaError(f"{path}: row 0", f"{rank} is no rank", "Ranks are whole, from 1 on.")
    return int(rank)


def _floats(
    path: Path, heights: NDArray[np.float64], ranks: NDArray[Any] | None, start: int
) -> Piece:
    """float64 heights as they are, to the last bit; rows count from `start`."""
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~((heights >= 0) & (heights < 2.0**91)))
    if len(bad):
        k = int(bad[0])
        problem = f"a height of {heights[k]}"
        raise ZetaError(f"{path}: row {start + k}", problem, "Heights are positive, below 2^91.")
    whole = np.empty(0, dtype=np.uint64)
    if ranks is not None:
        with np.errstate(invalid="ignore"):
            bad = np.flatnonzero(~((ranks >= 1) & (ranks < 2.0**63) & (ranks == np.floor(ranks))))
        if len(bad):
            k = int(bad[0])
            problem = f"{ranks[k]} is no rank"
            raise ZetaError(f"{path}: row {start + k}", problem, "Ranks are whole, from 1 on.")
        whole = ranks.astype(np.uint64)
    try:
        units = fixed_point.from_floats(heights)
    except ValueError as error:  # a height near 0 that is finer than 2^-101
        raise ZetaError(path, str(error), "Heights are multiples of 2^-101.") from None
    return Piece(units, whole, lambda row: f"row {start + row}")


def _parquet_table(path: Path) -> Table:
    """A Parquet file with a column of heights (float, decimal or text), and of ranks if it has."""
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        problem = f"not a whole Parquet file ({' '.join(str(error).split())[:100]})"
        raise ZetaError(path, problem, "Write it anew.") from None
    columns = file.schema_arrow
    names = [_name(name.encode()) for name in columns.names]
    if HEIGHTS.isdisjoint(names) and len(names) > 1:
        problem = f"columns {', '.join(columns.names)[:80]}: which holds the heights?"
        raise ZetaError(path, problem, "Name it gamma (and that of ranks n).")
    height = 0 if HEIGHTS.isdisjoint(names) else _only(path, 1, names, HEIGHTS)
    rank = None if RANKS.isdisjoint(names) else _only(path, 1, names, RANKS)
    kind = columns.field(height).type
    chosen = [columns.names[k] for k in (height, *([] if rank is None else [rank]))]
    if rank is not None and not pa.types.is_integer(columns.field(rank).type):
        problem = f"column {chosen[1]} is {columns.field(rank).type}, not of whole ranks"
        raise ZetaError(path, problem, "Write it as int64, or leave it out.")
    exact = pa.types.is_decimal(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not exact and kind not in (pa.float64(), pa.float32()):
        problem = f"column {chosen[0]} is {kind}"
        raise ZetaError(path, problem, "Write heights as float64, decimal or string.")

    def batches() -> Iterator[tuple[int, pa.RecordBatch]]:
        start = 0
        try:
            for batch in file.iter_batches(PIECE // 16, columns=chosen, use_threads=False):
                yield start, batch
                start += len(batch)
        except (OSError, pa.ArrowException) as error:
            problem = f"damaged after row {start} ({' '.join(str(error).split())[:100]})"
            raise ZetaError(path, problem, "Write it anew.") from None

    def pieces() -> Iterator[Piece]:
        for start, batch in batches():
            for name in chosen:
                missing = np.flatnonzero(batch[name].is_null().to_numpy(zero_copy_only=False))
                if len(missing):
                    where = f"{path}: row {start + int(missing[0])}"
                    raise ZetaError(where, f"no value in column {name}", "Fill or remove it.")
            ranks = None if rank is None else batch[chosen[1]].to_numpy(zero_copy_only=False)
            if exact:
                yield _decimals(path, batch[chosen[0]].to_pylist(), ranks, start)
            else:
                floats = batch[chosen[0]].to_numpy(zero_copy_only=False).astype(np.float64)
                yield _floats(path, floats, ranks, start)

    first = None
    if rank is not None and file.metadata.num_rows:
        value = next(file.iter_batches(1, columns=[chosen[1]]))[0][0].as_py()
        first = _first_of(path, value if value is not None else 0)
    return Table(path, pieces(), first_rank=first)


def _decimals(path: Path, values: Sequence[Any], ranks: NDArray[Any] | None, start: int) -> Piece:
    """Decimals, or numbers in text, as they are written."""
    units = []
    for k, value in enumerate(values):
        text = value.strip() if isinstance(value, str) else f"{value:f}"
        try:
            unit = decimals.exact(text.encode())
        except ValueError:
            problem = f"{text[:60]!r} is no positive height"
            raise ZetaError(f"{path}: row {start + k}", problem, "Correct it.") from None
        if unit is None or unit >= 1 << fixed_point.UNIT_BITS + decimals.HEIGHT_BITS:
            where = f"{path}: row {start + k}"
            raise ZetaError(where, f"{text[:60]} is too high", "Heights must be below 2^91.")
        units.append(unit)
    whole = np.empty(0, np.uint64) if ranks is None else ranks.astype(np.uint64)
    return Piece(fixed_point.from_ints(units), whole, lambda row: f"row {start + row}")
