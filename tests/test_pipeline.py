"""The pipeline as its users drive it: real dvc commands in a clone, on LMFDB's own 4520 zeros."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import vl_convert
from conftest import PLATT, ROOT
from dvc.utils.hydra import apply_overrides

from zetalib import platt
from zetalib.experiments import flatten, hydra
from zetalib.platt import Block, Header

SMALL = {
    "window": {"length": 32},
    "invert": {"solve": False},  # compiling its kernels takes as long as all the rest
    "model": {"inversion": False, "layers": 1, "heads": 2, "width": 16, "lags": 4, "components": 3},
    "train": {
        "shift": True,
        "skip_lowest": 0.4,
        "steps": 30,
        "warmup": 3,
        "eval_every": 10,
        "checkpoint_every": 10,
        "threads": 1,
    },
    "evaluate": {"contexts": [16, 31], "horizons": [5, 100], "trajectories": 100, "explicit": 2},
    "distill": {
        "statistics": ["mean", "q0.9"],
        "known": [3, 16],
        "primes": 2,
        "samples": 300,
        "evaluations": 2000,
        "max_length": 8,
    },
    "diagnose": {"windows": 8, "positions": 8, "horizon": 10, "trajectories": 10},
    "baselines": {
        "ar_orders": [2],
        "ar_skips": [0.0],
        "height_places": [8],
        "gaps": 2,
        "explicit_every": 4,
        "block": 1,
    },
    "laws": {"windows": 8, "trajectories": 10, "horizon": 20},
}
STAGES = ["download", "decode", "unfold", "verify", "window", "invert", "baselines", "contexts"]
STAGES += ["train", "calibrate", "evaluate", "distill", "diagnose", "laws", "report"]


def run(folder, *command, ok=True):
    """Run a command with this environment's python and dvc first; return what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == ok, said
    return said


def stages_run(said):
    return re.findall(r"Running stage '(\w+)'", said)


