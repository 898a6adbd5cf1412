"""Memory in rollouts: it fades step by step, or a gate closes it where nothing is as in training."""

import numpy as np
import pytest
import torch
from conftest import changed

from zetalib.data.window import Windows
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError
from zetalib.forecasting import ahead, forecasts, interventions, rollout
from zetalib.forecasting.decoding import Decoder, Recomputed
from zetalib.forecasting.stretches import contexts_and_futures
from zetalib.inverse import extrapolate, noise
from zetalib.network.memory import Intervention
from zetalib.network.model import SpacingMDN, learn_centroid, solver_of
from zetalib.params import check

HEIGHTS = np.full(5, 1e6)


@pytest.fixture
def network(defaults):
    torch.manual_seed(3)
    m = changed(defaults.model, layers=2, heads=2, width=16, lags=1, components=3)
    memory = changed(defaults.memory, kind="prefix", slots=4)
    built = SpacingMDN(m, memory, 31)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return built.eval()


@pytest.fixture
def contexts():
    return np.random.default_rng(0).gamma(6, 1 / 6, (5, 16))


def test_a_rollout_may_have_a_forecaster_for_each_step(contexts):
    def says(context, height, solution, step):
        ones = np.ones((5, 1))
        return Mixture(ones, step * ones, 1e-9 * ones)

    predicted = rollout.rollout(Recomputed(says), contexts, HEIGHTS, 4).mean
    assert predicted[0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_without_a_remedy_memory_is_as_trained(network, contexts):
    plain = forecasts.next_spacing(network)(contexts, HEIGHTS)
    found = interventions.forecaster(network).begin(contexts, HEIGHTS, 1)
    assert np.allclose(found.mu, plain.mu, atol=1e-5)


def test_memory_fades_a_step_at_a_time(network, contexts):
    run = interventions.forecaster(network, fade=0.5)
    faded = [run.begin(contexts, HEIGHTS, 3)]
    faded += [run.step(np.ones(5)) for _ in range(3)]
    context, means = contexts, []
    for h, found in enumerate(faded):
        wanted = forecasts.next_spacing(network, Intervention(fade=0.5**h))(context, HEIGHTS)
        assert np.array_equal(found.mu, wanted.mu)
        means.append(found.mean() - forecasts.next_spacing(network)(context, HEIGHTS).mean())
        context = np.column_stack([context, np.ones(5)])
    assert not means[0].any() and np.abs(means[3]).max() > 1e-4
    again = run.begin(contexts, HEIGHTS, 3)  # the steps are those of a rollout
    assert np.array_equal(again.mu, faded[0].mu)


def test_steps_that_fade_share_one_solution_of_the_zeros(contexts, defaults, monkeypatch):
    m = changed(defaults.model, layers=1, heads=2, width=16, lags=1, components=4, inversion=True)
    network = SpacingMDN(m, changed(defaults.memory, kind="prefix", slots=4), 31).eval()
    solved, real = [], extrapolate.solve_at_end
    monkeypatch.setattr(
        extrapolate, "solve_at_end", lambda *given: solved.append(1) or real(*given)
    )
    followed, follow = [], noise.forecasts
    monkeypatch.setattr(
        noise, "forecasts", lambda s, *given: followed.append(len(s)) or follow(s, *given)
    )
    rollout.rollout(interventions.forecaster(network, fade=0.5), contexts, HEIGHTS, 4)
    assert len(solved) == len(contexts) and followed == [len(contexts)]


def test_any_intervention_is_done_at_every_step(network, contexts):
    off = Intervention(slots_off=(1, 2))
    run = interventions.forecaster(network, intervene=off)
    run.begin(contexts, HEIGHTS, 1)
    found, grown = run.step(np.ones(5)), np.column_stack([contexts, np.ones(5)])
    wanted = forecasts.next_spacing(network, off)(grown, HEIGHTS)
    assert np.array_equal(found.mu, wanted.mu)
    plain = forecasts.next_spacing(network)(grown, HEIGHTS)
    assert np.abs(found.mu - plain.mu).max() > 1e-4


def test_the_gate_is_open_where_all_is_as_in_training_and_closes_elsewhere(network, contexts):
    run = interventions.forecaster(network, gate=True)
    spacing, heights = torch.from_numpy(contexts).float(), torch.from_numpy(HEIGHTS)
    learn_centroid(network, spacing, heights, solver_of(network))
    closed, opened = (
        forecasts.next_spacing(network, Intervention(fade=fade))(contexts, HEIGHTS).mean()
        for fade in (0.0, 1.0)
    )
    assert np.abs(opened - closed).max() > 1e-4
    network.memory.likeness.fill_(1e-3)  # every state is as like the centroid as in training
    assert np.allclose(run.begin(contexts, HEIGHTS, 1).mean(), opened, atol=1e-6)
    network.memory.centroid.neg_()  # nothing is like training any more
    assert np.allclose(run.begin(contexts, HEIGHTS, 1).mean(), closed, atol=1e-6)


@pytest.mark.parametrize(
    ("of_memory", "change"),
    [
        ({}, {"fade": 0.5}),
        ({}, {"gate": True}),
        ({}, {"intervene": Intervention(heads_off=((0, 1),))}),
        ({"mask": "leaky"}, {}),
    ],
)
def test_where_no_keys_can_be_kept_every_step_is_a_whole_pass(of_memory, change, network, contexts):
    assert isinstance(interventions.forecaster(network), Decoder)
    memory = changed(network.memory_config, **of_memory)
    built = SpacingMDN(network.config, memory, 17).eval()
    run = interventions.forecaster(built, **change)
    assert isinstance(run, Recomputed)
    assert rollout.rollout(run, contexts, HEIGHTS, 4).mean.shape == (5, 4)


@pytest.mark.parametrize("change", [{"fade": 0.9}, {"gate": True}])
def test_a_remedy_without_memory_is_refused(change, defaults):
    content = defaults.model_dump()
    content["evaluate"] |= change
    with pytest.raises(ZetaError, match="need a memory"):
        check(content)
    content["memory"]["kind"] = "prefix"
    assert check(content)


def test_intervals_ahead_are_of_the_horizons_asked_for(network, defaults):
    spacing = torch.from_numpy(np.random.default_rng(1).gamma(6, 1 / 6, (40, 32)))
    windows = Windows(spacing, 32 * torch.arange(40), torch.full((40,), 1e6, dtype=torch.float64))
    p = changed(defaults.evaluate, contexts=[16], horizons=[1, 3, 9])
    c = changed(defaults.calibrate, ahead=5, trajectories=20, draws=4, levels=[0.5])
    samples, truth = ahead.sample_ahead(windows, network, p, c)
    assert list(samples) == list(truth) == ["1", "3"]
    contexts, futures, _ = contexts_and_futures(spacing.numpy().ravel(), 20, 16, 3, 32)
    assert np.allclose(truth["3"], futures.sum(1)) and np.allclose(truth["1"], futures[:, 0])
    assert samples["1"].shape == samples["3"].shape == (20, 4)
    heights = np.full(20, 1e6)
    first = forecasts.next_spacing(network)(contexts, heights)
    run = interventions.forecaster(network)
    drawn = rollout.rollout(run, contexts, heights, 3, mean=False, draws=4, seed=p.seed).draws
    for h in (1, 3):
        assert np.array_equal(drawn.cumsum(2)[:, :, h - 1], samples[str(h)])
    assert (np.abs(samples["1"].mean(1) - first.mean()) < 3 * first.sigma.max(1)).all()
