"""The command `dvc` as `make setup` leaves it: what is refused touches nothing, a user's file stays."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML
from small_graph import PLATT, ROOT, commit, run

from zetalib import guard
from zetalib.errors import ZetaError

GRAPH = """\
stages:
  download:
    cmd: python source.py
    deps: [source.py]
    params: [download]
    outs:
      - data/raw:
          persist: true
  train:
    cmd: python slow.py
    deps: [slow.py, data/raw]
    params: [train]
    outs: [data/model]
    metrics:
      - metrics/train.json:
          cache: false
"""
SOURCE = """\
import pathlib, shutil
from zetalib.archive import manifest
raw = pathlib.Path("data/raw")
raw.mkdir(parents=True, exist_ok=True)
shutil.copyfile("zeros_14.dat", raw / "zeros_14.dat")
manifest.write(raw, "directory")
"""
SLOW = """\
import os, pathlib, signal, time
for name in ("data/model", "metrics"):
    pathlib.Path(name).mkdir(exist_ok=True)
pathlib.Path("running").write_text(str(os.getpid()))
text = pathlib.Path("params.yaml").read_text()
weights = pathlib.Path("data/model/weights.safetensors")
if pathlib.Path("fail").exists():
    raise SystemExit("it fails")
if "seed: 12" in text:
    weights.write_text("half")
    raise SystemExit("it fails")
if "seed: 14" in text:
    def slowly(*_):
        time.sleep(1.5)
        pathlib.Path("metrics/train.json").write_text('{"cut off": 1}')
        raise SystemExit(1)
    signal.signal(signal.SIGTERM, slowly)
    time.sleep(60)
if "seed: 5" in pathlib.Path("params.yaml").read_text():
    time.sleep(60)
if "seed: 7" in pathlib.Path("params.yaml").read_text():
    time.sleep(2)
if "seed: 6" in pathlib.Path("params.yaml").read_text():
    raise SystemExit("it fails")
pathlib.Path("data/model/weights.safetensors").write_text("weights")
pathlib.Path("metrics/train.json").write_text("{}")
"""
WEIGHTS = "data/model/weights.safetensors"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A graph of two stages, run once, with this project's parameters."""
    folder = tmp_path_factory.mktemp("guarded")
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "slow.py").write_text(SLOW)
    (folder / "source.py").write_text(SOURCE)
    (folder / "deeper").mkdir()
    (folder / "deeper" / "README").write_text("a folder to work in")
    shutil.copyfile(PLATT, folder / "zeros_14.dat")
    (folder / ".gitignore").write_text("running\n")
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "t")  # DVC's experiments are commits
    run(folder, "git", "config", "user.email", "t@example.org")
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
        (["exp", "run", "--set-par", "train.lr=-1"], "train.lr: .* got -1"),
        (["exp", "run", "--que", "-S", "./params.yaml:train.lr=-1"], "train.lr: .* got -1"),
        (["experiments", "run", "-S", "download.directory=~/platt"], "'download.directory=\"~/pl"),
        (["exp", "run", "-S", "evaluate.contexts.0=-5"], "evaluate.contexts.0: .* got -5"),
    ],
)
def test_a_refused_parameter_touches_nothing_and_queues_nothing(repository, arguments, message):
    before = content(repository)
    said = guarded(repository, *arguments, status=1)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert re.search(message, line) and "Traceback" not in said
    assert content(repository) == before


@pytest.mark.parametrize(
    ("folder", "arguments"),
    [
        ("deeper", ["exp", "run", "-S", "../params.yaml:train.lr=-1", "../dvc.yaml:train"]),
        (".git", ["--cd", "..", "exp", "run", "-S", "train.lr=-1"]),
        ("deeper", ["--cd=..", "exp", "run", "-S", "train.lr=-1"]),
    ],
)
def test_a_parameter_is_refused_from_every_folder(repository, folder, arguments):
    before = content(repository)
    said = guarded(repository / folder, *arguments, status=1)
    assert "train.lr: input should be greater than 0, got -1" in said
    assert len(said.splitlines()) == 1 and content(repository) == before


