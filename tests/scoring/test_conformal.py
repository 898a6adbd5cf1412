"""Conformal intervals: finite-sample ranks, coverage where it is promised, causality, the file."""

import json
import math

import numpy as np
import pytest
from test_mixture import random_mixture
from test_score import honest

from zetalib import atomic
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError
from zetalib.scoring import conformal

LEVELS = ("0.5", "0.9")


def noise(level, *targets):
    """Four standard deviations of coverage on targets, fitted to others."""
    return 4 * math.sqrt(level * (1 - level) * sum(1 / n for n in targets))


def raws(mixture, levels=LEVELS):
    return {key: conformal.interval(mixture, float(key)) for key in levels}


def uneven(m, seed=0):
    """Forecasts over six powers of ten of width; narrow ones too sure by 3, wide ones too wary."""
    rng = np.random.default_rng(seed)
    sigma = 10 ** rng.uniform(-6, 0, m)
    y = 1 + sigma * rng.standard_normal(m)
    belief = sigma * np.where(sigma < 1e-3, 1 / 3, 2)
    ones = np.ones((m, 1))
    return Mixture(ones, ones, belief[:, None]), y, np.log10(sigma)


def within(ends, y):
    return conformal.coverage_and_width(ends, y)[0]


def test_adjustment_is_the_quantile_of_the_scores_with_its_finite_sample_correction():
    y = np.arange(1.0, 100.0)  # n = 99, scores max(0 - y, y - 0) = y
    zero = np.zeros(99)
    assert conformal.adjustment((zero, zero), y, 0.9) == 90.0  # ceil(100 * 0.9)-th smallest
    assert conformal.adjustment((zero, zero), y, 0.5) == 50.0


def test_adjustment_may_narrow_and_so_may_factors():
    y = np.full(99, 1.0) + np.linspace(-1, 1, 99)
    raw = (np.full(99, -2.0), np.full(99, 4.0))
    found = conformal.fit(raw, y, 0.9, 1)
    assert found.adjustment == pytest.approx(-2 - 0.1, abs=0.02)
    assert found.factors == [pytest.approx(0.9 / 3, abs=0.01)]


def test_too_few_calibration_targets_are_refused():
    zero = np.zeros(98)
    with pytest.raises(ZetaError, match=r"level 0\.99 needs at least 99 targets, it has 98"):
        conformal.adjustment((zero, zero), zero, 0.99)
    assert conformal.adjustment((np.zeros(99), np.zeros(99)), np.zeros(99), 0.99) == 0


def test_the_rank_is_exact_for_few_targets():
    """19 exchangeable targets and one more: the 18th smallest covers it 18 times in 20."""
    y = np.random.default_rng(0).standard_normal((20_000, 20))
    raw = (np.full(20, -1.0), np.full(20, 1.0))
    hits = []
    for row in y:
        factor = conformal.fit((raw[0][:19], raw[1][:19]), row[:19], 0.9, 3).factors
        hits.append(abs(row[19]) <= factor[0])
    assert len(factor) == 1  # no class smaller than the level can do with
    assert np.mean(hits) == pytest.approx(0.9, abs=noise(0.9, 20_000))


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_coverage_holds_on_fresh_targets_whatever_the_model_believes(factor):
    """Forecasts that are too sure, honest, too cautious: all cover after adjustment."""
    mixture, y = honest(20_000, seed=1)
    belief = Mixture(mixture.pi, mixture.mu, mixture.sigma * factor)
    found = conformal.calibrate(raws(belief[:10_000]), y[:10_000], 10, 0.01)
    assert found.targets == 10_000
    for key, raw in raws(belief[10_000:]).items():
        kinds = found.intervals(raw, y[10_000:], key)
        for kind in ("split", "adaptive", "online"):
            covered = within(kinds[kind], y[10_000:]).mean()
            assert covered == pytest.approx(float(key), abs=noise(float(key), 10_000, 10_000))
    if factor != 1:
        assert abs(within(kinds["raw"], y[10_000:]).mean() - 0.9) > 0.05


