import numpy as np
import pytest
from scipy import integrate, stats
from test_mixture import random_mixture

from zetalib.densities.mixture import Mixture
from zetalib.scoring import score
from zetalib.theory import zeta


def honest(m, seed=0):
    """Forecasts and targets drawn from them: a forecaster that is right about its doubt."""
    mixture = random_mixture(m, seed=seed)
    return mixture, mixture.sample(np.random.default_rng(seed + 1))


def test_scores_of_an_honest_forecaster():
    mixture, y = honest(40_000)
    found = score.scores(mixture, y)
    assert found["pit_mean"] == pytest.approx(0.5, abs=0.01)
    assert found["pit_std"] == pytest.approx(1 / np.sqrt(12), abs=0.005)
    assert found["pit_ks"] < 1.63 / np.sqrt(40_000)  # 1 % critical value
    assert found["nll"] == pytest.approx(-np.log(mixture.pdf(y)).mean())


def test_overconfidence_shows_in_the_pit_and_costs_likelihood():
    mixture, y = honest(20_000)
    sharp = Mixture(mixture.pi, mixture.mu, mixture.sigma / 3)
    true, false = score.scores(mixture, y), score.scores(sharp, y)
    assert false["pit_std"] > true["pit_std"] + 0.02 and false["pit_ks"] > 5 * true["pit_ks"]
    assert false["nll"] > true["nll"] + 0.1 and false["crps"] > true["crps"]


def test_each_target_is_scored_with_its_own_forecast():
    """Regression: CRPS was once compared with the next batch item's target."""
    y = np.linspace(0.2, 2.2, 64)
    mixture = Mixture(np.ones((64, 1)), y[:, None], np.full((64, 1), 0.01))
    right, shifted = score.scores(mixture, y), score.scores(mixture, np.roll(y, 1))
    # CRPS of a Gaussian at its centre: sigma (sqrt(2) - 1) / sqrt(pi).
    assert right["crps"] == pytest.approx(0.01 * (np.sqrt(2) - 1) / np.sqrt(np.pi), rel=1e-9)
    assert right["mae"] == 0 and shifted["crps"] > 10 * right["crps"]


def test_gue_surmise_is_a_density_of_mean_one():
    mass = integrate.quad(zeta.gue_surmise, 0, np.inf)[0]
    mean = integrate.quad(lambda s: s * zeta.gue_surmise(s), 0, np.inf)[0]
    assert mass == pytest.approx(1) and mean == pytest.approx(1)


def test_pit_histogram_of_an_honest_forecaster_stays_in_its_band():
    pit = np.random.default_rng(2).random(50_000)
    table = score.pit_histogram(pit, bins=20)
    outside = (table["density"] < table["low"]) | (table["density"] > table["high"])
    assert outside.sum() <= 1 and table["density"].mean() == pytest.approx(1)
    assert (table["low"] < 1).all() and (table["high"] > 1).all()
    assert (score.pit_histogram(pit**1.5)["density"] > table["high"]).any()


def test_reliability_of_honest_and_biased_forecasts():
    mixture, y = honest(40_000, seed=3)
    assert score.reliability(mixture, y)["excess"].abs().max() < 0.01
    low = score.reliability(mixture, y - 0.2)["excess"]
    assert (low > 0).all()


def test_spacing_density_integrates_to_one_for_zeros_and_forecasts():
    rng = np.random.default_rng(0)
    y = stats.gamma(6, scale=1 / 6).rvs(20_000, random_state=rng)
    mixture = Mixture(np.ones((20_000, 1)), np.ones((20_000, 1)), np.full((20_000, 1), 0.3))
    table = score.spacing_density(mixture, y)
    for _, series in table.groupby("series"):
        assert series["density"].sum() * 0.05 == pytest.approx(1, abs=2e-3)
