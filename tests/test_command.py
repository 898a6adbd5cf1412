"""Every command begins early and in one line: help, arguments, where it runs, what it lacks."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from zetalib import command, errors
from zetalib.errors import ZetaError, said

COMMANDS = sorted(p.stem for p in (ROOT / "pipeline").glob("*.py") if p.stem != "__init__")
OWN = {"experiment", "operators", "results"}  # parse their arguments themselves
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def start(name, *arguments, cwd=ROOT, **more):
    line = [sys.executable, "-m", f"pipeline.{name}", *arguments]
    return subprocess.run(line, cwd=cwd, env=ENV, capture_output=True, text=True, **more)


def lines(done):
    return [line for line in done.stderr.splitlines() if not line.startswith("working in ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_runs_nothing(name, tmp_path, capsys):
    if name in OWN:
        return  # argparse: below
    before = set(tmp_path.iterdir())
    with pytest.raises(SystemExit) as caught:
        command.begin(["python", "-m", f"pipeline.{name}", "--help"])
    told = capsys.readouterr().out
    assert caught.value.code == 0 and f"usage: python -m pipeline.{name}" in told
    assert set(tmp_path.iterdir()) == before and sys.excepthook in (errors.hook, sys.__excepthook__)


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(ROOT)


def test_help_of_a_stage_names_its_parameters_and_files():
    told = command.usage("train", "About.", ROOT / "dvc.yaml")
    assert "sections of params.yaml: model, memory, losses, train" in told
    assert "reads: data/windows, data/inversion" in told
    assert "writes: data/model, plots/learning_curve.csv, metrics/train.json" in told


def test_help_in_a_process_of_its_own_is_quick_and_makes_nothing(tmp_path):
    began = time.monotonic()
    done = start("train", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "usage: python -m pipeline.train" in done.stdout
    assert list(tmp_path.iterdir()) == [] and time.monotonic() - began < 30  # alone: under 1 s


@pytest.mark.parametrize("name", sorted(OWN))
def test_commands_that_parse_arguments_are_left_to_it(name, capsys):
    command.begin(["python", "-m", f"pipeline.{name}", "--help"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("argument", ["--foo", "A", "--varian=A"])
def test_an_argument_that_means_nothing_is_refused(argument, capsys):
    with pytest.raises(SystemExit) as caught:
        command.begin(["python", "-m", "pipeline.unfold", argument])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.count("\n") == 1
    assert f"python -m pipeline.unfold takes no arguments, got '{argument}'" in told


def test_what_runs_none_of_ours_is_left_alone(capsys):
    for line in (["python", "-m", "pytest", "--help"], ["python", "-m", "pipeline.nothing", "-h"]):
        command.begin(line)
    assert sys.excepthook is not errors.hook and capsys.readouterr().out == ""


def test_a_command_started_elsewhere_works_in_its_repository(tmp_path):
    done = start("experiment", "no-such", cwd=tmp_path)
    assert "There are: E0, E1" in done.stderr and f"working in {ROOT}" in done.stderr
    line = [sys.executable, str(ROOT / "pipeline" / "experiment.py"), "no-such"]
    done = subprocess.run(line, cwd=tmp_path, env=ENV, capture_output=True, text=True)
    assert "There are: E0, E1" in done.stderr and list(tmp_path.iterdir()) == []


def test_a_folder_with_parameters_of_its_own_is_worked_in(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("layers: 2", "layers: -2"))
    done = start("check", cwd=tmp_path)
    assert done.returncode == 1 and lines(done)[0].startswith("error: params.yaml: model.layers: ")


def test_bad_parameters_are_said_before_anything_slow_is_imported(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("lr: 0.003", "lr: -1"))
    line = [sys.executable, "-X", "importtime", "-m", "pipeline.train"]
    done = subprocess.run(line, cwd=tmp_path, env=ENV, capture_output=True, text=True)
    assert done.returncode == 1 and "error: params.yaml: train.lr: " in done.stderr
    assert not {"torch", "numba", "pandas"} & {row.split("|")[-1].strip() for row in done.stderr.splitlines()}  # fmt: skip


def test_what_a_stage_reads_and_is_not_there_is_said_first(tmp_path):
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    for name, path in (("train", "data/windows"), ("report", "metrics/evaluate.json")):
        done = start(name, cwd=tmp_path)
        (line,) = lines(done)
        assert done.returncode == 1 and line.startswith(f"error: {path}: not found, and stage {name} reads it. Run `dvc repro`")  # fmt: skip


def without_privileges(*line):
    """root writes where permissions forbid it; without capabilities it does not."""
    if os.geteuid() != 0:
        return list(line)
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", *line]


@pytest.fixture
def read_only(tmp_path):
    """A checkout without the right to write in it, and no home either."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("nobody here is without the privilege to write anywhere")
    checkout = tmp_path / "checkout"
    for folder in ("zetalib", "pipeline"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=lambda *_: ["__pycache__"])
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, checkout / name)
    (checkout / "data" / "raw").mkdir(parents=True)
    folders = [checkout, *(p for p in checkout.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield checkout
    for folder in folders:
        folder.chmod(0o755)


HOMELESS = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "PYTHONPATH")} | {
    "HOME": "/proc/nowhere"
}


