"""Targets late in their windows, and what the explicit formula says of them."""

import numpy as np
import pytest
import safetensors.numpy
import torch
from conftest import zeros

from zetalib.analysis import late_targets
from zetalib.analysis.late_targets import Targets
from zetalib.baselines import explicit_formula
from zetalib.data.window import Windows, density
from zetalib.errors import ZetaError

LENGTH = 128


@pytest.fixture(scope="module")
def windows():
    spacing, height = zeros(1_004_900, 4 * LENGTH)
    gamma = torch.full((4,), height, dtype=torch.float64)
    rows = torch.as_tensor(spacing[: 4 * LENGTH]).reshape(4, LENGTH)
    return Windows(rows, torch.arange(4) * LENGTH + 1, gamma)


def test_three_quarters_of_a_window_lie_behind_each(windows):
    targets = Targets.of(windows, 3)
    assert targets.at.tolist() == sorted(set(targets.at.tolist())) and len(targets.at) == 16
    assert targets.at[0] == 95 and targets.at[-1] == LENGTH - 2 and targets.known == 96
    chosen = windows.spacing[[0, 2, 3]]  # evenly spread: 1.5 rounds to 2
    assert torch.equal(targets.spacing, chosen[:, :-1])
    assert np.array_equal(targets.y, chosen[:, 1:].numpy()[:, targets.at])
    assert torch.equal(targets.height, windows.heights()[[0, 2, 3]])
    reach = (targets.spacing.sum(1) / density(targets.height)).mean()
    assert targets.reach == pytest.approx(float(reach))
    place, there = targets.lags()
    assert place.shape == there.shape == (16, LENGTH - 1)
    assert place[0, :3].tolist() == [95, 94, 93] and there[0].sum() == 96 and there[-1].all()


def test_means_are_those_of_forecasts_from_all_that_is_known(windows):
    targets = Targets.of(windows, 2)
    means = late_targets.explicit_means(targets)
    assert means.shape == (2, 16)
    for row, window in zip(means, (0, 3), strict=True):
        height = float(windows.heights()[window])
        past = windows.spacing[window].numpy()
        for p in (0, 7, 15):
            at = int(targets.at[p])
            alone = explicit_formula.forecasts(past[: at + 1], height, at + 1).mean()
            assert row[p] == pytest.approx(alone[0], abs=1e-4)
    assert np.corrcoef(means.ravel(), targets.y.ravel())[0, 1] > 0.8


def test_where_the_formula_does_not_hold_there_are_no_means(windows, tmp_path):
    low = Windows(windows.spacing, windows.n, torch.full((4,), 5e3, dtype=torch.float64))
    assert late_targets.explicit_means(Targets.of(low, 2)) is None
    late_targets.write_means(tmp_path / "laws.safetensors", None)
    assert late_targets.read_means(tmp_path / "laws.safetensors") is None


def test_what_is_written_is_read(tmp_path):
    path, means = tmp_path / "laws.safetensors", np.random.default_rng(0).random((3, 16))
    late_targets.write_means(path, means)
    assert np.array_equal(late_targets.read_means(path), means)
    content = path.read_bytes()
    late_targets.write_means(path, means)
    assert path.read_bytes() == content


@pytest.mark.parametrize("damage", ["gone", "cut", "text", "shape", "nan", "inf"])
def test_damaged_files_are_refused(tmp_path, damage):
    path, means = tmp_path / "laws.safetensors", np.ones((3, 16))
    late_targets.write_means(path, means)
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "text":
        path.write_text("means")
    elif damage == "shape":
        path.write_bytes(safetensors.numpy.save({"means": means[0]}))
    else:
        means[1, 2] = float(damage)
        late_targets.write_means(path, means)
    with pytest.raises(ZetaError, match=r"laws\.safetensors: .*dvc repro -f laws"):
        late_targets.read_means(path)