EXPERIMENTS = [
    ["-S", "download.source=directory", "-S", "download.directory=data/raw"],
    ["-S", "download.source=siegel", "-S", "download.max_zeros=1000"],
    ["-S", "train.lr=0.002"],
]
MINE = ["data/raw/zeros_5000.dat", "data/raw/a/b.txt", "data/model/mine.txt"]


@pytest.mark.parametrize("mine", MINE)
@pytest.mark.parametrize("arguments", EXPERIMENTS)
def test_no_experiment_deletes_a_users_file(repository, mine, arguments):
    with users_file(repository / mine):
        before = content(repository)
        said = guarded(repository, "exp", "run", *arguments, status=1)
        assert said.startswith(f"error: {mine}: ") and "Move it elsewhere" in said
        assert len(said.splitlines()) == 1 and content(repository) == before


@pytest.mark.parametrize("mine", MINE)
def test_no_experiment_deletes_a_users_file_before_the_first_run(repository, tmp_path, mine):
    run(tmp_path, "git", "clone", "-q", str(repository), "clone")
    with users_file(tmp_path / "clone" / mine):
        before = content(tmp_path / "clone")
        said = guarded(tmp_path / "clone", "exp", "run", *EXPERIMENTS[2], status=1)
        assert said.startswith(f"error: {mine}: ") and content(tmp_path / "clone") == before


def test_repro_leaves_what_it_keeps_to_the_stage(repository):
    """data/raw persists: the stage itself looks at what lies there."""
    with users_file(repository / MINE[2]):
        assert guarded(repository, "repro", status=1).startswith(f"error: {MINE[2]}: ")
    with users_file(repository / MINE[0]):
        assert f"{MINE[0]} at byte 0" in guarded(repository, "repro", "train", status=255)
        assert (repository / MINE[0]).read_text() == "the user's"


def test_no_applied_experiment_deletes_a_users_file(repository):
    guarded(repository, "exp", "run", "--name", "other", "-S", "train.seed=9")
    run(repository, "git", "checkout", "-q", ".")
    run(repository, "dvc", "checkout", "-q")
    with users_file(repository / MINE[0]):
        before = content(repository)
        assert MINE[0] in guarded(repository, "exp", "apply", "other", status=1)
        assert content(repository) == before


@pytest.mark.parametrize("folder", ["data/raw", "data/model"])
def test_a_linked_output_folder_is_looked_into(repository, tmp_path, folder):
    shutil.move(repository / folder, tmp_path / "disk")
    (repository / folder).symlink_to(tmp_path / "disk")
    (tmp_path / "disk/mine.txt").write_text("precious")
    try:
        said = guarded(repository, "exp", "run", *EXPERIMENTS[2], status=1)
        assert f"{folder}/mine.txt: this file is not one" in said
        assert (tmp_path / "disk/mine.txt").read_text() == "precious"
    finally:
        (tmp_path / "disk/mine.txt").unlink()
        (repository / folder).unlink()
        shutil.move(tmp_path / "disk", repository / folder)


