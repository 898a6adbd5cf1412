"""Zeros computed from scratch: FLINT's rigorous balls, rounded to the archive's 2^-101.

Reference: FLINT's acb_dirichlet module (https://flintlib.org/doc/acb_dirichlet.html). It isolates
zeros on the critical line and proves their number (Turing's method), then refines them in ball
arithmetic: rank and digits are certain.
"""

from __future__ import annotations

import math

from flint import acb, arb, ctx

from zetalib import fixed

BITS = 180  # of working precision: a zero up to t = 3e10 takes 136, the rest pins the rounding


def heights(first: int, count: int, bits: int = BITS) -> list[int]:
    """Zeros of ranks `first` ... `first + count - 1`, each the nearest multiple of 2^-101.

    Computed in this process (in `flint.ctx.threads` threads) at `bits` of precision. A zero whose
    ball does not decide the rounding is computed again with twice the bits, until it does.

    Raises
    ------
    ValueError
        If `first` is below 1 or `count` below 0.
    """
    if first < 1 or count < 0:
        raise ValueError(f"{count} zeros from rank {first}: ranks start at 1")
    if count == 0:
        return []
    with ctx.workprec(bits):
        found = [_nearest(zero.imag) for zero in acb.zeta_zeros(first, count)]
    return [
        heights(first + k, 1, 2 * bits)[0] if height is None else height
        for k, height in enumerate(found)
    ]


def _nearest(gamma: arb) -> int | None:
    """The multiple of 2^-101 nearest to every number in the ball, or None if they disagree."""
    unit = (gamma * (1 << fixed.UNIT_BITS) + arb(0.5)).floor().unique_fmpz()
    return None if unit is None else int(unit)


def count(t: float) -> int:
    """N(t), the number of zeros with 0 < gamma <= t, exactly.

    Raises
    ------
    ValueError
        If `t` is not finite.
    """
    if not math.isfinite(t):
        raise ValueError(f"a height must be finite, got {t!r}")
    bits = BITS
    while True:  # ends: no zero is a float64, so some precision tells them apart
        with ctx.workprec(bits):
            zeros = arb(t).zeta_nzeros().unique_fmpz()
        if zeros is not None:
            return int(zeros)
        bits *= 2
