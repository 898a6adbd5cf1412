"""Read tables of heights: time against numpy.loadtxt, and memory as they grow.

python -m benchmarks.table [--zeros 2000000] [--rounds 5]

Heights are computed (source `siegel`) and written as Odlyzko's zeros6 is, nine decimals a line.
Each round times, in turn: numpy.loadtxt of the file; the source `table` (text to archive files);
and that with decode, unfold and window (without verify, which computes all zeros anew). Then peak
memory of a process that does all of it, at the size given and at ten times that.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zetalib import compute
from zetalib.archive import fixed_point
from zetalib.archive.codec import read_blocks
from zetalib.data import decode, unfold, window
from zetalib.reports import experiments
from zetalib.sources import download, riemann_siegel

PARAMS = experiments.resolve("network-only")


def write(path: Path, count: int, scratch: Path) -> None:
    """The first `count` zeros as text."""
    folder = scratch / "siegel"
    folder.mkdir()
    riemann_siegel.fetch(
        PARAMS.download.model_copy(update={"source": "siegel", "max_zeros": count}), folder
    )
    with path.open("w") as handle:
        for file in sorted(folder.glob("zeros_*.dat"), key=lambda p: int(p.stem.split("_")[1])):
            for block in read_blocks(file):
                heights = fixed_point.to_floats(block.heights)
                handle.write("".join(f"{g:17.9f}\n" for g in heights))
                file.unlink(missing_ok=True)


def to_archive(path: Path, scratch: Path) -> None:
    """Source `table` alone."""
    params = PARAMS.download.model_copy(update={"source": "table", "table": str(path)})
    download.fetch(params, scratch / "raw")


def to_windows(path: Path, scratch: Path) -> None:
    """Text to windows, nothing kept from a run before."""
    for name in ("raw", "zeros", "spacings", "windows"):
        subprocess.run(["rm", "-rf", str(scratch / name)], check=True)
    to_archive(path, scratch)
    with compute.pool(PARAMS.compute) as pool:
        decode.decode_folder(scratch / "raw", scratch / "zeros", run=pool.map)
        unfold.unfold_folder(scratch / "zeros", scratch / "spacings", run=pool.map)
        window.window_folder(scratch / "spacings", scratch / "windows", PARAMS.window, pool.map)


def timed(work: Callable[[], object]) -> float:
    """Seconds; what it prints is dropped."""
    with contextlib.redirect_stdout(io.StringIO()):
        began = time.perf_counter()
        work()
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table")
    parser.add_argument("--zeros", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", type=Path, help="(one process of its own: to windows, and stop)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if chosen.peak:
            timed(lambda: to_windows(chosen.peak, scratch))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            return
        small, large = scratch / "small", scratch / "large"
        print(f"writing {chosen.zeros:,} zeros and ten times as many", flush=True)
        with contextlib.redirect_stdout(io.StringIO()):
            write(large, 10 * chosen.zeros, scratch)
        with large.open("rb") as whole, small.open("wb") as part:
            part.writelines(line for line, _ in zip(whole, range(chosen.zeros), strict=False))
        timed(lambda: to_windows(small, scratch))  # compiles
        rows = []
        for _ in range(chosen.rounds):
            rows.append(
                [
                    timed(lambda: np.loadtxt(small)),
                    timed(lambda: to_archive(small, scratch)),
                    timed(lambda: to_windows(small, scratch)),
                ]
            )
            print("loadtxt {:.3f} s, to archive {:.3f} s, to windows {:.3f} s".format(*rows[-1]))
        loadtxt, archive, windows = np.median(rows, axis=0)
        print(f"loadtxt / to archive {loadtxt / archive:.2f}, / to windows {loadtxt / windows:.2f}")
        for path in (small, large):
            command = [sys.executable, "-m", "benchmarks.table", "--peak", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"{path.name}: peak memory {float(done.stdout):.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