@pytest.mark.parametrize("name", ["manifest.json", ".zeros_7.dat.partial"])
def test_what_is_called_like_ours_in_a_folder_of_the_user_is_the_users(repository, name):
    with users_file(repository / "data/raw/mine" / name):
        said = guarded(repository, "exp", "run", *EXPERIMENTS[2], status=1)
        assert said.startswith(f"error: data/raw/mine/{name}: ")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["exp", "run", "-S", "train.seed=13"], 0),
        (["exp", "run", "-S", "train.seed=6"], 255),
        (["repro", "-f", "train"], 0),
    ],
)
def test_weights_of_the_users_own_are_kept(repository, arguments, status):
    """They have a name of ours and are in no cache: nothing says whose they are."""
    path = repository / WEIGHTS
    path.write_text("my own")
    said = guarded(repository, *arguments, status=status)
    (kept,) = list((repository / "data").rglob("kept/*/data/model/*")) or [path]
    assert kept.read_text() == "my own"
    if status:
        assert kept == path and "The workspace is as it was" in said
    else:
        assert f"{WEIGHTS} was not in DVC's cache: kept as data/kept/" in said
        assert path.read_text() == "weights"
    shutil.rmtree(repository / "data/kept", ignore_errors=True)
    run(repository, "git", "checkout", "-q", ".")
    run(repository, "dvc", "checkout", "-q", "--force")


@pytest.mark.parametrize("mine", ["data/raw/manifest.json", "data/model"])
def test_a_users_file_in_the_place_of_an_output_is_kept(repository, mine):
    path = repository / mine
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.write_text("my own")
    said = guarded(repository, "exp", "run", "-S", "train.seed=13")
    (kept,) = (p for p in (repository / "data").rglob("kept/**/*") if p.is_file())
    assert kept.read_text() == "my own" and f"{mine} was not in DVC's cache: kept as" in said
    shutil.rmtree(repository / "data/kept")
    run(repository, "git", "checkout", "-q", ".")
    run(repository, "dvc", "checkout", "-q", "--force")


def test_an_output_that_is_gone_is_back_where_nothing_else_has_changed(repository):
    """The stage fails under the same parameters: no file of git's has changed."""
    before = content(repository)
    (repository / "fail").touch()
    try:
        said = guarded(repository, "exp", "run", "-f", "-s", "train", status=255)
    finally:
        (repository / "fail").unlink()
    assert "The workspace is as it was" in said and content(repository) == before


def test_a_download_of_before_the_first_lock_survives_a_failure(repository, tmp_path):
    run(tmp_path, "git", "clone", "-q", str(repository), "clone")
    clone = tmp_path / "clone"
    run(clone, "git", "config", "user.name", "t")
    run(clone, "git", "config", "user.email", "t@example.org")
    (clone / "dvc.lock").unlink()
    shutil.rmtree(clone / "metrics")
    commit(clone, "nothing locked")
    subprocess.run([sys.executable, "source.py"], cwd=clone, env=environment(), check=True)
    guarded(clone, "exp", "run", "-S", "train.seed=6", status=255)
    assert (clone / "data/raw/zeros_14.dat").is_file()


def test_a_half_written_output_is_replaced_by_what_there_was(repository):
    before = content(repository)
    guarded(repository, "exp", "run", "-S", "train.seed=12", status=255)
    assert content(repository) == before


@pytest.mark.parametrize(
    "left", ["data/model/.weights.safetensors.partial", "data/raw/.1ktlusAbkIiHOQAR8jQq4A.tmp"]
)
def test_what_killed_stages_and_dvc_leave_hinders_nothing(repository, left):
    (repository / left).write_text("half")
    guarded(repository, "exp", "run", "-S", "train.seed=8")
    run(repository, "git", "checkout", "-q", ".")
    run(repository, "dvc", "checkout", "-q", "--force")


def test_a_target_is_not_refused_for_what_it_does_not_touch(repository):
    with users_file(repository / MINE[2]):
        guarded(repository, "repro", "download")


def test_a_stage_that_takes_its_time_to_end_is_waited_for(repository):
    before = content(repository)
    process, stage = started(repository, 14)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)  # again, while it is being put back
    said, _ = process.communicate(timeout=60)
    time.sleep(2)
    assert content(repository) == before, said
    assert not alive(stage)


def test_a_graph_that_cannot_be_read_is_dvcs_to_tell(repository):
    graph = repository / "dvc.yaml"
    good = graph.read_text()
    try:
        for bad in ("stages: [", "a: 1\n"):
            graph.write_text(bad)
            assert "Traceback" not in guarded(repository, "repro", status=255)
    finally:
        graph.write_text(good)


