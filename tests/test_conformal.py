import numpy as np
import pytest
from test_mixture import random_mixture
from test_score import honest

from zetalib import conformal
from zetalib.errors import ZetaError
from zetalib.mixture import Mixture


def test_adjustment_is_the_quantile_of_the_scores_with_its_finite_sample_correction():
    y = np.arange(1.0, 100.0)  # n = 99, scores max(0 - y, y - 0) = y
    zero = np.zeros(99)
    assert conformal.adjustment(zero, zero, y, 0.9) == 90.0  # ceil(100 * 0.9)-th smallest
    assert conformal.adjustment(zero, zero, y, 0.5) == 50.0


def test_adjustment_may_narrow():
    y = np.full(99, 1.0)
    assert conformal.adjustment(y - 3, y + 3, y, 0.9) == -3.0


def test_too_few_calibration_targets_are_refused():
    zero = np.zeros(98)
    with pytest.raises(ZetaError, match=r"level 0\.99 needs at least 99 targets, it has 98"):
        conformal.adjustment(zero, zero, zero, 0.99)


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_coverage_holds_on_fresh_targets_whatever_the_model_believes(factor):
    """Forecasts that are too sure, honest, too cautious: all cover after adjustment."""
    mixture, y = honest(20_000, seed=1)
    belief = Mixture(mixture.pi, mixture.mu, mixture.sigma * factor)
    adjustments = conformal.calibrate(belief[:10_000], y[:10_000], [0.5, 0.9])
    found = conformal.report(belief[10_000:], y[10_000:], adjustments)
    assert found["0.5"]["coverage"] == pytest.approx(0.5, abs=0.02)
    assert found["0.9"]["coverage"] == pytest.approx(0.9, abs=0.015)
    if factor != 1:
        assert abs(found["0.9"]["coverage_raw"] - 0.9) > 0.05


def test_interval_holds_its_share_of_the_mixture():
    mixture = random_mixture(30)
    low, high = conformal.interval(mixture, 0.8)
    assert np.allclose(mixture.cdf(high) - mixture.cdf(low), 0.8, atol=1e-9)


def test_an_interval_narrowed_to_nothing_has_no_width():
    low, high, y = np.array([1.0]), np.array([0.5]), np.array([0.7])
    assert conformal.coverage_and_width(low, high, y) == (0.0, 0.0)
