"""Free-running forecasts; among them the bugs that corrupted the author's earlier numbers."""

import os

import numpy as np
import pytest

from zetalib.densities.mixture import Mixture
from zetalib.forecasting import rollout, stretches
from zetalib.forecasting.decoding import Recomputed

HEIGHTS = np.full(100, 1e6)


def sharp(values):
    return Mixture(np.ones((len(values), 1)), values[:, None], np.full((len(values), 1), 1e-9))


def knowing(function, longest=None):
    """A forecaster that looks at contexts alone."""
    return Recomputed(lambda context, height, solution, step: function(context), longest)


def spread(sigma):
    """A forecaster that says 1 with a deviation, whatever the context."""

    def forecast(context):
        ones = np.ones((len(context), 1))
        return Mixture(ones, ones, sigma * ones)

    return knowing(forecast)


@pytest.fixture
def alone(monkeypatch):
    """Nothing is done in other processes, so that it can be seen."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)


def periodic(period=7):
    """A record with a period, and a forecaster that knows it from the context alone."""
    spacing = np.tile(1 + 0.5 * np.sin(2 * np.pi * np.arange(period) / period), 400)
    return spacing, knowing(lambda context: sharp(context[:, -period]))


def test_a_perfect_forecaster_accumulates_no_error():
    spacing, forecaster = periodic()
    contexts, futures, _ = stretches.contexts_and_futures(spacing, 100, 128, 200)
    predicted = rollout.rollout(forecaster, contexts, HEIGHTS, 200).mean
    assert rollout.accumulated_error(predicted, futures).max() < 1e-9


def test_the_whole_context_is_given_and_grows_until_it_keeps_its_newer_half():
    """Regression: contexts of 10 spacings were once given instead of 128."""
    seen = []

    def forecaster(context, height, solution, step):
        assert height.tolist() == [1e6] * 100 and solution is None and step == len(seen)
        seen.append(context.copy())
        return sharp(np.full(len(context), 9.0))

    spacing = np.arange(1000.0)
    contexts, _, _ = stretches.contexts_and_futures(spacing, 100, 128, 5)
    rollout.rollout(Recomputed(forecaster, 131), contexts, HEIGHTS, 5)
    assert [s.shape[1] for s in seen] == [128, 129, 130, 131, 66]
    assert seen[0][0].tolist() == spacing[:128].tolist()
    assert seen[3][0].tolist() == [*spacing[:128], 9.0, 9.0, 9.0]
    assert seen[4][0].tolist() == [*spacing[66:128], 9.0, 9.0, 9.0, 9.0]


def test_errors_are_summed_from_the_end_of_the_context():
    """Regression: Err@h was once summed from index 0 of the window."""
    spacing = np.concatenate([np.full(128, 5.0), np.full(10, 1.0)])
    contexts, futures, _ = stretches.contexts_and_futures(spacing, 100, 128, 10)
    assert futures.tolist() == [[1.0] * 10] * 100
    says = knowing(lambda context: sharp(np.full(len(context), 1.25)))
    predicted = rollout.rollout(says, contexts, HEIGHTS, 10).mean
    expected = 0.25 * np.arange(1, 11)
    assert rollout.accumulated_error(predicted, futures) == pytest.approx(expected)


def test_errors_of_opposite_sign_do_not_cancel_between_trajectories():
    predicted, true = np.array([[1.5, 1.0], [0.5, 1.0]]), np.ones((2, 2))
    assert rollout.accumulated_error(predicted, true).tolist() == [0.5, 0.5]


def test_sampled_feedback_draws_and_is_reproducible():
    contexts, heights = np.ones((500, 8)), np.full(500, 1e6)

    def run(seed):
        found = rollout.rollout(spread(0.4), contexts, heights, 4, mean=False, draws=1, seed=seed)
        assert found.mean is None and found.draws.shape == (500, 1, 4)
        return found.draws

    assert (run(1) == run(1)).all() and run(1).std() == pytest.approx(0.4, abs=0.03)
    assert (run(1) != run(2)).all()


def test_draws_are_independent_walks_of_the_same_contexts(monkeypatch):
    """A forecaster that knows nothing but mean and spread: sums of h draws scatter by its root."""
    contexts = np.ones((100, 8))

    def run():
        drawn = rollout.rollout(
            spread(0.1), contexts, HEIGHTS, 16, mean=False, draws=60, seed=1
        ).draws
        return drawn.cumsum(2)

    found = run()
    assert found.shape == (100, 60, 16)
    h = np.arange(1, 17)
    assert np.allclose(found.mean((0, 1)), h, atol=0.03)
    assert np.allclose(found.std((0, 1)), 0.1 * np.sqrt(h), rtol=0.05)
    across = np.corrcoef(found[:, 0, -1], found[:, 1, -1])[0, 1]
    assert abs(across) < 0.4  # no draw is another's copy
    assert np.array_equal(found, run())
    monkeypatch.setattr(rollout, "ROWS", 30 * 60)
    assert np.array_equal(found, run())


def walking(context):
    """A forecast of two Gaussians that depends on all of a context."""
    mu = np.column_stack([0.5 + 0.3 * context.mean(1), 1 + 0.1 * context[:, -1]])
    return Mixture(np.full_like(mu, 0.5), mu, np.full_like(mu, 0.2))


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("rows", [1, 7, 30, 1000])
def test_numbers_do_not_depend_on_batches_or_processes(rows, cores, monkeypatch):
    contexts = np.random.default_rng(0).gamma(6, 1 / 6, (13, 8))

    def run():
        return rollout.rollout(knowing(walking, 11), contexts, HEIGHTS[:13], 6, draws=4, seed=3)

    expected = run()
    monkeypatch.setattr(rollout, "ROWS", rows)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    found = run()
    assert np.array_equal(found.mean, expected.mean)
    assert np.array_equal(found.draws, expected.draws)


def test_the_mean_and_the_draws_do_not_know_of_each_other():
    contexts = np.random.default_rng(0).gamma(6, 1 / 6, (13, 8))

    def run(**how):
        return rollout.rollout(knowing(walking, 11), contexts, HEIGHTS[:13], 6, seed=3, **how)

    both, mean, draws = run(draws=4), run(), run(mean=False, draws=4)
    assert np.array_equal(both.mean, mean.mean) and np.array_equal(both.draws, draws.draws)
    assert mean.draws.shape == (13, 0, 6) and draws.mean is None
    assert not np.array_equal(both.mean, both.draws[:, 0])
    by_hand = contexts
    for h in range(6):
        said = walking(by_hand).mean()
        assert np.allclose(both.mean[:, h], said)
        by_hand = by_hand if by_hand.shape[1] < 11 else by_hand[:, 11 - 11 // 2 :]
        by_hand = np.column_stack([by_hand, said])


class Few:
    """Says 1, and keeps what it was given."""

    def __init__(self):
        self.given, self.prepared = [], []

    def prepare(self, contexts, heights, steps):
        self.prepared.append((len(contexts), steps))

    def begin(self, contexts, heights, steps, copies=1):
        self.given.append((len(contexts), steps, copies))
        return self.step(np.ones(copies * len(contexts)))

    def step(self, spacing):
        return Mixture(*np.ones((3, len(spacing), 1)))


def test_so_many_contexts_are_taken_at_a_time_and_prepared_all_at_once(monkeypatch, alone):
    monkeypatch.setattr(rollout, "ROWS", 30)
    few = Few()
    rollout.rollout(few, np.ones((100, 8)), HEIGHTS, 2)
    assert few.given == [(30, 1, 1)] * 3 + [(10, 1, 1)] and few.prepared == [(100, 1)]
    few = Few()
    rollout.rollout(few, np.ones((100, 8)), HEIGHTS, 3, draws=2)
    assert few.given == [(10, 2, 3)] * 10 and few.prepared == [(100, 2)]


def test_no_contexts_have_no_rollouts():
    found = rollout.rollout(Few(), np.ones((0, 8)), HEIGHTS[:0], 3, draws=2)
    assert found.mean.shape == (0, 3) and found.draws.shape == (0, 2, 3)
