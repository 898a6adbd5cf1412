"""Source `siegel`: speed end to end, and its zeros beside python-flint's and Odlyzko's.

    python benchmarks/siegel.py [--zeros 2000000] [--heights 1e4 1e6 8e7 1e9]

For each height: archive files of so many zeros from there on are written to a temporary folder
with all cores (the whole stage but for the manifest), and at random places among them zeros
are computed anew by python-flint to 150 bits. Then, if `data/zeros` holds it, the whole 2M table.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from zetalib import params
from zetalib.archive import codec, fixed_point
from zetalib.data import parquet_folders
from zetalib.sources import exact, riemann_siegel


def density(t: float) -> float:
    """Zeros per unit of height."""
    return float(np.log(t / 2 / np.pi) / 2 / np.pi)


def fetch(folder: Path, **changes: object) -> float:
    given = params.load().download.model_dump() | {"source": "siegel"} | changes
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        riemann_siegel.fetch(params.Download.model_validate(given), folder)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zeros", type=int, default=2_000_000)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--heights", type=float, nargs="+", default=[1e4, 1e6, 8e7, 1e9, 3e10])
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        fetch(Path(scratch), max_zeros=1000)  # compiled code is loaded, not timed
    print(
        f"{options.zeros:,} zeros from each height, {os.cpu_count()} cores; errors in mean spacings"
    )
    print("| height | zeros/s | compared with flint | largest error | rms | counted |")
    print("|---|---|---|---|---|---|")
    for height in options.heights:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            seconds = fetch(folder, from_height=height, max_zeros=options.zeros)
            kept = codec.Archive(folder)
            errors = []
            for rank in np.sort(rng.integers(kept.first, kept.last - 4, options.samples // 4)):
                known = exact.heights(int(rank), 4, 150)
                ours = fixed_point.to_ints(kept.exact(int(rank), int(rank) + 3))
                for a, b in zip(ours, known, strict=True):
                    errors.append((a - b) / 2.0**101 * density(b / 2.0**101))
            last = known[-1] / 2.0**101
        size = np.abs(errors)
        print(
            f"| {height:.0e} | {options.zeros / seconds:,.0f} | {len(errors)} up to {last:.6g} | "
            f"{size.max():.1e} | {np.sqrt((size**2).mean()):.1e} | every stretch |",
            flush=True,
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    parts = parquet_folders.parts("data/zeros")
    table = np.concatenate(
        [
            parquet_folders.read_group(p.path, k, ["gamma"])["gamma"].to_numpy()
            for p in parts
            for k in range(len(parquet_folders.groups(p.path)))
        ]
    )
    with tempfile.TemporaryDirectory() as scratch:
        seconds = fetch(Path(scratch), max_zeros=len(table))
        ours = np.concatenate([codec.decode_file(p, None)[1] for p in codec.numeric_order(scratch)])
    off = np.abs(ours - table)
    print(
        f"the table of data/zeros: {len(table):,} zeros in {seconds:.1f} s; "
        f"farthest {off.max():.2e} in height, {(off * density(1e6)).max():.1e} mean spacings"
    )


if __name__ == "__main__":
    main()
