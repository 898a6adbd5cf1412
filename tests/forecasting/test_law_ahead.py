"""The law of the zeros ahead: fitted on some contexts, right on others, at every horizon."""

import json

import numpy as np
import pytest
import torch
from conftest import changed

from zetalib.data.window import Windows
from zetalib.errors import ZetaError
from zetalib.forecasting import ahead, law_ahead
from zetalib.forecasting.law_ahead import LawAhead, Laws
from zetalib.inverse.extrapolate import COLUMNS, PLACE, ROOT, SCORE, SD, SLOPE, Z_SD, Z
from zetalib.inverse.solutions import SolutionCache
from zetalib.scoring import coverage

H = 40


def contexts(number, seed):
    """Roots that claim three times their error, then places that lie off by 0.2 z and 0.1."""
    rng = np.random.default_rng(seed)
    table = np.zeros((number, H, len(COLUMNS)))
    near = 8
    table[..., PLACE] = np.arange(1, H + 1) + rng.uniform(-0.05, 0.05, (number, H))
    table[:, :near, ROOT] = 1
    table[:, :near, SD] = 10.0 ** np.arange(-6, 2)[:near].clip(max=-2) * rng.uniform(
        0.5, 2, (number, near)
    )
    table[:, near:, SD] = 0.1 + 0.1 * np.arange(H - near) / H
    table[:, near:, Z] = rng.standard_normal((number, H - near))
    table[:, near:, SLOPE] = 3 + rng.standard_normal((number, H - near))
    table[:, near:, Z_SD] = np.linspace(0.2, 1, H - near)
    table[..., SCORE] = rng.standard_normal((number, 1)) * 0.8 + 0.6 * rng.standard_normal(
        (number, H)
    )
    scale = np.where(table[..., ROOT] > 0, 1 / 3, 1.0)
    truth = table[..., PLACE] + 0.2 * table[..., Z]
    truth += scale * table[..., SD] * rng.standard_normal((number, H))
    return table, truth


@pytest.fixture(scope="module")
def law():
    return law_ahead.fit(*contexts(2000, 0))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_intervals_cover_what_they_say_at_every_horizon(law, level):
    table, truth = contexts(4000, 1)
    low, high = law.interval(table, level)
    covered = ((low <= truth) & (truth <= high)).mean(0)
    assert np.abs(covered - level).max() < 0.04


def test_the_mean_takes_what_is_left_of_z_into_account(law):
    table, truth = contexts(1000, 2)
    far = slice(10, H - 3)
    plain = np.abs(table[..., PLACE] - truth)[:, far].mean()
    assert np.abs(law.mean(table) - truth)[:, far].mean() < 0.75 * plain


def test_draws_ascend_and_are_spread_as_the_truth_is(law):
    table, truth = contexts(3000, 3)
    drawn = law.draw(table)
    assert (np.diff(drawn, axis=1) > 0).all() and (drawn > 0).all()
    off = [(x - law.mean(table))[:, 12:30].std() for x in (drawn, truth)]
    assert off[0] == pytest.approx(off[1], rel=0.05)
    together = np.corrcoef((drawn - law.mean(table))[:, 20], (drawn - law.mean(table))[:, 21])
    assert together[0, 1] > 0.4  # as the scores do


def test_a_class_with_few_zeros_is_as_its_neighbour():
    table, truth = contexts(30, 4)
    few = law_ahead.fit(table, truth)
    assert (np.diff(few.quantiles) >= 0).all() and np.isfinite(few.coefficients).all()
    none = law_ahead.fit(table[:1, :2], truth[:1, :2])
    assert none.quantile(table[:1, :2], 0.5) == pytest.approx(table[:1, :2, PLACE])


def test_the_law_of_the_nearest_number_of_spacings_is_taken(law):
    other = LawAhead(law.coefficients * 0, law.quantiles)
    laws = Laws({64: law, 256: other})
    assert laws.of(100) is law and laws.of(200) is other and laws.of(128) in (law, other)


