"""The command `dvc` as `make setup` leaves it: nothing is touched for a parameter that is refused."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small_graph import ROOT, commit, run

from zetalib import guard
from zetalib.errors import ZetaError

GRAPH = """\
stages:
  slow:
    cmd: python slow.py
    deps: [slow.py]
    params: [train]
    outs: [data/model]
    metrics:
      - metrics/train.json:
          cache: false
"""
SLOW = """\
import os, pathlib, time
for name in ("data", "metrics"):
    pathlib.Path(name).mkdir(exist_ok=True)
pathlib.Path("running").write_text(str(os.getpid()))
if "seed: 5" in pathlib.Path("params.yaml").read_text():
    time.sleep(60)
if "seed: 7" in pathlib.Path("params.yaml").read_text():
    time.sleep(2)
if "seed: 6" in pathlib.Path("params.yaml").read_text():
    raise SystemExit("it fails")
pathlib.Path("data/model").write_text("weights")
pathlib.Path("metrics/train.json").write_text("{}")
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A graph of one stage, run once, with this project's parameters."""
    folder = tmp_path_factory.mktemp("guarded")
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "slow.py").write_text(SLOW)
    (folder / ".gitignore").write_text("running\n")
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "dvc", "init", "-q")
    guarded(folder, "repro")
    commit(folder, "once")
    return folder


def command(*arguments):
    return [sys.executable, "-m", "zetalib.guard", *arguments]


def environment():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}


def hears(*signals):
    """As a terminal starts it: what the test runner ignores, under `nohup` say, is heard."""
    for number in signals:
        signal.signal(number, signal.SIG_DFL)


def started(folder, seed, before=lambda: hears(signal.SIGINT, signal.SIGHUP)):
    """An experiment whose stage runs, and the stage's process."""
    (folder / "running").unlink(missing_ok=True)
    process = subprocess.Popen(
        command("exp", "run", "-S", f"train.seed={seed}"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=before,
    )
    for _ in range(600):
        if (folder / "running").exists() and (folder / "running").read_text():
            return process, int((folder / "running").read_text())
        time.sleep(0.1)
    raise AssertionError(process.communicate(timeout=60))


def guarded(folder, *arguments, status=0):
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def alive(pid):
    """Whether it still runs: an orphan that nobody has waited for yet is a zombie, and ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def content(folder):
    """Every file of the workspace with its content; git's and DVC's own left out."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "running"]
    own = (".git", ".dvc")
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in files
        if p.relative_to(folder).parts[0] not in own
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["exp", "run", "-S", "train.lr=-1"], "train.lr: input should be greater than 0, got -1"),
        (["exp", "run", "--queue", "-S", "train.lr=-1"], "train.lr: .* got -1"),
        (["exp", "run", "--queue", "--set-param=train.seed=choice(1,-2)"], "train.seed: .* got -2"),
        (["exp", "run", "-Sparams.yaml:modell.width=3"], "modell: unknown parameter"),
        (["exp", "run", "-S", "train.lr"], "Nothing was run"),
        (["exp", "run", "--temp", "-S", "window.length=zwei"], "window.length: .* got 'zwei'"),
    ],
)
def test_a_refused_parameter_touches_nothing_and_queues_nothing(repository, arguments, message):
    before = content(repository)
    said = guarded(repository, *arguments, status=1)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert re.search(message, line) and "Traceback" not in said
    assert content(repository) == before


def test_nothing_refused_was_queued(repository):
    assert "No experiment tasks" in guarded(repository, "queue", "status")


def test_parameters_edited_by_hand_are_checked_before_repro_removes_anything(repository):
    path = repository / "params.yaml"
    good = path.read_text()
    path.write_text(good.replace("batch: ", "batch: -"))
    try:
        assert "train.batch" in guarded(repository, "repro", status=1)
        assert (repository / "data/model").read_text() == "weights"
    finally:
        path.write_text(good)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_experiment_cut_off_leaves_the_workspace_as_it_was(repository, ending):
    before = content(repository)
    process, stage = started(repository, 5)
    assert not (repository / "data/model").exists(), "DVC removes outputs first"
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)  # as a terminal does
    else:
        process.send_signal(ending)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert content(repository) == before, said
    assert "The workspace is as it was" in said
    assert not alive(stage)


def test_what_is_ignored_stays_ignored(repository):
    """A hang-up under `nohup`: the experiment goes on to its end."""
    process, stage = started(repository, 7, lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert not alive(stage) and (repository / "data/model").read_text() == "weights"
    run(repository, "git", "checkout", "-q", ".")
    run(repository, "dvc", "checkout", "-q")


def test_an_experiment_that_fails_leaves_the_workspace_as_it_was(repository):
    before = content(repository)
    said = guarded(repository, "exp", "run", "-S", "train.seed=6", status=255)
    assert "it fails" in said and "The workspace is as it was" in said
    assert content(repository) == before


def test_an_experiment_that_ends_well_is_left_alone(repository):
    guarded(repository, "exp", "run", "-S", "train.seed=8")
    assert "seed: 8" in (repository / "params.yaml").read_text()
    run(repository, "git", "checkout", "-q", ".")
    run(repository, "dvc", "checkout", "-q")


def test_what_says_no_parameter_of_ours_is_not_looked_at():
    assert guard.overrides(["-S", "a.b=1", "--set-param", "c=2", "-Sother.yaml:d=3"]) == [
        "a.b=1",
        "c=2",
    ]
    assert guard.overrides(["-n", "name", "--queue"]) == []
    guard.check(["-S", "train.lr=0.001", "-S", "download.table=null"], ROOT / "params.yaml")
    with pytest.raises(ZetaError, match="Nothing was run"):
        guard.check(["-S", "=="], ROOT / "params.yaml")


def test_setup_puts_it_in_the_place_of_dvc():
    makefile = (ROOT / "Makefile").read_text()
    assert "from zetalib.guard import command" in makefile and "$(VENV)/bin/dvc" in makefile
