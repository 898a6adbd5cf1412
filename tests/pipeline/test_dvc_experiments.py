"""Experiments, their queue and plots as users drive them: real dvc commands in a clone."""

import io
import json
import re
from pathlib import Path

import pandas as pd
import vl_convert
from small_graph import STAGES, run, stages_run


def test_an_experiment_runs_train_and_what_follows_and_nothing_before(clone):
    said = run(clone, "dvc", "exp", "run", "-S", "model.entropy_reg=0.01", "--name", "more-entropy")
    assert stages_run(said) == STAGES[STAGES.index("train") :]
    difference = run(clone, "dvc", "metrics", "diff")
    assert re.search(r"metrics/summary\.json +nll +-?\d", difference)
    assert re.search(r"model\.entropy_reg +0\.005 +0\.01", run(clone, "dvc", "params", "diff"))
    shown = run(clone, "dvc", "exp", "show", "--csv", "--only-changed")
    assert "more-entropy" in shown and "model.entropy_reg" in shown
    # What a user edits by hand afterwards is honoured, not composed over.
    text = (clone / "params.yaml").read_text()
    assert "entropy_reg: 0.01" in text and "# loss = NLL - entropy_reg * H(pi)" in text
    (clone / "params.yaml").write_text(text.replace("entropy_reg: 0.01 ", "entropy_reg: 0.005"))
    # What ran before with the same parameters comes back from DVC's run cache.
    again = stages_run(run(clone, "dvc", "repro"))
    assert again == ["diagnose", "report"], "these have tables in git that are no plots"
    assert run(clone, "git", "status", "--short") == ""


def test_a_queue_of_experiments_runs_in_copies_and_leaves_the_workspace_alone(clone):
    for lags in (1, 2):
        override = f"distill.lags={lags}"
        run(clone, "dvc", "exp", "run", "--queue", "-S", override, "-n", f"lags-{lags}")
    run(clone, "dvc", "exp", "run", "--run-all")
    shown = run(clone, "dvc", "exp", "show", "--csv")
    rows = pd.read_csv(io.StringIO(shown[shown.index("Experiment") :])).set_index("Experiment")
    assert rows.loc["lags-1", "distill.lags"] == 1 and rows.loc["lags-2", "distill.lags"] == 2
    assert "summary" not in " ".join(rows) and {"nll", "mae", "cover_90"} <= set(rows)
    references = run(clone, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    (one,) = (r for r in references if r.endswith("/lags-1"))
    (metrics,) = json.loads(run(clone, "git", "show", f"{one}:metrics/distill.json"))
    assert "s2" not in metrics["formulas"]["model"]["mean"]["spacings"]["3-15"]["formula"]
    assert run(clone, "git", "status", "--short") == ""


def test_a_named_experiment_is_one_command(clone):
    (clone / "experiments" / "quick.yaml").write_text("distill:\n  samples: 250\n")
    said = run(clone, "python", "-m", "pipeline.experiment", "quick")
    both = ["truth", "distill"]
    assert stages_run(said) in (both, [*both, "report"]) and "quick" in said
    run(clone, "git", "checkout", "-q", ".")
    (clone / "experiments" / "quick.yaml").unlink()
    run(clone, "dvc", "checkout", "-q")


def test_plots_draw_and_say_what_to_see(clone, tmp_path):
    said = run(clone, "dvc", "plots", "show", "--json")
    plots = json.loads(said[said.index("{") :])["data"]
    drawn = {Path(name).stem for name in plots}
    assert drawn >= {
        "learning_curve",
        "rollout",
        "pit",
        "reliability",
        "coverage",
        "coverage_by_width",
        "density",
        "forecasts",
        "formulas",
        "ablation",
        "masking",
        "similarity",
        "number_variance",
        "gain",
        "primes",
    }
    for name in drawn - {"forecasts"}:
        (plot,) = next(plots[n] for n in plots if Path(n).stem == name)
        spec = plot["content"]
        assert len(spec["title"]["subtitle"]) >= 1, "a caption"
        assert "NaN" not in json.dumps(spec)
        svg = vl_convert.vegalite_to_svg(spec)
        assert spec["title"]["text"] in svg and svg.count("<path") > 4
    page = run(clone, "dvc", "plots", "show", "-o", str(tmp_path / "page"))
    assert "index.html" in page
    assert "data:image/svg" in (tmp_path / "page/index.html").read_text() or list(
        (tmp_path / "page").rglob("*forecasts.svg")
    )
