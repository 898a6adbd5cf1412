"""Keys that are kept give the forecasts of a pass over the whole context, for every variant."""

import itertools

import numpy as np
import pytest
import torch
from conftest import changed

from zetalib.forecasting import forecasts, rollout
from zetalib.forecasting.decoding import Decoder
from zetalib.inverse.extrapolate import Coasting
from zetalib.network.model import SpacingMDN

LONGEST = 20
HEIGHTS = np.array([1.23e4, 9.99e5, 1.01e6, 8.17e7])
MEMORIES = [{"kind": "none"}] + [
    {"kind": kind, "slots": 3, "link": link}
    for kind, link in itertools.product(["prefix", "postfix"], ["none", "film", "gate", "readout"])
]


def network(p, of_model, of_memory):
    torch.manual_seed(1)
    small = {"layers": 2, "heads": 2, "width": 16, "primes": 5, "components": 4}
    built = SpacingMDN(
        changed(p.model, **{**small, **of_model}), changed(p.memory, **of_memory), LONGEST
    )
    for weight in built.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return built.eval()


def contexts(seed=0, length=12):
    return np.random.default_rng(seed).gamma(6, 1 / 6, (len(HEIGHTS), length))


def assert_same(built, cached, plain, steps=14):
    """On the same contexts, through a loss of their older half."""
    worst = []

    def both(context, height):
        one, other = cached(context, height), plain(context, height)
        pairs = zip((one.pi, one.mu, one.sigma), (other.pi, other.mu, other.sigma), strict=True)
        worst.append(max(np.abs(a - b).max() for a, b in pairs))
        return other

    rollout.rollout(both, contexts(), HEIGHTS, steps, "mean", longest=built.context)
    assert len(worst) == steps and max(worst) < 1e-5


@pytest.mark.parametrize("of_memory", MEMORIES, ids=lambda m: "-".join(map(str, m.values())))
@pytest.mark.parametrize("positions", ["learned", "index", "arithmetic"])
def test_forecasts_are_those_of_a_whole_pass(positions, of_memory, defaults):
    for lags, target in ((1, "spacing"), (5, "residual")):
        of_model = {"positions": positions, "lags": lags, "target": target}
        built = network(defaults, of_model, of_memory)
        assert_same(built, Decoder(built), forecasts.next_spacing(built))


def test_some_at_a_time_is_all_at_once(defaults):
    built = network(defaults, {"positions": "arithmetic", "lags": 3}, {"kind": "none"})
    assert Decoder(built).batch == 32 > len(HEIGHTS) > 2

    class Pairs(Decoder):
        batch = 2

    whole, parts = (
        rollout.rollout(kind(built), contexts(), HEIGHTS, 6, "mean", longest=built.context)
        for kind in (Decoder, Pairs)
    )
    assert parts == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("positions", ["learned", "arithmetic"])
def test_also_of_a_model_that_starts_from_the_inversion(positions, defaults):
    of_model = {"positions": positions, "inversion": True, "lags": 3}
    built = network(defaults, of_model, {"kind": "none"})
    with torch.no_grad():
        built.prior.weight.mul_(0.1)
    runs = Decoder(built, Coasting(built.known)), forecasts.next_spacing(built)
    assert_same(built, *runs)


def test_only_contexts_that_grew_by_one_are_gone_on_with(defaults):
    built = network(defaults, {"positions": "index"}, {"kind": "none"})
    decoder, plain = Decoder(built), forecasts.next_spacing(built)
    one, other = contexts(0), contexts(1)
    for given in (one, other, other[:, :-1], np.column_stack([one[:, :-1], other[:, -2:]])):
        assert np.abs(decoder(given, HEIGHTS).mu - plain(given, HEIGHTS).mu).max() < 1e-5


def test_a_leaky_mask_and_too_long_a_context_are_refused(defaults):
    leaky = network(defaults, {}, {"kind": "prefix", "slots": 3, "mask": "leaky"})
    with pytest.raises(ValueError, match="no keys to be kept"):
        Decoder(leaky)
    with pytest.raises(ValueError, match="21 spacings given, the context is 20"):
        Decoder(network(defaults, {}, {"kind": "none"}))(contexts(length=21), HEIGHTS)
