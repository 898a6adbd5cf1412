"""Resuming: a run that is killed anywhere ends with the weights of one that never was."""

import multiprocessing
import signal
import time

import numpy as np
import pytest
from conftest import ROOT, changed
from test_engine import MEMORIES, leave_torch_as_it_was, run, same, small, windows  # noqa: F401

from zetalib.network import model
from zetalib.reports import experiments
from zetalib.training import engine


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("at", "changes"),
    [
        (1, {}),
        (6, {}),
        (7, {}),
        (8, {}),
        (15, {}),
        (39, {}),
        (15, {"optimizer": "muon", "ema": 0.9}),
        (15, {"schedule": "wsd", "accumulate": 2, "precision": "bfloat16"}),
    ],
)
def test_a_run_stopped_anywhere_resumes_to_the_same_weights(
    at, changes, tmp_path, defaults, monkeypatch
):
    whole, _ = run(defaults, tmp_path, "whole", **changes)
    rate, calls = engine.learning_rate, []

    def dies(step, p, done):
        calls.append(step)
        if len(calls) > at:
            raise Killed
        return rate(step, p, done)

    monkeypatch.setattr(engine, "learning_rate", dies)
    with pytest.raises(Killed):
        run(defaults, tmp_path, "broken", **changes)
    monkeypatch.setattr(engine, "learning_rate", rate)
    resumed, log = run(defaults, tmp_path, "broken", **changes)
    assert same(whole.model, resumed.model) and whole.curve == resumed.curve
    assert (whole.best_nll, whole.best_step) == (resumed.best_nll, resumed.best_step)
    seconds = [point.seconds for point in resumed.curve]
    assert seconds == sorted(seconds), "the wall time of all sessions adds up"
    expected = at // 7 * 7
    assert any(f"at step {expected}" in line for line in log if "resuming" in line) == (
        expected > 0
    )


def train_in(folder):
    """A run that keeps a log and, at its end, weights."""
    whole = experiments.resolve("network-only", None, ROOT / "experiments", ROOT / "params.yaml")
    sections = small(whole, steps=180, checkpoint_every=5, ema=0.9)
    with (folder / "log").open("w", buffering=1) as log:
        result = engine.train(
            windows(), *sections, folder / "train.pt", lambda s: print(s, file=log)
        )
    model.save(result.model, folder / "model")


@pytest.mark.parametrize("memory", MEMORIES)
def test_what_a_memory_draws_is_drawn_again_on_resuming(memory, tmp_path, defaults, monkeypatch):
    p = defaults.model_copy(update={"memory": changed(defaults.memory, **memory)})
    whole, _ = run(p, tmp_path, "whole")
    rate = engine.learning_rate

    def dies(step, p, done):
        if step == 15:
            raise Killed
        return rate(step, p, done)

    monkeypatch.setattr(engine, "learning_rate", dies)
    with pytest.raises(Killed):
        run(p, tmp_path, "broken")
    monkeypatch.setattr(engine, "learning_rate", rate)
    resumed, log = run(p, tmp_path, "broken")
    assert any("at step 14" in line for line in log if "resuming" in line)
    assert same(whole.model, resumed.model) and whole.curve == resumed.curve


def test_kill_9_in_the_middle_resumes_to_the_same_weights(tmp_path):
    """A real process, really killed, between any two instructions, three times over."""

    processes = multiprocessing.get_context("forkserver")  # imports torch once for all five
    processes.set_forkserver_preload([__name__, "torch._dynamo"])

    def start(name):
        (tmp_path / name).mkdir(exist_ok=True)
        process = processes.Process(target=train_in, args=(tmp_path / name,))
        process.start()
        return process

    def said(name):
        return (tmp_path / name / "log").read_text()

    whole = start("whole")
    whole.join()
    assert whole.exitcode == 0 and "Step 180/180" in said("whole")
    checkpoint = tmp_path / "killed" / "train.pt"
    for pause in np.random.default_rng(0).uniform(0.05, 0.4, 3):
        killed = start("killed")
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            assert killed.is_alive()
            time.sleep(0.002)
        time.sleep(pause)
        killed.kill()
        killed.join()
        assert killed.exitcode == -signal.SIGKILL and "Step 180/180" not in said("killed")
    again = start("killed")
    again.join()
    assert again.exitcode == 0 and "resuming from" in said("killed")
    weights = [tmp_path / name / "model" / "weights.safetensors" for name in ("whole", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path, defaults, monkeypatch):
    fresh, _ = run(defaults, tmp_path, "fresh", lr=0.004)
    run(defaults, tmp_path, "shared")
    result, log = run(defaults, tmp_path, "shared", lr=0.004)
    assert any("belongs to another run" in line for line in log)
    assert same(result.model, fresh.model)


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_damaged_checkpoint_is_not_resumed(content, tmp_path, defaults):
    path = tmp_path / "run" / "train.pt"
    path.parent.mkdir()
    path.write_bytes(content)
    result, log = run(defaults, tmp_path)
    assert any("starting afresh" in line for line in log) and result.steps == 40
