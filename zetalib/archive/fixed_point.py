"""Heights as exact multiples of 2^-101, the resolution of Platt's archive.

A height gamma < 2^91 is the integer gamma * 2^101, held as three little-endian uint64 limbs:
an array of shape (n, 3). Sums, differences and comparisons are exact; conversion to float64
rounds once, to nearest even.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from zetalib.kernels import cached

UNIT_BITS = 101
LIMBS = 3

Fixed = NDArray[np.uint64]
Floats = NDArray[np.float64]


def from_ints(values: list[int]) -> Fixed:
    """Python integers (units of 2^-101, each in [0, 2^192)) to limbs, shape (n, 3)."""
    if any(not 0 <= v < 1 << 64 * LIMBS for v in values):
        raise ValueError("a height must lie in [0, 2^192) units of 2^-101")
    raw = b"".join(v.to_bytes(8 * LIMBS, "little") for v in values)
    return np.frombuffer(raw, dtype="<u8").reshape(-1, LIMBS).astype(np.uint64)


def to_ints(fixed: Fixed) -> list[int]:
    """Limbs, shape (n, 3), to Python integers in units of 2^-101."""
    raw = np.ascontiguousarray(fixed, dtype="<u8").tobytes()
    size = 8 * LIMBS
    return [int.from_bytes(raw[i : i + size], "little") for i in range(0, len(raw), size)]


def float_to_int(value: float) -> int:
    """`value` as an exact integer of units 2^-101; ValueError if finer or negative."""
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"a height must be finite and not negative, got {value!r}")
    numerator, denominator = value.as_integer_ratio()
    scaled, rest = divmod(numerator << UNIT_BITS, denominator)
    if rest:
        raise ValueError(f"{value!r} is not a multiple of 2^-{UNIT_BITS}")
    return scaled


def from_floats(values: Floats) -> Fixed:
    """float64 heights to limbs, exactly. Shape (n,) to (n, 3); ValueError as float_to_int."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    out = np.zeros((len(values), LIMBS), dtype=np.uint64)
    bad = int(_from_floats(values.view(np.uint64), out))
    if bad >= 0:
        from_ints([float_to_int(float(values[bad]))])  # raises: says what is wrong with it
    return out


@cached(nogil=True)
def _from_floats(bits: NDArray[np.uint64], out: Fixed) -> int:
    """Limbs of float64 bit patterns; the first that is no multiple of 2^-101 in range, or -1."""
    for i in range(bits.shape[0]):
        exponent = np.int64((bits[i] >> np.uint64(52)) & np.uint64(0x7FF))
        mantissa = bits[i] & np.uint64((1 << 52) - 1)
        if exponent > 0:
            mantissa |= np.uint64(1 << 52)
        else:
            exponent = np.int64(1)
        if mantissa == 0:
            continue
        if bits[i] >> np.uint64(63) != 0:
            return i
        shift = exponent - 1075 + UNIT_BITS
        if shift < 0:
            if shift <= -64 or mantissa & ((np.uint64(1) << np.uint64(-shift)) - np.uint64(1)) != 0:
                return i
            out[i, 0] = mantissa >> np.uint64(-shift)
            continue
        limb, rest = shift // 64, np.uint64(shift % 64)
        over = mantissa >> (np.uint64(64) - rest) if rest > 0 else np.uint64(0)
        if limb >= LIMBS or (limb == LIMBS - 1 and over != 0):
            return i
        out[i, limb] = mantissa << rest
        if over != 0:
            out[i, limb + 1] = over
    return -1


@nb.njit(inline="always")
def _leading_zeros(x: np.uint64) -> np.uint64:
    n = np.uint64(0)
    for shift in (32, 16, 8, 4, 2, 1):
        if x >> np.uint64(64 - shift) == 0:
            n += np.uint64(shift)
            x <<= np.uint64(shift)
    return n


@cached(nogil=True)
def nearest(a0: np.uint64, a1: np.uint64, a2: np.uint64) -> float:
    """(a2:a1:a0) * 2^-101 as the nearest float64, ties to even."""
    scale = -101
    if a2 != 0:
        top, mid, low = a2, a1, a0
        scale += 128
    elif a1 != 0:
        top, mid, low = a1, a0, np.uint64(0)
        scale += 64
    else:
        top, mid, low = a0, np.uint64(0), np.uint64(0)
    if top == 0:
        return 0.0
    shift = _leading_zeros(top)
    if shift > 0:
        top = (top << shift) | (mid >> (np.uint64(64) - shift))
        mid = mid << shift
    # 64 leading bits in `top`; whatever is below them only matters as "not zero" (round to odd).
    if mid != 0 or low != 0:
        top |= np.uint64(1)
    return math.ldexp(np.float64(top), scale - nb.int64(shift))


