"""Runs over seeds and the pages made of their records."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import ROOT, changed
from ruamel.yaml import YAML
from test_window import record, write_spacings

from zetalib.data import window
from zetalib.errors import ZetaError
from zetalib.inverse import noise, solutions
from zetalib.network import model
from zetalib.reports import experiments, markdown_pages, results
from zetalib.theory.primes import first_primes
from zetalib.training import batches, engine

SIZE = {
    "window": {"length": 32},
    "model": {"layers": 2, "heads": 2, "width": 16, "lags": 4, "components": 3},
    "train": {
        "steps": 20,
        "warmup": 2,
        "batch": 4,
        "eval_every": 10,
        "checkpoint_every": 5,
        "threads": 1,
        "skip_lowest": 0.0,
    },
    "evaluate": {"contexts": [16], "horizons": [5, 10, 100], "trajectories": 100, "explicit": 0},
}


@pytest.fixture
def workspace(tmp_path, monkeypatch, defaults):
    """A folder with windows, the experiments and a tiny size."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    shutil.copytree(ROOT / "experiments", "experiments")
    with open("experiments/sizes/mini.yaml", "w") as file:
        YAML(typ="safe").dump(SIZE, file)
    columns = record(32 * 220)
    write_spacings(tmp_path / "data/spacings", columns, [])
    p = changed(defaults.window, length=32)
    window.window_folder(tmp_path / "data/spacings", tmp_path / "data/windows", p)
    return tmp_path


def execute(name="E0", seed=1, **changes):
    (run,) = results.plan([name], "mini", [seed], **changes)
    said = []
    return results.execute(run, said.append), said


def test_a_run_leaves_a_record_of_its_scores(workspace):
    found, _ = execute()
    kept = json.loads((workspace / "metrics/results/E0-mini-1.json").read_text())
    assert kept == found
    assert found["command"] == "python -m pipeline.results run E0 --size mini --seeds 1"
    assert found["params"]["train"]["seed"] == 1 and found["steps"] == 20
    assert found["targets"] == 22 * 31 and found["trajectories"] == 100
    assert set(found["scores"]["err"]) == {"5", "10", "100"}
    assert [point["step"] for point in found["curve"]] == [10, 20]
    assert found["seconds"] >= found["curve"][-1]["seconds"] > 0
    assert found["tokens"] == 20 * 4 * 31


def test_its_scores_are_those_of_the_stages(workspace):
    from functools import partial

    from zetalib.forecasting import forecasts, rollout
    from zetalib.forecasting.decoding import Recomputed
    from zetalib.scoring import evaluate

    found, _ = execute()
    network = model.load(workspace / "data/results/E0-mini-1/model")
    tail = window.load(workspace / "data/windows", "val")
    p = experiments.resolve("E0", "mini").evaluate
    every = Recomputed(forecasts.next_spacing(network), network.context)
    rolled = evaluate.rollouts(tail, partial(rollout.rollout, every, draws=1, seed=p.seed), p)
    found_tail = forecasts.forecast(network, tail)
    metrics, _ = evaluate.evaluate(found_tail, rolled, p)
    for name in ("nll", "mae", "crps", "rmse", "pit_std"):
        assert found["scores"][name] == metrics[name]
    # Keys kept or not, to rounding.
    assert found["scores"]["err"] == pytest.approx(metrics["err"], abs=1e-3)
    assert found["constant"] == metrics["constant"]


def test_what_is_finished_is_skipped(workspace, monkeypatch):
    first, _ = execute()
    monkeypatch.setattr(results, "scores", None)
    again, said = execute()
    assert again == first and said == ["done before"]


def test_weights_are_kept_when_only_the_scoring_changes(workspace, monkeypatch):
    first, _ = execute("Q3")
    monkeypatch.setattr(engine, "train", None)
    faded, said = execute("Q3-fade")
    assert said[0] == "weights of data/results/Q3-mini-1"
    assert faded["scores"]["nll"] == first["scores"]["nll"]
    assert faded["scores"]["err"] != first["scores"]["err"]


