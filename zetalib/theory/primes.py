"""Primes: a sieve without end, the first few, powers of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def prime_numbers(segment: int = 1 << 23) -> Iterator[NDArray[np.int64]]:
    """The primes in ascending order without end, in arrays: a segmented sieve of odd numbers.

    Parameters
    ----------
    segment : int
        Numbers sieved at a time, even; memory is half as many bytes and the square roots' primes.
    """
    for start in range(0, 1 << 62, segment):
        root = math.isqrt(start + segment)
        small = np.ones(root + 1, dtype=bool)
        small[:2] = False
        for p in range(2, math.isqrt(root) + 1):
            if small[p]:
                small[p * p :: p] = False
        odd = np.ones(segment // 2, dtype=bool)  # odd[i]: start + 2 i + 1
        for p in np.flatnonzero(small)[1:].tolist():
            first = max(p * p, -(-start // p) * p)
            first += p * (first % 2 == 0)  # an odd multiple
            odd[(first - start) // 2 :: p] = False
        found = start + 1 + 2 * np.flatnonzero(odd)
        if start == 0:
            found[0] = 2  # in place of 1
        yield found


def first_primes(number: int) -> list[int]:
    """The first `number` primes."""
    each = chain.from_iterable(part.tolist() for part in prime_numbers(1 << 12))
    return list(islice(each, number))


def prime_powers(limit: int) -> tuple[Floats, Floats]:
    """Prime powers up to `limit`, ascending, and Lambda of them, the log of the prime."""
    primes = next(prime_numbers(2 * (limit // 2 + 1)))
    primes = primes[primes <= limit].astype(np.float64)
    found = [(p**k, np.log(p)) for p in primes for k in range(1, int(np.log2(limit)) + 1)]
    q, mangoldt = np.array(sorted(pair for pair in found if pair[0] <= limit)).T
    return q, mangoldt
