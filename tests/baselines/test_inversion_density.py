"""The density about the inversion's forecast: its parts are found, and doubt is left."""

import numpy as np
import pytest
from test_autoregression import ar2

from zetalib.baselines import inversion_density
from zetalib.data import window
from zetalib.inverse import solutions


def test_a_mixture_of_scales_finds_its_parts():
    """Two Gaussians, and a tenth that follows the density that is given."""
    rng = np.random.default_rng(2)
    parts = rng.normal(0, 0.5, 60_000), rng.normal(0, 20, 30_000), rng.normal(3000, 50, 10_000)
    z = np.concatenate(parts)
    beside = -0.5 * ((z - 3000) / 50) ** 2 - np.log(50 * np.sqrt(2 * np.pi))
    weight, scale = inversion_density.scale_mixture(z, beside, 2)
    assert sorted(zip(scale, weight[:2], strict=True)) == [
        (pytest.approx(0.5, rel=0.03), pytest.approx(0.6, abs=0.01)),
        (pytest.approx(20, rel=0.03), pytest.approx(0.3, abs=0.01)),
    ]
    assert weight[2] == pytest.approx(0.1, abs=0.001)


def test_a_wrong_solution_is_not_beyond_all_chance():
    """However sure the inversion was: what it never saw go wrong keeps half a count."""
    data = ar2(12, 200)
    solved = solutions.SolutionCache()
    found = np.zeros((12, 199, 7))
    found[:, :, 0] = data.spacing[:, 1:].numpy()  # right, and sure of it, but for one
    found[:, :, 1] = 1e-6
    found[11, 50, 0] += 0.5
    solved.add(data.spacing.numpy()[:, :-1], data.heights().numpy(), found)
    rival = inversion_density.fit_inversion(data[:11], solved)
    nll = -rival(data[11:]).logpdf(window.targets(data[11:]))
    assert nll[50] < 12 and np.median(nll) < -10