def test_an_interrupted_training_is_taken_up(workspace, monkeypatch):
    whole, _ = execute(seed=3)
    shutil.rmtree("data/results")
    shutil.rmtree("metrics/results")

    real = torch.optim.AdamW.step
    steps = iter(range(12))

    def dies(self, *args, **kwargs):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        execute(seed=3)
    monkeypatch.undo()
    monkeypatch.chdir(workspace)
    again, said = execute(seed=3)
    assert any("at step 10" in line for line in said)
    assert again["scores"] == whole["scores"]


def test_other_parameters_or_data_are_another_run(workspace):
    (run,) = results.plan(["E0"], "mini", [1])
    fit, _ = results.splits(run.params.window, False)
    key = results.training_key(run, fit)
    (other,) = results.plan(["E0"], "mini", [2])
    assert results.training_key(other, fit) != key
    assert results.training_key(run, fit[:-1]) != key
    cheaper = changed(run.params.train, usd_per_hour=3.0)
    same = results.Run("E0", "mini", 1, run.params.model_copy(update={"train": cheaper}))
    assert results.training_key(same, fit) == key


def test_every_run_has_a_record_of_its_own_whatever_dots_are_in_its_name():
    runs = results.plan(experiments.names(ROOT / "experiments"), "small", [1, 2])
    names = [run.record.name for run in runs]
    assert len(set(names)) == len(runs) and names == [f"{run.name}.json" for run in runs]


def test_a_stand_in_lies_below_the_tail_and_in_no_table(workspace, defaults):
    p = changed(defaults.window, length=32)
    fit, scored = results.splits(p, stand_in=True)
    tail = window.load(workspace / "data/windows", "val")
    below = 220 - len(tail)
    assert len(scored) == int(0.1 * below)
    assert scored.n[-1] + 32 == tail.n[0]
    assert scored.n[0] - fit.n[-1] == 32 * (1 + int(0.05 * below))
    execute(stand_in=True)
    assert (workspace / "data/results/stand-in/E0-mini-1.json").is_file()
    assert results.read() == []


def test_windows_join_into_longer_ones_of_the_same_record(workspace):
    fit = window.load(workspace / "data/windows", "train")
    longer = results.recut(fit, 96)
    assert len(longer) == len(fit) // 3
    assert torch.equal(longer.spacing.ravel(), fit.spacing.ravel()[: len(longer) * 96])
    assert torch.equal(longer.n, fit.n[: len(longer) * 3 : 3])
    assert torch.equal(longer.gamma, fit.gamma[: len(longer) * 3 : 3])
    with pytest.raises(ZetaError, match="48 neither divides 32"):
        results.recut(fit, 48)


def test_windows_are_cut_into_shorter_ones_of_the_same_record(workspace):
    fit = window.load(workspace / "data/windows", "train")
    shorter = results.recut(fit, 8)
    assert torch.equal(shorter.spacing.ravel(), fit.spacing.ravel())
    assert torch.equal(shorter.n[:5], fit.n[0] + 8 * torch.arange(5))
    assert torch.equal(shorter.gamma[::4], fit.gamma)
    assert (shorter.gamma.diff() > 0).all()
    assert results.recut(shorter, 32).spacing.shape == fit.spacing.shape


def test_runs_share_processes_and_weights_and_failures_are_named(workspace):
    runs = results.plan(["Q3", "Q3-fade", "E0"], "mini", [1])
    bad = experiments.resolve("E0", "mini").model_copy(
        update={"window": changed(runs[0].params.window, length=48)}
    )
    said = []
    with pytest.raises(ZetaError, match="1 failed: E0-mini-9"):
        results.execute_all([*runs, results.Run("E0", "mini", 9, bad)], 2, said.append)
    assert "48 neither divides 32" in said[0]
    assert {r["experiment"] for r in results.read()} == {"Q3", "Q3-fade", "E0"}
    assert not (workspace / "data/results/Q3-fade-mini-1/model").exists()
    assert "done:" in (workspace / "data/results/E0-mini-1/log.txt").read_text()


