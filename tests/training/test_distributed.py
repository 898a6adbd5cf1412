"""Data-parallel training on the loopback: the same curve, one voice, and a rank that is killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT, changed
from ruamel.yaml import YAML
from test_engine import leave_torch_as_it_was, small, windows  # noqa: F401

from zetalib import params
from zetalib.data.window import save_tensors
from zetalib.errors import ZetaError
from zetalib.reports import experiments
from zetalib.training import distributed, engine
from zetalib.training.distributed import Group

PATHS = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
ENV = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
TRAIN = [sys.executable, "-m", "pipeline.train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pipeline.train"]  # fmt: skip


def workspace(folder, **changes):
    """A folder in which the train stage can run on small windows."""
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    whole = experiments.resolve("network-only", None, ROOT / "experiments", ROOT / "params.yaml")
    how = {"steps": 60, "eval_every": 20, "checkpoint_every": 5, "device": "cpu", **changes}
    m, _, _, t = small(whole, **how)
    content["model"], content["train"] = m.model_dump(), t.model_dump()
    content["invert"] = whole.invert.model_dump()
    folder.mkdir()
    YAML().dump(content, folder / "params.yaml")
    data = windows()
    tensors = {"spacing": data.spacing, "n": data.n, "gamma": data.gamma}
    save_tensors(folder / "data/windows/train.pt", tensors)
    digest = hashlib.sha256(data.spacing.numpy().data).hexdigest()
    meta = {"length": 32, "splits": {"train": {"windows": len(data), "sha256": digest}}}
    (folder / "data/windows/meta.json").write_text(json.dumps(meta))
    return folder


def curve(folder):
    return pd.read_csv(folder / "plots/learning_curve.csv")


def run(folder, command):
    return subprocess.run(command, cwd=folder, env=ENV, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A training of two processes started by torchrun, never interrupted."""
    folder = workspace(tmp_path_factory.mktemp("pair") / "run")
    done = run(folder, TORCHRUN)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_two_processes_train_as_one_does_and_one_of_them_speaks(pair, tmp_path):
    folder, said = pair
    p = params.load(folder / "params.yaml")
    sections = (p.model, p.memory, p.losses, p.train)
    alone = engine.train(windows(), *sections, tmp_path / "train.pt", lambda _: None)
    together = curve(folder)
    for name in ("train_nll", "dev_nll"):
        found = [getattr(point, name) for point in alone.curve]
        assert found == pytest.approx(together[name], abs=2e-5)
    assert "processes 2" in said
    assert said.count("Step 60/60") == said.count("done: ") == 1
    assert not (folder / "data/checkpoints/train.pt").exists()


def ranks(mark):
    """Process ids by rank of the processes whose environment holds the mark."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            lines = (entry / "environ").read_text().split("\0") if entry.name.isdigit() else []
        except OSError:
            continue
        environ = dict(line.split("=", 1) for line in lines if "=" in line)
        if environ.get("ZETALIB_TEST") == mark and "RANK" in environ:
            found[int(environ["RANK"])] = int(entry.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the rank in /proc")
def test_a_killed_rank_is_named_and_training_resumes(pair, tmp_path):
    folder = workspace(tmp_path / "run", processes=2)
    mark = str(folder)
    process = subprocess.Popen(
        TRAIN,
        cwd=folder,
        env={**ENV, "ZETALIB_TEST": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoint = folder / "data/checkpoints/train.pt"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(ranks(mark)[1], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert process.returncode == 1 and len(errors) == 1, err
    assert "rank 1 of 2" in errors[0] and "Run the same command again" in errors[0]
    assert "Traceback" not in err and "Step 60/60" not in out
    again = run(folder, TRAIN)
    assert again.returncode == 0 and "resuming from" in again.stdout
    weights = [at / "data/model/weights.safetensors" for at in (pair[0], folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_each_rank_takes_its_own_part_of_the_batch():
    starts = torch.arange(12)
    parts = [Group(rank, 3).slice(starts) for rank in range(3)]
    assert torch.equal(torch.cat(parts), starts) and {len(part) for part in parts} == {4}


def test_ranks_that_would_train_something_else_are_named(defaults):
    class Second(Group):
        def bytes_from_first(self, content, device):
            return b"another key"

    with pytest.raises(ZetaError, match="rank 1 has other data, parameters or code than rank 0"):
        engine.agree(Second(1, 2), "my key", defaults.train, torch.device("cpu"))


def test_processes_and_parts_must_divide_the_batch(defaults):
    with pytest.raises(ValueError, match="batch 8 is no multiple of processes x accumulate 3"):
        changed(defaults.train, processes=3)


def test_a_process_that_has_ended_is_seen():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    while process.poll() is None:
        time.sleep(0.01)
    assert distributed._gone(process.pid) and not distributed._gone(os.getpid())
