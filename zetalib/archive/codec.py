"""Platt's `.dat` archive format: decode and encode, exactly.

Little-endian. A file is a uint64 number of blocks, then the blocks. A block is a header
(float64 t0, float64 t1, uint64 N(t0), uint64 N(t1)) and N(t1) - N(t0) records of 13 bytes: the
104-bit unsigned distance to the previous zero (for the first: to t0) in units of 2^-101.
Reference: D. J. Platt, "Isolating some non-trivial zeros of zeta", Math. Comp. 86 (2017), and
the LMFDB page https://www.lmfdb.org/zeros/zeta/ whose files have this layout. docs/format.md
shows it byte by byte.

A block that repeats the one before it byte for byte is passed over and told, wherever it stands
(LMFDB's zeros_2546000.dat has one, https://github.com/LMFDB/lmfdb issue 7122): within the announced
number of blocks, which may count it or not, after it, or at the start of the next file.

What a reader can see in the bytes alone: truncation, counts that do not fit, blocks and files that
do not chain, a zero distance, a zero beyond its block's end. What it cannot: a distance changed
within those bounds (it moves the zeros after it in its block), and a first t0, a first N(t0) or a
last t1, N(t1) changed together with what depends on them. For these there are the manifest's md5
and the verify stage, which counts zeros against N(t).
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zetalib import atomic
from zetalib.archive import fixed_point
from zetalib.archive.fixed_point import Fixed
from zetalib.errors import ZetaError
from zetalib.kernels import cached

RECORD_BYTES = 13
NAME = re.compile(r"zeros_(\d+)\.dat")

MD5_SUFFIXES = (".md5", ".md5sum")  # of a listing beside the files

_COUNT = struct.Struct("<Q")
_HEADER = struct.Struct("<ddQQ")
_HIGHEST = 2.0**91  # below it a height fits three limbs
_COARSE = 2.0**-48
AGAIN = (
    "Compare its md5 with the archive's listing (md5sum.log): where they differ, fetch the file "
    "again; where they agree, the fault is at its source."
)
_ANEW = "Leave the file alone while it is read, and run it again."


class Header(NamedTuple):
    """Header of a block: zeros with t0 < gamma <= t1, ranks n0 + 1 ... n1; `offset` in bytes."""

    t0: float
    t1: float
    n0: int
    n1: int
    offset: int


class Repeat(NamedTuple):
    """A block passed over: the `number`-th of its file, equal to the one before it."""

    number: int
    header: Header


@dataclass(frozen=True)
class File:
    """What the headers of one file say.

    Attributes
    ----------
    headers : of its blocks, without those that repeat the one before them
    trailing : bytes after the last block (at least one published file has some)
    repeats : the blocks passed over
    """

    path: Path
    headers: list[Header]
    trailing: int
    repeats: list[Repeat]


class FileFault(ZetaError):  # noqa: N818
    """A fault in the bytes of archive files.

    Who knows the md5 the files should have can tell whose fault it is
    (:func:`zetalib.archive.manifest.explained`).

    Attributes
    ----------
    files : the files whose bytes are at fault together
    instead : what to do about it when they are as published
    """

    def __init__(
        self,
        where: str | Path,
        problem: str,
        remedy: str = AGAIN,
        *,
        offset: int | None = None,
        files: Sequence[Path] = (),
        instead: str = "ask for so few zeros (download.max_zeros) that it is not needed",
    ) -> None:
        super().__init__(where, problem, remedy, offset=offset)
        self.files, self.instead = list(files) or [Path(where)], instead


@dataclass(frozen=True, slots=True)
class Block:
    """A decoded block: `heights` are the zeros as exact multiples of 2^-101, shape (n1 - n0, 3)."""

    header: Header
    heights: Fixed


def file_name(t0: float) -> str:
    """The archive's name for a file whose first block starts at height `t0`."""
    return f"zeros_{int(t0)}.dat"


def numeric_order(folder: str | Path) -> list[Path]:
    """The archive files of `folder` by the number in their name (never alphabetically).

    Raises
    ------
    ZetaError
        If it is no folder or has none, if a name is almost right, or if two names carry one number.
    """
    if not Path(folder).is_dir():
        raise ZetaError(folder, "not a folder", "Name the folder of the zeros_*.dat files.")
    found: dict[int, Path] = {}
    for path in sorted(Path(folder).glob("zeros*")):
        match = NAME.fullmatch(path.name)
        if match is None and path.suffix in MD5_SUFFIXES:
            continue  # a listing
        if match is None:
            raise ZetaError(
                path,
                "the name is not that of an archive file (zeros_<height>.dat)",
                "Restore its name or move it out of the folder.",
            )
        number = int(match[1])
        if number in found:
            raise ZetaError(
                path, f"a duplicate of {found[number].name}: both start at {number}", "Keep one."
            )
        found[number] = path
    if not found:
        raise ZetaError(folder, "no zeros_<height>.dat in this folder", "Put archive files there.")
    return [found[number] for number in sorted(found)]


def read_headers(path: str | Path) -> tuple[list[Header], int]:
    """Headers and trailing bytes of a file, as :func:`scan`."""
    file = scan(path)
    return file.headers, file.trailing