@pytest.mark.parametrize("level", LEVELS)
def test_adaptive_intervals_cover_at_every_width_where_one_addend_cannot(level):
    mixture, y, size = uneven(40_000)
    raw = conformal.interval(mixture, float(level))
    lower, upper = tuple(e[:20_000] for e in raw), tuple(e[20_000:] for e in raw)
    found = conformal.calibrate({level: lower}, y[:20_000], 10, 0.01)
    kinds = found.intervals(upper, y[20_000:], level)
    decade = np.floor(size[20_000:])
    for kind, kept in (("raw", False), ("split", False), ("adaptive", True), ("online", True)):
        inside = within(kinds[kind], y[20_000:])
        off = [abs(inside[decade == d].mean() - float(level)) for d in range(-6, 0)]
        allowed = noise(float(level), 3000, 3000)
        assert (max(off) < allowed) if kept else (max(off) > 2 * allowed), kind
    # Narrow intervals are widened threefold, wide ones halved: nothing is bought by width.
    assert found.levels[level].factors[0] == pytest.approx(3, rel=0.15)
    assert found.levels[level].factors[-1] == pytest.approx(0.5, rel=0.15)


def test_intervals_are_scaled_whatever_the_unit():
    mixture, y, _ = uneven(2000)
    raw = conformal.interval(mixture, 0.9)
    in_millionths = ((raw[0] - 1) * 1e6, (raw[1] - 1) * 1e6)
    one = conformal.fit(raw, y, 0.9, 5).factors
    # Near 1 a float resolves 2e-16 of half-widths of 5e-7.
    assert conformal.fit(in_millionths, (y - 1) * 1e6, 0.9, 5).factors == pytest.approx(
        one, rel=1e-9
    )


def test_scaled_intervals_hold_those_within_the_factor():
    rng = np.random.default_rng(2)
    raw = (-rng.random(500), 3 * rng.random(500))
    y = rng.normal(0, 2, 500)
    scores = conformal.ratio(raw, y)
    for factor in (0.0, 0.7, 1.0, 4.0):
        assert (within(conformal.scaled(raw, factor), y) == (scores <= factor)).all()
    assert (scores <= 1).tolist() == within(raw, y).tolist()


def test_an_interval_of_no_width_is_as_wide_as_a_float_resolves():
    point = (np.ones(3), np.ones(3))
    y = np.array([1.0, 1.0 + 1e-9, 0.0])
    scores = conformal.ratio(point, y)
    assert scores[0] == 0 and np.isfinite(scores).all() and scores[1] > 1e6
    low, high = conformal.scaled(point, 2.0)
    assert (low < 1).all() and (high > 1).all() and np.allclose(high, low, atol=1e-14)


def test_classes_are_full_enough_or_fewer():
    width = np.random.default_rng(1).random(1000)
    edges = conformal.width_classes(width, 10, 99)
    assert len(edges) == 9 and np.bincount(np.searchsorted(edges, width, "right")).min() == 100
    assert len(conformal.width_classes(width, 10, 101)) == 8
    assert conformal.width_classes(width, 10, 501) == []
    assert conformal.width_classes(np.ones(1000), 10, 5) == []  # all alike: one class
    two = conformal.width_classes(np.repeat([1.0, 2.0], 500), 10, 5)
    assert two == [2.0]


# Online


def test_the_online_share_of_misses_is_what_its_steps_say():
    """The sum of all steps is known: misses - alpha = log(last / first) / (step n), exactly."""
    rng = np.random.default_rng(4)
    scores = np.exp(rng.normal(0, 1, 5001) + np.sin(np.arange(5001) / 300))
    kind = rng.integers(0, 2, 5001)
    kind[-1] = 0
    used = conformal.track(scores, kind, [1.0, 2.0], 0.8, 0.05)
    mine = np.flatnonzero(kind == 0)
    missed = (scores > used)[mine[:-1]]
    told = np.log(used[mine[-1]] / 1.0) / (0.05 * len(missed))
    assert missed.mean() - 0.2 == pytest.approx(told, abs=1e-12)
    assert used[mine[0]] == 1.0 and used[kind == 1][0] == pytest.approx(2.0)


def test_online_intervals_cover_where_the_forecaster_grows_ever_worse():
    """Scores that drift by a factor of 100: a fixed factor fails, the online one holds its bound."""
    n, step = 20_000, 0.05
    rng = np.random.default_rng(5)
    scores = rng.uniform(0.1, 1, n) * np.logspace(0, 2, n)
    kind = np.zeros(n, dtype=np.intp)
    for level in (0.5, 0.9, 0.99):
        used = conformal.track(scores, kind, [level], level, step)
        bound = (math.log(100 / 0.1) + 2 * step) / (step * n)  # the factor stays within the scores
        assert (scores <= used).mean() == pytest.approx(level, abs=bound)
        assert (scores <= level).mean() < level - 0.3


