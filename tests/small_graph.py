"""The graph with small parameters on LMFDB's own 4520 zeros, in a repository of its own."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from zetalib.reports.experiments import flatten, hydra

ROOT = Path(__file__).parents[1]
PLATT = Path(__file__).parent / "data" / "zeros_14.dat"  # LMFDB's own file
GIVEN = "given/zeros_14.dat"  # where the repository has it

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
    "calibrate": {"ahead": 5, "contexts": 60, "trajectories": 99},
    "evaluate": {"contexts": [16, 31], "horizons": [5, 40], "trajectories": 100, "explicit": 2},
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
STAGES += [
    "rollouts",
    "laws",
    "truth",
    "train",
    "calibrate",
    "evaluate",
    "distill",
    "diagnose",
    "claims",
]
STAGES += ["report"]


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


def reproduce(folder):
    """The working tree as a repository of its own, with small parameters, reproduced once."""
    listed = run(ROOT, "git", "ls-files", "-z", "-co", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("metrics/", "plots/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    (folder / GIVEN).parent.mkdir()
    shutil.copyfile(PLATT, folder / GIVEN)
    changes = [f"{key}={hydra(value)}" for key, value in flatten(SMALL)]
    source = ["download.source=directory", f"download.directory={Path(GIVEN).parent}"]
    apply_overrides(str(folder / "params.yaml"), changes + source)
    run(folder, "git", "init", "-q", "-b", "main")
    commit(folder, "before")
    assert stages_run(run(folder, "dvc", "repro")) == STAGES
    commit(folder, "after")


@pytest.fixture(scope="module")
def clone(tmp_path_factory, worker_id):
    """A reproduced repository of the file's own: a copy of one that all workers share."""
    top = tmp_path_factory.getbasetemp()
    shared = (top if worker_id == "master" else top.parent) / "reproduced"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            aside = tmp_path_factory.mktemp("aside") / "clone"
            reproduce(aside)
            aside.rename(shared)
    own = tmp_path_factory.mktemp("pipeline") / "clone"
    return Path(shutil.copytree(shared, own, symlinks=True))
