"""Classical forecasters: right where the answer is known, and none sees its target."""

import numpy as np
import pytest
from test_autoregression import ar2, windows

from zetalib.baselines import (
    autoregression,
    explicit_formula,
    inversion_density,
    rivals,
    sine_process,
)
from zetalib.inverse import solutions


def test_the_sine_process_uses_the_gaps_there_are():
    data = windows(np.abs(ar2(3, 12).spacing.numpy()) + 0.05)
    found = rivals.by_sine_process(4)(data).mass.reshape(3, 11, -1)
    gaps = data.spacing.numpy()
    for t in (1, 3, 4, 9):
        k = min(t, 4)
        wanted = sine_process.density(gaps[:, t - k : t]).mass
        assert found[:, t - 1] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("name", ["ar", "height", "inversion", "sine", "explicit"])
def test_no_rival_sees_its_target(name):
    data = ar2(30, 48)
    if name == "sine":
        data = windows(np.abs(data.spacing.numpy()) + 0.05)
        rival = rivals.by_sine_process(3)
    elif name == "explicit":
        data = windows(np.abs(data.spacing.numpy()) + 0.05)
        rival = explicit_formula.forecaster()
    elif name == "inversion":
        rival = inversion_density.fit_inversion(data[:20], solutions.SolutionCache())
    else:
        rival = (
            autoregression.fit_ar(data, 8)
            if name == "ar"
            else autoregression.fit_ar_in_height(ar2(120, 48), 16)
        )
    other = windows(data.spacing.numpy().copy())
    other.spacing[:, 20:] = other.spacing.roll(1, 0)[:, 20:]
    before, after = (rival(d[:4]).mean().reshape(4, 47) for d in (data, other))
    assert np.array_equal(before[:, :20], after[:, :20])
    assert (before[:, 20:] != after[:, 20:]).any()


def test_the_marginal_is_the_histogram_and_the_surmise_needs_no_data():
    data = ar2()
    found = rivals.fit_marginal(data)(data[:1])
    inside = data.spacing.numpy()[data.spacing.numpy() > 0]
    share = (inside < 1).mean()
    assert found.cdf(np.full(63, 1.0))[0] == pytest.approx(share, abs=1e-3)
    assert rivals.surmise()(data[:1]).mean()[0] == pytest.approx(1, abs=1e-3)