def scan(path: str | Path, before: tuple[Path, Header] | None = None) -> File:
    """Read the headers of all blocks, checked against the file's size and each other.

    Reads headers only, so a damaged count is refused before anything is allocated; of blocks whose
    headers resemble each other also the bytes, a piece at a time.

    Parameters
    ----------
    before : path and last header of the file before, if there is one

    Raises
    ------
    FileFault
        On a truncated file, impossible counts or heights, blocks that do not chain, or a block
        that repeats the one before it but for some bytes.
    """
    path = Path(path)
    size = path.stat().st_size
    _check_kind(path)
    headers: list[Header] = []
    repeats: list[Repeat] = []
    with path.open("rb", buffering=0) as handle:  # headers lie far apart
        if size < _COUNT.size:
            raise FileFault(path, f"truncated: {size} bytes, no block count", offset=0)
        (blocks,) = _COUNT.unpack(handle.read(_COUNT.size))
        if blocks == 0:
            raise FileFault(path, "the file says it has no blocks", offset=0)
        offset, last = _COUNT.size, before
        for k in count(1):
            raw = os.pread(handle.fileno(), _HEADER.size, offset)
            if len(raw) < _HEADER.size:
                if k > blocks:
                    break
                problem = f"truncated: block {k} of {blocks} needs a header of 32 bytes"
                raise FileFault(path, f"{problem}, {len(raw)} are left", offset=offset)
            t0, t1, n0, n1 = _HEADER.unpack(raw)
            header = Header(t0, t1, n0, n1, offset)
            chains = last is not None and _chain(last[1], header)
            if last is not None and not chains and any(raw) and _resembles(header, last[1]):
                end = offset + _block_bytes(last[1])
                what = (
                    f"block {k} of {blocks}" if k <= blocks else f"block {k} ({blocks} announced)"
                )
                _check_repeats(path, header, *last, what, min(end, size))
                if end <= size:
                    repeats.append(Repeat(k, header))
                    offset, last = end, (path, header)
                    continue
            # A count may leave out the blocks that repeat: as many more may follow it.
            if k > blocks and not (chains and len(headers) < blocks):
                break
            fault = _header_fault(header, headers[-1] if headers else None, size)
            if fault:
                problem = fault[0].replace("this block", f"block {k} of {blocks}")
                raise FileFault(path, problem, offset=offset + fault[1])
            headers.append(header)
            offset, last = offset + _block_bytes(header), (path, header)
        if last is None or not headers:
            problem = "it holds nothing but the last block of the file before it"
            raise FileFault(path, problem, "Remove it.", offset=_COUNT.size)
        _check_nothing_follows(path, handle, offset, size, last[1], blocks)
    match = NAME.fullmatch(path.name)
    starts = {int(headers[0].t0), *(int(r.header.t0) for r in repeats[:1] if r.number == 1)}
    if match and int(match[1]) not in starts:
        remedy = f"Rename it to {file_name(headers[0].t0)}, or fetch the file of that name again."
        if len(headers) > 1 and int(headers[1].t0) == int(match[1]):
            remedy = "If its first block is the last of the file before it, put that beside it."
        raise FileFault(
            path,
            f"its first block starts at t = {headers[0].t0}, but its name says {match[1]}",
            remedy,
            offset=_COUNT.size,
        )
    return File(path, headers, size - offset, repeats)


def _block_bytes(header: Header) -> int:
    return _HEADER.size + RECORD_BYTES * (header.n1 - header.n0)


def _chain(before: Header, header: Header) -> bool:
    return (header.t0, header.n0) == (before.t1, before.n1)


def _resembles(header: Header, before: Header) -> bool:
    """Whether a block is, or was meant as, the one before it again."""
    same = [a == b for a, b in zip(header[:4], before[:4], strict=True)]
    return (same[0] and same[2]) or sum(same) >= 3


def _check_repeats(
    path: Path, header: Header, other: Path, before: Header, what: str, end: int
) -> None:
    """Refuse a block that differs from the one before it in any byte up to `end`.

    `other` is the file of the block before.
    """
    at, values = header.offset, before.offset
    with path.open("rb", buffering=0) as handle, other.open("rb", buffering=0) as first:
        while at < end:
            pieces = [
                os.pread(file.fileno(), min(end - at, _BATCH), start)
                for file, start in ((handle, at), (first, values))
            ]
            if pieces[0] != pieces[1] or not pieces[0]:
                break
            at, values = at + len(pieces[0]), values + len(pieces[0])
        else:
            return
        skip = next((k for k, (a, b) in enumerate(zip(*pieces, strict=False)) if a != b), 0)
        at += skip
        inside = at - header.offset
        if inside < _HEADER.size:
            field = inside // 8
            name, ours, theirs = (
                ("t0", "t1", "N(t0)", "N(t1)")[field],
                *(repr(h[field]) for h in (header, before)),
            )
        else:
            record = (inside - _HEADER.size) // RECORD_BYTES
            start = _HEADER.size + RECORD_BYTES * record
            ours, theirs = (
                str(
                    int.from_bytes(
                        os.pread(file.fileno(), RECORD_BYTES, h.offset + start), "little"
                    )
                )
                for file, h in ((handle, header), (first, before))
            )
            name = f"the distance to the zero of rank {before.n0 + 1 + record}, in units of 2^-101,"
    one = "the one before it" if other == path else f"the last of {other.name}"
    problem = (
        f"{what} repeats {one} (t0 = {before.t0!r}, t1 = {before.t1!r}, ranks "
        f"{before.n0 + 1} to {before.n1}) but not in every byte: {name} is {ours} here, {theirs} "
        f"there (at byte {before.offset + inside})"
    )
    raise FileFault(path, problem, offset=at, files=list(dict.fromkeys([path, other])))


