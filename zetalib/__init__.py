"""zetalib: from zeros of the Riemann zeta function to a calibrated forecast of the next spacing."""

import os

# Threads that wait for others spin: those of torch's OpenMP at barriers, those of OpenBLAS, of
# which numpy and scipy have one each, for 2^26 cycles after a call. Beside another job, or beside
# each other, they take the core from the thread that is waited for: training falls to a tenth. But
# a thread that sleeps at once takes a third of training's speed on a quiet machine. So they spin
# for about as long as it takes to fall asleep (measured with train at 2000: docs/usage.md). No
# result depends on it. Read when those libraries load: no effect where they came before this.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "14")  # 2^14 cycles, 7 microseconds
