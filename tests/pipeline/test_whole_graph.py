"""The pipeline as its users drive it: real dvc commands in a clone, on LMFDB's own 4520 zeros."""

import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_graph import GIVEN, STAGES, run, stages_run

from zetalib import atomic
from zetalib.archive import codec
from zetalib.archive.codec import Block, Header


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
    metrics = atomic.read_metrics(clone / "metrics/evaluate.json")
    assert total / len(table) == pytest.approx(metrics["nll"], abs=1e-5)
    assert {row["split"] for row in table} == {"val"}
    # 4519 spacings: 141 windows of 32, the highest 14 are val; 31 targets in each.
    first = (141 - 14) * 32 + 1  # rank of the zero before the first val spacing
    assert [row["n"] for row in table[:31]] == list(range(first + 2, first + 33))
    assert len(table) == 14 * 31


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
    assert re.search(r"zeros_14\.dat: its md5 .* at byte 105: .* rank 6 is zero", errors[0])
    assert not (clone / "data/zeros/_index.json").exists(), "what is left must not look whole"
    run(clone, "dvc", "checkout", "-q", "--force")
    run(clone, "git", "checkout", "-q", ".")
    assert path.read_bytes() == good


def test_a_lost_zero_stops_the_graph_at_the_gate_and_is_named(clone):
    given = clone / GIVEN
    (block,) = codec.read_blocks(given)
    h = block.header
    fewer = Header(h.t0, h.t1, h.n0, h.n1 - 1, 0)
    good = given.read_bytes()
    given.write_bytes(codec.encode([Block(fewer, np.delete(block.heights, 999, axis=0))]))
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
    nll = atomic.read_metrics(clone / "metrics/evaluate.json")["nll"]
    assert f"{nll:.3f}" in next(line for line in said.splitlines() if line.startswith("this run"))


def test_progress_is_on_the_screen(clone):
    said = run(clone, "dvc", "repro", "--single-item", "--force", "train")
    assert re.search(r"Step 10/30 \| val_nll=.* \| ETA: ", said)
    assert "done: " in said
    assert not (clone / "data/checkpoints/train.pt").exists()


def test_a_killed_training_resumes_under_dvc(clone):
    """The checkpoint must survive DVC's removal of a stage's outputs before it runs again."""
    code = (
        "import zetalib.training.engine as t\nrate = t.learning_rate\n"
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