@cached(nogil=True)
def _to_floats(fixed: Fixed, out: Floats) -> None:
    for i in range(fixed.shape[0]):
        out[i] = nearest(fixed[i, 0], fixed[i, 1], fixed[i, 2])


@cached(nogil=True)
def _subtract(a: Fixed, b: Fixed, out: Fixed) -> int:
    """Write a - b, row by row, to `out`; returns the first row that is not positive, or -1."""
    for i in range(a.shape[0]):
        borrow = np.uint64(0)
        for k in range(3):
            d = a[i, k] - b[i, k]
            nxt = np.uint64(1) if a[i, k] < b[i, k] or d < borrow else np.uint64(0)
            out[i, k] = d - borrow
            borrow = nxt
        if borrow != 0 or (out[i, 0] == 0 and out[i, 1] == 0 and out[i, 2] == 0):
            return i
    return -1


def to_floats(fixed: Fixed) -> Floats:
    """Limbs, shape (n, 3), to the nearest float64 heights, shape (n,)."""
    out = np.empty(len(fixed), dtype=np.float64)
    _to_floats(np.ascontiguousarray(fixed), out)
    return out


@cached(nogil=True)
def _add(heights: Fixed, other: Fixed, out: Fixed) -> None:
    for i in range(heights.shape[0]):
        carry = np.uint64(0)
        for k in range(3):
            s = heights[i, k] + other[k]
            c = np.uint64(s < other[k])
            total = s + carry
            carry = c | np.uint64(total < s)
            out[i, k] = total


def add(heights: Fixed, units: int) -> Fixed:
    """Heights, shape (n, 3), plus `units` of 2^-101 (which may be negative), modulo 2^192."""
    if units == 0:
        return heights
    out = np.empty_like(heights)
    _add(heights, from_ints([units % (1 << 64 * LIMBS)])[0], out)
    return out


def subtract(a: Fixed, b: Fixed) -> Fixed:
    """Exact a - b, shapes (n, 3).

    Raises
    ------
    ValueError
        If some b is not below its a: the heights do not increase; `args[1]` is the row.
    """
    out = np.empty((len(a), LIMBS), dtype=np.uint64)
    bad = int(_subtract(np.ascontiguousarray(a), np.ascontiguousarray(b), out))
    if bad >= 0:
        raise ValueError("heights must strictly increase", bad)
    return out


def differences(fixed: Fixed) -> Fixed:
    """Exact successive differences, shape (n, 3) to (n - 1, 3).

    Raises
    ------
    ValueError
        If the heights do not strictly increase; `args[1]` is the index of the offender.
    """
    try:
        return subtract(fixed[1:], fixed[:-1])
    except ValueError as error:
        raise ValueError(error.args[0], error.args[1] + 1) from None


OFFSET_BITS = 50


def above(start: float, offset: Floats) -> Fixed:
    """Heights start + offset as limbs, shape (n,) to (n, 3); offsets to the nearest 2^-50.

    Parameters
    ----------
    start : float
        Taken exactly.
    offset : float64 array, shape (n,)
        In [0, 2^13).

    Raises
    ------
    ValueError
        If an offset lies outside.
    """
    if len(offset) and not (offset.min() >= 0.0 and offset.max() < 2.0**13):
        raise ValueError("offsets must lie in [0, 2^13)")
    units = np.rint(offset * 2.0**OFFSET_BITS).astype(np.uint64)
    shift = np.uint64(UNIT_BITS - OFFSET_BITS)
    base = from_ints([float_to_int(start)])[0]
    out = np.empty((len(offset), LIMBS), dtype=np.uint64)
    out[:, 0] = base[0] + (units << shift)
    carry = (out[:, 0] < base[0]).astype(np.uint64)
    out[:, 1] = base[1] + (units >> (np.uint64(64) - shift)) + carry
    out[:, 2] = base[2] + (out[:, 1] < base[1]).astype(np.uint64)
    return out
