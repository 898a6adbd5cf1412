"""The height found from bare spacings, and forecasts that are not told it."""

import math

import numpy as np
import pytest
from conftest import zeros

from zetalib.inverse import trial_heights
from zetalib.inverse.solver import NO_ROOT, SD, SPACING

T = 96


@pytest.fixture(scope="module")
def stretch():
    return zeros(1_000_000, T)


@pytest.mark.parametrize(
    ("height", "digits", "ends"),
    [
        (1.23e6, 3, (1.225e6, 1.235e6)),
        (1.2e6, 2, (1.15e6, 1.25e6)),
        (1e6, 1, (0.95e6, 1.5e6)),
        (9e5, 1, (8.5e5, 9.5e5)),
        (1e6, 0, (100.0, 1e10)),
    ],
)
def test_bounds_are_what_rounds_to_a_height(height, digits, ends):
    assert trial_heights.bounds(height, digits) == pytest.approx(ends)


@pytest.mark.parametrize("digits", [2, 1, 0])
def test_the_height_is_found_to_six_digits(stretch, digits):
    spacing, height = stretch
    low, high = trial_heights.bounds(10.0**6, digits)
    found = trial_heights.find_height(spacing[:72], low, high)
    assert math.log(found.height / height) == pytest.approx(0, abs=1e-5)
    assert found.margin > trial_heights.CERTAIN


def test_the_coarse_search_peaks_near_the_height(stretch):
    spacing, height = stretch
    heights = np.exp(np.linspace(math.log(1e4), math.log(1e8), 1200))
    evidence = trial_heights.coarse_evidence(spacing, heights)
    assert abs(math.log(heights[evidence.argmax()] / height)) < 0.03


def test_shuffled_spacings_have_no_height(stretch):
    spacing = np.random.default_rng(0).permutation(stretch[0])
    assert not math.isfinite(trial_heights.find_height(spacing, 0.95e6, 1.5e6).evidence)


def test_a_stretch_is_followed_from_where_its_height_is_found(stretch):
    spacing = stretch[0]
    found = trial_heights.follow(spacing[:-1], *trial_heights.bounds(1e6, 1))
    early = trial_heights.CHECKS[0] - 1
    assert (found[:early, SPACING] == NO_ROOT[0]).all() and (found[:early, SD] == NO_ROOT[1]).all()
    assert np.abs(found[72:, SPACING] - spacing[73:]).max() < 1e-3
    again = trial_heights.follow(spacing[:60], *trial_heights.bounds(1e6, 1))
    assert np.array_equal(again, found[:60])
