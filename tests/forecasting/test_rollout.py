"""Free-running forecasts; among them the bugs that corrupted the author's earlier numbers."""

import numpy as np
import pytest
import torch

from zetalib.data.window import Windows
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError
from zetalib.forecasting import rollout

HEIGHTS = np.full(100, 1e6)


def sharp(values):
    return Mixture(np.ones((len(values), 1)), values[:, None], np.full((len(values), 1), 1e-9))


def periodic(period=7):
    """A record with a period, and a forecaster that knows it from the context alone."""
    spacing = np.tile(1 + 0.5 * np.sin(2 * np.pi * np.arange(period) / period), 400)
    return spacing, lambda context, _: sharp(context[:, -period])


def test_a_perfect_forecaster_accumulates_no_error():
    spacing, forecaster = periodic()
    contexts, futures, _ = rollout.contexts_and_futures(spacing, 100, 128, 200)
    predicted = rollout.rollout(forecaster, contexts, HEIGHTS, 200, "mean")
    assert rollout.accumulated_error(predicted, futures).max() < 1e-9


def test_the_whole_context_is_given_and_grows_until_it_keeps_its_newer_half():
    """Regression: contexts of 10 spacings were once given instead of 128."""
    seen = []

    def forecaster(context, height):
        assert height.tolist() == [1e6] * 100
        seen.append(context.copy())
        return sharp(np.full(len(context), 9.0))

    spacing = np.arange(1000.0)
    contexts, _, _ = rollout.contexts_and_futures(spacing, 100, 128, 5)
    rollout.rollout(forecaster, contexts, HEIGHTS, 5, "mean", longest=131)
    assert [s.shape[1] for s in seen] == [128, 129, 130, 131, 66]
    assert seen[0][0].tolist() == spacing[:128].tolist()
    assert seen[3][0].tolist() == [*spacing[:128], 9.0, 9.0, 9.0]
    assert seen[4][0].tolist() == [*spacing[66:128], 9.0, 9.0, 9.0, 9.0]


def test_errors_are_summed_from_the_end_of_the_context():
    """Regression: Err@h was once summed from index 0 of the window."""
    spacing = np.concatenate([np.full(128, 5.0), np.full(10, 1.0)])
    contexts, futures, _ = rollout.contexts_and_futures(spacing, 100, 128, 10)
    assert futures.tolist() == [[1.0] * 10] * 100
    predicted = rollout.rollout(
        lambda c, _: sharp(np.full(len(c), 1.25)), contexts, HEIGHTS, 10, "mean"
    )
    expected = 0.25 * np.arange(1, 11)
    assert rollout.accumulated_error(predicted, futures) == pytest.approx(expected)


def test_errors_of_opposite_sign_do_not_cancel_between_trajectories():
    predicted, true = np.array([[1.5, 1.0], [0.5, 1.0]]), np.ones((2, 2))
    assert rollout.accumulated_error(predicted, true).tolist() == [0.5, 0.5]


def test_trajectories_are_spread_over_the_whole_record():
    spacing = np.arange(5000.0)
    contexts, futures, _ = rollout.contexts_and_futures(spacing, 100, 128, 200)
    assert contexts[0, 0] == 0 and futures[-1, -1] == 4999
    assert (futures[:, 0] == contexts[:, -1] + 1).all()


def test_trajectories_begin_where_windows_do_then_half_way():
    spacing = np.arange(64.0 * 20)
    few = rollout.contexts_and_futures(spacing, 5, 64, 64, window=64)[2]
    assert (few % 64 == 0).all() and few[0] == 0 and few[-1] == 64 * 18
    many = rollout.contexts_and_futures(spacing, 25, 64, 64, window=64)[2]
    assert len(set(many)) == 25 and set(range(0, 64 * 19, 64)) <= set(many.tolist())
    assert (many % 32 == 0).all() and (np.diff(many) > 0).all()


def test_sampled_feedback_draws_and_is_reproducible():
    def wide(context, _):
        ones = np.ones((len(context), 1))
        return Mixture(ones, ones, 0.4 * ones)

    contexts = np.ones((500, 8))
    one = rollout.rollout(wide, contexts, HEIGHTS, 4, "sample", np.random.default_rng(1))
    two = rollout.rollout(wide, contexts, HEIGHTS, 4, "sample", np.random.default_rng(1))
    assert (one == two).all() and one.std() == pytest.approx(0.4, abs=0.03)
    with pytest.raises(ValueError, match="random generator"):
        rollout.rollout(wide, contexts, HEIGHTS, 4, "sample")


def test_a_record_too_short_is_refused():
    with pytest.raises(ZetaError, match="has 300 spacings, a rollout needs 328"):
        rollout.contexts_and_futures(np.ones(300), 100, 128, 200)


def test_draws_are_independent_walks_of_the_same_contexts():
    """A forecaster that knows nothing but mean and spread: sums of h draws scatter by its root."""

    def independent(context, _):
        ones = np.ones((len(context), 1))
        return Mixture(ones, ones, 0.1 * ones)

    contexts = np.ones((100, 8))
    found = rollout.draws(independent, contexts, HEIGHTS, 16, 60, seed=1)
    assert found.shape == (100, 60, 16)
    h = np.arange(1, 17)
    assert np.allclose(found.mean((0, 1)), h, atol=0.03)
    assert np.allclose(found.std((0, 1)), 0.1 * np.sqrt(h), rtol=0.05)
    across = np.corrcoef(found[:, 0, -1], found[:, 1, -1])[0, 1]
    assert abs(across) < 0.4  # no draw is another's copy
    again = rollout.draws(independent, contexts, HEIGHTS, 16, 60, seed=1)
    assert np.array_equal(found, again)
    independent.batch = 30
    batched = rollout.draws(independent, contexts, HEIGHTS, 16, 60, seed=1)
    assert not np.array_equal(found, batched)
    assert np.allclose(batched.std((0, 1)), 0.1 * np.sqrt(h), rtol=0.05)


def test_a_forecaster_may_name_how_many_contexts_it_takes_at_a_time():
    class Few:
        batch = 30

        def __init__(self):
            self.given = []

        def __call__(self, context, _):
            self.given.append(len(context))
            return Mixture(*np.ones((3, len(context), 1)))

    few = Few()
    rollout.rollout(few, np.ones((100, 8)), HEIGHTS, 2, "mean")
    assert few.given == [30] * 6 + [10] * 2


def test_stretches_begin_where_windows_do():
    spacing = np.random.default_rng(0).gamma(6, 1 / 6, (30, 32))
    gamma = torch.linspace(1e6, 2e6, 30, dtype=torch.float64)
    windows = Windows(torch.from_numpy(spacing), 32 * torch.arange(30), gamma)
    found = rollout.stretches(windows, 5, 20, 40)
    starts = np.flatnonzero((spacing[:, :1] == found.contexts[:, 0]).any(1))
    assert len(starts) == 5
    for i, first in enumerate(starts):
        record = np.concatenate([found.contexts[i], found.futures[i]])
        assert np.array_equal(record, spacing.ravel()[32 * first : 32 * first + 60])
        assert found.heights[i] == windows.heights()[first]
