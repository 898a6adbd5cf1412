"""Claims: verdicts follow from figures, and each test finds what is there and nothing else."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from zetalib.analysis import claims
from zetalib.analysis.claims import Claim
from zetalib.theory import point_statistics, unitary_ensemble

NAN = float("nan")


@pytest.fixture(scope="module")
def gue():
    return np.diff(unitary_ensemble.points(1 << 15, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def poisson():
    return np.random.default_rng(1).standard_exponential(1 << 15)


def verdict(claim):
    return claims.settle([claim])[0].verdict


def test_holm_by_hand():
    found = claims.holm([0.01, 0.04, NAN, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, NAN, 0.06, 0.02])
    assert claims.holm([0.6, 0.9]).max() == 1
    assert claims.holm([]).size == 0


BARE = Claim("", "", "", 1.0, 0.9, 1.1, 0.0, 0.2, 1e-6, True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "confirmed"),
        ({"asserts": False}, "refuted"),
        ({"low": -0.1, "high": 0.15}, "refuted"),  # significant, but too small to matter
        ({"low": -0.1, "high": 0.15, "p": 0.9}, "refuted"),
        ({"low": -0.1, "high": 0.15, "p": 0.9, "asserts": False}, "confirmed"),
        ({"low": -0.5, "high": 0.5, "p": 0.9}, "not decidable here"),
        ({"low": -0.5, "high": 0.5, "p": 0.9, "asserts": False}, "not decidable here"),
        ({"low": -3.0, "high": -2.0, "p": 0.9, "side": "greater"}, "refuted"),
        ({"low": -3.0, "high": -2.0}, "confirmed"),
        ({"p": NAN}, "not decidable here"),
        ({"low": NAN, "p": 0.5}, "not decidable here"),
    ],
)
def test_verdicts(changes, expected):
    assert verdict(replace(BARE, **changes)) == expected


def test_rows_are_read_as_the_claims_they_were(gue):
    """Through JSON, which stage laws hands to stage claims."""
    given = [
        *claims.of_spacings(gue, 0),
        replace(BARE, name="a < b", low=NAN, p=NAN, note="ü", side="greater", asserts=False),
        *claims.settle([replace(BARE, p=0.1 + 0.2)]),
    ]
    rows = json.loads(json.dumps(claims.rows(given), allow_nan=False))
    again = claims.read(rows)
    assert len(again) == len(given) > 3
    for one, other in zip(given, again, strict=True):
        for name, value in asdict(one).items():
            found = getattr(other, name)
            assert found == value or (value != value and found != found), name
    settled = [claims.rows(claims.settle(some)) for some in (given, again)]
    assert settled[0] == settled[1]
    assert claims.read([]) == []


def test_many_claims_make_each_harder_to_confirm():
    one = replace(BARE, p=0.004)
    assert verdict(one) == "confirmed"
    assert {c.verdict for c in claims.settle([one] * 3)} == {"not decidable here"}
    found = claims.table(claims.settle([one] * 3))
    assert found.adjusted.tolist() == pytest.approx([0.012] * 3)


# Autocorrelation


def test_acf_of_gue_is_learned_from_gue_and_not_from_one_lag(gue):
    half = len(gue) // 2
    found = claims.acf_learned(gue[:half], gue[half:], 10, 0)
    assert verdict(found) == "confirmed" and found.low > 0.5
    for wrong in (
        claims._ar1(-0.3, (half,), np.random.default_rng(0)),
        np.random.default_rng(0).permutation(gue[:half]),
    ):
        found = claims.acf_learned(wrong, gue[half:], 10, 0, 199)
        assert verdict(found) == "refuted" or found.p > 0.01
        assert found.statistic < 0.5


def test_acf_p_values_are_uniform_under_the_null(gue):
    rng = np.random.default_rng(2)
    rho = point_statistics.autocorrelation(gue, 1).value[0]
    p = [
        claims.acf_learned(claims._ar1(rho, (4, 100), rng), gue, 5, seed, 99).p
        for seed in range(60)
    ]
    assert 0.38 < np.mean(p) < 0.62
    assert np.mean(np.array(p) < 0.2) < 0.35


def test_few_correlations_look_learned_over_many_lags(gue):
    """Why 0.005 says nothing: spacings in random order reach it, given lags enough."""
    white = claims.white_error(point_statistics.autocorrelation(gue, 60).value)
    mixed = np.random.default_rng(3).permutation(gue)
    found = claims.acf_error(mixed, point_statistics.autocorrelation(gue, 60).value)
    assert found == pytest.approx(white[-1], rel=0.1)
    assert white[0] > 0.08 and white[-1] < 0.002


# Spectrum


def test_no_peak_at_two_pi_without_a_lattice(gue, poisson):
    for spacing in (gue, poisson):
        found = claims.peak_at_two_pi(spacing, 0, draws=199)
        assert verdict(found) == "refuted"
        assert abs(found.statistic) < 0.15
    low, high = found.low, found.high
    assert low < found.statistic < high


def test_a_lattice_has_a_peak_at_two_pi():
    points = np.arange(1 << 14) + np.random.default_rng(4).normal(0, 0.2, 1 << 14)
    found = claims.peak_at_two_pi(np.diff(np.sort(points)), 0, draws=199)
    assert verdict(found) == "confirmed"
    assert found.statistic > 1 and found.expected < 0.5


def test_a_models_means_have_a_peak_in_any_order():
    """Forecasts near one make a lattice by themselves: what order they are in has no part in it."""
    means = np.random.default_rng(5).normal(1, 0.1, 1 << 14)
    found = claims.peak_at_two_pi(means, 0, draws=199)
    assert found.statistic > 1 and found.p > 0.01
    assert verdict(found) == "not decidable here"


def test_plateau(gue, poisson):
    for spacing in (gue, poisson):
        found = claims.plateau(spacing)
        assert verdict(found) == "refuted"
        assert found.low < 1 < found.high
    # Two points that act as one.
    pairs = np.stack([np.full(1 << 14, 1e-6), 2 * poisson[: 1 << 14]], 1).ravel()
    found = claims.plateau(pairs)
    assert verdict(found) == "confirmed" and found.statistic == pytest.approx(2, rel=0.1)


# What a network has learned


def test_slots():
    rng = np.random.default_rng(6)
    many = rng.uniform(np.log(2), np.log(131), 500)
    assert verdict(claims.slots_and_primes(many, 0.02, 0)) == "confirmed"
    few = claims.slots_and_primes(many[:8], 0.02, 0)
    assert verdict(few) == "not decidable here"  # what eight slots can say
    tuned = np.log([2.0, 3, 5, 7, 11, 13, 17, 19, 23, 29] * 3) + rng.normal(0, 1e-3, 30)
    found = claims.slots_and_primes(tuned, 0.02, 0)
    assert verdict(found) == "refuted" and found.statistic == 1


def test_without_frequencies_nothing_is_decided():
    found = claims.slots_and_primes(np.empty(0), 0.02, 0)
    assert verdict(found) == "not decidable here" and "learned" in found.note
    assert claims.rows([found])[0]["p"] is None
    found = claims.slots_and_primes(np.linspace(0.7, 3, 8), 0.4, 0, 8)
    assert found.statistic > 0.9 and verdict(found) == "not decidable here"  # any would match


def test_scores_alike_in_both_directions():
    rng = np.random.default_rng(7)
    base = rng.standard_normal((2, 40, 40))
    near = -0.1 * np.abs(np.arange(40)[:, None] - np.arange(40))
    assert verdict(claims.hermitian(base, 0)) == "confirmed"
    alike = base + base.swapaxes(1, 2)
    found = claims.hermitian(alike, 0)
    assert verdict(found) == "refuted" and found.statistic == pytest.approx(1)
    # Falling off with distance is no symmetry.
    found = claims.hermitian(base + 30 * near, 0)
    assert abs(found.statistic) < 0.1 and found.p > 0.01


@pytest.mark.parametrize("fill", [0.0, -np.inf])
def test_causal_attention_is_neither_hermitian_nor_not(fill):
    scores = np.random.default_rng(8).random((20, 20))
    scores[np.triu_indices(20, 1)] = fill
    found = claims.hermitian(scores, 0)
    assert verdict(found) == "not decidable here" and np.isnan(found.p)
    assert "masked" in found.note


def test_toeplitz_levels_are_those_of_the_matrix():
    kernel = np.random.default_rng(9).standard_normal(30)
    k = np.arange(60)
    row = np.concatenate([kernel, np.zeros(30)])
    whole = row[np.abs(k[:, None] - k)]
    even = claims._levels(row)
    np.testing.assert_allclose(np.sort(np.concatenate(even)), np.linalg.eigvalsh(whole), atol=1e-12)


def test_toeplitz_matrices():
    found = claims.toeplitz(np.exp(-np.arange(200) / 10), 512)
    assert verdict(found) == "confirmed" and found.low > 0.9
    rng = np.random.default_rng(10)
    random = np.concatenate(
        [claims.toeplitz_ratios(rng.standard_normal(256), 256) for _ in range(40)]
    )
    assert random.mean() == pytest.approx(0.476, abs=0.012)  # semi-Poisson has 0.5
    nothing = claims.toeplitz(np.ones(1))
    assert verdict(nothing) == "not decidable here"


# The constant


def test_a_constant_of_pi_is_found_and_no_other(gue):
    x, y = claims.last_three(gue)
    assert x[0].tolist() == [gue[2], gue[1], gue[0]] and y[0] == gue[3]
    noise = np.random.default_rng(11).normal(0, 0.4, len(x))
    found = claims.is_pi(x, np.pi / x.sum(1) + noise, "pi", 0)
    assert verdict(found) == "confirmed" and found.low < np.pi < found.high
    found = claims.is_pi(x, y, "gue", 0)
    assert verdict(found) == "refuted"
    assert found.statistic == pytest.approx(2.870, abs=0.02)
    assert found.high - found.low < 0.03


def test_the_constant_depends_on_the_rule(gue):
    """A mean and a median: 2.83 and 2.92, both reported of the same spacings, need no model."""
    x, y = claims.last_three(gue)
    grid = np.linspace(2.5, 3.2, 701)
    errors = np.abs(y - grid[:, None] / x.sum(1)).mean(1)
    found = claims.least_absolute(x, y)
    assert found == pytest.approx(grid[errors.argmin()], abs=2e-3)
    assert found == pytest.approx(2.796, abs=0.02)


def test_bias(gue):
    x, y = claims.last_three(gue)
    past = np.column_stack([np.ones(len(y)), 1 / x.sum(1), x])
    fair = past @ np.linalg.lstsq(past, y)[0]  # least squares on 1 / sum has the same constant
    found = claims.is_bias(x, y, fair, 0)
    assert verdict(found) == "refuted" and found.statistic == pytest.approx(0, abs=1e-9)
    found = claims.is_bias(x, y, 1.062 * fair, 0)
    assert verdict(found) == "confirmed"
    assert found.statistic == pytest.approx(0.062 * claims.constant(x, y), abs=0.01)


def test_claims_of_spacings_alone(gue):
    found = claims.settle(claims.of_spacings(gue[:4000], 0))
    assert [c.verdict for c in found] == ["refuted"] * 3
    assert len({c.name for c in found}) == 3
    assert claims.settle(claims.of_spacings(gue[:4000], 0)) == found


def test_claims_of_forecasts_take_the_three_spacings_before(gue):
    spacing = gue[:6400].reshape(100, 64)
    x = np.lib.stride_tricks.sliding_window_view(spacing, 3, axis=1)[:, :-1].sum(2)
    mean = np.full((100, 63), np.nan)
    mean[:, 2:] = np.pi / x
    pi, bias = claims.of_forecasts(spacing, mean, 0)
    assert pi.statistic == pytest.approx(np.pi)
    assert bias.statistic == pytest.approx(np.pi - claims.constant(*_before(spacing)))


def _before(spacing):
    found = [claims.last_three(row) for row in spacing]
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))