def test_causal_forecasts_do_not_move_and_leaky_ones_do(workspace):
    p = experiments.resolve("Q3", "mini")
    tail = window.load(workspace / "data/windows", "val")
    torch.manual_seed(0)
    causal = model.SpacingMDN(p.model, p.memory, 31)
    leaky = model.SpacingMDN(p.model, experiments.resolve("Q3-leaky", "mini").memory, 31)
    for network in (causal, leaky):
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
    still, moved = (results.moves(network, tail[:8], 10) for network in (causal, leaky))
    assert still.shape == (20,)
    assert (still[:10] == 0).all() and (still[10:] > 1e-4).all()
    assert (moved > 1e-4).all()


def stored(experiment, seed, **changes):
    scores = {"nll": -0.5, "mae": 0.1, "crps": 0.07, "rmse": 0.14}
    scores |= {"pit_mean": 0.5, "pit_std": 0.29, "pit_ks": 0.01}
    scores |= {"err": {"10": 0.1, "25": 0.2, "50": 0.3, "100": 0.4}}
    return {
        "experiment": experiment,
        "group": experiments.group(experiment, ROOT / "experiments"),
        "size": "small",
        "seed": seed,
        "parameters": 829080,
        "tokens": 4_488_000,
        "steps": 2200,
        "seconds": 600.0,
        "device": "one core",
        "scores": scores | changes,
        "constant": {"mae": 0.328, "err": {"10": 0.36, "25": 0.38, "50": 0.33, "100": 0.28}},
        "perturbation": {"from": 2, "moves": [0.0, 0.0, 0.3, 0.4]},
    }


def section(page, title):
    return page.split(f"## {title}")[1].split("\n## ")[0]


def test_a_row_is_mean_and_sample_deviation_over_seeds():
    records = [stored("E0", seed, nll=nll) for seed, nll in ((7, -0.2), (42, -0.4), (1337, -0.3))]
    family = section(markdown_pages.page(records), "The published family")
    (row,) = [line for line in family.splitlines() if line.startswith("| E0 |")]
    assert "| small | 3 | −0.300 ± 0.100 |" in row
    assert "`python -m pipeline.results run E0 --size small --seeds 7 42 1337`" in row
    assert "829,080" in row and "10.0" in row


def test_what_others_reported_stands_beside():
    family = section(markdown_pages.page([stored("E0", 1)]), "The published family")
    assert "E0 baseline [author]" in family and "−0.069" in family
    assert "least squares AR(64) [planning]" in family
    (always,) = [line for line in family.splitlines() if "always 1" in line]
    assert "0.328" in always and "0.280" in always


def test_each_record_has_its_section():
    records = [stored(n, 1) for n in ("Q3", "Q3-fade", "arithmetic-random", "arithmetic-muon")]
    records += [stored("gue", 1), {**stored("arithmetic", 1), "size": "long"}]
    page = markdown_pages.page(records)
    assert "for the same time on one core." in section(page, "Longer runs")
    assert "| Q3-fade |" in section(page, "Remedies") and "| Q3 |" in section(page, "Remedies")
    assert "| arithmetic-random |" in section(page, "Positions")
    assert "| arithmetic-muon |" in section(page, "Ablation")
    assert "| arithmetic | long |" in section(page, "Longer runs")
    assert "| gue |" in section(page, "Other experiments")
    assert page.count("| arithmetic |") == 1


def test_one_seed_has_no_deviation_and_an_unknown_score_no_cell():
    assert markdown_pages.spread([0.5]) == "0.500"
    assert markdown_pages.spread([None, None]) == ""
    assert markdown_pages.spread([-1.0, -2.0, None]) == "−1.500 ± 0.707"


def test_the_paradox_page_is_of_the_records(tmp_path):
    records = [stored("E0", 1), stored("Q3", 1, nll=-0.6), stored("Q3-leaky", 1, nll=-1.35)]
    records[2]["scores"]["err"] = {"100": 1.0}
    records[2]["perturbation"]["moves"][1] = 0.7
    page = markdown_pages.paradox(records, "small")
    assert "takes 0.750 nats off the NLL of Q3 and multiplies its Err@100 by 2.50" in page
    assert re.search(r"\| Q3-leaky \| 1 \| −1.350 \| 1.000 \| 0.7 \|", page)
    assert re.search(r"\| Q3 \| 1 \| −0.600 \| 0.400 \| 0 \|", page)
    for name in ("one", "two"):
        markdown_pages.draw_paradox(records, "small", tmp_path / f"{name}.svg")
    drawn = [(tmp_path / f"{name}.svg").read_bytes() for name in ("one", "two")]
    assert drawn[0] == drawn[1] and b"<svg" in drawn[0]


