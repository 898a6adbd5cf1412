import sys
import types

import numpy as np
import pandas as pd
import pytest
import sympy
from conftest import changed

from zetalib import distill
from zetalib.errors import ZetaError
from zetalib.forecasts import Forecasts
from zetalib.mixture import Mixture


def forecasts(m=3000, law=lambda s1, s2, s3: 3 / (s1 + s2 + s3), noise=0.02, seed=0, first=1):
    """A forecaster that knows a law, and spacings that follow it up to noise."""
    rng = np.random.default_rng(seed)
    y = list(rng.uniform(0.7, 1.3, 3))
    mean = [1.0] * 3
    for _ in range(m - 3):
        mean.append(law(y[-1], y[-2], y[-3]))
        y.append(mean[-1] * np.exp(rng.normal(0, 0.3)))
    y, mean = np.array(y), np.array(mean)
    mixture = Mixture(np.ones((m, 1)), mean[:, None], np.full((m, 1), noise))
    return Forecasts(np.arange(first, first + m), y, mixture)


@pytest.fixture
def p(defaults):
    return changed(
        defaults.distill, samples=1000, evaluations=60_000, max_length=15, backend="operon"
    )


def test_features_are_the_last_spacings_latest_first(p):
    f = forecasts()
    data = distill.task(f, p)
    assert data.x[0].tolist() == [f.y[2], f.y[1], f.y[0]] and data.true[0] == f.y[3]
    assert data.model[0] == f.mixture.mu[3, 0] and len(data.x) == 2997


def test_targets_without_known_predecessors_are_left_out(p):
    f = forecasts()
    n = f.n.copy()
    n[1000:] += 1  # the first spacing of a new window is no target: a gap in the ranks
    data = distill.task(Forecasts(n, f.y, f.mixture), p)
    assert len(data.x) == 2997 - 3
    with pytest.raises(ZetaError, match=r"distill\.lags: no target has 3 consecutive"):
        distill.task(Forecasts(np.arange(0, 6000, 2), f.y, f.mixture), p)


def test_operon_finds_a_law_and_the_table_says_so(p):
    table, metrics = distill.distill(forecasts(), forecasts(seed=1, first=9001), p)
    assert metrics["backend"] == "operon" and metrics["r2_model"] > 0.999
    assert metrics["linear_r2_model"] < metrics["r2_model"]
    s1, s2, s3 = distill.variables(3)
    formula = sympy.sympify(metrics["formula"], locals={str(s): s for s in (s1, s2, s3)})
    for values in ((1.0, 1.0, 1.0), (0.8, 1.2, 1.1), (1.3, 0.7, 0.9)):
        at = float(formula.subs(dict(zip((s1, s2, s3), values, strict=True))))
        assert at == pytest.approx(3 / sum(values), rel=0.02)
    assert list(table) == ["complexity", "loss", "score", "formula", "r2_model", "r2_true"]
    assert table["complexity"].is_monotonic_increasing and table["loss"].is_monotonic_decreasing


def test_the_search_is_reproducible(p):
    x = np.random.default_rng(0).uniform(0.5, 1.5, (500, 3))
    y = x[:, 0] / x[:, 1]
    assert distill.search_operon(x, y, p) == distill.search_operon(x, y, p)


def test_true_spacings_and_quantiles_can_be_the_target(p):
    f = forecasts()
    data = distill.task(f, changed(p, statistic="q0.9"))
    assert np.allclose(data.model, f.mixture.mu[3:, 0] + 1.2815515655 * 0.02)
    _, metrics = distill.distill(f, f, changed(p, target="true", evaluations=5000))
    assert 0 < metrics["r2_true"] < 1


def test_pareto_keeps_only_what_is_simpler_or_better_and_finite():
    x = np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 2.0]])
    y = x[:, 0]
    table = distill.pareto(["s1", "s1 + 0.1", "s2", "log(s1 - 2)", "2", "s1*s2 - s1*s2 + 5"], x, y)
    assert table["formula"].tolist() == ["s1"]
    table = distill.pareto(["2", "s1 + 0.1"], x, y)
    assert table["formula"].tolist() == ["2", "s1 + 0.1"] and table["score"][1] > 0


def test_backend_is_pysr_only_when_julia_is_there(p, monkeypatch):
    auto = changed(p, backend="auto")
    monkeypatch.setattr(distill.shutil, "which", lambda _: None)
    assert distill.choose_backend(auto) == "operon"
    with pytest.raises(ZetaError, match=r"distill\.backend: pysr asked for"):
        distill.choose_backend(changed(p, backend="pysr"))
    monkeypatch.setattr(distill.shutil, "which", lambda _: "/usr/bin/julia")
    monkeypatch.setattr(distill.importlib.util, "find_spec", lambda _: object())
    assert distill.choose_backend(auto) == "pysr"
    assert distill.choose_backend(p) == "operon"


def test_pysr_is_driven_deterministically_and_read_the_same_way(p, monkeypatch):
    """A stand-in for PySR (Julia cannot be installed here) with PySR's documented interface."""
    asked = {}

    class PySRRegressor:
        def __init__(self, **options):
            asked.update(options)

        def fit(self, x, y, variable_names):
            assert variable_names == ["s1", "s2", "s3"] and x.shape == (1000, 3) == (len(y), 3)
            s1, s2, s3 = sympy.symbols("s1 s2 s3")
            found = [sympy.Float(1.0), 3 / (s1 + s2 + s3)]
            self.equations_ = pd.DataFrame({"sympy_format": found})

    monkeypatch.setitem(sys.modules, "pysr", types.SimpleNamespace(PySRRegressor=PySRRegressor))
    monkeypatch.setattr(distill, "choose_backend", lambda _: "pysr")
    table, metrics = distill.distill(forecasts(), forecasts(seed=1), p)
    assert (
        asked["deterministic"]
        and asked["parallelism"] == "serial"
        and asked["random_state"] == p.seed
    )
    assert metrics["backend"] == "pysr" and metrics["formula"] == "3/(s1 + s2 + s3)"
    assert len(table) == 3 or len(table) == 2