_KINDS = (  # first bytes of what is met under an archive file's name, and what to do about it
    (b"\x1f\x8b", "gzip", "Unpack it (gunzip)."),
    (b"PK\x03\x04", "a zip archive", "Unpack it."),
    (b"\xfd7zXZ\x00", "xz", "Unpack it (unxz)."),
    (b"BZh", "bzip2", "Unpack it (bunzip2)."),
    (b"(\xb5/\xfd", "zstd", "Unpack it (unzstd)."),
    (b"SQLite format 3\x00", "an SQLite database", "Move it out of the folder."),
    (b"\x93NUMPY", "a NumPy array", "Give it to source table."),
    (b"PAR1", "Parquet", "Give it to source table."),
    (b"\x89HDF", "HDF5", "Write its heights as text or .npy, for source table."),
    (b"version https://git-lfs", "a pointer of Git LFS", "Run `git lfs pull` where it is from."),
    (b"/annex/objects/", "a pointer of git-annex", "Run `git annex get` where it is from."),
    (b"../", "a pointer of git-annex", "Run `git annex get` where it is from."),
    (b"outs:", "a pointer of DVC", "Run `dvc pull` where it is from."),
)
_LOOK = 512  # bytes


def _check_kind(path: Path) -> None:
    """Refuse what is no archive file at all, by its first bytes: before they are taken for counts.

    A number of blocks that ASCII text could be is beyond 10^17, so that nothing right is refused;
    the other kinds begin with counts of more blocks than the bytes that follow can hold.
    """
    with path.open("rb", buffering=0) as handle:
        head = handle.read(_LOOK)
    if not head:
        raise FileFault(path, "truncated: empty, 0 bytes, no block count", offset=0)
    blocks = int.from_bytes(head[: _COUNT.size], "little")
    if len(head) >= _COUNT.size and blocks * _HEADER.size <= path.stat().st_size:
        return
    for first, what, remedy in _KINDS:
        if head.startswith(first):
            problem = f"not an archive file: it looks like {what}"
            raise ZetaError(path, problem, remedy, offset=0)
    text = head.decode("utf-16", "ignore") if head[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
    text = (text or head.decode("utf-8-sig", "replace")).strip()
    if not all(c.isprintable() or c.isspace() for c in text[:-1]) or "\ufffd" in text[:-1]:
        numbers = np.frombuffer(head[: len(head) // 8 * 8])
        if len(numbers) > 1 and numbers[0] > 1.0 and (np.diff(numbers) > 0).all():
            problem = "not an archive file: it looks like bare float64 numbers"
            raise ZetaError(path, problem, "Save them as .npy, for source table.", offset=0)
        return
    start = " ".join(text.split())[:30]
    what, remedy = f"text ({start!r})", "If these are heights, give it to source table."
    if text.startswith("<"):
        what = f"a web page ({start!r})"
        remedy = "The server sent a page instead: fetch the file again."
    raise ZetaError(path, f"not an archive file: it looks like {what}", remedy, offset=0)


def _header_fault(header: Header, before: Header | None, size: int) -> tuple[str, int] | None:
    """What is impossible about "this block" in a file of `size` bytes, and at which byte of it."""
    t0, t1, n0, n1 = header.t0, header.t1, header.n0, header.n1
    if not 0 <= t0 < t1 < _HIGHEST:
        expected = "expected 0 <= t0 < t1, finite and below 2^91"
        return f"this block runs from t0 = {t0} to t1 = {t1}; {expected}", 0
    if t0 < _COARSE:  # any larger float64 is a multiple of 2^-101
        try:
            fixed_point.from_floats(np.array([t0, t1]))
        except ValueError as error:
            return f"this block: {error}", 0
    if n1 < n0:
        return f"this block counts backwards: N(t0) = {n0}, N(t1) = {n1}", 16
    if n1 >= 1 << 63:
        return f"this block counts beyond 2^63: N(t0) = {n0}, N(t1) = {n1}", 16
    room = (size - header.offset - _HEADER.size) // RECORD_BYTES
    if n1 - n0 > room:
        return (
            f"truncated or miscounted: this block announces {n1 - n0} zeros "
            f"(ranks {n0 + 1} to {n1}), the file has room for {room}"
        ), 16
    if before is not None and not _chain(before, header):
        return (
            f"this block does not chain: it starts at t = {t0!r}, N = {n0}; the one "
            f"before ends at t = {before.t1!r}, N = {before.n1}"
        ), 0
    return None


def _check_nothing_follows(
    path: Path, handle: BinaryIO, offset: int, size: int, last: Header, blocks: int
) -> None:
    """Garbage after the last block is tolerated; a further block or more of its zeros are not."""
    left = size - offset
    if left >= _HEADER.size:
        handle.seek(offset)
        t0, _, n0, _ = _HEADER.unpack(handle.read(_HEADER.size))
        if (t0, n0) == (last.t1, last.n1):
            problem = f"the file says it has {blocks} blocks, but another one follows"
            raise FileFault(path, problem, offset=offset)
    if left and left % RECORD_BYTES == 0:
        more = min(left // RECORD_BYTES, _ENOUGH)
        longer = Header(last.t0, last.t1, last.n0, last.n1 + more, last.offset)
        if _read_block(handle, longer)[2] == _GOOD:
            problem = (
                f"block {blocks} of {blocks} announces {last.n1 - last.n0} zeros, but the bytes "
                f"after it are {left // RECORD_BYTES} more zeros up to its end t1 = {last.t1!r}"
            )
            raise FileFault(path, problem, offset=last.offset + 16)


_ENOUGH = 1 << 12  # records after the last block to look at: random ones end within dozens


def read_chain(paths: list[Path]) -> Iterator[File]:
    """What the headers of each file in turn say, as :func:`scan`.

    Raises
    ------
    ZetaError
        As :func:`scan`; also if a file does not continue where the one before it ends.
    """
    previous: tuple[Path, Header] | None = None
    for path in paths:
        file = scan(path, previous)
        if previous is not None:
            _check_files_chain(*previous, path, file.headers[0])
        previous = path, file.headers[-1]
        yield file


def _check_files_chain(previous: Path, last: Header, path: Path, first: Header) -> None:
    if _chain(last, first):
        return
    said = (
        f": it starts at t = {first.t0!r}, N = {first.n0}; {previous.name} ends at "
        f"t = {last.t1!r}, N = {last.n1}"
    )
    if first.n0 > last.n1 and first.t0 != last.t1:
        problem = f"{first.n0 - last.n1} zeros are missing before it{said}"
        remedy = f"Add {file_name(last.t1)} beside it: a file between the two is missing."
        raise ZetaError(path, problem, remedy, offset=first.offset)
    if first.t0 == last.t1:
        problem = "its count disagrees with that of the file before it"
        remedy = "One of the two is from another source: remove it."
    else:
        problem = "it overlaps the file before it"
        remedy = "Remove the duplicate or the file from another source."
    raise FileFault(path, problem + said, remedy, offset=first.offset, files=[path, previous])


def read_blocks(path: str | Path) -> Iterator[Block]:
    """Decode a file block by block; memory is that of one block.

    Raises
    ------
    ZetaError
        As :func:`read_headers`; also on a zero distance and on zeros beyond the block's end.
    """
    path = Path(path)
    headers, _ = read_headers(path)
    with path.open("rb") as handle:
        for header in headers:
            yield Block(header, _decode_block(path, handle, header))


def exact_heights(path: Path, headers: Sequence[Header]) -> Fixed:
    """The zeros of some blocks of a file in units of 2^-101, shape (m, 3).

    Raises
    ------
    ZetaError
        On a zero distance and on zeros beyond a block's end.
    """
    with path.open("rb") as handle:
        return np.vstack([_decode_block(path, handle, header) for header in headers])


def _decode_block(path: Path, handle: BinaryIO, header: Header) -> Fixed:
    heights, bad, why = _read_block(handle, header)
    if why == _GOOD:
        return heights
    what = {
        _SHORT: f"cannot be read: truncated, only {bad} of the block's records are there",
        _ZERO: "is zero: two equal zeros",
        _BEYOND: f"leads beyond the block's end t1 = {header.t1!r}",
    }[why]
    raise FileFault(
        path,
        f"the distance to the zero of rank {header.n0 + 1 + bad} {what}",
        offset=header.offset + _HEADER.size + RECORD_BYTES * bad,
    )


def _read_block(handle: BinaryIO, header: Header) -> tuple[Fixed, int, int]:
    """Heights of a block up to its first fault; index and reason of that."""
    handle.seek(header.offset + _HEADER.size)
    raw = handle.read(RECORD_BYTES * (header.n1 - header.n0))
    count = len(raw) // RECORD_BYTES
    heights = np.empty((count, fixed_point.LIMBS), dtype=np.uint64)
    start, end = fixed_point.from_floats(np.array([header.t0, header.t1]))
    bad, why = _accumulate(_words(np.frombuffer(raw, np.uint8)), start, end, heights)
    if why == _GOOD and count < header.n1 - header.n0:
        bad, why = count, _SHORT
    return heights, int(bad), why


def _words(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The 8 bytes from each byte of `raw` on as one number: loads that need no alignment.

    A record at byte p is then lo = words[p] and mid, hi = words[p + 5] >> 24.
    """
    return np.ndarray((max(len(raw) - 7, 0),), dtype="<u8", buffer=raw, strides=(1,))


_GOOD, _ZERO, _BEYOND, _SHORT = 0, 1, 2, 3

# Unsigned constants: in numba a uint64 with a signed integer makes a float64.
_HI, _DROP, _STRIDE = np.uint64(5), np.uint64(24), np.uint64(RECORD_BYTES)
_U0, _U1 = np.uint64(0), np.uint64(1)


@cached(nogil=True)
def _accumulate(
    words: NDArray[np.uint64], start: Fixed, end: Fixed, heights: Fixed
) -> tuple[int, int]:
    """Running sum of the 104-bit distances from `start`; (index, reason) of the first fault.

    No sum overflows: end < 2^192 - 2^138, and a sum beyond `end` by at most 2^104 ends the loop.
    """
    a0, a1, a2 = start[0], start[1], start[2]
    e0, e1, e2 = end[0], end[1], end[2]
    for i in range(heights.shape[0]):
        at = _STRIDE * np.uint64(i)
        lo, hi = words[at], words[at + _HI] >> _DROP
        if lo == 0 and hi == 0:
            return i, _ZERO
        a0 += lo
        hi += np.uint64(a0 < lo)  # hi < 2^40: cannot overflow
        a1 += hi
        a2 += np.uint64(a1 < hi)
        if a2 > e2 or (a2 == e2 and (a1 > e1 or (a1 == e1 and a0 > e0))):
            return i, _BEYOND
        heights[i, 0], heights[i, 1], heights[i, 2] = a0, a1, a2
    return 0, _GOOD


def decode_file(
    path: str | Path, following: int | None, threads: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """All zeros of one file: rank, height and exact gap, as :func:`decode_run` of its blocks."""
    path = Path(path)
    return decode_run(path, read_headers(path)[0], following, threads)


def decode_run(
    path: Path, headers: Sequence[Header], following: int | None, threads: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Rank, height and gap of the zeros of consecutive blocks, as :func:`gamma_and_gap`.

    Returns
    -------
    n : int64 array, shape (m,)
        1-based rank.
    gamma, gap : float64 arrays, shape (m,)
    """
    gamma, gap = gamma_and_gap(path, headers, following, threads)
    first = headers[0].n0 + 1 if headers else 1
    return np.arange(first, first + len(gamma), dtype=np.int64), gamma, gap


def gamma_and_gap(
    path: Path, headers: Sequence[Header], following: int | None, threads: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The zeros of consecutive blocks of one file: height and exact gap to the next zero.

    Memory is the result plus `threads` buffers of about 256 KB (or of the largest block).

    Parameters
    ----------
    path : path of a `.dat` file
    headers : consecutive headers of it, from :func:`read_headers`
    following : int or None
        The first zero after the run in units of 2^-101 (see :func:`first_of`), or None when
        there is none: the last gap is then NaN.
    threads : number of threads

    Returns
    -------
    gamma : float64 array, shape (m,)
        Height, rounded once, to nearest even.
    gap : float64 array, shape (m,)
        gamma_{n+1} - gamma_n from the exact integers, rounded once; no cancellation.

    Raises
    ------
    ZetaError
        On a zero distance, on zeros beyond a block's end (the first such fault of the run is
        named), on a file that ends early or no longer has these headers.
    ValueError
        If the headers are not consecutive, or `following` is not above the last zero.
    """
    run = _Run(headers)
    if threads == 1:
        run.decode(path, run.batches)
    else:
        # A contiguous share each: two threads would wait for each other in one (huge) page.
        cuts = [len(run.batches) * k // threads for k in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            shares = [run.batches[a:b] for a, b in pairwise(cuts)]
            for done in [pool.submit(run.decode, path, share) for share in shares]:
                done.result()
    if run.bad.any():
        header = headers[int(np.argmax(run.bad))]
        with path.open("rb") as handle:
            _decode_block(path, handle, header)  # raises: it names the record
        raise ZetaError(path, "changed while it was read", _ANEW, offset=header.offset)
    run.close_gaps(following)
    return run.gamma, run.gap


_BATCH = 1 << 18  # bytes read at once: stays in cache until decoded


class _Run:
    """Consecutive blocks being decoded: what the kernel needs of each, and the results."""

    def __init__(self, headers: Sequence[Header]) -> None:
        self.headers = headers
        offset = np.array([h.offset for h in headers], dtype=np.int64)
        n0 = np.array([h.n0 for h in headers], dtype=np.int64)
        n1 = np.array([h.n1 for h in headers], dtype=np.int64)
        t0 = np.array([h.t0 for h in headers], dtype=np.float64)
        t1 = np.array([h.t1 for h in headers], dtype=np.float64)
        self.count = n1 - n0
        self.begin, self.end = offset, offset + _HEADER.size + RECORD_BYTES * self.count
        if (
            (self.count < 0).any()
            or (n0[1:] != n1[:-1]).any()
            or (offset[1:] < self.end[:-1]).any()  # between them may be one that repeats
        ):
            raise ValueError("the headers are not those of consecutive blocks")
        self.t0, self.start, self.stop = (
            t0,
            fixed_point.from_floats(t0),
            fixed_point.from_floats(t1),
        )
        self.shift = _shifts(t0, t1, self.count)
        self.to = np.cumsum(self.count) - self.count
        zeros = int(self.count.sum())
        self.gamma, self.gap = np.empty(zeros), np.empty(zeros)
        self.ends = np.zeros((len(headers), 2, fixed_point.LIMBS), dtype=np.uint64)
        self.bad = np.zeros(len(headers), dtype=np.bool_)
        self.batches = self._batches()

    def _batches(self) -> list[tuple[int, int]]:
        """Ranges of blocks of about _BATCH bytes, one block at least."""
        begin, end = self.begin.tolist(), self.end.tolist()
        batches, k = [], 0
        while k < len(self.headers):
            batches.append((k, max(bisect_right(end, begin[k] + _BATCH), k + 1)))
            k = batches[-1][1]
        return batches

    def decode(self, path: Path, batches: list[tuple[int, int]]) -> None:
        """Read and decode some batches; faults are marked in `bad`."""
        buffer = np.empty(0, dtype=np.uint8)
        with path.open("rb") as handle:
            for first, last in batches:
                begin, size = int(self.begin[first]), int(self.end[last - 1] - self.begin[first])
                if size > len(buffer):
                    buffer = np.empty(size, dtype=np.uint8)
                handle.seek(begin)
                read = handle.readinto(buffer.data[:size])
                self._check_headers(path, buffer[:read], first, last)
                _decode_blocks(
                    _words(buffer), begin - _HEADER.size, first, last, self.begin, self.count,
                    self.to, self.t0, self.start, self.stop, self.shift,
                    self.gamma, self.gap, self.ends, self.bad,
                )  # fmt: skip

    def _check_headers(self, path: Path, raw: NDArray[np.uint8], first: int, last: int) -> None:
        """The file must still be the one the headers were read from."""
        for k in range(first, last):
            h, at = self.headers[k], int(self.begin[k] - self.begin[first])
            whole = self.end[k] - self.begin[first] <= len(raw)
            header = _HEADER.pack(h.t0, h.t1, h.n0, h.n1)
            if not whole or raw[at : at + _HEADER.size].tobytes() != header:
                problem = "truncated or changed since its headers were read: no such block here"
                raise ZetaError(path, problem, _ANEW, offset=h.offset)

    def close_gaps(self, following: int | None) -> None:
        """The gaps after the last zero of each block, from the exact heights."""
        full = np.flatnonzero(self.count)
        if not len(full):
            return
        lasts, firsts = self.ends[full, 1], self.ends[full[1:], 0]
        at = self.to[full] + self.count[full] - 1
        if following is None:
            self.gap[at[-1]] = np.nan
            lasts, at = lasts[:-1], at[:-1]
        else:
            firsts = np.vstack([firsts, fixed_point.from_ints([following])])
        self.gap[at] = fixed_point.to_floats(fixed_point.subtract(firsts, lasts))


def _shifts(
    t0: NDArray[np.float64], t1: NDArray[np.float64], count: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each block the shift of the kernel's short way, or -1 where only the long way is exact.

    The short way sums distances S from t0 in 128 bits and forms gamma = t0 + w 2^(shift - 37)
    with w = S >> (64 + shift), its last bit set if a bit was dropped (round to odd). Both terms
    are exact in float64, so there is one rounding; it rounds the exact value correctly if
    (a) 2^(shift - 37) <= ulp(t0)/4, (b) w < 2^53, (c) S < 2^128. With 2^e <= t0 < 2^(e+1):
    shift = e - 17 >= 0 gives (a); t1 - t0 < 2^(e-1) gives (b); t1 - t0 < 2^27 and fewer than
    2^24 distances of 104 bits give (c), also for a sum that is at fault.
    """
    e = np.frexp(t0)[1] - 1
    short = (e >= 17) & (e <= 80) & (count < 1 << 24)
    short &= t1 - t0 < np.minimum(np.ldexp(1.0, e - 1), 2.0**26)
    return np.where(short, e - 17, -1).astype(np.int64)


@cached(nogil=True)
def _decode_blocks(
    words: NDArray[np.uint64],
    base: int,
    first: int,
    last: int,
    begin: NDArray[np.int64],
    count: NDArray[np.int64],
    to: NDArray[np.int64],
    t0: NDArray[np.float64],
    start: Fixed,
    stop: Fixed,
    shift: NDArray[np.int64],
    gamma: NDArray[np.float64],
    gap: NDArray[np.float64],
    ends: NDArray[np.uint64],
    bad: NDArray[np.bool_],
) -> None:
    """Decode blocks first ... last - 1, `words` holding their bytes from file offset `base` + 32.

    Leaves the exact first and last zero of each block in `ends`; the gap after the last is open.
    """
    for b in range(first, last):
        if count[b] == 0:
            continue
        o, m = to[b], count[b]
        at = np.uint64(begin[b] - base)
        if shift[b] >= 0:
            fault = _short_way(
                words, at, t0[b], start[b], stop[b], shift[b],
                gamma[o : o + m], gap[o : o + m], ends[b],
            )  # fmt: skip
        else:
            fault = _long_way(
                words, at, start[b], stop[b], gamma[o : o + m], gap[o : o + m], ends[b]
            )
        bad[b] = fault


@cached(nogil=True)
def _short_way(
    words: NDArray[np.uint64],
    at: np.uint64,
    t0: float,
    start: Fixed,
    stop: Fixed,
    shift: int,
    gamma: NDArray[np.float64],
    gap: NDArray[np.float64],
    ends: Fixed,
) -> bool:
    """One block whose heights need no more than :func:`_shifts` says; True if it has a fault.

    A gap is hi 2^-37 + low 2^-89, low the upper 52 bits of lo, the last set if a lower one is: both
    exact, one rounding, correct from hi = 4 on; smaller ones take the long way.
    """
    down = np.uint64(shift)
    dropped = (_U1 << down) - _U1
    scale = np.ldexp(1.0, shift - 37)
    s0, s1 = _U0, _U0
    zero = False
    for i in range(gamma.shape[0]):
        p = at + _STRIDE * np.uint64(i)
        lo, hi = words[p], words[p + _HI] >> _DROP
        s0 += lo
        s1 += hi + np.uint64(s0 < lo)
        w = (s1 >> down) | np.uint64(((s1 & dropped) | s0) != 0)
        gamma[i] = t0 + np.float64(np.int64(w)) * scale
        if hi < 8:
            zero |= (lo | hi) == 0
            g = fixed_point.nearest(lo, hi, _U0)
        else:
            low = (lo >> np.uint64(12)) | np.uint64((lo & np.uint64(4095)) != 0)
            g = np.float64(np.int64(hi)) * 2.0**-37 + np.float64(np.int64(low)) * 2.0**-89
        if i > 0:
            gap[i - 1] = g
        else:
            _sum(start, s0, s1, ends[0])
    _sum(start, s0, s1, ends[1])
    return zero or _beyond(ends[1], stop)


@cached(nogil=True)
def _long_way(
    words: NDArray[np.uint64],
    at: np.uint64,
    start: Fixed,
    stop: Fixed,
    gamma: NDArray[np.float64],
    gap: NDArray[np.float64],
    ends: Fixed,
) -> bool:
    """One block of any height, rounding limb by limb; True if it has a fault."""
    height = ends[1]
    _sum(start, _U0, _U0, height)
    for i in range(gamma.shape[0]):
        p = at + _STRIDE * np.uint64(i)
        lo, hi = words[p], words[p + _HI] >> _DROP
        _sum(height, lo, hi, height)
        if (lo | hi) == 0 or _beyond(height, stop):
            return True
        gamma[i] = fixed_point.nearest(height[0], height[1], height[2])
        if i > 0:
            gap[i - 1] = fixed_point.nearest(lo, hi, _U0)
        else:
            _sum(start, lo, hi, ends[0])
    return False


@cached(nogil=True)
def _sum(a: Fixed, lo: np.uint64, hi: np.uint64, out: Fixed) -> None:
    """Write a + (hi:lo) to `out`, which may be `a`."""
    s0 = a[0] + lo
    carry = np.uint64(s0 < lo)
    s1 = a[1] + hi
    s2 = a[2] + np.uint64(s1 < hi)
    s1 += carry
    s2 += np.uint64(s1 < carry)
    out[0], out[1], out[2] = s0, s1, s2


@cached(nogil=True)
def _beyond(a: Fixed, end: Fixed) -> bool:
    if a[2] != end[2]:
        return bool(a[2] > end[2])
    if a[1] != end[1]:
        return bool(a[1] > end[1])
    return bool(a[0] > end[0])


def first_zero(path: str | Path) -> int | None:
    """The first zero of a file in units of 2^-101, or None for a file without zeros."""
    path = Path(path)
    return first_of(path, read_headers(path)[0])


def first_of(path: Path, headers: Sequence[Header]) -> int | None:
    """The first zero of some blocks of a file in units of 2^-101, or None if they hold none."""
    for h in headers:
        if h.n1 > h.n0:
            with path.open("rb") as handle:
                one = Header(h.t0, h.t1, h.n0, h.n0 + 1, h.offset)
                return fixed_point.to_ints(_decode_block(path, handle, one))[0]
    return None


def encode(blocks: list[Block]) -> bytes:
    """The bytes of an archive file made of `blocks`: the inverse of :func:`read_blocks`.

    Raises
    ------
    ValueError
        As :func:`encode_block`.
    """
    return b"".join([_COUNT.pack(len(blocks)), *map(encode_block, blocks)])


def write_file(path: str | Path, blocks: Iterable[Block]) -> None:
    """Write an archive file block by block; memory is that of one block.

    The file appears under its name when it is whole: it is written aside, then renamed.

    Raises
    ------
    ValueError
        As :func:`encode_block`; also if there is no block, or one does not continue where the
        one before it ends.
    """
    with atomic.replacing(path) as aside, aside.open("wb") as handle:
        handle.write(_COUNT.pack(0))
        count, before = 0, None
        for block in blocks:
            h = block.header
            if before is not None and (h.t0, h.n0) != (before.t1, before.n1):
                raise ValueError(f"the block from t = {h.t0!r}, N = {h.n0} does not chain")
            handle.write(encode_block(block))
            count, before = count + 1, h
        if count == 0:
            raise ValueError("an archive file has at least one block")
        handle.seek(0)
        handle.write(_COUNT.pack(count))


def encode_block(block: Block) -> bytes:
    """Header and records of one block.

    Raises
    ------
    ValueError
        If the block has no extent, if the zeros do not strictly increase inside (t0, t1], if their
        number is not n1 - n0, or if a distance needs more than 104 bits; `args[1]` is then the
        index of the zero.
    """
    h = block.header
    if not h.t0 < h.t1:
        raise ValueError(f"a block from t = {h.t0!r} to {h.t1!r}")
    if len(block.heights) != h.n1 - h.n0:
        raise ValueError(f"{len(block.heights)} heights for ranks {h.n0 + 1} to {h.n1}")
    start, end = fixed_point.from_floats(np.array([h.t0, h.t1]))
    raw = np.empty(RECORD_BYTES * len(block.heights), dtype=np.uint8)
    bad, why = _encode(np.ascontiguousarray(block.heights), start, end, _words(raw))
    if why == _ZERO:
        raise ValueError("heights must strictly increase inside (t0, t1]", int(bad))
    if why == _BEYOND:
        raise ValueError("a distance between zeros needs more than 104 bits", int(bad))
    return _HEADER.pack(h.t0, h.t1, h.n0, h.n1) + raw.tobytes()


@cached(nogil=True)
def _encode(heights: Fixed, start: Fixed, end: Fixed, words: NDArray[np.uint64]) -> tuple[int, int]:
    """The distances between heights as records; (index, reason) of the first fault."""
    before, wide = start, -1
    for i in range(heights.shape[0]):
        height = heights[i]
        if not _beyond(height, before) or _beyond(height, end):
            return i, _ZERO
        d0, d1 = height[0] - before[0], height[1] - before[1]
        borrow = np.uint64(height[0] < before[0])
        d2 = height[2] - before[2] - np.uint64(height[1] < before[1] or d1 < borrow)
        d1 -= borrow
        if wide < 0 and (d2 != 0 or d1 >> np.uint64(40) != 0):
            wide = i
        at = _STRIDE * np.uint64(i)
        words[at] = d0
        words[at + _HI] = (d1 << _DROP) | (d0 >> np.uint64(40))
        before = height
    return (wide, _BEYOND) if wide >= 0 else (0, _GOOD)


class Archive:
    """Random access to a folder of archive files, by the headers of their blocks alone.

    Nothing is written; opening reads the headers (32 bytes a block) and keeps 28 bytes a block.

    Attributes
    ----------
    paths : the files, in the order of height
    first, last : lowest and highest rank
    t0, t1 : the zeros are those with t0 < gamma <= t1
    """

    def __init__(self, folder: str | Path) -> None:
        """Read the headers of all files of `folder`; ZetaError as :func:`read_chain`."""
        self.folder = Path(folder)
        self.paths = numeric_order(folder)
        parts = []
        for k, file in enumerate(read_chain(self.paths)):
            kept = [(h.t0, h.n0, h.offset, k) for h in file.headers]
            parts.append(np.array(kept, dtype="f8, i8, i8, i4"))
            end = file.headers[-1]
        blocks = np.concatenate(parts)
        self._t = np.append(blocks["f0"], end.t1)
        self._n = np.append(blocks["f1"], end.n1)
        self._offset, self._file = blocks["f2"].copy(), blocks["f3"].copy()
        self.first, self.last = int(self._n[0]) + 1, int(self._n[-1])
        self.t0, self.t1 = float(self._t[0]), float(self._t[-1])

    def count(self, t: float) -> int:
        """N(t): the rank of the last zero at or below height `t`, compared exactly."""
        if not self.t0 <= t <= self.t1:
            raise self._not_here(f"height {t!r}")
        k = max(int(np.searchsorted(self._t, t, side="left")) - 1, 0)
        numerator, denominator = float(t).as_integer_ratio()
        limit = (numerator << fixed_point.UNIT_BITS) // denominator
        heights = self._heights(k)
        found = bisect_right(heights, limit, key=lambda row: fixed_point.to_ints(row)[0])
        return int(self._n[k]) + int(found)

    def by_height(
        self, t0: float, t1: float, threads: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """The zeros with t0 < gamma <= t1 as :meth:`by_rank`; arrays may be empty.

        Raises
        ------
        ZetaError
            If the archive does not hold all of that range.
        """
        if not t0 <= t1:
            raise self._not_here(f"heights {t0!r} to {t1!r}")
        first, last = self.count(t0) + 1, self.count(t1)
        if first > last:
            return np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)
        return self.by_rank(first, last, threads)

    def by_rank(
        self, first: int, last: int, threads: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Zeros of ranks first ... last (inclusive) as :func:`decode_run`: n, gamma, gap.

        Only the blocks that hold them are read, and one record after them for the last gap.

        Raises
        ------
        ZetaError
            If the archive does not hold all of these ranks; as :func:`decode_run`.
        """
        k0, k1 = self._blocks(first, last)
        parts = []
        while k0 <= k1:
            stop = min(int(np.searchsorted(self._file, self._file[k0], side="right")), k1 + 1)
            run = [self._header(k) for k in range(k0, stop)]
            path = self.paths[self._file[k0]]
            parts.append(decode_run(path, run, self._following(stop), threads))
            k0 = stop
        n, gamma, gap = (np.concatenate(column) for column in zip(*parts, strict=True))
        wanted = slice(first - int(n[0]), last - int(n[0]) + 1)
        return n[wanted], gamma[wanted], gap[wanted]

    def exact(self, first: int, last: int) -> Fixed:
        """Zeros of ranks first ... last (inclusive) in units of 2^-101, shape (m, 3).

        :func:`zetalib.archive.fixed_point.to_ints` makes Python integers of them. Raises as
        :meth:`by_rank`.
        """
        k0, k1 = self._blocks(first, last)
        heights = np.vstack([self._heights(k) for k in range(k0, k1 + 1)])
        begin = int(self._n[k0]) + 1
        return heights[first - begin : last - begin + 1]

    def _blocks(self, first: int, last: int) -> tuple[int, int]:
        if not self.first <= first <= last <= self.last:
            raise self._not_here(f"ranks {first} to {last}")
        k0 = int(np.searchsorted(self._n, first, side="left")) - 1
        k1 = int(np.searchsorted(self._n, last, side="left")) - 1
        return k0, k1

    def _header(self, k: int) -> Header:
        t0, t1 = self._t[k : k + 2].tolist()
        n0, n1 = self._n[k : k + 2].tolist()
        return Header(t0, t1, n0, n1, int(self._offset[k]))

    def _heights(self, k: int) -> Fixed:
        path = self.paths[self._file[k]]
        with path.open("rb") as handle:
            return _decode_block(path, handle, self._header(k))

    def _following(self, k: int) -> int | None:
        """The first zero from block `k` on."""
        k = int(np.searchsorted(self._n, self._n[k], side="right")) - 1
        if k == len(self._file):
            return None
        return first_of(self.paths[self._file[k]], [self._header(k)])

    def _not_here(self, what: str) -> ZetaError:
        return ZetaError(
            self.folder,
            f"{what}: not in this archive, which holds ranks {self.first} to {self.last}, "
            f"{self.t0!r} < t <= {self.t1!r}",
            "Ask for a range inside, from low to high, or add the files that hold it.",
        )
