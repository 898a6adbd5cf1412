"""Operators of networks: those that are known are found, and nothing where there is nothing."""

import json

import numpy as np
import pytest
import torch
from conftest import changed, zeros
from scipy import stats

from zetalib.analysis import claims, late_targets, linear_response
from zetalib.analysis.linear_response import Targets
from zetalib.baselines import autoregression
from zetalib.data.window import Windows, density
from zetalib.network.model import SpacingMDN, Trace
from zetalib.theory import unitary_ensemble

LENGTH = 256
HEIGHT = 1e6
PRIMES = np.array([2.0, 3, 5, 7, 11, 13, 17, 19, 23])
FREQUENCY = linear_response.frequencies()


class Linear:
    """A forecaster whose mean is 1 + sum_k weights[k] (s_{t-k} - 1), as a network is called."""

    takes = torch.float64

    def __init__(self, weights):
        self.weights = torch.as_tensor(weights)

    def __call__(self, spacing, height, solution, *, at, intervene=None):
        assert solution is None
        padded = torch.nn.functional.pad(spacing - 1, (len(self.weights) - 1, 0))
        mean = 1 + padded.unfold(1, len(self.weights), 1) @ self.weights.flip(0)
        half = torch.stack([mean[:, at] - 0.5, mean[:, at] + 0.5], -1)
        return torch.full_like(half, np.log(0.5)), half, torch.ones_like(half)


def nothing(spacing, height):
    """What solves the inputs of a model that starts from no solution."""


def windows(spacing, height=HEIGHT):
    count = len(spacing) // LENGTH
    gamma = torch.full((count,), height, dtype=torch.float64)
    spacing = torch.as_tensor(spacing[: count * LENGTH]).reshape(count, LENGTH)
    return Windows(spacing, torch.arange(count) * LENGTH + 1, gamma)


