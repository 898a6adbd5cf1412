"""zetalib: from zeros of the Riemann zeta function to a calibrated forecast of the next spacing."""

import importlib.util
import os
import sys

# Threads of torch's OpenMP spin at barriers while they wait, which beside any other job takes the
# core from the thread that is waited for: training then falls to a tenth. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if importlib.util.find_spec("pydantic") is None:  # DVC runs whatever `python` comes first in PATH
    raise SystemExit(
        f"error: {sys.executable} does not have zetalib's packages. "
        "Run `make setup`, then `source .venv/bin/activate`."
    )
