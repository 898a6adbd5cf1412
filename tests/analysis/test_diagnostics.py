"""Diagnostics: measures against hand-made cases, and models whose right values are known."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from conftest import changed, zeros

from zetalib.analysis import diagnostics, slots
from zetalib.analysis.diagnostics import Record, Targets
from zetalib.data.window import Windows, rounded_height
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError
from zetalib.forecasting import forecasts, rollout
from zetalib.forecasting.decoding import Recomputed
from zetalib.inverse.solutions import SolutionCache
from zetalib.network.memory import Intervention
from zetalib.network.model import SpacingMDN

LENGTH = 32
CONTEXT = 12


def windows(count=24, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(count * LENGTH + 1)
    spacing = torch.from_numpy((1 + 0.3 * (x[1:] - 0.8 * x[:-1])).reshape(count, LENGTH))
    return Windows(spacing, torch.arange(count) * LENGTH + 1, torch.arange(count) * 31.0 + 5000)


def network(p, seed=0, noise=0.1, **memory):
    """A small model with weights that do something."""
    torch.manual_seed(seed)
    m = changed(p.model, layers=2, heads=2, width=16, lags=4, components=3)
    model = SpacingMDN(m, changed(p.memory, **memory), LENGTH - 1).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(noise * torch.randn_like(weight))
    return model


def nothing(spacing, height):
    """What solves the inputs of a model that starts from no solution."""


def small(p, **changes):
    sizes = {"windows": 24, "positions": 8, "horizon": 12, "trajectories": 5, "permutations": 20}
    return changed(p.diagnose, **{**sizes, **changes})


def diagnose(p, model, **changes):
    return diagnostics.diagnose(model, windows(), small(p, **changes), CONTEXT)


# Measures


@pytest.mark.parametrize(
    ("percent", "name"),
    [(0.0, "ballast"), (0.99, "ballast"), (1.0, "marginal"), (3.0, "useful"), (10.0, "strong"), (30.0, "strong"), (30.1, "dominant")],
)  # fmt: skip
def test_labels_change_at_the_published_thresholds(percent, name):
    assert slots.label(percent) == name


def test_entropy_runs_from_one_slot_to_all():
    assert slots.entropy(np.array([0.0, 5.0, 0.0])) == 0
    assert slots.entropy(np.full(8, 0.3)) == pytest.approx(math.log(8))
    assert slots.entropy(np.zeros(8)) == pytest.approx(math.log(8))
    assert slots.entropy(np.array([[1.0, 1.0], [1.0, 3.0]])) == pytest.approx(
        [0.6931, 0.5623], abs=1e-4
    )


def test_the_largest_share():
    assert slots.largest_share(np.array([1.0, 3.0])) == 0.75
    assert slots.largest_share(np.zeros(4)) == 0.25


def test_cosine_and_correlation():
    rows = np.array([[1.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]])
    expected = [math.sqrt(0.5), -1, 0, -math.sqrt(0.5), 0, 0]
    assert slots.off_diagonal(slots.cosine(rows)) == pytest.approx(expected)
    # A common offset makes vectors alike and leaves their correlation as it was.
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 4000))
    assert slots.cosine(noise + 10)[0, 1] > 0.98
    assert abs(slots.correlation(noise + 10)[0, 1]) < 0.05


def test_effective_rank_counts_directions():
    assert slots.effective_rank(np.eye(8)) == pytest.approx(8)
    assert slots.effective_rank(np.outer(np.arange(1.0, 9.0), np.ones(5))) == pytest.approx(1)
    assert slots.effective_rank(np.kron(np.eye(2), np.ones((4, 3)))) == pytest.approx(2)


def test_interaction_is_none_for_sums_and_large_for_spares():
    single, pairs = np.array([0.1, 0.2, 0.3]), [(0, 1), (1, 2)]
    assert slots.interaction(single, pairs, np.array([0.3, 0.5])) == pytest.approx(0)
    # Either slot alone is enough: nothing is lost until both are off.
    assert slots.interaction(np.full(2, 1e-3), [(0, 1)], np.array([1.0])) == pytest.approx(499)
    # Both carry the same: the second costs nothing more.
    assert slots.interaction(np.ones(2), [(0, 1)], np.array([1.0])) == pytest.approx(0.5)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_drift_exponent_is_that_of_a_power_law(exponent):
    assert slots.drift_exponent(0.2 * np.arange(1, 51) ** exponent) == pytest.approx(exponent)


def test_a_random_walk_drifts_with_exponent_one_half():
    steps = np.random.default_rng(0).standard_normal((4000, 50))
    errors = np.abs(steps.cumsum(1)).mean(0)
    assert slots.drift_exponent(errors) == pytest.approx(0.5, abs=0.02)


def test_growth_does_not_depend_on_the_zero_of_the_nll():
    assert slots.growth(math.log(1.1)) == pytest.approx(0.1)


def test_the_probe_finds_what_is_there_and_no_more():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((64, 200))  # more features than windows: easy to overfit
    told = features[:, :100].sum(1) + features[:, 0]
    targets = np.column_stack([told, rng.standard_normal(64)])
    r2, null = slots.probe(features, targets, 50, np.random.default_rng(1), 8)
    assert r2[0] > np.quantile(null, 0.99) and r2[1] < np.quantile(null[:, 1], 0.95)
    few = rng.standard_normal((64, 3))
    r2, null = slots.probe(few, few @ np.array([[2.0], [-1.0], [0.5]]) + 7, 50, rng, 8)
    assert r2[0] > 0.95 and null.max() < 0.3


def test_the_probe_judges_on_windows_it_was_not_fitted_on():
    """One-hot features could tell every window fitted on, and none of the others."""
    targets = np.random.default_rng(0).standard_normal((64, 1))
    r2, _ = slots.probe(np.eye(64), targets, 20, np.random.default_rng(0), 8)
    assert r2[0] < 0.05


# Targets, heads, weights, rollouts


def test_targets_are_spread_from_the_first_window_to_the_last():
    w = windows()
    targets = Targets.of(w, 5, 4, nothing)
    assert targets.spacing.shape == (5, LENGTH - 1) and targets.at.tolist() == [0, 10, 20, 30]
    assert targets.y[0, 0] == w.spacing[0, 1] and targets.y[-1, -1] == w.spacing[-1, -1]
    assert torch.equal(targets.height[[0, -1]], rounded_height(w.gamma[[0, -1]]))
    assert len(Targets.of(w, 1000, 1000, nothing).y) == len(w)


def test_forecasts_of_targets_are_those_of_the_windows(defaults):
    w, model = windows(), network(defaults)
    targets = Targets.of(w, len(w), 8, nothing)
    some = diagnostics.forecast(model, targets)
    whole = forecasts.forecast_windows(model, w.spacing, w.heights(), nothing)
    assert some.mu == pytest.approx(whole.mu[:, targets.at.numpy()], abs=1e-5)


def test_a_head_is_worth_what_is_lost_when_its_output_is_zero(defaults):
    model = network(defaults)
    report, tables = diagnose(defaults, model)
    blinded = copy.deepcopy(model)
    with torch.no_grad():
        blinded.blocks[1].attention.out.weight[:, 8:] = 0  # reads head 1 of two, each 8 wide
    targets = Targets.of(windows(), 24, 8, nothing)
    lost = diagnostics.mean_nll(diagnostics.forecast(blinded, targets), targets.y) - report["nll"]
    row = tables["heads"].set_index(["layer", "head"]).loc[(1, 1)]
    assert row.dnll == pytest.approx(lost, abs=1e-6) and abs(lost) > 1e-4


def test_weights_go_smallest_first_and_the_model_keeps_its_own(defaults):
    model = network(defaults)
    targets = Targets.of(windows(), 24, 8, nothing)
    before = copy.deepcopy(model.state_dict())
    curve = diagnostics.masked_nll(model, targets).set_index("share").nll
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert curve[0.0] == diagnostics.mean_nll(diagnostics.forecast(model, targets), targets.y)
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        bound = torch.cat([m.weight.abs().flatten() for m in linear]).quantile(0.5)
        for m in linear:
            m.weight[m.weight.abs() < bound] = 0
    by_hand = diagnostics.mean_nll(diagnostics.forecast(model, targets), targets.y)
    assert curve[0.5] == pytest.approx(by_hand, abs=1e-6) and by_hand != curve[0.0]


def test_uniform_attention_has_the_distance_of_uniform_attention(defaults):
    model = network(defaults, kind="postfix")
    with torch.no_grad():
        for block in model.blocks:
            block.attention.qkv.weight.zero_()
    seen = diagnostics.attend(model, Targets.of(windows(), 24, 8, nothing))
    t = LENGTH - 1
    assert seen.distance == pytest.approx(np.full((2, 2), (t - 1) / 4), abs=1e-3)
    entropy = np.log(np.arange(1, t + 1)).mean()
    assert seen.entropy == pytest.approx(np.full((2, 2), entropy), abs=1e-3)
    assert seen.centre == pytest.approx(np.full(8, (t - 1) / 2), abs=1e-3)
    assert seen.slots == pytest.approx(np.full(8, 1 / 8), abs=1e-6)
    assert seen.spread == pytest.approx(math.log(8), abs=1e-4)


def test_free_and_forced_errors_differ_by_what_is_fed_back():
    w = Windows(torch.ones(10, LENGTH, dtype=torch.float64), torch.arange(10), torch.arange(10) * 31.0 + 5000)  # fmt: skip
    record = Record.of(w, 4, CONTEXT, 5)

    def last_and_a_bit(context, height, solution, step):
        assert context.shape[1] <= CONTEXT and height.shape == (4,) and solution is None
        mean = context[:, -1:] + 0.1
        return Mixture(np.ones_like(mean), mean, np.full_like(mean, 1e-9))

    forecaster = Recomputed(last_and_a_bit, CONTEXT)
    assert record.free(forecaster, 3) == pytest.approx([0.1, 0.3, 0.6])
    assert record.forced(forecaster, 3, CONTEXT) == pytest.approx([0.1, 0.2, 0.3])


def test_true_spacings_that_are_fed_back_are_evidence():
    """The inverse problem is solved anew with each of them; in a free rollout it is not."""
    context, steps = 120, 6
    found = [zeros(start, context + steps) for start in np.linspace(9e5, 1.1e6, 3)]
    true, heights = np.stack([s for s, _ in found]), np.array([round(h, -4) for _, h in found])
    cache = SolutionCache()

    def fine(context, height, solution, step):
        ones = np.ones((len(context), 1))
        return Mixture(ones, solution.fine[:, -1:], solution.fine_sd[:, -1:])

    record, forecaster = Record(true, heights, context), Recomputed(fine, context, cache)
    solved = [cache(true[:, : context + h], heights).fine[:, -1] for h in range(steps)]
    expected = rollout.accumulated_error(np.stack(solved, 1), true[:, context:])
    forced, free = record.forced(forecaster, steps), record.free(forecaster, steps)
    assert forced == pytest.approx(expected, abs=1e-12)
    assert forced[0] == free[0] and forced[-1] < 0.1 * free[-1]


def test_variation_across_blocks():
    assert diagnostics.block_variation(np.ones((24, 3))) == 0
    halves = np.repeat([[1.0], [3.0]], 12, axis=0)
    assert diagnostics.block_variation(halves) == pytest.approx(0.5)


# Slots


def test_a_model_that_reads_one_slot_is_found_out(defaults):
    """Slots that do not attend to each other, and a readout that takes the third alone."""
    model = network(defaults, kind="postfix")
    with torch.no_grad():
        model.memory.pooling.zero_()
        model.memory.pooling[2] = 60.0
        for block in model.blocks:
            block.attention.out.weight.zero_()
            block.mlp[2].weight.mul_(20)  # slots differ
        model.head.weight.mul_(5)
    report, tables = diagnose(defaults, model)
    table = tables["slots"].set_index("slot")
    others = table.drop(2)
    assert (others.dnll == 0).all() and (others.eff_percent == 0).all()
    assert set(others.label) == {"ballast"} and not others.holds_focus.any()
    assert table.eff_percent[2] > 10 and report["memory"]["label"] in ("strong", "dominant")
    items, phenomena = report["items"], report["phenomena"]
    assert abs(table.dnll[2]) > 0.02 and items["E"]["value"] == pytest.approx(0, abs=1e-6)
    assert items["D"]["value"] == pytest.approx(8) and items["D"]["passes"] is False
    assert phenomena["slot_effect_norm"]["value"] == pytest.approx(1)
    assert items["K"]["value"] == pytest.approx(1 / 8, abs=0.01)
    assert (
        phenomena["shortcut"]["value"] is None and "memory alone" in phenomena["shortcut"]["reason"]
    )


def test_slots_that_are_all_the_same_are_found_out(defaults):
    model = network(defaults, kind="postfix")
    with torch.no_grad():
        for part in (model.memory.content, model.memory.ids, model.memory.pooling):
            part.copy_(part[:1].expand_as(part))
    report, _ = diagnose(defaults, model)
    items, phenomena = report["items"], report["phenomena"]
    assert items["B"]["value"] == pytest.approx(1, abs=1e-5) and items["B"]["passes"] is False
    assert items["C"]["value"] == pytest.approx(1, abs=1e-4) and items["C"]["passes"] is False
    assert items["K"]["value"] == pytest.approx(1 / 8, abs=0.01) and items["K"]["passes"] is False
    assert items["J"]["value"] == pytest.approx(0, abs=1e-6) and items["J"]["passes"] is True
    assert items["D"]["value"] == pytest.approx(1) and items["D"]["passes"] is True
    assert phenomena["gradient_correlation"]["present"] is True


def test_a_prefix_nobody_reads_is_a_shortcut(defaults):
    model = network(defaults, kind="prefix")
    with torch.no_grad():
        for block in model.blocks:
            block.attention.out.weight.zero_()
    report, tables = diagnose(defaults, model)
    assert (tables["slots"].dnll == 0).all()
    shortcut = report["phenomena"]["shortcut"]
    assert shortcut["value"] == 0 and shortcut["present"] is True
    assert report["items"]["A"]["passes"] is False
    assert report["memory"]["id_only_nll"] == report["memory"]["content_only_nll"] == report["nll"]


def test_slot_gradients_are_those_of_the_slots(defaults):
    model = network(defaults, kind="prefix")
    targets = Targets.of(windows(), 8, 8, nothing)
    found = diagnostics.slot_gradients(model, targets, size=4)
    assert found.shape == (8, 2 * 16)
    moved = copy.deepcopy(model)
    step, i, j = 1e-2, 3, 5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            moved.memory.content.copy_(model.memory.content)
            moved.memory.content[i, j] += sign * step
        nll = -diagnostics.forecast(moved, targets).logpdf(targets.y)
        values.append(nll[4:].mean())
    assert found[i, 16 + j] == pytest.approx(
        (values[0] - values[1]) / (2 * step), rel=0.05, abs=1e-5
    )


@pytest.mark.parametrize(
    "memory",
    [
        {"kind": "none"},
        {"kind": "prefix"},
        {"kind": "prefix", "link": "film"},
        {"kind": "prefix", "mask": "leaky"},
        {"kind": "prefix", "slots": 1},
        {"kind": "postfix"},
        {"kind": "postfix", "ids": "off"},
        {"kind": "postfix", "content": "zeroed", "link": "readout"},
    ],
    ids=str,
)
def test_every_variant_has_a_whole_report_with_reasons_for_what_is_null(defaults, memory):
    model = network(defaults, **memory)
    report, tables = diagnose(defaults, model)
    again, _ = diagnose(defaults, model)
    text = json.dumps(report, allow_nan=False)
    assert text == json.dumps(again)
    assert list(report["items"]) == list("ABCDEFGHIJK") and len(report["phenomena"]) == 6
    for found in (*report["items"].values(), *report["phenomena"].values()):
        assert (found["value"] is None) == bool(found["reason"])
    for letter in "GHI":
        assert report["items"][letter]["passes"] is not None
    memories = 0 if memory["kind"] == "none" else memory.get("slots", 8)
    assert len(tables["slots"]) == memories and len(tables["probe"]) == 8 * memories
    assert len(tables["ablation"]) == 4 + memories
    lines = diagnostics.render(report).splitlines()
    for letter in "ABCDEFGHIJK":
        assert sum(line.startswith(f"{letter}  ") for line in lines) == 1


def test_the_states_of_slots_that_see_the_window_are_probed(defaults):
    for memory, features in (
        ({"kind": "prefix"}, "slot effects"),
        ({"kind": "prefix", "mask": "leaky"}, "memory states"),
        ({"kind": "postfix"}, "memory states"),
    ):
        report, _ = diagnose(defaults, network(defaults, **memory))
        assert report["probe"]["features"] == features


def test_without_ids_there_is_nothing_to_permute(defaults):
    report, _ = diagnose(defaults, network(defaults, kind="postfix", ids="off"))
    assert report["items"]["J"]["value"] is None and "no IDs" in report["items"]["J"]["reason"]


def test_effects_are_differences_to_the_model_as_it_is(defaults):
    model = network(defaults, kind="prefix")
    targets = Targets.of(windows(), 24, 8, nothing)
    base = diagnostics.forecast(model, targets)
    off = Intervention(slots_off=(1,))
    found = diagnostics.effects(model, targets, base, [Intervention(), off])
    assert found.nll[0] == 0 and not found.mean[0].any()
    changed_mean = diagnostics.forecast(model, targets, off).mean() - base.mean()
    assert np.array_equal(found.mean[1], changed_mean) and changed_mean.any()


def test_a_split_too_short_for_rollouts_is_refused(defaults):
    with pytest.raises(ZetaError, match=r"diagnose\.horizon: the split has 768 .* needs 812"):
        diagnose(defaults, network(defaults), horizon=800)


# E4's rule


def seed_report(ablation=0.03, correlation=0.5, ids=0.05, content=0.2):
    return {
        "nll": -0.1,
        "items": {"A": {"value": ablation}, "C": {"value": correlation}},
        "memory": {"id_only_nll": -0.1 + ids, "content_only_growth": content},
    }


def test_e4_passes_with_an_effect_on_two_seeds_of_three():
    reports = [seed_report(), seed_report(), seed_report(ablation=0.0)]
    verdict = diagnostics.e4_verdict(reports)
    assert verdict["all"] and verdict["values"]["seeds_with_effect"] == 2
    assert not diagnostics.e4_verdict([*reports[1:], seed_report(ablation=0.0)])["all"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"ablation": 0.019}, "seeds_with_effect"),
        ({"correlation": 0.61}, "gradient_correlation"),
        ({"ids": 0.019}, "id_only_dnll"),
        ({"content": 0.31}, "content_only_growth"),
    ],
)
def test_e4_fails_by_each_of_its_parts(changes, part):
    verdict = diagnostics.e4_verdict([seed_report(**changes)] * 3)
    assert [name for name, passes in verdict["passes"].items() if not passes] == [part]
    assert not verdict["all"]


def test_e4_says_nothing_about_models_without_memory(defaults):
    report, _ = diagnose(defaults, network(defaults))
    for reports in ([], [report]):
        with pytest.raises(ValueError, match="memory slots"):
            diagnostics.e4_verdict(reports)


def test_a_file_that_is_no_report_is_named(tmp_path):
    path = tmp_path / "diagnose.json"
    for content in ("", "[]", '{"nll": 1.0}'):
        path.write_text(content)
        with pytest.raises(ZetaError, match="not a report of diagnostics"):
            diagnostics.read(path)
