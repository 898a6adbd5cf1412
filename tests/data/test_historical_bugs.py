"""The bugs that corrupted the published numbers, each put back: the suite's check must reject it.

| bug (docs/reference.md, 1.4, and 2 item 1)                  | check                                     |
|----------------------------------------------------|-------------------------------------------|
| a context of 10 spacings for 128                   | test_rollout: the whole context is given  |
| Err@h summed from index 0                          | test_rollout: errors are summed from ...  |
| CRPS against the next batch item's target          | test_score: each target is scored ...     |
| POSTFIX given a window longer by its slots         | test_model: more spacings than ...        |
| a mask through which memory shows the future       | test_causality, test_model: the leak      |
"""

import numpy as np
import pytest
import test_causality
import test_model
import test_rollout
import test_score
import torch
from conftest import changed

from zetalib.densities.mixture import Mixture
from zetalib.forecasting import forecasts, stretches
from zetalib.network import model

STRETCHES = stretches.contexts_and_futures
CRPS, FORWARD = Mixture.crps, model.SpacingMDN.forward


def short_context(*stretches):
    contexts, futures, starts = STRETCHES(*stretches)
    return contexts[:, -10:], futures, starts


def from_index_zero(*stretches):
    contexts, futures, starts = STRETCHES(*stretches)
    return contexts, np.column_stack([contexts, futures])[:, : futures.shape[1]], starts


def against_the_next(self, y):
    return CRPS(self, np.roll(y, -1))


def any_length(self, spacing, height, *rest, **how):
    """The window as it comes, its last spacings taken for those of a window of the right length."""
    return FORWARD(self, spacing[:, -self.context :], height, *rest, **how)


BUGS = {
    "context of 10": (
        (stretches, "contexts_and_futures", short_context),
        test_rollout.test_the_whole_context_is_given_and_grows_until_it_keeps_its_newer_half,
    ),
    "summed from index 0": (
        (stretches, "contexts_and_futures", from_index_zero),
        test_rollout.test_errors_are_summed_from_the_end_of_the_context,
    ),
    "the next item's target": (
        (Mixture, "crps", against_the_next),
        test_score.test_each_target_is_scored_with_its_own_forecast,
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_put_back_is_rejected(name, monkeypatch):
    bug, check = BUGS[name]
    check()
    monkeypatch.setattr(*bug)
    with pytest.raises(AssertionError):
        check()


def test_a_longer_window_put_back_is_rejected(monkeypatch, defaults):
    test_model.test_more_spacings_than_the_context_are_refused(defaults)
    monkeypatch.setattr(model.SpacingMDN, "forward", any_length)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_model.test_more_spacings_than_the_context_are_refused(defaults)


@pytest.mark.parametrize("positions", ["learned", "index", "arithmetic"])
def test_a_postfix_window_with_its_slots_counted_in_is_refused(positions, defaults):
    """Slots are no spacings: T + M of them are too many, whatever the positions could take."""
    slots, length = 3, 24
    config = changed(defaults.model, layers=1, heads=2, width=16, primes=5, positions=positions)
    memory = changed(defaults.memory, kind="postfix", slots=slots)
    built = model.SpacingMDN(config, memory, length)
    height = torch.full((2,), 1e6, dtype=torch.float64)
    solve = model.solver_of(built)
    right = torch.ones((2, length + 1), dtype=torch.float64)
    assert forecasts.forecast_windows(built, right, height, solve).mu.shape[1] == length
    longer = torch.ones((2, length + 1 + slots), dtype=torch.float64)
    with pytest.raises(ValueError, match="27 spacings given, the model's context is 24"):
        forecasts.forecast_windows(built, longer, height, solve)


def test_a_window_that_sees_itself_is_rejected(monkeypatch, defaults):
    """The leak at its crudest: every forecast is told the spacing that follows it."""

    def leaky(self, spacing, height, *rest, **how):
        log_pi, mu, sigma = FORWARD(self, spacing, height, *rest, **how)
        return log_pi, mu + 0.1 * spacing.roll(-1, 1)[:, : mu.shape[1], None], sigma

    test_model.test_forecasts_never_move_when_later_spacings_do({"layers": 1}, defaults)
    monkeypatch.setattr(model.SpacingMDN, "forward", leaky)
    with pytest.raises(AssertionError, match="moved before"):
        test_model.test_forecasts_never_move_when_later_spacings_do({"layers": 1}, defaults)


def test_the_published_mask_is_rejected(defaults):
    """Q3's own: through the slots, from the second layer on."""
    built = test_causality.network(
        defaults, of_model={}, of_memory={"kind": "prefix", "mask": "leaky"}
    )
    with pytest.raises(AssertionError, match="moved before"):
        test_causality.assert_causal(built, [10])
