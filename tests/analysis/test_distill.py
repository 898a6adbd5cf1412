import dataclasses
import json
import math
import sys
import types

import numpy as np
import pandas as pd
import pytest
import sympy
import torch
from conftest import changed
from scipy import stats

from zetalib import params
from zetalib.analysis import claims, distill
from zetalib.data.window import Windows, rounded_height
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError
from zetalib.forecasting.forecasts import Forecasts
from zetalib.sources import riemann_siegel
from zetalib.theory import zeta
from zetalib.theory.primes import first_primes

LENGTH = 40
RNG = np.random.default_rng(0)


def law(s1, s2, s3):
    return 3 / (s1 + s2 + s3)


def windows(count=120, noise=0.3, seed=0):
    """Spacings that follow a law in the last three, up to noise."""
    rng = np.random.default_rng(seed)
    s = rng.uniform(0.7, 1.3, (count, LENGTH))
    for j in range(3, LENGTH):
        s[:, j] = law(s[:, j - 1], s[:, j - 2], s[:, j - 3]) * np.exp(rng.normal(0, noise, count))
    n, gamma = torch.arange(count) * LENGTH + 1, torch.full((count,), 1.13e6, dtype=torch.float64)
    return Windows(torch.from_numpy(s), n, gamma)


def forecasts(of, noise=0.02):
    """A forecaster that knows the law."""
    s = of.spacing.numpy()
    mean = np.ones((len(s), LENGTH - 1))
    mean[:, 2:] = law(s[:, 2:-1], s[:, 1:-2], s[:, :-3])
    y = s[:, 1:].ravel()
    mixture = Mixture(np.ones((len(y), 1)), mean.reshape(-1, 1), np.full((len(y), 1), noise))
    return Forecasts(np.arange(len(y)), y, mixture)


def sides(p, **how):
    both = [windows(seed=seed, **how) for seed in (0, 1)]
    return [distill.targets(forecasts(w), w, p) for w in both]


@pytest.fixture
def p(defaults):
    return changed(
        defaults.distill,
        targets=["model"],
        statistics=["mean"],
        features=["spacings"],
        known=[3],
        primes=2,
        samples=1000,
        evaluations=30_000,
        max_length=15,
        backend="operon",
    )


# Features


def test_features_are_the_last_spacings_latest_first(p):
    w = windows()
    data = distill.targets(forecasts(w), w, p)
    s = w.spacing.numpy()
    assert data.known[:4].tolist() == [1, 2, 3, 4] and data.window[LENGTH - 1] == 1
    assert data.lags[2, :4].tolist() == [s[0, 2], s[0, 1], s[0, 0], 1.0] and data.y[2] == s[0, 3]
    names, x = data.features("spacings", p)
    assert names == ["s1", "s2", "s3"] and (x == data.lags[:, :3]).all()
    names, x = data.features("primes", p)
    assert names == ["s1", "C2", "S2", "C3", "S3"] and x.shape == (len(data), 5)
    with pytest.raises(ZetaError, match="not of the targets of data/windows"):
        distill.targets(forecasts(w), windows(seed=5), p)


def test_features_never_move_when_later_spacings_do():
    w, t = windows(6), 17
    altered = w.spacing.clone()
    altered[:, t:] = 2.5
    other = Windows(altered, w.n, w.gamma)
    for features in (lambda of: distill.prime_sums(of, 4), lambda of: distill.last_spacings(of, 9)):
        before, after = features(w), features(other)
        # Row i belongs to the target at position i + 1 and may use spacings 0 ... i.
        assert (before[:, :t] == after[:, :t]).all() and (before[:, t:] != after[:, t:]).any()


def test_sums_over_zeros_find_the_phases_of_the_primes():
    """C_p + i S_p is e^{i gamma log p} at the last zero, shrunk: on 5,120 real zeros from 1130000 on."""
    offset = riemann_siegel.stretch(1.13e6, 1.13e6 + 2700).offset[: 20 * 256 + 1]
    gamma = 1.13e6 + offset
    spacing = zeta.spacings(gamma[:-1], np.diff(offset)).reshape(20, 256)
    starts = torch.from_numpy(gamma[:-1:256].copy())
    assert (rounded_height(starts) != starts).all()
    found = distill.prime_sums(Windows(torch.from_numpy(spacing), torch.arange(20), starts), 4)
    last = gamma[:-1].reshape(20, 256)[:, -40:]  # row i was made when zero i + 1 was the last
    reach = np.diff(gamma[:-1].reshape(20, 256)[:, [0, -20]]).mean()
    for i, q in enumerate(first_primes(4)):
        told = found[:, -40:, 2 * i] + 1j * found[:, -40:, 2 * i + 1]
        turned = told * np.exp(-1j * last * math.log(q))
        # What other primes leave, 0.08, is alike within a window: 0.08 / sqrt(20) is one sigma.
        shrunk = reach / (reach + 2 * math.pi * q / math.log(q))
        assert turned.mean() == pytest.approx(shrunk, abs=0.05)
        assert turned.std() < 0.15