def test_a_stage_in_a_read_only_checkout_says_so_first(read_only):
    line = without_privileges(sys.executable, "-m", "pipeline.decode")
    done = subprocess.run(line, cwd=read_only, env=HOMELESS, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: data/zeros: stage decode writes it, and data is read-only.")


def test_kernels_without_a_place_for_their_cache_work_or_say_one_line(read_only):
    """Whatever decides where numba keeps what it compiles: never a traceback."""
    code = "import sys\nsys.orig_argv = ['python', '-m', 'pipeline.check']\nimport pipeline\n"
    line = without_privileges(
        sys.executable, "-c", code + "import zetalib.archive.fixed_point\nprint('works')"
    )
    done = subprocess.run(line, cwd=read_only, env=HOMELESS, capture_output=True, text=True)
    if done.returncode == 0:
        assert done.stdout == "works\n"
    else:
        (said,) = done.stderr.splitlines()
        assert said.startswith("error: ") and "NUMBA_CACHE_DIR" in said


def test_an_interrupted_command_says_one_line_and_dies_of_it(tmp_path):
    code = (
        "import sys, time\nsys.orig_argv = ['python', '-m', 'pipeline.check']\nimport pipeline\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    # A shell starts background jobs deaf to Ctrl-C; this test may be in one.
    code = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + code
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert process.returncode == -signal.SIGINT
    assert told.count("\n") == 1 and told.startswith("error: interrupted.")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ZetaError("a", "b\nc", "D."), "error: a: b c. D."),
        (OSError(28, "No space left on device", "data/x"), "error: data/x: No space left on device. Free room on the disk, then run it again."),
        (OSError(30, "Read-only file system", "x"), "error: x: Read-only file system. Correct the permissions, or work in a copy of the folder; then run it again."),
        (OSError(2, "No such file or directory", "x"), "error: x: No such file or directory. Run `dvc repro` (or `dvc pull`), which makes what is missing here."),
        (MemoryError("Unable to allocate 110. GiB"), "error: not enough memory (Unable to allocate 110. GiB). Free some, or take less."),
        (RuntimeError("cannot cache function 'f': no locator available for file 'x.py'"), "error: cannot cache function 'f': no locator available for file 'x.py'. Set NUMBA_CACHE_DIR to a folder you may write to."),
        (OSError(28, "No space left on device"), "error: a file: No space left on device. Free room on the disk, then run it again."),
        (KeyError("x"), None),
        (ValueError("x"), None),
    ],
)  # fmt: skip
def test_what_a_user_meets_is_one_line_and_faults_of_ours_are_not(error, line, capsys):
    assert said(error) == line

    def stage():
        raise error

    with pytest.raises(SystemExit if line else type(error)) as caught:
        errors.run_stage(stage)
    if line:
        assert caught.value.code == 1 and capsys.readouterr().err == line + "\n"


def test_a_reader_that_has_seen_enough_ends_a_command_quietly(tmp_path):
    code = (
        "import sys\nfrom zetalib.errors import run_stage\nrun_stage(lambda: print('x\\n' * 10**6))"
    )
    line = f'{sys.executable} -c "{code}" | head -n 1'
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, env=ENV, capture_output=True, text=True)
    assert done.stdout == "x\n" and done.stderr == ""


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--foo", 2)])
def test_a_script_started_by_its_path_is_the_command(tmp_path, argument, status):
    line = [sys.executable, str(ROOT / "pipeline" / "window.py"), argument]
    done = subprocess.run(line, cwd=tmp_path, env=ENV, capture_output=True, text=True)
    named = start("window", argument)
    assert done.returncode == status == named.returncode and not list(tmp_path.iterdir())
    assert (done.stdout, done.stderr) == (named.stdout, named.stderr)
