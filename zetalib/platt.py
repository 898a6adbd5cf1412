"""Platt's `.dat` archive format: decode and encode, exactly.

Little-endian. A file is a uint64 number of blocks, then the blocks. A block is a header
(float64 t0, float64 t1, uint64 N(t0), uint64 N(t1)) and N(t1) - N(t0) records of 13 bytes: the
104-bit unsigned distance to the previous zero (for the first: to t0) in units of 2^-101.
Reference: D. J. Platt, "Isolating some non-trivial zeros of zeta", Math. Comp. 86 (2017), and
the LMFDB page https://www.lmfdb.org/zeros/zeta/ whose files have this layout. docs/format.md
shows it byte by byte.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numba as nb
import numpy as np
from numpy.typing import NDArray

from zetalib import fixed
from zetalib.errors import ZetaError
from zetalib.fixed import Fixed

RECORD_BYTES = 13
NAME = re.compile(r"zeros_(\d+)\.dat")

_COUNT = struct.Struct("<Q")
_HEADER = struct.Struct("<ddQQ")
_AGAIN = "Fetch the file again (delete it, then `dvc repro -f download`)."


@dataclass(frozen=True)
class Header:
    """Header of a block: zeros with t0 < gamma <= t1, ranks n0 + 1 ... n1; `offset` in bytes."""

    t0: float
    t1: float
    n0: int
    n1: int
    offset: int


@dataclass(frozen=True)
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
        If there is none, if a name is almost right, or if two names carry one number.
    """
    found: dict[int, Path] = {}
    for path in sorted(Path(folder).glob("zeros*")):
        match = NAME.fullmatch(path.name)
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
    """Headers of all blocks, checked against the file's size and each other; trailing bytes.

    Reads headers only, so a damaged count is refused before anything is allocated.

    Returns
    -------
    headers : list of Header
    trailing : int
        Bytes after the last block (at least one published file has some).

    Raises
    ------
    ZetaError
        On a truncated file, impossible counts or heights, or blocks that do not chain.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as handle:
        if size < _COUNT.size:
            raise ZetaError(path, f"truncated: {size} bytes, no block count", _AGAIN, offset=0)
        (blocks,) = _COUNT.unpack(handle.read(_COUNT.size))
        if blocks == 0:
            raise ZetaError(path, "the file says it has no blocks", _AGAIN, offset=0)
        headers: list[Header] = []
        offset = _COUNT.size
        for k in range(1, blocks + 1):
            header = _read_header(path, handle, offset, size, f"block {k} of {blocks}")
            if headers:
                _check_chain(path, headers[-1], header, f"block {k} of {blocks}")
            headers.append(header)
            offset += _HEADER.size + RECORD_BYTES * (header.n1 - header.n0)
        _check_no_block_follows(path, handle, offset, size, headers[-1], blocks)
    match = NAME.fullmatch(path.name)
    if match and int(match[1]) != int(headers[0].t0):
        raise ZetaError(
            path,
            f"its first block starts at t = {headers[0].t0}, but its name says {match[1]}",
            f"Rename it to {file_name(headers[0].t0)}, or fetch the file of that name again.",
            offset=_COUNT.size,
        )
    return headers, size - offset


def _read_header(path: Path, handle: BinaryIO, offset: int, size: int, which: str) -> Header:
    if size - offset < _HEADER.size:
        problem = f"truncated: {which} needs a header of 32 bytes, {size - offset} are left"
        raise ZetaError(path, problem, _AGAIN, offset=offset)
    handle.seek(offset)
    t0, t1, n0, n1 = _HEADER.unpack(handle.read(_HEADER.size))
    if not (math.isfinite(t0) and math.isfinite(t1) and 0 <= t0 < t1 < 2.0**91):
        problem = f"{which} runs from t0 = {t0} to t1 = {t1}; expected 0 <= t0 < t1, finite"
        raise ZetaError(path, problem, _AGAIN, offset=offset)
    for t in (t0, t1):
        try:
            fixed.float_to_int(t)
        except ValueError as error:
            raise ZetaError(path, f"{which}: {error}", _AGAIN, offset=offset) from None
    if n1 < n0:
        problem = f"{which} counts backwards: N(t0) = {n0}, N(t1) = {n1}"
        raise ZetaError(path, problem, _AGAIN, offset=offset + 16)
    room = (size - offset - _HEADER.size) // RECORD_BYTES
    if n1 - n0 > room:
        problem = (
            f"truncated or miscounted: {which} announces {n1 - n0} zeros "
            f"(ranks {n0 + 1} to {n1}), the file has room for {room}"
        )
        raise ZetaError(path, problem, _AGAIN, offset=offset + 16)
    return Header(t0, t1, n0, n1, offset)


def _check_chain(path: Path, before: Header, after: Header, which: str) -> None:
    if (after.t0, after.n0) != (before.t1, before.n1):
        problem = (
            f"{which} does not chain: it starts at t = {after.t0!r}, N = {after.n0}; the one "
            f"before ends at t = {before.t1!r}, N = {before.n1}"
        )
        raise ZetaError(path, problem, _AGAIN, offset=after.offset)


def _check_no_block_follows(
    path: Path, handle: BinaryIO, offset: int, size: int, last: Header, blocks: int
) -> None:
    """Garbage after the last block is tolerated; a whole further block means the count is wrong."""
    if size - offset < _HEADER.size:
        return
    handle.seek(offset)
    t0, _, n0, _ = _HEADER.unpack(handle.read(_HEADER.size))
    if (t0, n0) == (last.t1, last.n1):
        problem = f"the file says it has {blocks} blocks, but another one follows"
        raise ZetaError(path, problem, _AGAIN, offset=offset)


def read_chain(paths: list[Path]) -> Iterator[tuple[Path, list[Header], int]]:
    """Headers and trailing bytes of each file in turn, as :func:`read_headers`.

    Raises
    ------
    ZetaError
        As :func:`read_headers`; also if a file does not continue where the one before it ends.
    """
    previous: tuple[Path, Header] | None = None
    for path in paths:
        headers, trailing = read_headers(path)
        if previous is not None:
            _check_files_chain(*previous, path, headers[0])
        previous = path, headers[-1]
        yield path, headers, trailing


def _check_files_chain(previous: Path, last: Header, path: Path, first: Header) -> None:
    if (first.t0, first.n0) == (last.t1, last.n1):
        return
    if first.n0 > last.n1:
        problem = f"{first.n0 - last.n1} zeros are missing before it"
        remedy = f"Add {file_name(last.t1)} beside it: a file between the two is missing."
    else:
        problem = "it overlaps the file before it"
        remedy = "Remove the duplicate or the file from another source."
    problem += (
        f": it starts at t = {first.t0!r}, N = {first.n0}; {previous.name} ends at "
        f"t = {last.t1!r}, N = {last.n1}"
    )
    raise ZetaError(path, problem, remedy, offset=first.offset)


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
            handle.seek(header.offset + _HEADER.size)
            raw = handle.read(RECORD_BYTES * (header.n1 - header.n0))
            yield Block(header, _decode_block(path, header, raw))


def _decode_block(path: Path, header: Header, raw: bytes) -> Fixed:
    count = header.n1 - header.n0
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, RECORD_BYTES)
    if len(records) != count:
        problem = f"truncated: {len(records)} of {count} records of the block could be read"
        raise ZetaError(path, problem, _AGAIN, offset=header.offset)
    start, end = fixed.from_ints([fixed.float_to_int(header.t0), fixed.float_to_int(header.t1)])
    heights = np.empty((count, fixed.LIMBS), dtype=np.uint64)
    bad, why = _accumulate(records, start, end, heights)
    if why != _GOOD:
        what = {
            _ZERO: "is zero: two equal zeros",
            _BEYOND: f"leads beyond the block's end t1 = {header.t1!r}",
        }[why]
        raise ZetaError(
            path,
            f"the distance to the zero of rank {header.n0 + 1 + bad} {what}",
            _AGAIN,
            offset=header.offset + _HEADER.size + RECORD_BYTES * int(bad),
        )
    return heights


_GOOD, _ZERO, _BEYOND = 0, 1, 2


@nb.njit(cache=True)
def _accumulate(
    records: NDArray[np.uint8], start: Fixed, end: Fixed, heights: Fixed
) -> tuple[int, int]:
    """Running sum of the 104-bit distances from `start`; (index, reason) of the first fault."""
    a0, a1, a2 = start[0], start[1], start[2]
    e0, e1, e2 = end[0], end[1], end[2]
    for i in range(records.shape[0]):
        lo, hi = np.uint64(0), np.uint64(0)
        for k in range(8):
            lo |= np.uint64(records[i, k]) << np.uint64(8 * k)
        for k in range(5):
            hi |= np.uint64(records[i, 8 + k]) << np.uint64(8 * k)
        if lo == 0 and hi == 0:
            return i, _ZERO
        a0 += lo
        carry = np.uint64(1) if a0 < lo else np.uint64(0)
        a1 += hi + carry  # hi < 2^40: the addend cannot overflow
        if a1 < hi + carry:
            a2 += np.uint64(1)
        if a2 > e2 or (a2 == e2 and (a1 > e1 or (a1 == e1 and a0 > e0))):
            return i, _BEYOND
        heights[i, 0], heights[i, 1], heights[i, 2] = a0, a1, a2
    return 0, _GOOD


def encode(blocks: list[Block]) -> bytes:
    """The bytes of an archive file made of `blocks`: the inverse of :func:`read_blocks`.

    Raises
    ------
    ValueError
        If a block's zeros do not strictly increase inside (t0, t1], if their number is not
        n1 - n0, or if a distance needs more than 104 bits.
    """
    parts = [_COUNT.pack(len(blocks))]
    for block in blocks:
        h = block.header
        if len(block.heights) != h.n1 - h.n0:
            raise ValueError(f"{len(block.heights)} heights for ranks {h.n0 + 1} to {h.n1}")
        start, end = fixed.from_ints([fixed.float_to_int(h.t0), fixed.float_to_int(h.t1)])
        distances = fixed.differences(np.vstack([start[None], block.heights]))
        if len(distances):
            fixed.differences(np.vstack([block.heights[-1:], end[None] + _ONE]))
        if np.any(distances[:, 1] >> np.uint64(40)) or np.any(distances[:, 2]):
            raise ValueError("a distance between zeros needs more than 104 bits")
        raw = distances[:, :2].astype("<u8").view(np.uint8).reshape(-1, 16)
        parts.append(_HEADER.pack(h.t0, h.t1, h.n0, h.n1))
        parts.append(raw[:, :RECORD_BYTES].tobytes())
    return b"".join(parts)


def write_file(path: Path, blocks: Iterator[Block]) -> None:
    """Temporary."""
    path.write_bytes(encode(list(blocks)))


_ONE = np.array([1, 0, 0], dtype=np.uint64)  # turns "gamma < t1 + 1 unit" into "gamma <= t1"


def decode_file(
    path: str | Path, following: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """All zeros of one file: rank, height and exact gap to the next zero.

    Parameters
    ----------
    path : path of a `.dat` file
    following : int or None
        The first zero of the next file in units of 2^-101 (see :func:`first_zero`), or None when
        there is none: the last gap is then NaN.

    Returns
    -------
    n : int64 array, shape (m,)
        1-based rank.
    gamma : float64 array, shape (m,)
        Height, rounded once.
    gap : float64 array, shape (m,)
        gamma_{n+1} - gamma_n from the exact integers, rounded once; no cancellation.
    """
    blocks = list(read_blocks(path))
    heights = np.concatenate([b.heights for b in blocks])
    first = blocks[0].header.n0 + 1
    n = np.arange(first, first + len(heights), dtype=np.int64)
    gap = np.full(len(heights), np.nan)
    chain = heights if following is None else np.vstack([heights, fixed.from_ints([following])])
    exact = fixed.to_floats(fixed.differences(chain))
    gap[: len(exact)] = exact
    return n, fixed.to_floats(heights), gap


def first_zero(path: str | Path) -> int | None:
    """The first zero of a file in units of 2^-101, or None for a file without zeros."""
    path = Path(path)
    headers, _ = read_headers(path)
    for header in headers:
        if header.n1 > header.n0:
            one = Header(header.t0, header.t1, header.n0, header.n0 + 1, header.offset)
            with path.open("rb") as handle:
                handle.seek(header.offset + _HEADER.size)
                heights = _decode_block(path, one, handle.read(RECORD_BYTES))
            return fixed.to_ints(heights)[0]
    return None
