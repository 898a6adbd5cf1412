"""Scores by target and their errors: right where neighbours depend on one another."""

import numpy as np
import pandas as pd
import pytest
import torch

from zetalib.baselines import rivals
from zetalib.data import window
from zetalib.data.window import Windows
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError
from zetalib.scoring import bootstrap, score, skill

RNG = np.random.default_rng(0)


def gaussian(mean, sigma):
    ones = np.ones((len(mean), 1))
    return Mixture(ones, mean[:, None], sigma * ones)


def test_means_are_those_of_the_scores():
    y = RNG.normal(1, 0.4, 5000)
    found = skill.summary(
        skill.by_target(gaussian(np.ones(5000), 0.5), y), bootstrap.blocks(5000, 50)
    )
    wanted = score.scores(gaussian(np.ones(5000), 0.5), y)
    for name in ("nll", "mae", "rmse", "crps", "pit_mean", "pit_std", "pit_ks"):
        assert found[name] == pytest.approx(wanted[name])
    assert found["width"] == pytest.approx(2 * 1.6449 * 0.5, rel=1e-3)
    assert found["coverage"] == pytest.approx((np.abs(y - 1) < 1.6449 * 0.5).mean(), abs=1e-3)


def test_errors_cover_the_truth_where_neighbours_depend():
    """Means of AR(1) records: the blocks' error fits their spread, that of independence does not."""
    means, errors, naive = [], [], []
    for seed in range(60):
        e = np.random.default_rng(seed).standard_normal(10_200)
        x = np.zeros(10_200)
        for t in range(1, len(x)):
            x[t] = 0.9 * x[t - 1] + e[t]
        x = x[200:]
        drawn = bootstrap.bootstrap(x[None], bootstrap.blocks(len(x), 200), seed, 200)
        means.append(x.mean())
        errors.append(drawn[:, 0].std())
        naive.append(x.std() / np.sqrt(len(x)))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.25)
    assert np.mean(naive) < 0.4 * np.std(means)


def test_a_difference_knows_that_targets_are_the_same():
    block = bootstrap.blocks(10_000, 100)
    hard = np.abs(RNG.standard_normal(10_000))
    gap, error = bootstrap.difference(
        hard, hard + 0.01 + 0.001 * RNG.standard_normal(10_000), block
    )
    assert gap == pytest.approx(-0.01, abs=1e-4) and error < 1e-4


def test_rows_left_over_count_for_the_mean_alone():
    block = bootstrap.blocks(1005, 100)
    assert (block[1000:] == -1).all() and block.max() == 9
    values = np.zeros((1, 1005))
    values[0, 1000:] = 1e6
    assert (bootstrap.bootstrap(values, block, 0) == 0).all()
    with pytest.raises(ZetaError, match="no whole block"):
        bootstrap.bootstrap(values[:, 1000:], block[1000:], 0)
    with pytest.raises(ZetaError, match="9 blocks of 100"):
        bootstrap.blocks(999, 100)


def test_classes_are_scored_apart():
    known = bootstrap.position(20, 65)
    assert known[:3].tolist() == [1, 2, 3] and len(known) == 20 * 64
    kind = skill.position_class(known)
    assert set(kind) == {1, 8, 16, 24, 32, 48, 64}
    assert (kind[known == 47] == 32).all() and (kind[known == 8] == 8).all()
    assert np.bincount(skill.fifths(20, 65)).tolist() == [256] * 5
    y = RNG.normal(1, 0.4, len(kind))
    table = skill.by_class(
        skill.by_target(gaussian(np.ones(len(y)), 0.4), y), kind, bootstrap.blocks(len(y), 64)
    )
    assert sum(part["targets"] for part in table.values()) == len(y)
    assert table[1]["nll"] == pytest.approx(table[32]["nll"], abs=0.3)


def three(windows=20, length=65):
    y = RNG.normal(1, 0.4, windows * (length - 1))
    near = gaussian(y + RNG.normal(0, 0.1, len(y)), 0.1)
    return {
        "near": skill.by_target(near, y),
        "wide": skill.by_target(gaussian(np.ones(len(y)), 0.4), y),
    }


