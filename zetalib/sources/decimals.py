"""Decimal numbers in lines of text to exact multiples of 2^-101, with no float64 in between.

A line holds fields, separated by white space, or by one comma or semicolon with white space around
it. A number is digits with at most one point, an optional sign before and an optional exponent
(e, E, d or D) behind, in double quotes or bare. Its value is rounded once, to the nearest multiple
of 2^-101 (:mod:`zetalib.archive.fixed_point`), halves up.

The kernel takes what tables hold: up to 19 digits before the point or 28 without an exponent, any
number behind it. What it cannot decide (a rounding that hangs on the 39th digit, more than 19
digits with an exponent) is left to :func:`exact`, in integers.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from zetalib.archive import fixed_point
from zetalib.archive.fixed_point import Fixed
from zetalib.kernels import cached

Bytes = NDArray[np.uint8]

HEIGHT_BITS = 91  # heights are below 2^91 (zetalib.archive.codec)
LONGEST = 4096  # characters of a number; digits of an exponent are bounded by its size
NUMBER = re.compile(rb'("?)(?:[+-]?)(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d{1,4})?\1')

# What may be wrong with a line, and what Python must finish.
GOOD, FIELDS, NUMBER_FAULT, NEGATIVE, NOT_FINITE, TOO_HIGH, RANK_FAULT = range(7)


class Lines(NamedTuple):
    """Numbers of a piece of text.

    Attributes
    ----------
    heights : uint64 array, shape (m, 3)
        In units of 2^-101.
    ranks : uint64 array, shape (m,); empty without a column of ranks
        Modulo 2^64: zero 10^22 has a rank beyond.
    at : int64 array, shape (m,)
        Where each line begins in the piece, in bytes.
    fault : int
        0, or what is wrong (FIELDS, NUMBER_FAULT, ...) with the line after the last one here.
    fault_at : int
        Where that line begins.
    lines : int
        Newlines in the piece.
    """

    heights: Fixed
    ranks: NDArray[np.uint64]
    at: NDArray[np.int64]
    fault: int
    fault_at: int
    lines: int


def parse_lines(text: Bytes, fields: int, height: int, rank: int | None) -> Lines:
    """Parse whole lines; empty ones and those that begin with # are passed over.

    Parameters
    ----------
    text : uint8 array, shape (size,)
        Ends with a newline, unless it is empty.
    fields : int
        In each line.
    height, rank : int
        Which field is the height and which the rank (None: none).
    """
    room = int(np.count_nonzero(text == _NEWLINE))
    words = np.ndarray(len(text), "<u8", np.append(text, np.zeros(8, np.uint8)), strides=(1,))
    heights = np.zeros((room, fixed_point.LIMBS), dtype=np.uint64)
    ranks = np.zeros(room if rank is not None else 0, dtype=np.uint64)
    at = np.zeros(room, dtype=np.int64)
    left = np.zeros((_FEW, 2), dtype=np.int64)
    p = rows = fault = 0
    while p < len(text) and not fault:
        if fields == 1 or (fields, height, rank) == (2, 1, 0):
            p, rows = _parse_plain(
                text, words, rank == 0, _FRACTIONS, _POWERS, p, rows, heights, ranks, at
            )
        p, rows, unfinished, fault = _parse(
            text, fields, height, -1 if rank is None else rank, _FRACTIONS, _LONG, _POWERS,
            heights, ranks, at, left, p, rows, rows + _FEW,
        )  # fmt: skip
        for row, start in left[:unfinished].tolist():
            units = exact(_field(text, start))
            if units is None or units >= 1 << fixed_point.UNIT_BITS + HEIGHT_BITS:
                p, rows, fault = int(at[row]), row, TOO_HIGH
                break
            heights[row] = fixed_point.from_ints([units])[0]
    return Lines(heights[:rows], ranks[:rows], at[:rows], fault, p, room)


def exact(number: bytes) -> int | None:
    """A decimal number that is not negative in units of 2^-101, to the nearest, halves up.

    None if it is 10^30 or more.

    Raises
    ------
    ValueError
        If it is no such number, or longer than `LONGEST`.
    """
    match = NUMBER.fullmatch(number)
    text = number.strip(b'"').lower().replace(b"d", b"e")
    if match is None or len(number) > LONGEST or text.startswith(b"-"):
        raise ValueError(f"not a decimal number: {number[:80]!r}")
    digits, _, exponent = text.partition(b"e")
    whole, _, fraction = digits.lstrip(b"+").partition(b".")
    value: int = int(whole + fraction)
    scale = len(fraction) - int(exponent or 0)  # the value is `value` / 10^scale
    if scale <= 0:
        if value and len(str(value)) - scale > 30:
            return None
        return int(value * 10**-scale) << fixed_point.UNIT_BITS
    if value >= 10 ** (30 + scale):
        return None
    return ((value << fixed_point.UNIT_BITS + 1) // int(10**scale) + 1) >> 1


def _field(text: Bytes, start: int) -> bytes:
    """The field that begins at `start`."""
    return re.split(rb"[\s,;]", text[start : start + LONGEST + 2].tobytes(), maxsplit=1)[0]


_NEWLINE, _QUOTE = ord("\n"), ord('"')
_FEW = 4096  # rows between two tries of the quick way
_DIGITS = 19  # that fit 64 bits


def _limbs(value: int, count: int) -> list[int]:
    return [value >> 64 * k & (1 << 64) - 1 for k in range(count)]


def _fraction_table() -> NDArray[np.uint64]:
    """Row k: C_k = ceil(2^(102 + s) / 10^k) in three words, and s / 64.

    floor(m C_k / 2^s) = floor(2^102 m / 10^k) for m < 10^k: C_k is too large by less than 1, which
    adds less than 10^k / 2^s, and 2^102 m / 10^k is a multiple of 5^-k; 50^k < 2^s. So s = 64 does
    up to k = 11 and s = 128 up to k = 19.
    """
    rows = [[0] * 4]
    for k in range(1, _DIGITS + 1):
        s = 64 if k <= 11 else 128
        rows.append([*_limbs(-(-(1 << 102 + s) // 10**k), 3), s // 64])
    return np.array(rows, dtype=np.uint64)


_FRACTIONS = _fraction_table()
# floor(2^229 / 10^19) and floor(2^229 / 10^38): two chunks of 19 digits in units of 2^-165.
_LONG = np.array(
    [_limbs((1 << 229) // 10**19, 3), _limbs((1 << 229) // 10**38, 3)], dtype=np.uint64
)
_POWERS = np.array([10**k for k in range(_DIGITS + 1)], dtype=np.uint64)


@intrinsic
def _multiply_high(_typing: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of the product of two uint64."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        left, right = (builder.zext(value, wide) for value in arguments)
        product = builder.mul(left, right)
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def _trailing_zeros(_typing: Any, a: Any) -> Any:
    """Bits below the lowest one that is set, of a uint64 that is not 0."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