def test_online_intervals_know_no_target_before_it_came():
    mixture, y, _ = uneven(3000, seed=7)
    raw = raws(mixture)
    found = conformal.calibrate(raw, y, 5, 0.01)
    t = 1500
    other = y.copy()
    other[t:] += 5
    for key in LEVELS:
        one, two = (found.intervals(raw[key], target, key) for target in (y, other))
        for kind in ("raw", "split", "adaptive"):
            assert (one[kind][0] == two[kind][0]).all() and (one[kind][1] == two[kind][1]).all()
        same = one["online"][1] == two["online"][1]
        assert same[: t + 1].all() and same[t + 1 :].mean() < 0.05


def test_classes_go_their_own_way_online():
    scores = np.tile([0.1, 10.0], 500)
    kind = np.tile([0, 1], 500)
    used = conformal.track(scores, kind, [1.0, 1.0], 0.9, 0.05)
    assert used[-2] < 0.2 and used[-1] > 8
    other = np.where(kind == 1, scores, 3.0)
    again = conformal.track(other, kind, [1.0, 1.0], 0.9, 0.05)
    assert (again[1::2] == used[1::2]).all() and not (again[::2] == used[::2]).all()


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_not_finite_is_refused_by_name(level):
    """NaN sorts last: taken for a large score it went into the adjustment or vanished in it."""
    low, high, y = np.zeros(200), np.ones(200), np.full(200, 0.5)
    for k in range(3):
        for value in (np.nan, np.inf):
            now = [a.copy() for a in (low, high, y)]
            now[k][17] = value
            with pytest.raises(ZetaError, match=rf"calibration split: target 17 is .*{value}"):
                conformal.fit((now[0], now[1]), now[2], float(level), 3)
    scores = np.arange(200.0)
    scores[3] = np.nan
    with pytest.raises(ZetaError, match="the score of target 3 is NaN"):
        conformal.order_statistic(scores, float(level))
    with pytest.raises(ZetaError, match=r"the score of rank \d+ of 200 is inf"):
        conformal.order_statistic(np.full(200, np.inf), float(level))


# The file


@pytest.fixture
def calibrator():
    mixture, y = honest(3000)
    return conformal.calibrate(raws(mixture), y, 4, 0.01)


def test_a_calibrator_comes_back_from_its_file(calibrator, tmp_path):
    path = tmp_path / "calibrator.json"
    atomic.write_json(path, calibrator.model_dump())
    assert conformal.read(path) == calibrator
    kept = json.loads(path.read_text())
    assert list(kept["levels"]) == list(LEVELS) and len(kept["levels"]["0.9"]["factors"]) == 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c["levels"]["0.9"]["factors"].pop(), r"levels\.0\.9: .*3 factors for 3 edges"),
        (lambda c: c["levels"]["0.9"]["edges"].reverse(), r"levels\.0\.9: edges do not ascend"),
        (lambda c: c["levels"]["0.9"].update(adjustment=None), r"levels\.0\.9\.adjustment: "),
        (lambda c: c["levels"]["0.9"].update(factors=[-1.0] * 4), r"levels\.0\.9\.factors\.0: "),
        (
            lambda c: c["levels"].update({"1.5": c["levels"]["0.9"]}),
            r"level 1\.5 is no probability",
        ),
        (lambda c: c.update(ahead={"10": {"9": c["levels"]["0.9"]}}), "level 9 is no probability"),
        (lambda c: c["levels"].clear(), "levels: "),
        (lambda c: c.update(step=0), "step: "),
        (lambda c: c.update(adjustment={"0.9": 0.0}), "adjustment: Extra"),  # the old form
    ],
)
def test_what_is_no_calibrator_is_named(calibrator, tmp_path, change, problem):
    content = calibrator.model_dump()
    change(content)
    path = tmp_path / "calibrator.json"
    atomic.write_json(path, content)
    with pytest.raises(ZetaError, match=rf"calibrator\.json: not a calibrator \({problem}"):
        conformal.read(path)


