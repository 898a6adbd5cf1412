"""Least squares on past spacings: right where the answer is known."""

import numpy as np
import pytest
import torch

from zetalib.baselines import autoregression, rivals
from zetalib.data import window
from zetalib.data.window import Windows, density


def windows(spacing, first=1e6):
    """Windows (W, T) of a contiguous record at about height `first`."""
    spacing = torch.from_numpy(np.ascontiguousarray(spacing))
    gamma = torch.full((len(spacing),), float(first), dtype=torch.float64)
    n = torch.arange(len(spacing)) * spacing.shape[1]
    return Windows(spacing, n, gamma)


def ar2(count=300, length=64, seed=0):
    rng = np.random.default_rng(seed)
    x = np.zeros(count * length + 100)
    e = 0.3 * rng.standard_normal(len(x))
    for t in range(2, len(x)):
        x[t] = -0.5 * x[t - 1] + 0.2 * x[t - 2] + e[t]
    return windows(1 + x[100:].reshape(count, length))


def score(rival, on):
    found, y = rival(on), window.targets(on)
    return -found.logpdf(y).mean(), np.abs(found.mean() - y).mean()


def test_levinson_solves_the_normal_equations():
    rng = np.random.default_rng(1)
    x = np.convolve(rng.standard_normal(5000), rng.standard_normal(6))
    c = np.array([x[k:] @ x[: len(x) - k] / len(x) for k in range(9)])
    weights, variance = autoregression.levinson(c)
    for k in (1, 3, 8):
        toeplitz = c[np.abs(np.subtract.outer(np.arange(k), np.arange(k)))]
        assert weights[k] == pytest.approx(np.linalg.solve(toeplitz, c[1 : k + 1]))
        assert variance[k] == pytest.approx(c[0] - weights[k] @ c[1 : k + 1])


def test_an_autoregression_rolls_forward_by_its_own_forecasts():
    rng = np.random.default_rng(1)
    x = np.zeros(200_000)
    noise = rng.normal(size=len(x))
    for i in range(1, len(x)):
        x[i] = 0.6 * x[i - 1] + noise[i]
    record = windows(x[None] + 1)
    found = autoregression.fit_ar(record, 3).rollout(np.array([[1.0, 3.0], [1.0, 0.0]]), 4)
    expected = 1 + np.outer([2.0, -1.0], 0.6 ** np.arange(1, 5))
    assert found == pytest.approx(expected, abs=0.05)
    data = ar2(20)
    ar = autoregression.fit_ar(data, 5)
    last = ar(data).mean().reshape(20, -1)[:, -1]
    assert ar.rollout(data.spacing.numpy()[:, :-1], 1)[:, 0] == pytest.approx(last)


def test_ar_finds_the_process_and_its_noise():
    data = ar2()
    nll, _ = score(autoregression.fit_ar(data[:200], 2), data[200:])
    exact = np.log(0.3 * np.sqrt(2 * np.pi)) + 0.5
    assert nll == pytest.approx(exact, abs=0.02)
    short = autoregression.fit_ar(data[:200], 2)(data[200:])
    first = short.sigma.reshape(100, 63)[:, 0]
    assert (first > 0.304).all(), "with one spacing known it is the AR(1) that forecasts"


def test_the_order_is_chosen_above_what_it_is_fitted_to():
    """Its lower half is of another kind: the upper alone is to be fitted to."""
    data = ar2(1500)
    rng = np.random.default_rng(3)
    data.spacing[:750] = torch.from_numpy(rng.gamma(2, 0.5, (750, 64)))
    order, kept = autoregression.chosen(autoregression.fit_ar, data, (1, 2), (0.0, 0.6))
    assert order == 2 and torch.equal(kept.spacing, data.spacing[900:])
    best = autoregression.best_ar(data, (1, 2), (0.0, 0.6))
    assert best.order == 2 and best.mean == pytest.approx(float(kept.spacing.mean()))


def test_the_choice_knows_nothing_of_what_lies_between():
    """A twentieth below what is forecast is left out, as calibration is below the tail."""
    data = ar2()
    other = windows(data.spacing.numpy().copy())
    other.spacing[255:270] = 5.0
    seen = []

    def fit(fitted, order):
        seen.append(len(fitted))
        return autoregression.fit_ar(fitted, order)

    assert autoregression.chosen(fit, data, (2,), (0.5,))[0] == 2 and seen == [128]
    plain, changed = (
        autoregression.chosen(autoregression.fit_ar, d, (1, 2, 3), (0.0,))[0] for d in (data, other)
    )
    assert plain == changed


def wave(heights, seed, frequency=0.9):
    """Points whose counting residual is a wave of fixed frequency in height, and noise."""
    rng, rows = np.random.default_rng(seed), []
    for height in heights:
        rho = float(density(torch.tensor([height], dtype=torch.float64))[0])
        j = np.arange(161) + rng.uniform(0, 100)
        u = j + 0.4 * np.sin(j / rho * frequency) + 0.02 * rng.standard_normal(161)
        rows.append(np.diff(u))
    return Windows(
        torch.from_numpy(np.array(rows)),
        torch.arange(len(rows)) * 160,
        torch.tensor(heights, dtype=torch.float64),
    )


def test_ar_in_height_follows_a_frequency_where_the_density_is_another():
    low, high = wave(np.linspace(1e5, 5e5, 120), 0, 6.0), wave([9e5] * 40, 1, 6.0)
    _, by_index = score(autoregression.fit_ar(low, 64), high)
    _, by_height = score(autoregression.fit_ar_in_height(low, 128), high)
    _, nothing = score(rivals.fit_marginal(low), high)
    assert by_height < 0.65 * by_index and by_height < 0.3 * nothing


def test_the_last_targets_reach_as_far_as_is_said():
    data = wave(np.linspace(1e5, 9e5, 31), 0)
    places = autoregression.reach(data)
    have = np.array([looked[1] >= places for looked in autoregression._looks(data, 1)])
    assert places % 8 == 0 and have[:, -14:].all() and not have[-1, :-32].any()


def test_too_few_targets_for_the_places_are_refused():
    with pytest.raises(ValueError, match="places behind them"):
        autoregression.fit_ar_in_height(ar2(2), 256)