_U0, _U1, _U8, _U10 = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(10)


@nb.njit(inline="always")
def _digit(c: Any) -> Any:
    return c >= 48 and c <= 57


@nb.njit(inline="always")
def _blank(c: Any) -> Any:
    return c == 32 or c == 9 or c == 13 or c == 11 or c == 12


@nb.njit(inline="always")
def _ends_field(c: Any) -> Any:
    return c == 10 or c == 44 or c == 59 or _blank(c)


@nb.njit(inline="always")
def _not_digits(word: np.uint64) -> np.uint64:
    """The top bit of each of eight bytes that is no digit; bytes after such a one may be wrong."""
    zeros, sixes, tops = np.uint64(0x3030303030303030), np.uint64(0x4646464646464646), _TOPS
    return ((word + sixes) | (word - zeros)) & tops


@nb.njit(inline="always")
def _value(word: np.uint64, digits: np.uint64) -> np.uint64:
    """The number that the first so many of eight bytes (1 to 8) are, written in digits.

    Neighbours are joined to pairs, pairs to fours, fours to eight: two multiplications.
    """
    v = (word - np.uint64(0x3030303030303030)) << ((np.uint64(8) - digits) << np.uint64(3))
    v = v * _U10 + (v >> np.uint64(8))
    pairs = np.uint64(0x000000FF000000FF)
    low = (v & pairs) * np.uint64(0x000F424000000064)
    return (low + ((v >> np.uint64(16)) & pairs) * np.uint64(0x0000271000000001)) >> np.uint64(32)