@pytest.fixture(scope="module")
def gue():
    return np.diff(unitary_ensemble.points(1 << 15, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def real():
    return zeros(int(HEIGHT), 1 << 13)[0]


@pytest.fixture(scope="module")
def even():
    """What a response of one at every lag makes of waves over nearly even zeros."""
    targets = Targets.solved(windows(np.ones(LENGTH * 2)), 2, nothing)
    k = int(targets.at[-1]) + 1
    whole = targets.lags()[1] * np.ones((2, 1, 1))
    return linear_response.waves(whole, targets, FREQUENCY)[0], k


def network(p, seed=0, noise=0.3, length=LENGTH, **memory):
    torch.manual_seed(seed)
    m = changed(p.model, layers=2, heads=2, width=16, lags=4, components=3)
    model = SpacingMDN(m, changed(p.memory, **memory), length - 1).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(noise * torch.randn_like(weight))
    return model


# The response


def test_the_response_of_a_linear_forecaster_is_its_weights(gue):
    weights = np.random.default_rng(1).standard_normal(40)
    targets = Targets.solved(windows(gue), 5, nothing)
    found = linear_response.response(Linear(weights), targets)
    assert targets.known == 192 and found.shape == (5, 16, 255)
    np.testing.assert_allclose(found[..., :40], np.broadcast_to(weights, (5, 16, 40)), atol=1e-12)
    assert not found[..., 40:].any()


def test_the_response_of_a_network_is_what_a_small_change_does(defaults, gue):
    model = network(defaults)
    targets = Targets.solved(windows(gue), 2, nothing)
    slope = linear_response.response(model, targets)
    step, p = 1e-2, 3
    place = int(targets.at[p]) - 1
    moved = [targets.spacing.clone(), targets.spacing.clone()]
    for s, sign in zip(moved, (1, -1), strict=True):
        s[:, place] += sign * step
    with torch.no_grad():
        up, down = (
            linear_response.mean_of(model, s.float(), targets.height, None, targets.at)[:, p]
            for s in moved
        )
    expected = (up - down).numpy() / (2 * step)
    assert slope[:, p, targets.at[p] - place] == pytest.approx(expected, abs=1e-3)
    assert np.abs(expected).max() > 1e-2


def test_the_gain_is_what_becomes_of_a_wave(gue):
    """By brute force: zeros moved along with a wave of density, and the forecast with them."""
    omega, size = 1.3, 1e-5
    targets = Targets.solved(windows(gue), 1, nothing)
    rho = float(density(targets.height)[0])
    weights = 0.3 * np.random.default_rng(2).standard_normal(255)
    whole = torch.cat([targets.spacing[0], torch.as_tensor(gue[255:256])])
    height = np.append(0, whole.cumsum(0).numpy()) / rho
    one, two = [], []
    for phase in (0, np.pi / 2):
        wave = np.diff(np.sin(omega * height + phase)) / omega * rho * size
        moved = whole.numpy() + wave
        at = torch.as_tensor(targets.at)
        forecast = Linear(weights)
        means = [
            linear_response.mean_of(
                forecast, torch.as_tensor(s[None, :255]), targets.height, None, targets.at
            )
            for s in (whole.numpy(), moved)
        ]
        one.append(((means[1] - means[0])[0] / size).numpy())
        two.append(wave[at + 1] / size)
    # Regression of what is forecast on what comes, over both phases: the real part of the gain.
    expected = (np.array(one) * np.array(two)).sum() / np.square(two).sum()
    slope = linear_response.response(forecast, targets)
    parts, single = linear_response.waves(slope, targets, np.array([omega]))
    assert parts.sum() == pytest.approx(single.mean(), abs=1e-10)
    assert parts.sum().real == pytest.approx(expected, rel=1e-3)


# Lines at the primes


def knowing(even, logs):
    """A response at random but for waves at the frequencies `logs`, which it forecasts."""
    parts, k = even
    index = np.searchsorted(FREQUENCY, logs)
    design = np.concatenate([parts[:, index].real, parts[:, index].imag], 1).T
    wanted = np.concatenate([np.ones(len(logs)), np.zeros(len(logs))])
    noise = 0.5 * np.random.default_rng(3).standard_normal(k)
    return noise + np.linalg.pinv(design) @ (wanted - design @ noise)


def test_planted_primes_are_found_and_other_frequencies_are_not(even):
    def lines(logs):
        response = knowing(even, logs)
        return linear_response.prime_lines(response[:, None] * even[0], FREQUENCY, PRIMES, 0, 999)

    rows, together = lines(np.log(PRIMES))
    assert together["notch"] == 0.001 and (rows.notch_adjusted < 0.02).all()
    assert (rows.missed < 1e-9).all() and rows.gain.to_numpy() == pytest.approx(1)
    assert together["peak"] > 0.01
    _, together = lines(np.log(PRIMES) + 0.06)
    assert together["notch"] > 0.01


def test_without_primes_p_values_are_uniform(even):
    parts, k = even
    found = []
    for seed in range(120):
        noise = np.random.default_rng(seed).standard_normal(k) * np.exp(-np.arange(k) / 60)
        rows, together = linear_response.prime_lines(
            noise[:, None] * parts, FREQUENCY, PRIMES, seed, 99
        )
        found.append([together["peak"], together["notch"], rows.peak_p[0], rows.notch_p[4]])
    for column in np.transpose(found):
        assert stats.kstest(column, "uniform").pvalue > 0.005


def test_least_squares_on_zeros_knows_the_primes_and_on_random_matrices_does_not(real, gue):
    for spacing, low, high in ((real, 0, 0.001), (gue, 0.01, 1)):
        x = spacing - spacing.mean()
        covariance = np.array([x[k:] @ x[: len(x) - k] / len(x) for k in range(129)])
        weights = autoregression.levinson(covariance)[0][128]
        targets = Targets.solved(windows(spacing), 8, nothing)
        slope = linear_response.response(Linear(weights), targets)
        parts, _ = linear_response.waves(slope, targets, FREQUENCY)
        rows, together = linear_response.prime_lines(parts, FREQUENCY, PRIMES, 0, 1999)
        assert low < together["notch"] <= high
        if high < 1:
            assert (rows.missed[2:] < 0.5).all() and (rows.notch < 0.3).all()


def test_primes_are_resolved_up_to_the_length_of_the_response():
    assert linear_response.resolved_primes(2 * np.pi / 0.3).tolist() == [
        2,
        3,
        5,
        7,
    ]  # 11 to 13: 0.167
    assert linear_response.resolved_primes(2 * np.pi / 0.41).size == 0  # 2 to 3: 0.405
    assert linear_response.resolved_primes(1e4)[-1] == 47


# Forms


D = np.arange(1, 65.0)


@pytest.mark.parametrize(
    ("form", "scale", "value"),
    [
        ("sine kernel", 3.3, 0.2 * np.sinc(D / 3.3) ** 2 + 0.01),
        ("exponential", 10.0, 0.1 * np.exp(-D / 10) + 0.002),
        ("stretched", 1.16, (0.127 * D + 0.062) * np.exp(-1.16 * D**0.5) + 0.0017),
    ],
)
def test_each_form_is_told_from_the_others(form, scale, value):
    noise = 0.02 * value.std() * np.random.default_rng(5).standard_normal(64)
    found = linear_response.fits(D, value + noise).set_index("form")
    free = found[found.free]
    assert free.aic.idxmin() == form
    assert free.aic.nsmallest(2).diff().iloc[1] > 10
    assert free.scale[form] == pytest.approx(scale, rel=0.1)
    assert 0.998 < free.r2[form] <= 1
    fixed = found[~found.free]
    assert len(fixed) == 5 and (fixed.r2 <= free.r2.loc[fixed.index] + 1e-9).all()


# Beside another forecaster


def test_partial_correlations():
    rng = np.random.default_rng(6)
    common, a, b = rng.standard_normal((3, 40, 16))
    plain = linear_response.correlation(common + a, common + b)
    assert plain["value"] == pytest.approx(0.5, abs=0.1)
    assert plain["se"] == pytest.approx(0.75 / 640**0.5, rel=0.4)  # (1 - r^2) / sqrt n
    given = linear_response.correlation(common + a, common + b, (common,))
    assert abs(given["value"]) < 4 * given["se"]


def test_readers_find_what_is_in_the_states_of_other_windows():
    rng = np.random.default_rng(7)
    states, target = rng.standard_normal((2, 30, 16, 12)), rng.standard_normal((30, 16))
    states[1, ..., 3] = target + 0.5 * states[1, ..., 3]
    found = linear_response.layers_know(states, rng.standard_normal((30, 16, 5)), target, 0)
    assert [row["of"] for row in found] == ["inputs", "layer 1", "layer 2"]
    assert found[2]["r2"] == pytest.approx(0.8, abs=0.05) and found[2]["p"] == 0.01
    assert max(found[0]["r2"], found[1]["r2"]) < 0.02
    assert min(found[0]["p"], found[1]["p"]) > 0.01


# Attention


def test_uniform_attention_has_uniform_kernels(defaults, gue):
    model = network(defaults)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.qkv.weight.zero_()
    targets = Targets.solved(windows(gue), 6, nothing)
    found = linear_response.attention_kernels(model, targets)
    expected = (1 / (targets.at + 1)).mean()
    assert found.weight.to_numpy() == pytest.approx(np.full(len(found), expected), rel=0.1)
    index = found[found.axis == "index"]
    assert index.weight.to_numpy() == pytest.approx(np.full(len(index), expected), rel=1e-5)
    assert len(index) == 2 * 2 * 64 and index.error.max() < 1e-8


@pytest.mark.parametrize("memory", [{}, {"kind": "postfix", "slots": 2}], ids=str)
@pytest.mark.parametrize("positions", ["learned", "arithmetic"])
def test_scores_are_those_attention_is_made_of(defaults, gue, positions, memory):
    changes = {"positions": positions, "primes": 4}
    p = defaults.model_copy(update={"model": changed(defaults.model, **changes)})
    model = network(p, length=linear_response.SCORED, **memory)
    some = windows(gue)
    cut = Windows(some.spacing[:, : linear_response.SCORED], some.n, some.gamma)
    one = Targets.solved(cut, 1, nothing)
    trace = Trace()
    with torch.no_grad():
        model(one.spacing.float(), one.height, trace=trace)
    score = torch.as_tensor(linear_response.attention_scores(model, one)) / np.sqrt(8)
    above = torch.ones(score.shape[-2:], dtype=torch.bool).triu(1)
    expected = torch.cat([a[0] for a in trace.attention]).double()
    found = score.masked_fill(above, -torch.inf).softmax(-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


# All of it


def small(spacing, length, height):
    w = windows(spacing, height)
    return Windows(w.spacing[:, :length], w.n, w.gamma)


@pytest.mark.parametrize(
    "memory", [{}, {"kind": "prefix", "slots": 2}, {"kind": "postfix", "slots": 2}]
)
def test_every_network_has_a_whole_report(defaults, gue, memory):
    model = network(defaults, length=64, **memory)
    some = small(gue, 64, 5000.0)
    report, tables, held = linear_response.extract(
        model, some, autoregression.fit_ar(some, 8), 8, 0
    )
    json.dumps(report, allow_nan=False)
    assert report["layers"] is None and "heights" in report["reason"]
    assert {t: len(f) > 20 for t, f in tables.items()} == dict.fromkeys(
        ("attention", "response", "gain"), True
    )
    settled = {c.name: c for c in claims.settle(held)}
    assert set(settled) == {"log primes", "Hermitian", "Toeplitz"}
    assert np.isfinite(settled["log primes"].statistic) == bool(memory)
    json.dumps(claims.rows(list(settled.values())), allow_nan=False)


def test_a_network_is_held_against_the_explicit_formula(defaults, real):
    model, some = network(defaults), windows(real)[:4]
    report, _, _ = linear_response.extract(model, some, autoregression.fit_ar(some, 64), 4, 0)
    assert report["reason"] is None
    assert [row["of"] for row in report["layers"]] == ["inputs", "layer 1", "layer 2"]
    untrained = report["correlations"]["explicit formula"]["plain"]
    targets = Targets.solved(some, 4, nothing)
    formula = late_targets.explicit_means(targets)
    known = linear_response.correlation(formula, targets.y)
    assert known["value"] > 0.9 > 0.5 > abs(untrained["value"])


def test_the_frequency_of_a_slot_is_where_it_answers(defaults, gue, monkeypatch):
    """Slot m of a stand-in adds a response to one frequency, which goes when it is off."""
    targets = Targets.solved(windows(gue), 2, nothing)
    place = targets.lags()[1]
    tau = np.arange(255) / float(density(targets.height)[0])
    own = [0.05 * np.cos(f * tau) for f in (1.1, 1.9, 3.0)]

    def answers(model, targets, intervene=None):
        off = () if intervene is None else intervene.slots_off
        total = sum(w for m, w in enumerate(own) if m not in off)
        return np.broadcast_to(total, (2, *place.shape)) * place

    monkeypatch.setattr(linear_response, "response", answers)
    model = network(defaults, kind="prefix", slots=3)
    found = linear_response.slot_frequencies(model, targets)
    assert found == pytest.approx([1.1, 1.9, 3.0], abs=0.05)