def test_learning_curves_count_the_time_of_solving(tmp_path):
    curve = [{"step": s, "seconds": 60.0 * s, "dev_nll": -s / 10} for s in (1, 2, 3)]
    runs = [{**stored("E0", 1), "curve": curve, "solving_seconds": 0.0}]
    runs += [{**stored("inversion", 1), "curve": curve, "solving_seconds": 300.0}]
    with pytest.raises(ZetaError, match="run E0 inversion --size long"):
        markdown_pages.draw_curves(runs, tmp_path / "none.svg")
    runs = [{**r, "size": "long"} for r in runs]
    markdown_pages.draw_curves(runs, tmp_path / "late.svg")
    runs[1]["solving_seconds"] = 0.0
    markdown_pages.draw_curves(runs, tmp_path / "free.svg")
    assert (tmp_path / "late.svg").read_bytes() != (tmp_path / "free.svg").read_bytes()


def test_what_has_to_be_solved_for_training_is_timed_and_kept(workspace, monkeypatch):
    (run,) = results.plan(["inversion"], "mini", [1])
    fit, _ = results.splits(run.params.window, False)
    run.scratch.mkdir(parents=True)
    cache, solved = results._kept(run.params)
    assert not solved
    parts = batches.split_dev(fit[-40:], run.params.train)
    took = results._solve(cache, parts, run.scratch)
    assert took > 0
    w = parts[1]
    wanted = noise.forecasts(w.spacing.numpy()[:, :-1], w.heights().numpy())
    monkeypatch.setattr(noise, "forecasts", None)  # all is kept
    cache, _ = results._kept(run.params)
    assert results._solve(cache, parts, run.scratch) == took
    found = cache.stacked(w.spacing.numpy()[:, :-1], w.heights().numpy())
    assert found.tobytes() == wanted.tobytes()
    # What the invert stage solved is used for windows of the same length, and no others.
    file = workspace / "data/inversion/val.safetensors"
    file.parent.mkdir()
    solutions.save(file, w.spacing.numpy()[:, :-1], w.heights().numpy(), wanted)
    other = changed(run.params.window, length=64)
    assert results._kept(run.params)[1]
    assert not results._kept(run.params.model_copy(update={"window": other}))[1]


def test_where_learned_frequencies_ended_is_tested_over_all_seeds():
    rng = np.random.default_rng(0)
    logs = np.log(first_primes(32))

    def learned(name, kind, start, end):
        record = stored(name, 1)
        record["params"] = {"model": {"frequencies": kind, "primes": 32}}
        return record | {"frequencies": {"start": list(start), "end": list(end)}}

    start = rng.uniform(logs[0], logs[-1], 32)
    nearest = logs[np.abs(start[:, None] - logs).argmin(1)]
    records = [
        learned("arithmetic-learnable", "learnable", logs, logs + 0.001),
        learned("arithmetic-learnable-random", "learnable_random", start, (start + nearest) / 2),
    ]
    lines = section(markdown_pages.page(records), "Positions").splitlines()
    p = [float(line.split("|")[-2]) for line in lines if line.startswith("| began at")]
    assert len(p) == 3 and max(p) < 0.01
    lines = section(markdown_pages.page(records[:1]), "Positions").splitlines()
    assert not [line for line in lines if line.startswith("| began at")]


def test_the_paradox_page_names_the_runs_it_lacks():
    with pytest.raises(ZetaError, match=r"no record of Q3, Q3-leaky at size small\. .* run Q3 Q3-"):
        markdown_pages.paradox([stored("E0", 1)], "small")


def test_the_committed_pages_are_those_of_the_committed_records():
    records = results.read(ROOT / "metrics/results")
    assert (ROOT / "docs/runs.md").read_text() == markdown_pages.page(records)
    page = ROOT / "docs/paradox.md"
    assert not page.exists() or page.read_text() == markdown_pages.paradox(
        records, markdown_pages.PARADOX_SIZE
    )
