"""zetalib: from zeros of the Riemann zeta function to a calibrated forecast of the next spacing."""

import importlib.util
import os
import sys

if importlib.util.find_spec("pydantic") is None:  # DVC runs whatever `python` comes first in PATH
    raise SystemExit(
        f"error: {sys.executable} does not have zetalib's packages. "
        "Run `make setup`, then `source .venv/bin/activate`."
    )

# Threads that wait for others spin: those of torch's OpenMP 300,000 turns at a barrier, those of
# OpenBLAS, of which numpy and scipy have one each, 2^26 cycles after a call. Beside another job, or
# beside each other, they take the core from the thread that is waited for. About as long as waking
# a thread takes is enough; no result depends on it. Read when those libraries load: without effect
# in a program that imports numpy or torch before this.
if os.environ.get("OMP_WAIT_POLICY", "PASSIVE").upper() == "PASSIVE":
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "14")  # 2^14 cycles, 7 microseconds