def test_a_missing_or_damaged_calibrator_is_named(tmp_path):
    with pytest.raises(ZetaError, match=r"none\.json: not found.*dvc repro -f calibrate"):
        conformal.read(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"targets": 3, "levels"')
    with pytest.raises(ZetaError, match=r"half\.json: not a calibrator"):
        conformal.read(tmp_path / "half.json")


# What is reported


def test_interval_holds_its_share_of_the_mixture():
    mixture = random_mixture(30)
    low, high = conformal.interval(mixture, 0.8)
    assert np.allclose(mixture.cdf(high) - mixture.cdf(low), 0.8, atol=1e-9)


def test_an_interval_narrowed_to_nothing_has_no_width():
    ends, y = (np.array([1.0]), np.array([0.5])), np.array([0.7])
    assert conformal.summary(ends, y) == {"coverage": 0.0, "width": 0.0, "median_width": 0.0}


def test_held_out_is_fitted_to_the_lower_half_alone():
    mixture, y = honest(4000)
    y[2000:] += 10  # all of the upper half is missed, and nobody was told
    found = conformal.held_out(raws(mixture), y, 3, 0.01)
    for kind in ("raw", "split", "adaptive"):
        assert found["0.9"][kind]["coverage"] == 0
    assert found["0.9"]["online"]["coverage"] > 0.3  # which learns as it goes
    low, high = raws(mixture)["0.9"]
    assert found["0.9"]["raw"]["width"] == pytest.approx((high - low)[2000:].mean())
    assert found["0.9"]["raw"]["median_width"] == pytest.approx(np.median((high - low)[2000:]))


# Rollouts


def walks(trajectories, seed, draws=100, horizon=5, sure=0.5):
    """Sampled random walks that spread `sure` times as far as true ones, half of them tiny."""
    rng = np.random.default_rng(seed)
    size = np.where(np.arange(trajectories) % 2, 1e-4, 0.3)
    steps = rng.standard_normal((trajectories, draws, horizon)) * (sure * size)[:, None, None]
    true = rng.standard_normal((trajectories, horizon)) * size[:, None]
    h = np.arange(1, horizon + 1)
    return h + steps.cumsum(2), h + true.cumsum(1)


def test_intervals_ahead_are_where_one_more_draw_would_fall():
    """Of 19 draws the ends are those that a twentieth leaves outside with probability 0.1."""
    low, high = conformal.ahead(np.arange(19.0)[None] * np.array([[1.0], [10.0]]), 0.9)
    assert np.allclose(low, 0) and np.allclose(high, [18, 180])
    rng = np.random.default_rng(0)
    low, high = conformal.ahead(rng.standard_normal((20000, 19)), 0.9)
    assert within((low, high), rng.standard_normal(20000)).mean() == pytest.approx(0.9, abs=0.01)


def test_intervals_ahead_cover_at_each_horizon_once_adjusted(calibrator):
    n = 1000
    samples, truth = walks(n, 1)
    by = {str(h): samples[:, :, h] for h in range(5)}
    fitted = calibrator.with_ahead(by, {h: truth[:, int(h)] for h in by})
    samples, truth = walks(n, 2)
    for h in range(5):
        ends = fitted.intervals_ahead(samples[:, :, h], str(h), "0.9")
        cover = {kind: within(e, truth[:, h]).mean() for kind, e in ends.items()}
        assert cover["raw"] < 0.7
        for kind in ("split", "adaptive"):
            assert cover[kind] == pytest.approx(0.9, abs=noise(0.9, n, n))
        widths = {kind: np.diff(e, axis=0).mean() for kind, e in ends.items()}
        assert widths["adaptive"] == pytest.approx(2 * widths["raw"], rel=0.2)
        for tiny in (0, 1):  # a factor serves those nearly known as well as those that are not
            low, high = ends["adaptive"]
            inside = within((low[tiny::2], high[tiny::2]), truth[tiny::2, h])
            assert inside.mean() == pytest.approx(0.9, abs=noise(0.9, n / 2, n / 2))


def test_each_horizon_is_adjusted_by_its_own_targets(calibrator, tmp_path):
    samples, truth = walks(400, 3, sure=1.0)
    by = {str(h): samples[:, :, h] for h in range(5)}
    right = {h: truth[:, int(h)] for h in by}
    wrong = {**right, "2": 3 + 4 * (right["2"] - 3)}
    one, two = (calibrator.with_ahead(by, true).ahead for true in (right, wrong))
    assert [one[h] == two[h] for h in by] == [True, True, False, True, True]
    assert two["2"]["0.9"].factors[0] > 3 * one["2"]["0.9"].factors[0]
    atomic.write_json(tmp_path / "c.json", calibrator.with_ahead(by, right).model_dump())
    assert conformal.read(tmp_path / "c.json").ahead == one


def test_too_few_trajectories_for_a_level_are_refused(calibrator):
    samples, truth = walks(8, 4)
    with pytest.raises(ZetaError, match=r"level 0\.9 needs at least 9 targets, it has 8"):
        calibrator.with_ahead({"1": samples[:, :, 0]}, {"1": truth[:, 0]})


def test_only_levels_that_the_draws_reach_are_fitted(calibrator):
    samples, truth = walks(200, 5, draws=9)
    found = calibrator.with_ahead({"1": samples[:, :, 0]}, {"1": truth[:, 0]}).ahead["1"]
    assert set(found) == {level for level in calibrator.levels if float(level) <= 0.8}
