"""Null tests of learned frequencies: right when nothing is there, found when something is."""

import numpy as np
import pytest

from zetalib.analysis import prime_frequencies
from zetalib.theory.primes import first_primes

LOGS = np.log(first_primes(32))


def drawn(rng, size=96):
    return rng.uniform(LOGS[0], LOGS[-1], size)


def test_distance_is_to_the_nearest():
    found = prime_frequencies.distance(np.array([0.0, 0.9, 5.0]), np.array([0.5, 1.0]))
    assert found == pytest.approx([0.5, 0.1, 4.0])


@pytest.mark.parametrize("name", ["near", "toward", "stay"])
def test_under_the_null_p_values_are_uniform(name):
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        start = drawn(rng)
        moves = 0.03 * rng.standard_normal(96)
        found = {
            "near": lambda s=start, k=seed: prime_frequencies.near(s, LOGS, 0.02, k, 300),
            "toward": lambda s=start, m=moves, k=seed: prime_frequencies.toward(
                s, s + m, LOGS, k, 300
            ),
            "stay": lambda m=moves, k=seed: prime_frequencies.stay(m[:48], m[48:], k, 300),
        }[name]()
        p.append(found.p)
    # Counts (near) are lumpy: ties make p-values larger, never smaller.
    assert 0.02 < np.mean(np.array(p) < 0.1) < 0.17
    assert 0.4 < np.mean(p) < 0.62


def test_random_frequencies_match_many_primes_by_chance():
    """What made the claim of tuned slots look true."""
    found = prime_frequencies.near(drawn(np.random.default_rng(1)), LOGS, 0.02, 0)
    assert found.statistic > 30 and found.p > 0.05
    assert found.expected == pytest.approx(found.statistic, abs=12)


def test_what_moves_to_the_primes_is_found():
    rng = np.random.default_rng(2)
    start = drawn(rng)
    nearest = LOGS[np.abs(start[:, None] - LOGS).argmin(1)]
    end = start + 0.5 * (nearest - start)
    assert prime_frequencies.toward(start, end, LOGS, 0).p < 1e-3
    assert prime_frequencies.toward(start, start - 0.3 * (nearest - start), LOGS, 0).p > 0.9
    assert prime_frequencies.near(nearest, LOGS, 0.02, 0).p < 1e-3
    assert prime_frequencies.stay(np.full(30, 0.01), 0.1 * rng.standard_normal(30), 0).p < 1e-3


def test_no_p_value_is_zero():
    end = np.repeat(LOGS, 3)
    assert prime_frequencies.near(end, LOGS, 0.02, 0, 99).p == pytest.approx(0.01)
