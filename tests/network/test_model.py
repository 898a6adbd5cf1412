"""The network: causal to the bit, in the right units, safe to load."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import changed

from zetalib.data.window import Windows
from zetalib.errors import ZetaError
from zetalib.forecasting import forecasts
from zetalib.inverse import noise
from zetalib.inverse.solutions import SolutionCache
from zetalib.network import model


def network(p, seed=0, **changes):
    torch.manual_seed(seed)
    small = {"layers": 3, "heads": 2, "width": 32, "lags": 8, **changes}
    built = model.SpacingMDN(changed(p.model, **small), p.memory, 63)
    for weight in built.parameters():  # far from the initial, nearly constant forecast
        torch.nn.init.normal_(weight, std=0.3)
    return built.eval()


def spacings(windows=4, length=64, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.gamma(6, 1 / 6, (windows, length)))


def forecast_windows(built, spacing):
    return forecasts.forecast_windows(built, spacing, HEIGHTS, model.solver_of(built))


HEIGHTS = torch.tensor([14.0, 1.0e3, 1.13e6, 8.0e9], dtype=torch.float64)
VARIANTS = [
    {"lags": 1},
    {"lags": 8},
    {"lags": 63},
    {"target": "spacing"},
    {"target": "residual"},
    {"components": 1},
    {"layers": 1, "heads": 1},
    {"layers": 6, "heads": 8, "width": 256},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_forecasts_never_move_when_later_spacings_do(variant, defaults):
    """To the bit, for every position and for any kind of change: the anti-leak test."""
    built = network(defaults, **variant)
    original = spacings()
    before = forecast_windows(built, original)
    rng = np.random.default_rng(1)
    for t in range(1, original.shape[1], variant.get("layers", 1)):
        for change in (rng.gamma(6, 1 / 6, (4, 64 - t)), 1e6, -3.0):
            altered = original.clone()
            altered[:, t:] = torch.as_tensor(change)
            after = forecast_windows(built, altered)
            # Forecast i is of spacing i + 1 and may use spacings 0 ... i: those before t are the same.
            for field in ("pi", "mu", "sigma"):
                old, new = getattr(before, field)[:, :t], getattr(after, field)[:, :t]
                assert (old == new).all(), f"{field} moved before {t}"


def test_a_forecast_does_depend_on_the_spacing_just_before_it(defaults):
    """The perturbation test can fail: forecasts that ignored their past would pass it too."""
    built, original = network(defaults), spacings()
    altered = original.clone()
    altered[:, 20] += 0.5
    before, after = (forecast_windows(built, s).mu for s in (original, altered))
    assert (before[:, :20] == after[:, :20]).all() and (before[:, 20] != after[:, 20]).all()


def test_windows_are_forecast_independently(defaults):
    built, original = network(defaults), spacings()
    altered = original.clone()
    altered[2] = 2.0
    before, after = (forecast_windows(built, s).mu for s in (original, altered))
    others = [0, 1, 3]
    assert (before[others] == after[others]).all()


def test_forecast_after_a_context_is_the_last_of_its_window(defaults):
    built, windows = network(defaults), spacings()
    whole = forecast_windows(built, windows)
    ahead = forecasts.next_spacing(built)(windows[:, :40].numpy(), HEIGHTS.numpy())
    assert np.allclose(ahead.mu, whole.mu[:, 39], atol=1e-5)
    assert np.allclose(ahead.pi.sum(-1), 1, atol=1e-12)


def test_forecasts_are_in_mean_spacings_whatever_the_target(defaults):
    for target, shift in (("residual", 1.0), ("spacing", 0.0)):
        built = network(defaults, target=target)
        with torch.no_grad():
            built.head.weight.zero_()
            built.head.bias.fill_(0.25)
            _, mu, _ = built(spacings()[:, :10].float(), HEIGHTS)
        assert torch.allclose(mu, torch.tensor(0.25 + shift))


def test_nll_is_that_of_the_mixture(defaults):
    built, windows = network(defaults), spacings()
    with torch.no_grad():
        forecast = built(windows[:, :-1].float(), HEIGHTS)
        found = model.nll(forecast, windows[:, 1:].float()).numpy()
    expected = -forecasts.to_mixture(forecast).logpdf(windows[:, 1:].numpy())
    assert np.allclose(found, expected, atol=1e-4)
    entropy = model.weight_entropy(forecast[0]).numpy()
    assert np.allclose(entropy, forecasts.to_mixture(forecast).weight_entropy(), atol=1e-5)


def test_more_spacings_than_the_context_are_refused(defaults):
    with pytest.raises(ValueError, match="64 spacings given, the model's context is 63"):
        network(defaults)(torch.ones(4, 64), HEIGHTS)


def test_every_window_has_a_height(defaults):
    with pytest.raises(ValueError, match=r"2 windows given, heights of shape \(4,\)"):
        network(defaults)(torch.ones(2, 63), HEIGHTS)


@pytest.fixture
def saved(tmp_path, defaults):
    model.save(network(defaults), tmp_path / "model")
    return tmp_path / "model"


def test_saved_model_is_the_same_model(saved, defaults):
    again = model.load(saved)
    expected = forecast_windows(network(defaults), spacings())
    assert (forecast_windows(again, spacings()).mu == expected.mu).all()


def test_weights_of_another_shape_are_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    config["model"]["width"] = 64
    (saved / "config.json").write_text(json.dumps(config))
    message = r"weights\.safetensors: tensor blocks\.0\..*: shape \(.*\), config\.json wants shape"
    with pytest.raises(ZetaError, match=message):
        model.load(saved)


def test_missing_and_surplus_tensors_are_refused(saved):
    path = saved / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    norm = weights.pop("norm.weight")
    safetensors.torch.save_file(weights, path)
    with pytest.raises(
        ZetaError, match=r"tensor norm\.weight: none of that name, config\.json wants"
    ):
        model.load(saved)
    safetensors.torch.save_file({**weights, "norm.weight": norm, "extra": norm.clone()}, path)
    with pytest.raises(ZetaError, match="tensor extra: .* wants none of that name"):
        model.load(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(saved, value):
    path = saved / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["norm.weight"][0] = value
    safetensors.torch.save_file(weights, path)
    with pytest.raises(ZetaError, match=r"tensor norm\.weight holds NaN or infinity.*-f train"):
        model.load(saved)


def test_weights_that_are_a_pickle_are_refused(saved):
    torch.save({"norm.weight": torch.ones(3)}, saved / "weights.safetensors")
    with pytest.raises(ZetaError, match="cannot be read as safetensors"):
        model.load(saved)


@pytest.mark.parametrize("content", ["", "{}", '{"model": {"layers": 0}, "context": 5}'])
def test_a_broken_configuration_is_refused(saved, content):
    (saved / "config.json").write_text(content)
    with pytest.raises(ZetaError, match=r"config\.json: no model configuration in it"):
        model.load(saved)


def test_forecasts_file_round_trip_and_ranks(tmp_path, defaults):
    """`n` is the rank of the zero that closes the target spacing."""
    s = spacings()
    windows = Windows(s, torch.tensor([101, 165, 229, 293]), torch.ones(4))
    found = forecasts.forecast(network(defaults), windows)
    # Window 0 starts after zero 101: its second spacing runs from zero 102 to zero 103.
    assert found.n[0] == 103 and found.y[0] == s[0, 1] and len(found.n) == 4 * 63
    assert found.n[63] == 167 and found.y[63] == s[1, 1]
    forecasts.write(tmp_path / "val.parquet", found, "val")
    again = forecasts.read(tmp_path / "val.parquet")
    assert (again.n == found.n).all() and (again.y == found.y).all()
    for field in ("pi", "mu", "sigma"):
        assert (getattr(again.mixture, field) == getattr(found.mixture, field)).all()


def test_forecasts_file_is_the_promised_interface(tmp_path, defaults):
    import pyarrow.parquet as pq

    windows = Windows(spacings(), torch.tensor([1, 65, 129, 193]), torch.ones(4))
    forecasts.write(tmp_path / "val.parquet", forecasts.forecast(network(defaults), windows), "val")
    schema = pq.read_schema(tmp_path / "val.parquet")
    assert schema.names == ["n", "y", "pi", "mu", "sigma", "split"]
    for name in ("pi", "mu", "sigma"):
        assert schema.field(name).type.list_size == defaults.model.components
        assert str(schema.field(name).type.value_type) == "double"


def test_a_file_that_is_no_table_of_forecasts_is_refused(tmp_path):
    (tmp_path / "val.parquet").write_bytes(b"garbage")
    with pytest.raises(ZetaError, match=r"val\.parquet: not a table of forecasts"):
        forecasts.read(tmp_path / "val.parquet")


def test_windows_are_solved_outside_what_is_compiled(defaults):
    """Or every window of a batch would be a branch of its own, compiled anew."""
    built = network(defaults, inversion=True, lags=3, components=4)
    heights = torch.tensor([1.23e4, 9.99e5, 1.01e6, 1.13e6], dtype=torch.float64)
    solve = model.solver_of(built)
    counters = torch._dynamo.utils.counters
    torch.compiler.reset()
    counters.clear()
    compiled = torch.compile(built, backend="eager")
    with torch.no_grad():
        for seed in (0, 1, 2):
            x = spacings(length=16, seed=seed)
            given = x, heights, solve(x, heights)
            for a, b in zip(built(*given), compiled(*given), strict=True):
                assert torch.allclose(a, b)
    assert counters["stats"]["unique_graphs"] <= 3


def test_a_model_that_starts_from_solutions_is_given_them(defaults):
    built = network(defaults, inversion=True, lags=3, components=4)
    with pytest.raises(ValueError, match="starts from solutions of the inverse problem"):
        built(spacings(length=16), torch.full((4,), 1e6, dtype=torch.float64))
    plain = network(defaults)
    assert model.solver_of(plain)(spacings(), HEIGHTS) is None


def test_solutions_come_from_the_cache(defaults, monkeypatch):
    built = network(defaults, inversion=True, lags=3, components=4)
    x, heights = spacings(length=16), torch.full((4,), 1e6, dtype=torch.float64)
    stacked = np.random.default_rng(0).uniform(0.1, 1, (4, 16, 7))
    cache = SolutionCache()
    cache.add(x.numpy(), heights.numpy(), stacked)
    monkeypatch.setattr(noise, "forecasts", None)
    found = model.solver_of(built, cache)(x.requires_grad_(), heights)
    assert torch.equal(torch.stack(list(found), -1), torch.from_numpy(stacked))
    assert not found.fine.requires_grad
