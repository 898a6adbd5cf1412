"""Where rollouts start from, and how many each stage makes."""

import numpy as np
import pytest
import torch
from conftest import changed

from zetalib.data.window import Windows
from zetalib.errors import ZetaError
from zetalib.forecasting import stretches
from zetalib.forecasting.stretches import Plan, contexts_and_futures


def test_trajectories_are_spread_over_the_whole_record():
    spacing = np.arange(5000.0)
    contexts, futures, _ = contexts_and_futures(spacing, 100, 128, 200)
    assert contexts[0, 0] == 0 and futures[-1, -1] == 4999
    assert (futures[:, 0] == contexts[:, -1] + 1).all()


def test_trajectories_begin_where_windows_do_then_half_way():
    spacing = np.arange(64.0 * 20)
    few = contexts_and_futures(spacing, 5, 64, 64, window=64)[2]
    assert (few % 64 == 0).all() and few[0] == 0 and few[-1] == 64 * 18
    many = contexts_and_futures(spacing, 25, 64, 64, window=64)[2]
    assert len(set(many)) == 25 and set(range(0, 64 * 19, 64)) <= set(many.tolist())
    assert (many % 32 == 0).all() and (np.diff(many) > 0).all()


def test_a_record_too_short_is_refused():
    with pytest.raises(ZetaError, match="has 300 spacings, a rollout needs 328"):
        contexts_and_futures(np.ones(300), 100, 128, 200)


def test_stretches_begin_where_windows_do():
    spacing = np.random.default_rng(0).gamma(6, 1 / 6, (30, 32))
    gamma = torch.linspace(1e6, 2e6, 30, dtype=torch.float64)
    windows = Windows(torch.from_numpy(spacing), 32 * torch.arange(30), gamma)
    found = stretches.stretches(windows, 5, 20, 40)
    starts = np.flatnonzero((spacing[:, :1] == found.contexts[:, 0]).any(1))
    assert len(starts) == 5
    for i, first in enumerate(starts):
        record = np.concatenate([found.contexts[i], found.futures[i]])
        assert np.array_equal(record, spacing.ravel()[32 * first : 32 * first + 60])
        assert found.heights[i] == windows.heights()[first]


def test_what_each_stage_rolls_out_is_what_its_parameters_say(defaults):
    e = changed(defaults.evaluate, contexts=[16, 8], horizons=[1, 3, 9], trajectories=107)
    c = changed(defaults.calibrate, ahead=5, contexts=120)
    d = changed(defaults.diagnose, horizon=12, trajectories=3)
    laws = changed(defaults.laws, horizon=11, trajectories=4)
    assert stretches.plans(e, c, d, laws) == {
        "calibration": {
            "intervals": Plan(120, {16: 5, 8: 5}, "calibrate.ahead"),
            "diagnostics": Plan(3, {16: 12}, "diagnose.horizon", 9),
            "laws": Plan(4, {16: 11}, "laws.horizon"),
        },
        "val": {
            "scores": Plan(107, {16: 9, 8: 9}, "evaluate.horizons"),
        },
    }