def test_laws_come_back_from_their_file(tmp_path, law):
    law_ahead.save(tmp_path / "law_ahead.json", Laws({16: law}))
    found = law_ahead.load(tmp_path / "law_ahead.json")
    assert list(found.by_context) == [16]
    for name in ("coefficients", "quantiles"):
        assert np.array_equal(getattr(found.of(16), name), getattr(law, name))
    law_ahead.save(tmp_path / "none.json", Laws({}))
    assert law_ahead.load(tmp_path / "none.json").by_context == {}


DAMAGE = {
    "no JSON": lambda c: "{",
    "a list": lambda c: "[1]",
    "no number of spacings": lambda c: json.dumps({"a": c["16"]}),
    "a law after -1 spacings": lambda c: json.dumps({"-1": c["16"]}),
    "of another shape": lambda c: json.dumps(
        {"16": c["16"] | {"coefficients": c["16"]["coefficients"][1:]}}
    ),
    "not finite": lambda c: json.dumps(
        {"16": c["16"] | {"quantiles": [[float("nan")] * len(q) for q in c["16"]["quantiles"]]}}
    ),
    "falling": lambda c: json.dumps(
        {"16": c["16"] | {"quantiles": [q[::-1] for q in c["16"]["quantiles"]]}}
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_laws_are_refused(tmp_path, law, damage):
    path = tmp_path / "law_ahead.json"
    law_ahead.save(path, Laws({16: law}))
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(ZetaError, match=r"law_ahead\.json: .*calibrate"):
        law_ahead.load(path)


def test_rollouts_from_the_law_are_its_spacings(law):
    table, _ = contexts(5, 5)
    cache, heights = SolutionCache(), np.full(5, 1e6)
    known = np.random.default_rng(0).gamma(6, 1 / 6, (5, 16))
    cache.add(known, heights, np.ones((5, 16, 7)))
    cache.add_ahead(known, heights, table)
    rolled = ahead.from_law(Laws({16: law}), cache, known, heights, H)
    assert rolled.mean.cumsum(1) == pytest.approx(law.mean(table))
    assert rolled.draws[:, 0].cumsum(1) == pytest.approx(law.draw(table))


def test_laws_are_fitted_to_the_windows_given(monkeypatch, defaults):
    """After each context, to what followed it: with places that are right, residuals are none."""
    rng = np.random.default_rng(6)
    spacing = torch.from_numpy(rng.gamma(6, 1 / 6, (60, 32)))
    windows = Windows(spacing, 32 * torch.arange(60), torch.full((60,), 1e6, dtype=torch.float64))
    record, asked = spacing.numpy().ravel(), []

    def right(cache, contexts, heights, number):
        asked.append((contexts.shape, number))
        starts = [np.flatnonzero(record == s)[0] for s in contexts[:, 0]]
        t, table = contexts.shape[1], np.zeros((len(contexts), number, len(COLUMNS)))
        table[..., PLACE] = [record[i + t : i + t + number].cumsum() for i in starts]
        table[..., SD], table[..., ROOT] = 1e-3, 1
        return table

    monkeypatch.setattr(SolutionCache, "ahead", right)
    e = changed(defaults.evaluate, contexts=[8, 16])
    c = changed(defaults.calibrate, contexts=50, ahead=7)
    laws = ahead.fit_laws(windows, e, c, SolutionCache())
    assert asked == [((50, 8), 7), ((50, 16), 7)] and list(laws.by_context) == [8, 16]
    kind = law_ahead.classes(right(None, record[None, :8], None, 1))[0, 0]
    assert np.abs(laws.of(8).quantiles[kind]).max() < 1e-9

    found = coverage.report_law(laws, SolutionCache(), windows, e, c)
    assert list(found) == ["8", "16"]
    for by_level in found.values():
        for level in by_level.values():
            assert level["least"] <= level["coverage"] <= level["most"]
            assert set(level["width"]) == {str(h) for h in e.horizons if h <= 7}
