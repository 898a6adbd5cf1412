"""The finder of zeros: against functions whose zeros are known or found otherwise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from zetalib.theory import bandlimited
from zetalib.theory.bandlimited import MARGIN, OVERSAMPLING


def trigonometric(seed, components=60):
    """A random function just inside the band, and its derivative."""
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(0, np.pi / OVERSAMPLING, components)
    frequency[0] = np.pi / OVERSAMPLING  # the very edge
    phase, size = rng.uniform(0, 2 * np.pi, components), rng.normal(size=components)

    def function(x, order=0):
        turned = np.outer(x, frequency) + phase + order * np.pi / 2
        return (size * frequency**order * np.cos(turned)).sum(axis=1)

    return function


@settings(max_examples=12)
@given(st.integers(0, 2**32))
def test_finds_the_zeros_that_a_fine_grid_and_bisection_find(seed):
    f = trigonometric(seed)
    size = 400
    found = bandlimited.zeros(f(np.arange(size)), MARGIN, size - MARGIN, thorough=True)
    fine = np.linspace(MARGIN, size - MARGIN, 200 * size)
    values = f(fine)
    signs = np.flatnonzero((values[:-1] < 0) != (values[1:] < 0))
    known = [brentq(lambda x: f([x])[0], fine[i], fine[i + 1], xtol=1e-13) for i in signs]
    assert len(found) == len(known)
    # The error of a zero is that of the function over its slope.
    allowed = 1e-9 / np.abs(f(known, order=1)) + 1e-12
    assert (np.abs(found - known) < allowed).all()


def test_the_quick_search_finds_nearly_closed_pairs_between_two_samples():
    # A sine squared less epsilon: a pair of zeros `apart`, put everywhere between samples.
    frequency = np.pi / OVERSAMPLING / 2
    x = np.arange(200)
    for apart in (1e-1, 1e-3, 1e-5):
        depth = np.sin(frequency * apart / 2) ** 2
        for place in np.linspace(0.0, 1.0, 23):
            centre = 100 + place
            f = np.sin(frequency * (x - centre)) ** 2 - depth
            found = bandlimited.zeros(f, MARGIN, 200 - MARGIN)
            near = found[np.abs(found - centre) < 0.5]
            assert near == pytest.approx([centre - apart / 2, centre + apart / 2], abs=1e-6)


def test_a_zero_at_a_sample_is_found_once():
    x = np.arange(-60.0, 61.0)
    f = np.sin(np.pi / 4 * x)  # exactly or nearly zero at every fourth sample
    f[np.abs(f) < 1e-12] = 0.0
    found = bandlimited.zeros(f, MARGIN, len(f) - 1 - MARGIN)
    inside = np.arange(-48, 52, 4) + 60
    assert found == pytest.approx(inside[(inside >= MARGIN) & (inside < len(f) - 1 - MARGIN)])


def test_refuses_to_search_without_a_margin():
    with pytest.raises(ValueError, match="10 samples are needed"):
        bandlimited.zeros(np.ones(100), MARGIN - 1, 50)
    with pytest.raises(ValueError, match="10 samples are needed"):
        bandlimited.zeros(np.ones(100), MARGIN, 100 - MARGIN + 1)
