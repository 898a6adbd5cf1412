"""The stages and other commands, each run as `python -m pipeline.NAME`.

Importing what most of them need takes seconds: what can be said before that is said here.
"""

import importlib.util
import sys

if importlib.util.find_spec("pydantic") is None:  # DVC runs whatever `python` comes first in PATH
    raise SystemExit(
        f"error: {sys.executable} does not have zetalib's packages. "
        "Run `make setup`, then `source .venv/bin/activate`."
    )

from zetalib import command

command.begin(sys.orig_argv)
