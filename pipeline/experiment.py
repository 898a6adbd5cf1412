"""Run a named experiment: python -m pipeline.experiment NAME [more options of dvc exp run]."""

import os
import subprocess
import sys
from pathlib import Path

from zetalib import experiments
from zetalib.errors import run_stage


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        known = ", ".join(experiments.names())
        raise SystemExit(f"usage: python -m pipeline.experiment NAME [options]; NAME: {known}")
    name, *options = sys.argv[1:]
    command = [sys.executable, "-m", "dvc", "exp", "run"]
    for override in experiments.overrides(name):
        command += ["--set-param", override]
    if not {"-n", "--name"} & set(options):
        options = ["--name", name, *options]
    # Stages call `python`: let that be this one, also when the environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    raise SystemExit(subprocess.call(command + options, env={**os.environ, "PATH": path}))


if __name__ == "__main__":
    run_stage(main)
