"""Keys that are kept give the forecasts of a pass over the whole context, for every variant."""

import itertools

import numpy as np
import pytest
import torch
from conftest import changed

from zetalib.densities.mixture import Mixture
from zetalib.forecasting import forecasts, rollout
from zetalib.forecasting.decoding import Decoder, Growing, Recomputed
from zetalib.inverse import extrapolate, noise
from zetalib.inverse.solutions import Extrapolation, SolutionCache
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


def parts(mixture):
    return mixture.pi, mixture.mu, mixture.sigma


def distance(one, other):
    return max(np.abs(a - b).max() for a, b in zip(parts(one), parts(other), strict=True))


class Whole:
    """The forecaster as it is defined: all of the context, cut by hand, in a pass of its own."""

    def __init__(self, built, cache=None):
        self.built, self.cache = built, cache

    def begin(self, contexts, heights, steps, copies=1):
        self.context, self.heights = contexts.repeat(copies, 0), heights.repeat(copies)
        self.run = None
        if self.cache is not None:
            self.run = Extrapolation(self.cache, contexts, heights, steps, copies)
        return self.forecast()

    def step(self, spacing):
        held = self.context.shape[1]
        if held == self.built.context:
            self.context = self.context[:, held - held // 2 :]
        self.context = np.column_stack([self.context, spacing])
        if self.run is not None:
            self.run.step(spacing)
        return self.forecast()

    def forecast(self):
        solution = None if self.run is None else self.run.recent(self.context.shape[1])
        return forecasts.next_spacing(self.built)(self.context, self.heights, solution)


class Both:
    """Two forecasters on the same contexts; keeps how far their forecasts are apart."""

    def __init__(self, one, other):
        self.one, self.other, self.apart = one, other, []

    def prepare(self, *given):
        self.one.prepare(*given)

    def begin(self, *given):
        return self.same(self.one.begin(*given), self.other.begin(*given))

    def step(self, spacing):
        return self.same(self.one.step(spacing), self.other.step(spacing))

    def same(self, one, other):
        self.apart.append(distance(one, other))
        return other


def assert_same(one, other, steps=14, **how):
    """On the same contexts, through a loss of their older half."""
    both = Both(one, other)
    found = rollout.rollout(both, contexts(), HEIGHTS, steps, **how)
    assert len(both.apart) == steps and max(both.apart) < 1e-5
    return found


@pytest.mark.parametrize("of_memory", MEMORIES, ids=lambda m: "-".join(map(str, m.values())))
@pytest.mark.parametrize("positions", ["learned", "index", "arithmetic"])
def test_forecasts_are_those_of_a_whole_pass(positions, of_memory, defaults):
    for lags, target in ((1, "spacing"), (5, "residual")):
        of_model = {"positions": positions, "lags": lags, "target": target}
        built = network(defaults, of_model, of_memory)
        assert_same(Decoder(built), Whole(built))
        assert_same(Decoder(built), Whole(built), draws=2)  # copies of each context that part
        assert_same(Recomputed(forecasts.next_spacing(built), LONGEST), Whole(built), draws=2)


def test_copies_part_with_what_they_are_fed(defaults):
    """Copies of a context are next to each other, and none sees another's spacings."""
    built = network(defaults, {"positions": "arithmetic", "lags": 3}, {"kind": "prefix"})
    kept, fed = Decoder(built), np.random.default_rng(5).gamma(6, 1 / 6, (12, 6))
    first = kept.begin(contexts(), HEIGHTS, 6, copies=3)
    assert distance(first, Decoder(built).begin(contexts(), HEIGHTS, 6)[np.arange(12) // 3]) == 0
    found = [kept.step(spacing) for spacing in fed.T]
    for copy in range(3):
        alone = Decoder(built)
        alone.begin(contexts(), HEIGHTS, 6)
        for one, spacing in zip(found, fed[copy::3].T, strict=True):
            assert distance(alone.step(spacing), one[copy::3]) < 1e-5
    assert np.abs(found[-1].mu[0] - found[-1].mu[1]).max() > 1e-3


@pytest.mark.parametrize("of_memory", MEMORIES[:2] + MEMORIES[5:6], ids=str)
@pytest.mark.parametrize("lags", [1, 5])
def test_one_context_may_have_copies(lags, of_memory, defaults):
    built = network(defaults, {"positions": "arithmetic", "lags": lags}, of_memory)
    kept, whole = Decoder(built), Whole(built)
    given = contexts()[:1], HEIGHTS[:1], 3, 4
    assert distance(kept.begin(*given), whole.begin(*given)) < 1e-5
    for spacing in contexts(1, 3).T:
        assert distance(kept.step(spacing), whole.step(spacing)) < 1e-5


def test_some_at_a_time_is_all_at_once(defaults, monkeypatch):
    built = network(defaults, {"positions": "arithmetic", "lags": 3}, {"kind": "none"})
    assert rollout.ROWS > 3 * len(HEIGHTS) > 6

    def run(rows):
        monkeypatch.setattr(rollout, "ROWS", rows)
        return rollout.rollout(Decoder(built), contexts(), HEIGHTS, 14, draws=2, seed=1)

    whole, some = run(rollout.ROWS), run(6)
    assert some.mean == pytest.approx(whole.mean, abs=1e-5)
    assert some.draws == pytest.approx(whole.draws, abs=1e-4)


def of_inversion(p, positions, of_memory):
    built = network(p, {"positions": positions, "inversion": True, "lags": 3}, of_memory)
    with torch.no_grad():
        built.density.head.weight.mul_(0.1)
    return built


@pytest.mark.parametrize("of_memory", MEMORIES[:2] + MEMORIES[5:6], ids=str)
@pytest.mark.parametrize("positions", ["learned", "arithmetic"])
def test_also_of_a_model_that_starts_from_the_inversion(positions, of_memory, defaults):
    built, cache = of_inversion(defaults, positions, of_memory), SolutionCache()
    assert_same(Decoder(built, cache), Whole(built, cache), draws=2)
    every = Recomputed(forecasts.next_spacing(built), LONGEST, cache)
    assert_same(every, Whole(built, cache), draws=2)


def test_what_is_prepared_is_not_solved_again(defaults, monkeypatch):
    built = of_inversion(defaults, "arithmetic", {"kind": "none"})
    for make in (
        lambda: Decoder(built),
        lambda: Recomputed(forecasts.next_spacing(built), LONGEST, SolutionCache()),
    ):
        one, other = make(), make()
        fresh = other.begin(contexts(), HEIGHTS, 3)
        one.prepare(contexts(), HEIGHTS, 3)
        with monkeypatch.context() as patch:
            patch.setattr(noise, "forecasts", None)
            patch.setattr(extrapolate, "ahead", None)
            assert distance(one.begin(contexts(), HEIGHTS, 3), fresh) == 0
            for spacing in contexts(1, 3).T:
                one.step(spacing)


def test_each_beginning_is_a_beginning(defaults):
    """Whatever was decoded before: other contexts, shorter ones, ones that grew by two."""
    built = network(defaults, {"positions": "index"}, {"kind": "none"})
    decoder, plain = Decoder(built), forecasts.next_spacing(built)
    one, other = contexts(0), contexts(1)
    for given in (one, other, other[:, :-1], np.column_stack([one[:, :-1], other[:, -2:]])):
        found = decoder.begin(given, HEIGHTS, 2)
        assert np.abs(found.mu - plain(given, HEIGHTS).mu).max() < 1e-5
        found, grown = decoder.step(one[:, 0]), np.column_stack([given, one[:, 0]])
        assert np.abs(found.mu - plain(grown, HEIGHTS).mu).max() < 1e-5


def test_a_context_as_long_as_the_network_takes_loses_its_older_half(defaults):
    built = network(defaults, {"lags": 3}, {"kind": "prefix", "slots": 3})
    decoder, given = Decoder(built), contexts(length=LONGEST)
    decoder.begin(given, HEIGHTS, 1)
    found = decoder.step(given[:, 0])
    kept = np.column_stack([given[:, LONGEST // 2 :], given[:, 0]])
    assert distance(found, forecasts.next_spacing(built)(kept, HEIGHTS)) < 1e-5


def test_contexts_keep_their_newer_half_and_what_is_solved_of_it():
    given, height, cache = contexts(length=7)[:2], np.array([1e6, 1.1e6]), SolutionCache()
    growing = Growing(given, height, 4, 2, 9, cache)
    run, rows = Extrapolation(cache, given, height, 4, 2), given.repeat(2, 0)
    assert growing.heights.tolist() == [1e6, 1e6, 1.1e6, 1.1e6]
    lengths = []
    for spacing in contexts(1, 4).T:
        run.step(spacing)
        rows = np.column_stack([rows, spacing])
        lengths.append((growing.grow(spacing), growing.spacing.shape[1]))
        held = lengths[-1][1]
        assert np.array_equal(growing.spacing, rows[:, -held:])
        for one, other in zip(growing.solution(held), run.recent(held), strict=True):
            assert np.array_equal(one, other)
    assert lengths == [(False, 8), (False, 9), (True, 5), (False, 6)]
    assert Growing(given, height, 4, 2, 9, None).solution(3) is None


def test_a_function_is_given_whole_contexts_and_the_steps_so_far():
    seen = []

    def function(context, height, solution, step):
        seen.append((context.copy(), height.tolist(), solution, step))
        return Mixture(*np.ones((3, len(context), 1)))

    run = Recomputed(function, 6)
    given = np.arange(10.0).reshape(2, 5)
    run.begin(given, np.array([1e6, 2e6]), 3, copies=2)
    for spacing in (10.0, 11.0):
        run.step(np.full(4, spacing))
    assert [s[1:] for s in seen] == [([1e6, 1e6, 2e6, 2e6], None, step) for step in range(3)]
    assert seen[0][0].tolist() == given.repeat(2, 0).tolist()
    assert seen[1][0][0].tolist() == [0, 1, 2, 3, 4, 10] and seen[2][0][0].tolist() == [
        3,
        4,
        10,
        11,
    ]
    run.begin(given, np.array([1e6, 2e6]), 3)
    assert seen[-1][3] == 0


def test_a_leaky_mask_and_too_long_a_context_are_refused(defaults):
    leaky = network(defaults, {}, {"kind": "prefix", "slots": 3, "mask": "leaky"})
    with pytest.raises(ValueError, match="no keys to be kept"):
        Decoder(leaky)
    with pytest.raises(ValueError, match="21 spacings given, the model's context is 20"):
        Decoder(network(defaults, {}, {"kind": "none"})).begin(contexts(length=21), HEIGHTS, 1)