def test_classes_cover_all_that_is_known():
    assert distill.classes([3, 24], 256) == {"3-23": (3, 23), "24-255": (24, 255)}


# Search


def test_operon_finds_a_law_and_the_table_says_so(p):
    fit, tail = sides(p)
    table, (quoted,) = distill.distill(fit, tail, LENGTH, p)
    assert quoted["r2_model"] > 0.999 > 0.98 > quoted["ar_r2_model"]
    s = distill.symbols(["s1", "s2", "s3"])
    formula = sympy.sympify(quoted["formula"], locals={str(a): a for a in s})
    for values in ((1.0, 1.0, 1.0), (0.8, 1.2, 1.1), (1.3, 0.7, 0.9)):
        at = float(formula.subs(dict(zip(s, values, strict=True))))
        assert at == pytest.approx(3 / sum(values), rel=0.02)
    assert table["complexity"].is_monotonic_increasing and table["loss"].is_monotonic_decreasing
    assert table["chosen"].sum() == 1 and set(table["known"]) == {f"3-{LENGTH - 1}"}
    assert quoted["by_known"].keys() == {"1", "8", "16", "24", "32"}


def test_the_search_is_reproducible(p):
    x = np.random.default_rng(0).uniform(0.5, 1.5, (500, 2))
    one, two = (distill.search_operon(x, x[:, 0] / x[:, 1], ["s1", "C2"], p) for _ in range(2))
    assert one == two and any("C2" in text for text in one)


def test_every_task_has_a_table_and_stands_beside_its_autoregression(p):
    p = changed(
        p,
        targets=["model", "truth"],
        statistics=["mean", "q0.9"],
        features=["spacings", "primes"],
        samples=400,
        evaluations=2000,
    )
    fit, tail = sides(p)
    table, quoted = distill.distill(fit, tail, LENGTH, p)
    keys = ["target", "statistic", "features", "known"]
    assert len(quoted) == 8 == len(table.groupby(keys)) == table["chosen"].sum()
    # The forecaster is the truth's mean here: what fits the one fits the other.
    of = table[table["chosen"] & (table["statistic"] == "mean") & (table["features"] == "spacings")]
    assert (of["r2_model"] > 0.7).all() and (of["r2_true"] > 0.05).all()
    plot = distill.fronts(table, "mean")
    assert set(plot["series"]) == {
        "spacings",
        "primes",
        "AR, terms as spacings",
        "AR, terms as primes",
    }
    assert plot["r2"].notna().all() and len(plot) == 2 * (table["statistic"] == "mean").sum()
    nested = distill.by_task(quoted)
    assert nested["truth"]["q0.9"]["primes"][f"3-{LENGTH - 1}"]["terms"] >= 1


def test_backend_is_pysr_only_where_it_works(p, monkeypatch, tmp_path):
    auto, pysr = changed(p, backend="auto"), changed(p, backend="pysr")
    monkeypatch.setattr(params, "installed", lambda _: False)
    assert distill.choose_backend(auto) == "operon"
    with pytest.raises(ZetaError, match=r"distill\.backend: pysr asked for.*pip install"):
        distill.choose_backend(pysr)

    # juliapkg's record, as it keeps it (juliapkg.state): a stand-in with its interface.
    record = tmp_path / "julia_env" / "pyjuliapkg" / "meta.json"
    state = types.SimpleNamespace(STATE={"meta": str(record)})
    monkeypatch.setitem(sys.modules, "juliapkg", types.SimpleNamespace(state=state))
    monkeypatch.setitem(sys.modules, "juliapkg.state", state)
    monkeypatch.setattr(params, "installed", lambda _: True)
    monkeypatch.setenv("PATH", "")  # no julia in PATH: that is no condition
    assert distill.choose_backend(pysr) == "pysr"
    assert distill.choose_backend(auto) == "operon", "installed, never set up"
    record.parent.mkdir(parents=True)
    julia = tmp_path / "julia"
    record.write_text(json.dumps({"executable": str(julia)}))
    (tmp_path / "julia_env" / "Manifest.toml").write_text("")
    assert distill.choose_backend(auto) == "operon", "its Julia is gone"
    julia.write_text("#!/bin/sh\nexit 1\n")  # never started
    julia.chmod(0o755)
    assert distill.choose_backend(auto) == "pysr"
    assert distill.choose_backend(p) == "operon"
    (tmp_path / "julia_env" / "Manifest.toml").unlink()
    assert distill.choose_backend(auto) == "operon", "its packages are not resolved"


