"""Shares of counts, exactly: a share is the decimal somebody wrote, 0.29 and not its float.

In floats 100 * 0.29 is 28.999999999999996, of which `int` makes 28, and 100 * 0.55 is
55.00000000000001, of which `ceil` makes 56.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache


@lru_cache
def written(share: float) -> Fraction:
    """The shortest decimal that is this float: what stood in params.yaml."""
    return Fraction(repr(float(share)))


def part(count: int, share: float) -> int:
    """So many of `count` are that share of them, rounded down."""
    exact = written(share)
    return count * exact.numerator // exact.denominator


def rank(count: int, level: float) -> int:
    """The rank of the score, of `count` to calibrate on, that covers one more at `level`, from 1.

    ceil((n + 1) level): above n where nothing finite does.
    """
    exact = written(level)
    return -(-(count + 1) * exact.numerator // exact.denominator)


def least(level: float) -> int:
    """So many scores a level needs for :func:`rank` to be one of theirs: level / (1 - level)."""
    exact = written(level)
    return -(-exact.numerator // (exact.denominator - exact.numerator))
