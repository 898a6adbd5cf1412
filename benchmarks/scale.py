"""From archive files to windows at scale: zeros a second, peak memory, bytes, cost per zero.

    python benchmarks/scale.py --folder /tmp/scale --zeros 1e6 1e7 1e8 --blocks 1000 --blocks 100

makes synthetic files in the archive's layout (blocks of 2100, from height 446000 on; gamma(7)
spacings at the density of zeta's zeros, all 104 bits of a distance in use), then runs decode,
unfold and window, each in a process of its own, once for every size and number of blocks a file.
"""

import argparse
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from zetalib.archive import codec, manifest  # noqa: E402

STEP, FIRST = 2100.0, 446_000.0
STAGES = {"decode": "zeros", "unfold": "spacings", "window": "windows"}
ARCHIVE = 103.8e9  # zeros


def counted(t: float) -> int:
    """Zeros up to height t, by the main terms of Riemann and von Mangoldt."""
    return round(t / (2 * np.pi) * np.log(t / (2 * np.pi * np.e)) + 7 / 8)


def blocks(zeros: int) -> Iterator[tuple[float, int, bytes]]:
    """Blocks with `zeros` zeros at least: where each starts, its zeros, its bytes."""
    rng, t0, done = np.random.default_rng(0), FIRST, 0
    while done < zeros:
        n0, n1 = counted(t0), counted(t0 + STEP)
        gaps = rng.gamma(7, size=n1 - n0 + 1)
        gaps *= STEP / gaps.sum()  # the last one is the way to t1
        records = np.empty((n1 - n0, 2), dtype="<u8")
        records[:, 0] = rng.integers(0, 2**64, n1 - n0, dtype=np.uint64)
        records[:, 1] = (gaps[:-1] * 2.0**37).astype(np.uint64)
        content = records.view(np.uint8).reshape(-1, 16)[:, : codec.RECORD_BYTES].tobytes()
        yield t0, n1 - n0, struct.pack("<ddQQ", t0, t0 + STEP, n0, n1) + content
        done += n1 - n0
        t0 += STEP


def write(raw: Path, zeros: int, per_file: int) -> tuple[int, int]:
    """A raw folder of files of `per_file` blocks; the number of files and of zeros."""
    raw.mkdir(parents=True)
    total, waiting = 0, []
    for t0, count, content in blocks(zeros):
        total += count
        waiting.append((t0, content))
        if len(waiting) == per_file:
            write_file(raw, waiting)
    write_file(raw, waiting)
    return len(manifest.write(raw, "synthetic")["files"]), total


def write_file(raw: Path, waiting: list[tuple[float, bytes]]) -> None:
    if waiting:
        with (raw / codec.file_name(waiting[0][0])).open("wb") as handle:
            handle.write(struct.pack("<Q", len(waiting)))
            handle.writelines(content for _, content in waiting)
        waiting.clear()


def measure(folder: Path, *command: str) -> tuple[float, float]:
    """Wall seconds and peak MB of a Python process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for the files, cleared after")
    parser.add_argument("--zeros", type=float, nargs="+", default=[1e6, 1e7])
    parser.add_argument("--blocks", type=int, action="append", help="in a file; 1000 as published")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    start_up = {s: measure(given.folder, "-c", f"import pipeline.{s}") for s in STAGES}
    print("start-up  " + "  ".join(f"{s} {t:.1f} s {m:.0f} MB" for s, (t, m) in start_up.items()))
    print("zeros        files  stage   seconds  zeros/s      ns/zero  peak MB  bytes/zero written")
    for zeros in given.zeros:
        for per_file in given.blocks or [1000]:
            folder = given.folder / f"{zeros:.0f}-{per_file}"
            files, total = write(folder / "data/raw", int(zeros), per_file)
            shutil.copy(ROOT / "params.yaml", folder)
            wall, peaks, left = 0.0, 0.0, 0
            for stage, out in STAGES.items():
                seconds, peak = measure(folder, "-m", f"pipeline.{stage}")
                written = size(folder / "data" / out)
                report(total, files, stage, seconds, peak, written)
                wall, peaks, left = wall + seconds, max(peaks, peak), left + written
            report(total, files, "all", wall, peaks, left)
            shutil.rmtree(folder)
    started = sum(seconds for seconds, _ in start_up.values())
    cost = (wall - started) / total
    print(
        f"{ARCHIVE:.4g} zeros, at the last row's {cost * 1e9:.0f} ns/zero without start-up: "
        f"{ARCHIVE * cost / 86400:.1f} days on {os.cpu_count()} cores"
    )


def report(zeros: int, files: int, stage: str, seconds: float, peak: float, out: int) -> None:
    print(
        f"{zeros:<12,} {files:<6} {stage:7} {seconds:<8.2f} {zeros / seconds:<12,.0f} "
        f"{seconds / zeros * 1e9:<8.0f} {peak:<8.0f} {out / zeros:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
