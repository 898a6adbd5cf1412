"""Rollouts scored: the model's and, beside them, those that were made once of rivals."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import changed

from zetalib.baselines.rollouts import RolledOut
from zetalib.data.window import Windows
from zetalib.densities.mixture import Mixture
from zetalib.forecasting import rollout, stretches
from zetalib.forecasting.decoding import Recomputed
from zetalib.scoring import evaluate


def mixing(context, height, solution, step):
    """A forecast that depends on all of a context."""
    mean = 0.5 + 0.5 * context.mean(1, keepdims=True)
    return Mixture(np.ones_like(mean), mean, np.full_like(mean, 0.2))


@pytest.fixture
def windows():
    spacing = torch.from_numpy(np.random.default_rng(1).gamma(6, 1 / 6, (60, 32)))
    gamma = torch.linspace(1e6, 1.1e6, 60, dtype=torch.float64)
    return Windows(spacing, 32 * torch.arange(60), gamma)


@pytest.fixture
def p(defaults):
    return changed(
        defaults.evaluate, contexts=[8, 24], horizons=[1, 12], trajectories=100, explicit=5
    )


def test_the_stretches_are_the_same_for_all_and_rivals_stand_beside(windows, p):
    few, rng = np.array([0, 40, 99]), np.random.default_rng(0)
    beside = RolledOut({"AR(2)": rng.random((100, 12)), "few": rng.random((3, 12))}, {"few": few})
    roll = partial(rollout.rollout, Recomputed(mixing), draws=1, seed=p.seed)
    plain = evaluate.rollouts(windows, roll, p)
    found = evaluate.rollouts(windows, roll, p, {8: beside})
    assert [r.context for r in found] == [8, 24]
    some = stretches.stretches(windows, 100, 24, 12)
    whole = np.column_stack([some.contexts, some.futures])
    for rolled, alone in zip(found, plain, strict=True):
        t = rolled.context
        assert np.array_equal(rolled.futures, whole[:, t : t + 12])
        own = roll(whole[:, :t], some.heights, 12)
        assert np.array_equal(rolled.predicted["expected"], own.mean)
        assert np.array_equal(rolled.predicted["drawn"], own.draws[:, 0])
        assert (rolled.predicted["always 1"] == 1).all()
        assert set(alone.predicted) == {"expected", "drawn", "always 1"}
        assert alone.subset == {}
    short, long = found
    assert set(long.predicted) == set(plain[1].predicted) and long.subset == {}
    for name in ("AR(2)", "few"):
        assert np.array_equal(short.predicted[name], beside.predicted[name])
    there = short.predicted["expected, there"]
    assert np.array_equal(there, short.predicted["expected"][few])
    assert {name: rows.tolist() for name, rows in short.subset.items()} == {
        "few": few.tolist(),
        "expected, there": few.tolist(),
    }