def test_a_julia_that_cannot_be_made_ready_is_one_line(p, monkeypatch):
    class Finder:
        def find_spec(self, name, *_):
            if name == "pysr":
                raise RuntimeError("could not find Julia 1.10")

    monkeypatch.delitem(sys.modules, "pysr", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(ZetaError, match=r"distill\.backend: PySR's Julia could not be made ready"):
        distill.search_pysr(RNG.uniform(size=(5, 1)), RNG.uniform(size=5), ["s1"], p)


def test_a_feature_that_is_nan_is_named_before_any_search(p, monkeypatch):
    fit, tail = sides(p)
    monkeypatch.setitem(distill.SEARCHES, "operon", lambda *_: pytest.fail("it was searched"))
    fit.lags[7, 1] = np.nan
    with pytest.raises(ZetaError, match="s2 is NaN or infinite at .* targets of calibration"):
        distill.distill(fit, tail, LENGTH, changed(p, known=[3], samples=100_000))
    fit, tail = sides(p)
    tail.sums[50, 3] = np.inf
    both = changed(p, known=[3], features=["spacings", "primes"])
    with pytest.raises(ZetaError, match="S3 is NaN or infinite at 1 of .* targets of val"):
        distill.distill(fit, tail, LENGTH, both)


def test_pysr_is_driven_deterministically_and_read_the_same_way(p, monkeypatch):
    """A stand-in for PySR (Julia cannot be installed here) with PySR's documented interface."""
    asked = {}

    class PySRRegressor:
        def __init__(self, **options):
            asked.update(options)

        def fit(self, x, y, variable_names):
            assert variable_names == ["s1", "s2", "s3"] and x.shape == (1000, 3) == (len(y), 3)
            s1, s2, s3 = sympy.symbols("s1 s2 s3")
            found = [sympy.Float(1.0), 3.7 / (s1 + s2 + s3)]
            self.equations_ = pd.DataFrame({"sympy_format": found})

    monkeypatch.setitem(sys.modules, "pysr", types.SimpleNamespace(PySRRegressor=PySRRegressor))
    monkeypatch.setattr(distill, "choose_backend", lambda _: "pysr")
    _, (quoted,) = distill.distill(*sides(p), LENGTH, p)
    assert (
        asked["deterministic"]
        and asked["parallelism"] == "serial"
        and asked["random_state"] == p.seed
    )
    assert quoted["form"] == "k1/(s1 + s2 + s3)" and quoted["terms"] == 3
    assert quoted["constants"][0]["value"] == pytest.approx(3, abs=1e-9)


# Constants


def test_every_number_is_a_constant_but_powers_and_ones():
    f = distill.parse("2.5*sqrt(s1) - s2/(3 + exp(-0.5*C2)) + s1**2 - 1", ["s1", "s2", "C2"])
    assert sorted(f.constants) == [-0.5, 2.5, 3.0] and f.terms() == 4
    x = RNG.uniform(0.5, 1.5, (50, 3))
    expected = 2.5 * x[:, 0] ** 0.5 - x[:, 1] / (3 + np.exp(-0.5 * x[:, 2])) + x[:, 0] ** 2 - 1
    assert np.allclose(f(x), expected, rtol=1e-14)
    again = distill.parse(str(f), f.names)
    assert np.allclose(again(x), f(x), rtol=1e-8) and again.complexity() == f.complexity()
    step = 1e-6 * np.eye(3)
    numeric = [(f(x, f.constants + d) - f(x, f.constants - d)) / 2e-6 for d in step]
    assert np.allclose(f.jacobian(x, f.constants), np.stack(numeric, 1), atol=1e-8)
    assert np.isnan(distill.parse("log(s1 - 2.0)", ["s1"])(x[:, :1])).all()


@pytest.mark.parametrize("q", [None, 0.1, 0.5, 0.9])
def test_constants_are_those_of_least_loss(q):
    """Of a linear law with noise that grows: quantiles have their own slopes, known exactly."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0.5, 1.5, (40_000, 1))
    y = 1 + 0.5 * x[:, 0] + 0.2 * x[:, 0] * rng.standard_normal(len(x))
    best = distill.fitted(distill.linear(["s1"]), x, y, q)
    slope = 0.5 + (0.2 * stats.norm.ppf(q) if q else 0)
    assert best.constants == pytest.approx([1, slope], abs=0.02)
    if q:
        assert (y < best(x)).mean() == pytest.approx(q, abs=0.003)
    start = distill.parse("3.0*exp(0.1*s1)", ["s1"])
    curved = distill.fitted(start, x, y, q)
    found, before = (distill.losses(f(x), y, q).mean() for f in (curved, start))
    assert found < 0.5 * before and found >= 0.999 * distill.losses(best(x), y, q).mean()


@pytest.mark.parametrize("q", [None, 0.5])
def test_intervals_cover_the_constant_and_shrink_with_the_sample(q):
    """99 % intervals of 3 / (s1 + s2 + s3), of 60 samples whose windows share their noise."""
    start, hits, widths = distill.parse("2.0/(s1 + s2 + s3)", ["s1", "s2", "s3"]), 0, []
    window = np.repeat(np.arange(100), 10)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.uniform(0.5, 1.5, (1000, 3))
        y = 3 / x.sum(1) + 0.1 * rng.standard_normal(1000) + 0.1 * rng.standard_normal(100)[window]
        best = distill.fitted(start, x, y, q)
        (row,), told = distill.intervals(best, x, y, window, seed, q)
        assert told and row["value"] == pytest.approx(best.constants[0])
        hits += row["low"] < 3 < row["high"]
        widths.append(row["high"] - row["low"])
    assert hits >= 56  # of 60 at 0.99: below 57 has probability 0.004, below 56 0.0003
    # Least squares: 2 z sd of sum(f e) / sum(f^2), f near 1/3: 10 in a window share 0.1.
    if q is None:
        expected = 2 * 2.576 * 3 * math.sqrt((0.01 + 10 * 0.01) / 1000)
        assert np.mean(widths) == pytest.approx(expected, rel=0.15)


def test_constants_that_only_act_together_are_said_to():
    rng = np.random.default_rng(2)
    x = rng.uniform(0.5, 1.5, (400, 1))
    y, window = x[:, 0] + rng.normal(0, 0.1, 400), np.repeat(np.arange(40), 10)
    both = distill.Formula(
        sympy.sympify("(k1 + k2)*s1", locals={"s1": distill.symbols(["s1"])[0]}),
        ("s1",),
        np.array([0.4, 0.6]),
    )
    assert not distill.intervals(both, x, y, window, 0)[1]
    assert distill.intervals(distill.fitted(distill.linear(["s1"]), x, y), x, y, window, 0)[1]


# Tables


def test_pareto_keeps_only_what_is_simpler_or_better_and_finite():
    x = RNG.uniform(0.5, 1.5, (200, 2))
    y = x[:, 0] + 0.5 * x[:, 1] ** 2
    texts = ["s1", "log(s1 - 2.0)", "2.0", "s1 + 0.1", "s1*s2*0.0 + 5.0", "s1 + 0.3*s2**2", "s2"]
    table, formulas = distill.pareto([distill.parse(t, ["s1", "s2"]) for t in texts], x, y)
    assert table["complexity"].is_monotonic_increasing and table["loss"].is_monotonic_decreasing
    assert table["formula"].iloc[-1] == "s1 + 0.5*s2**2" and table["loss"].iloc[-1] < 1e-20
    assert not table["formula"].str.contains("log").any() and (table["score"][1:] > 0).all()
    assert [str(f) for f in formulas] == table["formula"].tolist()
    constant, _ = distill.pareto([distill.parse("2.0", ["s1", "s2"])], x, y)
    assert float(constant["formula"][0]) == pytest.approx(y.mean())


@pytest.mark.parametrize("q", [None, 0.9])
def test_autoregression_of_as_many_terms_is_the_linear_formula(q):
    x = RNG.uniform(0.5, 1.5, (900, 5))
    y = 1 - 0.4 * x[:, 0] + 0.2 * x[:, 2] + 0.1 * RNG.standard_normal(900)
    fit, tail = slice(500), slice(500, None)
    window = np.repeat(np.arange(50), 10)
    lags = distill.Task(x[fit], y[fit], q, y[fit], window, x[tail], y[tail], y[tail], q)
    three = dataclasses.replace(lags, x=x[fit, :3], tail=x[tail, :3])
    texts, names = ["1.5", "0.5*s2/s2 + 1.0*s1"], ["s1", "s2", "s3"]
    front = distill.fit_front(three.x, three.y, q, lags.x, texts, names)
    table, _ = distill.tabulate(three, lags, front)
    full = table.iloc[-1]
    assert full["terms"] == 3 and full["chosen"]
    for score in ("r2_model", "r2_true", "nll"):
        assert full[score] == pytest.approx(full[f"ar_{score}"], abs=1e-9)
    assert full["r2_true"] > table["ar_r2_true"].iloc[0] and table["terms"].iloc[0] == 0


def test_formulas_for_the_truth_are_the_same_from_their_file(p, tmp_path):
    p = changed(p, targets=["truth"], statistics=["mean", "q0.9"], samples=300, evaluations=1000)
    fit, tail = sides(p)
    bare = dataclasses.replace(fit, mixture=None)  # nothing of a forecast is looked at
    fronts = distill.fronts_of_truth(bare, LENGTH, p)
    distill.write_fronts(tmp_path / "truth.json", fronts)
    kept = distill.read_fronts(tmp_path / "truth.json")
    (one, rows), (two, others) = (distill.distill(fit, tail, LENGTH, p, f) for f in (fronts, kept))
    numbers = one.select_dtypes("number").columns
    np.testing.assert_allclose(one[numbers], two[numbers], rtol=1e-9)
    assert [r["form"] for r in rows] == [r["form"] for r in others] and len(rows) >= 2


@pytest.mark.parametrize(
    "form",
    [
        "__import__('os')",
        "s1.__class__",
        "s9",
        "k3",
        "exp(s1, 2)",
        "lambda: 1",
        "[s1]",
        "s1 +",
        "'s1'",
    ],
)
def test_a_form_is_arithmetic_and_nothing_else(form):
    with pytest.raises(ValueError, match="no part of a formula|is no formula"):
        distill.read_form(form, ["s1"], [1.0])


def test_a_damaged_file_of_formulas_is_refused(tmp_path):
    path = tmp_path / "truth.json"
    for text in ("", "{}", '[{"known": "3-23"}]', "[1]"):
        path.write_text(text)
        with pytest.raises(ZetaError, match=r"truth\.json: not a file of formulas.*-f truth"):
            distill.read_fronts(path)


def test_a_node_must_pay_for_itself():
    def chosen(loss, rows):
        return distill.choose(pd.DataFrame({"complexity": [1, 5, 6], "loss": loss}), rows)

    # At 1,000 rows by log(1000) / 1000 = 0.7 % of the loss, at 10,000 by 0.09 %.
    assert chosen([1.0, 0.14, 0.1], 1000) == 2 and chosen([1.0, 0.14, 0.1395], 1000) == 1
    assert chosen([1.0, 0.99, 0.985], 1000) == 0 and chosen([1.0, 0.14, 0.1395], 10_000) == 2
    assert chosen([1.0, 0.0, 0.0], 10) == 1


def test_scores_are_those_of_their_definitions():
    y = RNG.normal(1, 0.4, 5000)
    assert distill.explained(y, y) == 1 and distill.explained(np.full(5000, y.mean()), y) == 0
    assert distill.explained(np.full(5000, np.quantile(y, 0.9)), y, 0.9) == pytest.approx(
        0, abs=1e-9
    )
    assert distill.explained(np.full(5000, y.mean()), y, 0.9) < -0.5
    assert distill.explained(np.full(5000, np.nan), y) is None
    own = distill.noise(np.zeros(5000), y)
    assert own == pytest.approx((1, 0.4), abs=0.03)
    gaussian = 0.5 * math.log(2 * math.pi * math.e * own[1] ** 2)
    assert distill.nll(np.zeros(5000), y, own) == pytest.approx(gaussian, abs=1e-9)


# Pi


def record(count, bias=1.0, seed=0):
    """Windows of a law c / (s1 + s2 + s3) without bias, and its forecaster, `bias` too large."""
    w = windows(count, noise=0.35, seed=seed)
    f = forecasts(w)
    scale = (f.y / f.mixture.mean()).reshape(count, -1)[:, 2:].mean()
    return w, Forecasts(
        f.n, f.y, Mixture(f.mixture.pi, bias * scale * f.mixture.mu, f.mixture.sigma)
    )


@pytest.mark.parametrize(("bias", "answer"), [(1.0, "yes"), (1.2, "open")])
def test_pi_is_said_to_be_bias_only_where_no_fit_gives_it(bias, answer, p):
    w = windows(400, noise=0.35)
    s = w.spacing / w.spacing[:, 3:].mean()
    y = s[:, 1:].numpy().ravel()
    x = distill.last_spacings(Windows(s, w.n, w.gamma), 3).reshape(-1, 3)
    fair = claims.constant(x, y) / x.sum(1) * (1 + 0.02 * RNG.standard_normal(len(x)))
    ones = np.ones((len(y), 1))
    f = Forecasts(np.arange(len(y)), y, Mixture(ones, bias * fair[:, None], ones))
    found = distill.pi(distill.targets(f, Windows(s, w.n, w.gamma), p), [3], LENGTH, 0)
    assert found["answer"] == answer
    verdicts = {name: claim["verdict"] for name, claim in found["claims"].items()}
    assert verdicts["pi overshoots"] == "confirmed"
    assert verdicts["pi is bias"] == ("refuted" if bias == 1 else "confirmed")
    for rules in found["constants"].values():
        for c in rules.values():
            assert c["low"] < c["value"] < c["high"]
    # Jensen: right on average, no constant is above three.
    assert found["constants"]["true spacings"]["right on average"]["value"] < 3


def test_pi_is_no_bias_where_spacings_have_it(p):
    """Spacings made to have that constant have no mean of one: nothing overshoots then."""
    w = windows(400, noise=0.35)
    f = forecasts(w)
    x = distill.last_spacings(w, 3).reshape(-1, 3)
    y = f.y * claims.ON_MODEL / claims.constant(x, f.y)
    ones = np.ones((len(y), 1))
    told = Mixture(ones, y[:, None] + 0.1 * RNG.standard_normal((len(y), 1)), ones)
    scaled = dataclasses.replace(distill.targets(f, w, p), y=y, mixture=told)
    assert distill.pi(scaled, [3], LENGTH, 0)["answer"] == "no"


def test_rules_of_fitting_differ_without_any_bias(p):
    """On one record the mean, the median and least squares give three constants, none of them pi."""
    w = windows(400, noise=0.35, seed=3)
    x, y = distill.last_spacings(w, 3).reshape(-1, 3), w.spacing[:, 1:].numpy().ravel()
    window = np.repeat(np.arange(400), LENGTH - 1)
    found = distill.constants_of(x, y, window, 0)
    assert found["least squares"]["value"] == pytest.approx(claims.constant(x, y), rel=1e-9)
    assert found["least absolute error"]["high"] < found["least squares"]["low"]


def test_where_arrays_lie_in_memory_decides_no_constant():
    """A formula with a constant too many has a valley of best fits; MINPACK ended anywhere in it."""
    rng = np.random.default_rng(0)
    x = rng.gamma(6, 1 / 6, (4000, 3))
    y = 3 * np.exp(-x @ [0.9, 0.5, 0.3]) + 0.4 + 0.4 * rng.standard_normal(4000)
    text = "0.01 + 0.99 * (exp(-0.28 * s2 - 0.35 * s1) * (2.8 - 0.33 * s3 - 0.17 * s2 - 0.96 * s1)"
    formula = distill.parse(text + " + 0.26 * s1)", distill.lag_names(3))
    kept, found = [], set()
    for _ in range(20):
        kept.append(np.empty(8 * int(rng.integers(1, 5000)), np.uint8))
        found.add(distill.fitted(formula, x, y).constants.tobytes())
        kept = kept[-7:]
    assert len(found) == 1


def test_a_formula_without_finite_derivatives_stays_as_it_is():
    rng = np.random.default_rng(0)
    x = rng.gamma(6, 1 / 6, (500, 3))
    formula = distill.parse("0.7*s2 + 0.2/(0.5 + exp(exp(1.5*s1 + 1.2)))", distill.lag_names(3))
    assert np.isfinite(formula(x)).all()
    found = distill.fitted(formula, x, rng.gamma(6, 1 / 6, 500))
    assert np.isfinite(found(x)).all()
