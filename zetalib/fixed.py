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

UNIT_BITS = 101
LIMBS = 3

Fixed = NDArray[np.uint64]
Floats = NDArray[np.float64]

_MASK = 0xFFFF_FFFF_FFFF_FFFF


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
    """float64 heights to limbs, exactly. Shape (n,) to (n, 3)."""
    return from_ints([float_to_int(v) for v in values.tolist()])


@nb.njit(cache=True, inline="always")
def _leading_zeros(x: np.uint64) -> np.uint64:
    n = np.uint64(0)
    for shift in (32, 16, 8, 4, 2, 1):
        if x >> np.uint64(64 - shift) == 0:
            n += np.uint64(shift)
            x <<= np.uint64(shift)
    return n


@nb.njit(cache=True)
def _round(a0: np.uint64, a1: np.uint64, a2: np.uint64) -> float:
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


@nb.njit(cache=True)
def _to_floats(fixed: Fixed, out: Floats) -> None:
    for i in range(fixed.shape[0]):
        out[i] = _round(fixed[i, 0], fixed[i, 1], fixed[i, 2])


@nb.njit(cache=True)
def _differences(fixed: Fixed, out: Fixed) -> nb.int64:
    """out[i] = fixed[i + 1] - fixed[i]; returns the first i where that is not positive, or -1."""
    for i in range(fixed.shape[0] - 1):
        borrow = np.uint64(0)
        for k in range(3):
            a, b = fixed[i + 1, k], fixed[i, k]
            d = a - b
            nxt = np.uint64(1) if a < b or d < borrow else np.uint64(0)
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


def differences(fixed: Fixed) -> Fixed:
    """Exact successive differences, shape (n, 3) to (n - 1, 3).

    Raises
    ------
    ValueError
        If the heights do not strictly increase; `args[1]` is the index of the offender.
    """
    out = np.empty((max(len(fixed) - 1, 0), LIMBS), dtype=np.uint64)
    bad = int(_differences(np.ascontiguousarray(fixed), out))
    if bad >= 0:
        raise ValueError("heights must strictly increase", bad + 1)
    return out


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