def commit(folder, message):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    run(folder, "git", "add", "-A")
    run(folder, "git", *identity, "commit", "-qm", message)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The working tree as a repository of its own, with small parameters, reproduced once."""
    base = tmp_path_factory.mktemp("pipeline")
    folder = base / "clone"
    listed = run(ROOT, "git", "ls-files", "-z", "-co", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("metrics/", "plots/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    (base / "zeros").mkdir()
    shutil.copyfile(PLATT, base / "zeros" / "zeros_14.dat")
    changes = [f"{key}={hydra(value)}" for key, value in flatten(SMALL)]
    source = ["download.source=directory", f"download.directory={base / 'zeros'}"]
    apply_overrides(str(folder / "params.yaml"), changes + source)
    run(folder, "git", "init", "-q", "-b", "main")
    commit(folder, "before")
    assert stages_run(run(folder, "dvc", "repro")) == STAGES
    commit(folder, "after")
    return folder


def test_a_second_repro_has_nothing_to_do_and_status_is_clean(clone):
    assert stages_run(run(clone, "dvc", "repro")) == []
    assert "up to date" in run(clone, "dvc", "status")
    assert run(clone, "git", "status", "--short") == ""


def test_forced_repro_leaves_the_lock_byte_for_byte(clone):
    before = (clone / "dvc.lock").read_bytes()
    assert stages_run(run(clone, "dvc", "repro", "--force")) == STAGES
    assert (clone / "dvc.lock").read_bytes() == before
    assert run(clone, "git", "status", "--short") == ""


def test_scores_can_be_recomputed_from_the_forecasts_alone(clone):
    """By code that shares nothing with the library: the loop a stranger would write."""
    import math

    table = pq.read_table(clone / "data/forecasts/val.parquet").to_pylist()
    total = 0.0
    for row in table:
        terms = [
            p * math.exp(-0.5 * ((row["y"] - m) / s) ** 2) / (s * math.sqrt(2 * math.pi))
            for p, m, s in zip(row["pi"], row["mu"], row["sigma"], strict=True)
        ]
        total -= math.log(sum(terms))
    metrics = json.loads((clone / "metrics/evaluate.json").read_text())
    assert total / len(table) == pytest.approx(metrics["nll"], abs=1e-5)
    assert {row["split"] for row in table} == {"val"}
    # 4519 spacings: 141 windows of 32, the highest 14 are val; 31 targets in each.
    first = (141 - 14) * 32 + 1  # rank of the zero before the first val spacing
    assert [row["n"] for row in table[:31]] == list(range(first + 2, first + 33))
    assert len(table) == 14 * 31


def test_an_experiment_runs_train_and_what_follows_and_nothing_before(clone):
    said = run(clone, "dvc", "exp", "run", "-S", "model.entropy_reg=0.01", "--name", "more-entropy")
    assert stages_run(said) == STAGES[STAGES.index("train") :]
    difference = run(clone, "dvc", "metrics", "diff")
    assert re.search(r"metrics/evaluate\.json +nll +-?\d", difference)
    assert re.search(r"model\.entropy_reg +0\.005 +0\.01", run(clone, "dvc", "params", "diff"))
    shown = run(clone, "dvc", "exp", "show", "--csv", "--only-changed")
    assert "more-entropy" in shown and "model.entropy_reg" in shown
    # What a user edits by hand afterwards is honoured, not composed over.
    text = (clone / "params.yaml").read_text()
    assert "entropy_reg: 0.01" in text and "# loss = NLL - entropy_reg * H(pi)" in text
    (clone / "params.yaml").write_text(text.replace("entropy_reg: 0.01 ", "entropy_reg: 0.005"))
    run(clone, "dvc", "repro")
    assert run(clone, "git", "status", "--short") == ""


def test_a_queue_of_experiments_runs_in_copies_and_leaves_the_workspace_alone(clone):
    for lags in (1, 2):
        override = f"distill.lags={lags}"
        run(clone, "dvc", "exp", "run", "--queue", "-S", override, "-n", f"lags-{lags}")
    run(clone, "dvc", "exp", "run", "--run-all")
    shown = run(clone, "dvc", "exp", "show", "--csv")
    rows = pd.read_csv(io.StringIO(shown[shown.index("Experiment") :])).set_index("Experiment")
    assert rows.loc["lags-1", "distill.lags"] == 1 and rows.loc["lags-2", "distill.lags"] == 2
    (formula,) = (c for c in rows if c.endswith("formulas.model.mean.spacings.3-15.formula"))
    assert "s2" not in rows.loc["lags-1", formula]
    assert run(clone, "git", "status", "--short") == ""


def test_a_named_experiment_is_one_command(clone):
    (clone / "experiments" / "quick.yaml").write_text("distill:\n  samples: 250\n")
    said = run(clone, "python", "-m", "pipeline.experiment", "quick")
    assert stages_run(said) in (["distill"], ["distill", "report"]) and "quick" in said
    run(clone, "git", "checkout", "-q", ".")
    (clone / "experiments" / "quick.yaml").unlink()
    run(clone, "dvc", "checkout", "-q")


def test_push_and_pull_leave_nothing_to_do_in_a_second_clone(clone, tmp_path):
    run(clone, "dvc", "remote", "add", "--local", "-f", "-d", "store", str(tmp_path / "store"))
    run(clone, "dvc", "push")
    run(tmp_path, "git", "clone", "-q", str(clone), "second")
    second = tmp_path / "second"
    run(second, "dvc", "remote", "add", "--local", "-d", "store", str(tmp_path / "store"))
    run(second, "dvc", "pull")
    assert stages_run(run(second, "dvc", "repro")) == []
    assert run(second, "git", "status", "--short") == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "entropy_reg: 0.005",
            "entropy_regg: 0.005",
            "model.entropy_reg: missing; model.entropy_regg: unknown parameter",
        ),
        ("entropy_reg: 0.005", "entropy_reg: lots", "model.entropy_reg: .* got 'lots'"),
        (
            "max_length: 8",
            "max_length: 1",
            "distill.max_length: .* greater than or equal to 3, got 1",
        ),
    ],
)
def test_a_bad_parameter_stops_with_one_line_and_touches_nothing(clone, old, new, message):
    path = clone / "params.yaml"
    good = path.read_text()
    lock = (clone / "dvc.lock").read_bytes()
    path.write_text(good.replace(old, new))
    try:
        said = run(clone, "dvc", "repro", ok=False)
    finally:
        path.write_text(good)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(rf"params\.yaml: {message}", errors[0])
    assert "Traceback" not in said and (clone / "dvc.lock").read_bytes() == lock
    run(clone, "dvc", "checkout", "-q")
    run(clone, "git", "checkout", "-q", ".")
    assert "up to date" in run(clone, "dvc", "status")


def test_damaged_zeros_stop_the_graph_with_one_line(clone):
    path = clone / "data/raw/zeros_14.dat"
    good = path.read_bytes()
    content = bytearray(good)
    content[40 + 13 * 5 : 40 + 13 * 6] = bytes(13)
    path.unlink()  # the file may be a link into the cache
    path.write_bytes(content)
    said = run(clone, "dvc", "repro", "--single-item", "--force", "decode", ok=False)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(r"zeros_14\.dat at byte 105: .* rank 6 is zero", errors[0])
    assert not (clone / "data/zeros/index.json").exists(), "what is left must not look whole"
    run(clone, "dvc", "checkout", "-q", "--force")
    run(clone, "git", "checkout", "-q", ".")
    assert path.read_bytes() == good


def test_a_lost_zero_stops_the_graph_at_the_gate_and_is_named(clone):
    given = clone.parent / "zeros" / "zeros_14.dat"
    (block,) = platt.read_blocks(given)
    h = block.header
    fewer = Header(h.t0, h.t1, h.n0, h.n1 - 1, 0)
    good = given.read_bytes()
    given.write_bytes(platt.encode([Block(fewer, np.delete(block.heights, 999, axis=0))]))
    try:
        said = run(clone, "dvc", "repro", "--force", ok=False)
    finally:
        given.write_bytes(good)
    assert stages_run(said) == ["download", "decode", "unfold", "verify"]
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(r"the zero of rank 1000 at t = 1419\.42248\d+ is missing", errors[0])
    assert not (clone / "metrics/verify.json").exists()
    run(clone, "git", "checkout", "-q", ".")
    run(clone, "dvc", "checkout", "-q", "--force")
    assert "up to date" in run(clone, "dvc", "status")


def test_the_table_stands_beside_the_references_rows(clone):
    said = run(clone, "python", "-m", "pipeline.table")
    for row in (
        "this run",
        "always 1",
        "least squares AR(64)",
        "E0 baseline [author]",
        "90% interval",
    ):
        assert row in said
    nll = json.loads((clone / "metrics/evaluate.json").read_text())["nll"]
    assert f"{nll:.3f}" in next(line for line in said.splitlines() if line.startswith("this run"))


def test_plots_draw_and_say_what_to_see(clone, tmp_path):
    said = run(clone, "dvc", "plots", "show", "--json", "--split")
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
        target = next(n for n in plots if Path(n).stem == name)
        spec = run(clone, "dvc", "plots", "show", target, "--show-vega")
        spec = json.loads(spec[spec.index("{") :])
        assert len(spec["title"]["subtitle"]) >= 1, "a caption"
        assert "NaN" not in json.dumps(spec)
        svg = vl_convert.vegalite_to_svg(spec)
        assert spec["title"]["text"] in svg and svg.count("<path") > 4
    page = run(clone, "dvc", "plots", "show", "-o", str(tmp_path / "page"))
    assert "index.html" in page
    assert "data:image/svg" in (tmp_path / "page/index.html").read_text() or list(
        (tmp_path / "page").rglob("*forecasts.svg")
    )


def test_progress_is_on_the_screen(clone):
    said = run(clone, "dvc", "repro", "--single-item", "--force", "train")
    assert re.search(r"Step 10/30 \| val_nll=.* \| ETA: ", said)
    assert "done: " in said
    assert not (clone / "data/checkpoints/train.pt").exists()


def test_a_killed_training_resumes_under_dvc(clone):
    """The checkpoint must survive DVC's removal of a stage's outputs before it runs again."""
    code = (
        "import zetalib.train as t\nrate = t.learning_rate\n"
        "def dies(step, p, done):\n    import os, signal\n"
        "    if step == 25: os.kill(os.getpid(), signal.SIGKILL)\n    return rate(step, p, done)\n"
        "t.learning_rate = dies\nfrom pipeline.train import main\nmain()\n"
    )
    lock = (clone / "dvc.lock").read_bytes()
    weights = (clone / "data/model/weights.safetensors").read_bytes()
    run(clone, "python", "-c", code, ok=False)
    assert (clone / "data/checkpoints/train.pt").exists()
    said = run(clone, "dvc", "repro", "--single-item", "--force", "train")
    assert "resuming from data/checkpoints/train.pt at step 20" in said
    assert (clone / "data/model/weights.safetensors").read_bytes() == weights
    assert (clone / "dvc.lock").read_bytes() == lock