def test_a_file_of_ours_that_the_user_replaced_stays(repository):
    """Of the same name and size, so that DVC would take it for its own."""
    path = repository / "data/raw/zeros_14.dat"
    ours = path.read_bytes()
    path.write_bytes(ours[:-1] + b"!")
    try:
        assert "zeros_14.dat: this file" in guarded(
            repository, "exp", "run", *EXPERIMENTS[2], status=1
        )
        assert path.read_bytes().endswith(b"!")
    finally:
        path.write_bytes(ours)


def test_what_a_killed_run_left_and_what_a_link_leads_to_hinder_nothing(repository, tmp_path):
    (tmp_path / "mine").write_text("elsewhere")
    left = repository / "data/raw/.zeros_5000.dat.partial"
    left.write_bytes(b"half")
    (repository / "data/model/link").symlink_to(tmp_path / "mine")
    guarded(repository, "exp", "run", "-S", "train.seed=11")
    assert not left.exists() and (tmp_path / "mine").read_text() == "elsewhere"
    run(repository, "git", "checkout", "-q", ".")
    run(repository, "dvc", "checkout", "-q", "--force")


def test_the_folders_looked_at_are_those_of_the_graph():
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"].values()
    outs = [out for stage in stages for out in stage.get("outs", [])]
    folders = {out for out in outs if isinstance(out, str) and not Path(out).suffix}
    kept = {
        path for out in outs if isinstance(out, dict) for path in out if out[path].get("persist")
    }
    assert {str(path) for path in guard.FILES} == folders
    assert {str(path) for path in guard.PERSISTENT} == kept


@contextmanager
def users_file(path):
    missing = [p for p in path.parents if not p.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("the user's")
    try:
        yield
    finally:
        path.unlink()
        for folder in missing:
            folder.rmdir()


def test_nothing_refused_was_queued(repository):
    assert "No experiment tasks" in guarded(repository, "queue", "status")


def test_parameters_edited_by_hand_are_checked_before_repro_removes_anything(repository):
    path = repository / "params.yaml"
    good = path.read_text()
    path.write_text(good.replace("batch: ", "batch: -"))
    try:
        assert "train.batch" in guarded(repository, "repro", status=1)
        assert (repository / WEIGHTS).read_text() == "weights"
    finally:
        path.write_text(good)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_experiment_cut_off_leaves_the_workspace_as_it_was(repository, ending):
    before = content(repository)
    process, stage = started(repository, 5)
    assert not (repository / WEIGHTS).exists(), "DVC removes outputs first"
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
    assert not alive(stage) and (repository / WEIGHTS).read_text() == "weights"
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
    said = ["a.b=1", "c=2", "other.yaml:d=3", "params.yaml:e=4:5", "../params.yaml:f=6"]
    assert guard.overrides(said, ROOT, ROOT) == ["a.b=1", "c=2", "e=4:5"]
    assert guard.overrides(said, ROOT / "docs", ROOT) == ["f=6"]
    for right in ("train.lr=0.001", "download.table=null", "train={lr: 0.002}"):
        guard.check([right], ROOT / "params.yaml")
    guard.check(["train.warmup=${train.eval_every}"], ROOT / "params.yaml")
    with pytest.raises(ZetaError, match="Nothing was run"):
        guard.check(["=="], ROOT / "params.yaml")


def test_a_checkout_that_cannot_be_written_to_is_named(repository, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    assert guard.run(["--cd", str(repository), "repro"]) == 1
    assert "cannot be written to. Clone it elsewhere." in capsys.readouterr().err


def test_setup_puts_it_in_the_place_of_dvc():
    makefile = (ROOT / "Makefile").read_text()
    assert "from zetalib.guard import command" in makefile and "$(VENV)/bin/dvc" in makefile
