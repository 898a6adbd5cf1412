"""zetalib: from zeros of the Riemann zeta function to a calibrated forecast of the next spacing."""

import importlib.util
import sys

if importlib.util.find_spec("pydantic") is None:  # DVC runs whatever `python` comes first in PATH
    raise SystemExit(
        f"error: {sys.executable} does not have zetalib's packages. "
        "Run `make setup`, then `source .venv/bin/activate`."
    )