def test_forecasters_are_compared_on_the_same_targets():
    scores = three()
    metrics, law = skill.compare(scores, 20, 65, 2)
    assert metrics["near"]["behind"] == {"nll": 0.0, "se": 0.0}
    gap = (scores["wide"].nll - scores["near"].nll).mean()
    assert metrics["wide"]["behind"]["nll"] == pytest.approx(gap)
    assert 0 < metrics["wide"]["behind"]["se"] < 0.1 * gap
    assert set(metrics["wide"]["by_height"]) == set(range(5))
    assert set(law.series) == {"near", "wide"} and set(law.known) == {1, 8, 16, 24, 32, 48, 64}
    row = law[(law.series == "near") & (law.known == 32)].iloc[0]
    assert row.nll == metrics["near"]["by_known"][32]["nll"]


def test_scores_come_back_from_their_file_or_it_is_named(tmp_path):
    scores = three()
    skill.write(tmp_path / "rivals.parquet", scores)
    found = skill.read(tmp_path / "rivals.parquet")
    assert list(found) == ["near", "wide"]
    for name, frame in scores.items():
        assert found[name].equals(frame)
    (tmp_path / "rivals.parquet").write_bytes(b"no table")
    for path in (tmp_path / "rivals.parquet", tmp_path / "none.parquet"):
        with pytest.raises(ZetaError, match=r"dvc repro -f baselines"):
            skill.read(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda f: f.assign(nll=f.nll.where(f.place != 7)), "near: place 7: nll is nan, expected"),
        (lambda f: f.assign(crps=f.crps.mask(f.place == 7, np.inf)), "near: place 7: crps is inf"),
        (lambda f: f.assign(place=f.place.replace(8, 7)), "near: place 7 after 7, expected a hig"),
        (lambda f: f[::-1], "wide: place 1278 after 1279, expected a higher"),
        (
            lambda f: f.assign(place=f.place + 1),
            "near: places 1 to 1280, expected some of 0 to 1279",
        ),
        (lambda f: f.assign(place=f.place - 1), "near: places -1 to 1278, expected some of 0 to"),
        (lambda f: f.assign(place=f.place * 0.5), "near: places are float64, expected whole"),
        (lambda f: f.assign(pit=f.pit.astype(str) + "x"), "not a table of scores"),
        (lambda f: f.drop(columns="width"), "not a table of scores"),
        (lambda f: f[:0], "no forecaster in it"),
    ],
)
def test_scores_that_mean_nothing_are_refused(tmp_path, change, problem):
    path = tmp_path / "rivals.parquet"
    skill.write(path, three())
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(ZetaError, match=rf"rivals\.parquet: {problem}.*dvc repro -f baselines"):
        skill.read(path, 1280)


def test_a_rival_is_scored_on_all_targets_in_order():
    spacing = torch.from_numpy(RNG.gamma(6, 1 / 6, (10, 33)))
    windows = Windows(spacing, torch.arange(10) * 33, torch.full((10,), 1e6, dtype=torch.float64))
    rival = rivals.surmise()
    found = skill.scored(rival, windows, batch=3)
    assert found.equals(skill.by_target(rival(windows), window.targets(windows)))
    some = skill.scored(rival, windows, every=4, batch=2)
    assert some.equals(found.loc[[*range(32), *range(128, 160), *range(256, 288)]])


def test_a_rival_scored_on_some_is_compared_on_those(tmp_path):
    scores = three()
    whole, _ = skill.compare(scores, 20, 65, 1)
    scores["wide"] = scores["wide"].loc[np.repeat(np.arange(20) % 2 == 0, 64)]
    skill.write(tmp_path / "rivals.parquet", scores)
    scores = skill.read(tmp_path / "rivals.parquet")
    metrics, _ = skill.compare(scores, 20, 65, 1)
    assert metrics["near"] == whole["near"] and metrics["wide"]["targets"] == 640
    same = scores["near"].nll.loc[scores["wide"].index]
    gap = scores["wide"].nll.to_numpy() - same.to_numpy()
    assert metrics["wide"]["behind"]["nll"] == pytest.approx(gap.mean())
    later = metrics["wide"]["by_known"][32]["nll"]
    kept = bootstrap.position(20, 65)[scores["wide"].index] >= 32
    assert metrics["wide"]["by_known"][64]["targets"] == 10
    both = scores["wide"].nll[kept & (bootstrap.position(20, 65)[scores["wide"].index] < 48)]
    assert later == pytest.approx(both.mean())
