"""The primes against sympy, and how many there are far up."""

import itertools

import numpy as np
import pytest
from sympy import primerange

from zetalib.theory.primes import first_primes, prime_numbers, prime_powers


@pytest.mark.parametrize("segment", [4, 30, 128, 10_000])
def test_primes_are_the_primes(segment):
    found = np.empty(0, dtype=np.int64)
    for part in prime_numbers(segment):
        found = np.append(found, part)
        if len(found) >= 1000:
            break
    assert found[:1000].tolist() == list(itertools.islice(primerange(10**5), 1000))


def test_the_prime_counting_function_far_up():
    parts = prime_numbers()
    counted = sum(int((next(parts) <= 10**7).sum()) for _ in range(2))
    assert counted == 664_579  # pi(10^7)


def test_the_first_primes():
    assert first_primes(10) == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    assert first_primes(82)[-1] == 421 and first_primes(0) == []
    assert first_primes(600)[-1] == 4409  # beyond what is sieved at first


def test_prime_powers():
    q, mangoldt = prime_powers(16)
    assert q.tolist() == [2, 3, 4, 5, 7, 8, 9, 11, 13, 16]
    assert np.exp(mangoldt) == pytest.approx([2, 3, 2, 5, 7, 2, 3, 11, 13, 2])
