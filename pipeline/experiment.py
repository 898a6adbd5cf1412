"""Run a named experiment through the graph: python -m pipeline.experiment NAME [--size SIZE] [...].

What follows goes to `dvc exp run`.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from zetalib.errors import run_stage
from zetalib.reports import experiments


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.experiment",
        epilog="Any other option goes to `dvc exp run`.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help=", ".join(experiments.names()))
    parser.add_argument("--size", help=", ".join(experiments.sizes()))
    chosen, options = parser.parse_known_args()
    command = [sys.executable, "-m", "zetalib.guard", "exp", "run"]
    for override in experiments.overrides(chosen.name, chosen.size):
        command += ["--set-param", override]
    if not {"-n", "--name"} & set(options):
        options = ["--name", "-".join(filter(None, (chosen.name, chosen.size))), *options]
    # Stages call `python`: let that be this one, also when the environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(command + options, env={**os.environ, "PATH": path})
    while True:
        try:
            raise SystemExit(process.wait())
        except KeyboardInterrupt:
            continue  # it heard that too, and puts the workspace back


if __name__ == "__main__":
    run_stage(main)
