"""Stretches longer than windows: cut where they should be, scored on their last targets."""

import numpy as np
import pytest
import torch

from zetalib.baselines import explicit_formula
from zetalib.data.window import Windows, density
from zetalib.errors import ZetaError
from zetalib.inverse import noise
from zetalib.scoring import contexts, skill

RNG = np.random.default_rng(0)


def record(windows=40, length=32):
    spacing = torch.from_numpy(RNG.gamma(6, 1 / 6, (windows, length)))
    start = torch.arange(windows) * length
    gamma = 1e6 + start / density(torch.tensor(1e6))
    return Windows(spacing, start + 7, gamma.double())


def test_stretches_end_in_their_part_and_reach_below_it():
    whole = record()
    found = contexts.stretches(whole, (30, 40), 200, 5, 8)
    flat = whole.spacing.flatten()
    assert found.spacing.shape == (5, 201)
    assert torch.equal(found.spacing[0, -8:], flat[960:968])
    assert torch.equal(found.spacing[-1], flat[-201:])
    assert (found.n - 7 + 200).tolist() == [967, 1045, 1123, 1201, 1279]
    # Heights of the first zeros, not of where the targets lie.
    assert found.gamma[0] == pytest.approx(float(whole.gamma[23]) + 31 / 1.907, abs=0.1)
    assert found.heights().unique().tolist() == [1e6]


def test_a_record_too_short_is_said_to_be():
    with pytest.raises(ZetaError, match="967 spacings before a target, for a context of 968"):
        contexts.stretches(record(), (30, 40), 968, 5, 8)
    with pytest.raises(ZetaError, match="50 stretches of 8 targets in 320 spacings"):
        contexts.stretches(record(), (30, 40), 100, 50, 8)


def test_the_transition_is_found_where_it_was_put(monkeypatch):
    """Forecasts off by 0.3, from 48 spacings known on by about 1e-5, and once by half."""
    truth = {}

    def forecasts(spacing, height, _):
        found = np.zeros((*spacing.shape, 7))
        known = np.arange(1, spacing.shape[1] + 1)
        found[:, :, 1] = np.where(known < 48, 0.3, 1e-5)
        y = truth[spacing[:, 0].tobytes()]
        found[:, :, 0] = y + found[:, :, 1] * np.random.default_rng(1).standard_normal(y.shape)
        found[3, 99, 0] += 0.5
        return found

    monkeypatch.setattr(noise, "forecasts", forecasts)
    whole = record(200)
    below = contexts.stretches(whole, (50, 100), 100, 12, 8)
    above = contexts.stretches(whole, (100, 200), 100, 20, 8)
    for part in (below, above):
        truth[part.spacing[:, 0].numpy().tobytes()] = part.spacing[:, 1:].numpy()
    end, by_known = contexts.transition(below, above, 8)
    assert end["targets"] == 160 and end["within_0.0001"] == pytest.approx(159 / 160)
    assert set(by_known) == {16, 24, 32, 48, 64, 96} and by_known[32]["targets"] == 20 * 16
    assert by_known[32]["median_sd"] == 0.3 and by_known[64]["median_sd"] == 1e-5
    assert by_known[32]["within_0.0001"] < 0.05 and by_known[48]["within_0.0001"] == 1
    exact = np.log(1e-5 * np.sqrt(2 * np.pi)) + 0.5
    assert by_known[64]["nll"] == pytest.approx(exact, abs=0.3)


def test_the_explicit_formula_is_scored_on_the_last_targets():
    whole = record(20, 16)
    stretch = contexts.stretches(whole, (4, 20), 40, 12, 4)
    found = contexts.by_explicit_formula(stretch, 4)
    assert found["targets"] == 48
    past = stretch.spacing[2, :-1].numpy()
    alone = explicit_formula.forecasts(past, 1e6)[36:]
    both = explicit_formula.forecaster(4)(stretch)[8:12]
    assert alone.mass == pytest.approx(both.mass, abs=1e-9)
    y = stretch.spacing[:, -4:].numpy().ravel()
    scores = skill.by_target(explicit_formula.forecaster(4)(stretch), y)
    assert found["nll"] == pytest.approx(scores.nll.mean())


def test_the_law_of_resolution_falls_with_what_is_known():
    found = contexts.resolution(contexts.KNOWN, 1.05e6)
    assert 1024 not in found.known.to_numpy() and 768 in found.known.to_numpy()
    assert (np.diff(found.nll) <= 0).all()
    lines, sd = explicit_formula.unresolved(256 / explicit_formula.density(1.05e6), 1.05e6)
    row = found[found.known == 256].iloc[0]
    assert lines > 20 and row.nll == pytest.approx(np.log(sd * np.sqrt(2 * np.pi * np.e)))
