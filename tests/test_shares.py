"""Shares of counts against exact rational arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import changed
from hypothesis import given
from hypothesis import strategies as st

from zetalib import shares
from zetalib.data import verify, window
from zetalib.data.window import Windows
from zetalib.errors import ZetaError
from zetalib.scoring import conformal
from zetalib.training import batches


def test_every_rank_and_part_is_that_of_fractions():
    """All levels of three decimals with up to 2000 scores: in floats 439 ranks are one too high."""
    for k in range(1, 1000):
        level = k / 1000
        assert shares.written(level) == Fraction(k, 1000)
        for n in range(2001):
            assert shares.rank(n, level) == -(-(n + 1) * k // 1000)
            assert shares.part(n, level) == n * k // 1000


@given(st.integers(1, 10**6 - 1), st.integers(0, 10**9))
def test_six_decimals_are_exact_too(k, n):
    level = k / 10**6
    assert shares.rank(n, level) == -(-(n + 1) * k // 10**6)
    assert shares.part(n, level) == n * k // 10**6


@given(st.integers(1, 10**6 - 1))
def test_least_is_the_first_count_that_has_the_rank(k):
    least = shares.least(k / 10**6)
    assert shares.rank(least, k / 10**6) <= least
    assert shares.rank(least - 1, k / 10**6) > least - 1


@pytest.mark.parametrize(
    ("level", "least"),
    [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.9999, 9999), (0.99995, 19999)],
)
def test_least_of_usual_levels(level, least):
    assert shares.least(level) == least


@pytest.mark.parametrize(("level", "n"), [(0.55, 99), (0.07, 99), (0.29, 199), (0.9, 9)])
def test_the_order_statistic_is_no_rank_too_high(level, n):
    scores = np.random.default_rng(n).permutation(n) + 1.0  # of rank r the score is r
    assert conformal.order_statistic(scores, level) == math.ceil((n + 1) * Fraction(str(level)))


@pytest.mark.parametrize("n", [0, 8])
def test_too_few_scores_are_refused_by_what_is_needed(n):
    with pytest.raises(ZetaError, match=f"level 0.9 needs at least 9 targets, it has {n}"):
        conformal.order_statistic(np.zeros(n), 0.9)
    nothing = np.zeros(n)
    with pytest.raises(ZetaError, match=f"level 0.9 needs at least 9 targets, it has {n}"):
        conformal.fit((nothing, nothing), nothing, 0.9, classes=10)


def test_windows_and_dev_slice_are_the_shares_that_were_written(defaults):
    p = changed(defaults.window, val_fraction=0.29, calibration_fraction=0.07)
    assert window.split_sizes(100, p) == {"train": 64, "calibration": 7, "val": 29}
    assert verify._tail(100, 0.29) == 71  # the same as the windows'
    empty = torch.zeros(1500, 8, dtype=torch.float64)
    windows = Windows(empty, torch.arange(1500), torch.arange(1500.0))
    own = changed(defaults.train, dev_fraction=0.018, skip_lowest=0.036)  # 27 and 54
    fit, dev = batches.split_dev(windows, own)
    assert (len(fit), len(dev)) == (1500 - 54 - 27, 27)


def test_trajectories_are_demanded_as_many_as_the_level_needs(defaults):
    changed(defaults.calibrate, levels=[0.5, 0.9], trajectories=9)
    with pytest.raises(ValueError, match="level 0.9 needs at least 9 trajectories"):
        changed(defaults.calibrate, levels=[0.5, 0.9], trajectories=8)
