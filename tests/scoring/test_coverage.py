"""Coverage by height and by width: found where it fails, with errors that fit."""

import numpy as np
import pytest
import torch
from test_conformal import noise, raws

from zetalib.data.window import Windows
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError
from zetalib.forecasting.forecasts import Forecasts
from zetalib.scoring import conformal, coverage

COUNT, LENGTH = 100, 65
M = COUNT * (LENGTH - 1)


def split(seed, sure=1.0):
    """A split whose narrow forecasts are `sure` times too sure."""
    rng = np.random.default_rng(seed)
    sigma = 10 ** rng.uniform(-4, 0, M)
    y = 1 + sigma * rng.standard_normal(M)
    belief = sigma / np.where(sigma < 1e-2, sure, 1)
    ones = np.ones((M, 1))
    windows = Windows(
        torch.ones(COUNT, LENGTH, dtype=torch.float64),
        torch.arange(COUNT) * LENGTH,
        torch.full((COUNT,), 1e6, dtype=torch.float64),
    )
    return Forecasts(np.arange(M), y, Mixture(ones, ones, belief[:, None])), windows


@pytest.fixture(scope="module")
def reported():
    below, _ = split(0, sure=2.0)
    calibrator = conformal.calibrate(raws(below.mixture), below.y, 10, 0.01)
    found, windows = split(1, sure=2.0)
    return found, coverage.report(found, windows, calibrator, block=2)


def test_coverage_is_told_by_level_kind_height_and_width(reported):
    found, (metrics, _) = reported
    assert list(metrics) == ["0.5", "0.9"]
    low, high = conformal.interval(found.mixture, 0.9)
    inside = (low <= found.y) & (found.y <= high)
    raw = metrics["0.9"]["raw"]
    assert raw["coverage"] == inside.mean() and raw["width"] == pytest.approx((high - low).mean())
    assert raw["median_width"] == pytest.approx(np.median(high - low))
    lowest = slice(0, M // 5)
    assert raw["by_height"]["0"]["coverage"] == inside[lowest].mean()
    narrow = np.argsort(high - low)[: M // 5]
    assert raw["by_width"]["0"]["coverage"] == inside[narrow].mean()
    assert raw["by_width"]["0"]["width"] == pytest.approx((high - low)[narrow].mean())


def test_what_fails_by_width_alone_is_found_and_mended(reported):
    _, (metrics, _) = reported
    for level in (0.5, 0.9):
        kinds = metrics[str(level)]
        raw = [part["coverage"] for part in kinds["raw"]["by_width"].values()]
        assert max(raw[:2]) < level - 0.1 and min(raw[3:]) > level - noise(level, M // 5)
        for kind in ("adaptive", "online"):
            for parts in (kinds[kind]["by_width"], kinds[kind]["by_height"]):
                assert list(parts) == list("01234")
                for part in parts.values():
                    assert part["coverage"] == pytest.approx(
                        level, abs=noise(level, M // 5, M // 10)
                    )


def test_errors_are_those_of_independent_targets_where_they_are(reported):
    _, (metrics, _) = reported
    for level in (0.5, 0.9):
        adaptive = metrics[str(level)]["adaptive"]
        # 50 blocks tell a standard error to a tenth.
        assert adaptive["se"] == pytest.approx(np.sqrt(level * (1 - level) / M), rel=0.4)
        assert adaptive["by_width"]["2"]["se"] == pytest.approx(5**0.5 * adaptive["se"], rel=0.5)


def test_plots_hold_every_level_class_and_kind(reported):
    _, (metrics, plots) = reported
    table, by_width = plots["coverage"], plots["coverage_by_width"]
    assert list(table["series"].unique()) == ["raw", "split", "adaptive", "online"]
    assert len(table) == 2 * 4 and len(by_width) == 2 * 4 * 20
    row = table[(table.nominal == 0.9) & (table.series == "online")].iloc[0]
    assert row.covered == metrics["0.9"]["online"]["coverage"]
    part = by_width[(by_width.nominal == 0.9) & (by_width.series == "adaptive")]
    assert (np.diff(part.predicted) > 0).all()
    assert part.covered.mean() == pytest.approx(metrics["0.9"]["adaptive"]["coverage"])


def test_intervals_ahead_are_told_by_horizon_level_and_kind():
    rng = np.random.default_rng(0)
    spread = {"1": 1.0, "10": 5.0}  # of the truth, where every draw believes 1

    def some():
        samples = {h: rng.standard_normal((200, 39)) for h in spread}
        return samples, {h: s * rng.standard_normal(200) for h, s in spread.items()}

    below, _ = split(0, sure=1.0)
    calibrator = conformal.calibrate(raws(below.mixture), below.y, 10, 0.01).with_ahead(*some())
    found = coverage.report_ahead(*some(), calibrator)
    assert list(found) == list(spread)
    at = {h: found[h]["0.9"] for h in spread}
    assert at["1"]["raw"]["coverage"] == pytest.approx(0.9, abs=0.08)
    assert at["10"]["raw"]["coverage"] < 0.5
    for h in spread:
        for kind in ("split", "adaptive"):
            assert at[h][kind]["coverage"] == pytest.approx(0.9, abs=0.08)
            assert 0 < at[h][kind]["se"] < 0.05
    assert at["10"]["adaptive"]["width"] > 3 * at["1"]["adaptive"]["width"]


def test_fewer_than_ten_stretches_have_no_error():
    """Nine are enough for an interval at 0.9, and too few for blocks."""
    rng = np.random.default_rng(1)
    samples, truth = {"1": rng.standard_normal((9, 39))}, {"1": rng.standard_normal(9)}
    below, _ = split(0, sure=1.0)
    fitted = conformal.calibrate(raws(below.mixture), below.y, 10, 0.01)
    few = fitted.model_copy(update={"levels": {"0.9": fitted.levels["0.9"]}})
    found = coverage.report_ahead(samples, truth, few.with_ahead(samples, truth))
    for part in found["1"]["0.9"].values():
        assert part["se"] is None and 0 <= part["coverage"] <= 1
    with pytest.raises(ZetaError, match=r"calibrator\.json: horizon 1 is none of params"):
        coverage.report_ahead({}, {}, few.with_ahead(samples, truth))