@nb.njit
def _times(m: np.uint64, words: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Write m times a number of three words to `out`, four words."""
    carry = _U0
    for k in range(3):
        low = m * words[k]
        total = low + carry
        carry = _multiply_high(m, words[k]) + np.uint64(total < low)
        out[k] = total
    out[3] = carry


@nb.njit
def _add(a: NDArray[np.uint64], b: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    carry = _U0
    for k in range(4):
        s = a[k] + b[k]
        c = np.uint64(s < a[k])
        total = s + carry
        carry = c | np.uint64(total < s)
        out[k] = total


@nb.njit
def _put(
    i0: np.uint64, i1: np.uint64, f0: np.uint64, f1: np.uint64, out: NDArray[np.uint64]
) -> None:
    """Write (i1:i0) * 2^101 + (f1:f0), the fraction up to 2^101, to three words."""
    out[0] = f0
    low = i0 << np.uint64(37)
    out[1] = low + f1
    out[2] = ((i0 >> np.uint64(27)) | (i1 << np.uint64(37))) + np.uint64(out[1] < low)


@nb.njit(inline="always")
def _short_fraction(m: np.uint64, k: int, table: NDArray[np.uint64]) -> tuple[np.uint64, np.uint64]:
    """Convert m / 10^k to units of 2^-101, two words, to the nearest (:func:`_fraction_table`)."""
    if m == 0:
        return _U0, _U0
    g0 = m * table[k, 1] + _multiply_high(m, table[k, 0])
    carry = np.uint64(g0 < m * table[k, 1])
    middle = m * table[k, 2] + _multiply_high(m, table[k, 1])
    g1 = middle + carry
    if table[k, 3] == 2:
        g2 = _multiply_high(m, table[k, 2])
        g2 += np.uint64(middle < m * table[k, 2]) + np.uint64(g1 < middle)
        g0, g1 = g1, g2
    g0 += _U1  # 2^102 m / 10^k rounded down, below 2^102; then half of it to the nearest
    g1 += np.uint64(g0 == 0)
    return (g0 >> _U1) | (g1 << np.uint64(63)), g1 >> _U1


@nb.njit
def _long_fraction(
    text: Bytes,
    start: int,
    stop: int,
    long: NDArray[np.uint64],
    powers: NDArray[np.uint64],
    work: NDArray[np.uint64],
) -> tuple[np.uint64, np.uint64, bool]:
    """The digits text[start:stop] behind a point, more than 19, as :func:`_short_fraction`.

    With m1, m2 the first and the next 19 digits, m1 A + m2 B >> 64 is the value in units of 2^-165
    rounded down by less than 3, or 3 + 2^165 / 10^38 < 2^40 with digits left over. False where
    that does not decide the rounding to 2^-101.
    """
    m1, m2 = _U0, _U0
    for k in range(start, start + 19):
        m1 = m1 * _U10 + np.uint64(text[k] - 48)
    second = min(stop, start + 38)
    for k in range(start + 19, second):
        m2 = m2 * _U10 + np.uint64(text[k] - 48)
    m2 *= powers[19 - (second - start - 19)]
    slack = np.uint64(4)
    if stop > second:
        slack = _U1 << np.uint64(40)
    _times(m1, long[0], work[0])
    _times(m2, long[1], work[1])
    _add(work[0], work[1], work[2])
    t0, t1, t2 = work[2, 1], work[2, 2], work[2, 3]  # units of 2^-165
    half = _U1 << np.uint64(63)
    up = np.uint64(t0 >= half)
    sure = not (t0 < half and t0 + slack >= half)
    f0 = t1 + up
    return f0, t2 + np.uint64(f0 < up), sure


_LEFT = -1
_TOPS = np.uint64(0x8080808080808080)


@nb.njit
def _number(
    text: Bytes,
    p: Any,
    table: NDArray[np.uint64],
    long: NDArray[np.uint64],
    powers: NDArray[np.uint64],
    work: NDArray[np.uint64],
    out: NDArray[np.uint64],
) -> tuple[int, int]:
    """One field from byte `p` on as a multiple of 2^-101: where it ends, and what is wrong.

    What is wrong is `_LEFT` for a number that is right but not finished here.
    """
    quoted = text[p] == 34
    if quoted:
        p += 1
    negative = text[p] == 45
    if negative or text[p] == 43:
        p += 1
    c = text[p] | 32
    if c == 110 or c == 105:  # nan, inf
        return p, NOT_FINITE
    while text[p] == 48 and _digit(text[p + 1]):
        p += 1
    begin, m = p, _U0
    while _digit(text[p]):
        m = m * _U10 + np.uint64(text[p] - 48)
        p += 1
    whole = p - begin
    first, behind, f = p, 0, _U0
    if text[p] == 46:
        p += 1
        first = p
        while _digit(text[p]):
            f = f * _U10 + np.uint64(text[p] - 48)
            p += 1
        behind = p - first
    if whole + behind == 0:
        return p, NUMBER_FAULT
    end, exponent, shown = p, 0, False
    if text[p] | 32 == 101 or text[p] | 32 == 100:
        shown = True
        p += 1
        minus = text[p] == 45
        if minus or text[p] == 43:
            p += 1
        digits = p
        while _digit(text[p]) and p - digits <= 4:
            exponent = exponent * 10 + np.int64(text[p] - 48)  # type: ignore[assignment]
            p += 1
        if p == digits or p - digits > 4:
            return p, NUMBER_FAULT
        if minus:
            exponent = -exponent
    if quoted:
        if text[p] != 34:
            return p, NUMBER_FAULT
        p += 1
    if not _ends_field(text[p]) or p - begin > LONGEST:
        return p, NUMBER_FAULT
    if negative:
        return p, NEGATIVE
    if shown:
        if whole + behind > 19:
            return p, _LEFT
        value = m * powers[behind] + f
        scale = behind - exponent
        if scale < 0 or scale > 19:
            return p, _LEFT
        i = value // powers[scale] if scale < 20 else _U0
        f0, f1 = _short_fraction(value - i * powers[scale], scale, table)
        _put(i, _U0, f0, f1, out)
        return p, GOOD
    i0, i1 = m, _U0
    if whole > 19:
        if whole > 28:
            return p, TOO_HIGH
        i0, tail = _U0, _U0
        for k in range(begin, begin + 19):
            i0 = i0 * _U10 + np.uint64(text[k] - 48)
        for k in range(begin + 19, begin + whole):
            tail = tail * _U10 + np.uint64(text[k] - 48)
        power = powers[whole - 19]
        i1 = _multiply_high(i0, power)
        low = i0 * power
        i0 = low + tail
        i1 += np.uint64(i0 < low)
        if i1 >> np.uint64(27) != 0:
            return p, TOO_HIGH
    if behind <= 19:
        f0, f1 = _short_fraction(f, behind, table)
    else:
        f0, f1, sure = _long_fraction(text, first, end, long, powers, work)
        if not sure:
            return p, _LEFT
    _put(i0, i1, f0, f1, out)
    return p, GOOD


@cached(nogil=True)
def _parse_plain(
    text: Bytes,
    words: NDArray[np.uint64],
    ranked: bool,
    table: NDArray[np.uint64],
    powers: NDArray[np.uint64],
    p: Any,
    rows: int,
    heights: Fixed,
    ranks: NDArray[np.uint64],
    at: NDArray[np.int64],
) -> tuple[int, int]:
    """What most tables are, eight characters at a time: where it ends and the rows by then.

    Lines from byte `p` on of a number with up to 7 digits, a point and 1 to 15 digits, before it,
    if `ranked`, up to 7 digits and one separator. It ends before the first line that is not so.
    Written without calls that take arrays: numba counts references at each.
    """
    size = len(text)
    while p < size:
        at[rows] = p
        while _blank(text[p]):
            p += 1
        if ranked:
            other = _not_digits(words[p])
            digits = _trailing_zeros(other) >> np.uint64(3)
            if other == 0 or digits == 0:
                break
            ranks[rows] = _value(words[p], digits)
            p += np.int64(digits)
            if not (text[p] == 44 or text[p] == 9 or text[p] == 32):
                break
            p += 1
        other = _not_digits(words[p])
        digits = _trailing_zeros(other) >> np.uint64(3)
        if other == 0 or digits == 0:
            break
        i = _value(words[p], digits)
        p += np.int64(digits)
        if text[p] != 46:
            break
        p += 1
        f, behind = _U0, _U0
        other = _not_digits(words[p])
        if other == 0:
            f, behind = _value(words[p], _U8), _U8
            p += 8
            other = _not_digits(words[p])
            if other == 0:
                break
        digits = _trailing_zeros(other) >> np.uint64(3)
        if digits > 0:
            f = f * powers[digits] + _value(words[p], digits)
            p += np.int64(digits)
            behind += digits
        if text[p] == 13:
            p += 1
        if behind == 0 or text[p] != 10:
            break
        p += 1
        f0, f1 = _short_fraction(f, behind, table)
        heights[rows, 0] = f0
        heights[rows, 1] = (i << np.uint64(37)) + f1  # i < 10^7: no carry
        heights[rows, 2] = _U0
        rows += 1
    else:
        return p, rows
    return at[rows], rows


@cached(nogil=True)
def _parse(
    text: Bytes,
    fields: int,
    height: int,
    rank: int,
    table: NDArray[np.uint64],
    long: NDArray[np.uint64],
    powers: NDArray[np.uint64],
    heights: Fixed,
    ranks: NDArray[np.uint64],
    at: NDArray[np.int64],
    left: NDArray[np.int64],
    p: int,
    rows: int,
    most: int,
) -> tuple[int, int, int, int]:
    """Parse from byte `p` on, up to `most` rows in all.

    Returns where it ended, the rows by then, how many of these are left unfinished and the fault
    that ended it, or 0.
    """
    work = np.zeros((3, 4), dtype=np.uint64)
    other = np.zeros(3, dtype=np.uint64)
    unfinished, size = 0, len(text)
    while p < size and rows < most:
        line = p
        while _blank(text[p]):
            p += 1
        if text[p] == 10:
            p += 1
            continue
        if text[p] == 35:
            while text[p] != 10:
                p += 1
            p += 1
            continue
        at[rows] = line
        field = 0
        while True:
            if field == height:
                start = p
                p, fault = _number(text, start, table, long, powers, work, heights[rows])
                if fault == _LEFT:
                    left[unfinished, 0], left[unfinished, 1] = rows, start
                    unfinished += 1
                elif fault != GOOD:
                    return line, rows, unfinished, fault
            elif field == rank:
                p, fault = _number(text, p, table, long, powers, work, other)
                fraction = other[0] | (other[1] & ((_U1 << np.uint64(37)) - _U1))
                if fault != GOOD or fraction != 0:
                    return line, rows, unfinished, RANK_FAULT
                ranks[rows] = (other[1] >> np.uint64(37)) | (other[2] << np.uint64(27))
            else:
                while not _ends_field(text[p]):
                    p += 1
            field += 1
            while _blank(text[p]):
                p += 1
            if text[p] == 44 or text[p] == 59:
                p += 1
                while _blank(text[p]):
                    p += 1
                if text[p] == 10:  # an empty field ends the line
                    if field in (height, rank):
                        return line, rows, unfinished, FIELDS
                    field += 1
            if text[p] == 10:
                break
            if field == fields:
                return line, rows, unfinished, FIELDS
        p += 1
        if field != fields:
            return line, rows, unfinished, FIELDS
        rows += 1
    return p, rows, unfinished, GOOD
