"""Time the decoder against other ways to read an archive file: `python benchmarks/decode.py`.

Makes a synthetic archive file of real size (1000 blocks of 2100) in the system's temporary
folder and reads it, from the page cache, in turn with each reader, several rounds; everything is
deleted afterwards. The slow readers read the first blocks only. Needs gcc for the C loop.
"""

from __future__ import annotations

import argparse
import ctypes
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zetalib.archive import codec
from zetalib.data import parquet_folders
from zetalib.theory import zeta

Floats = NDArray[np.float64]

T0 = 446_000.0 + 39 * 2_100_000.0  # the 200M set ends in this file
BLOCK = 2100.0
RECORD = np.dtype([("lo", "<u8"), ("mid", "<u4"), ("hi", "u1")])
UNIT = 2.0**-101


def zeros_below(t: float) -> int:
    """The smooth part of N(t)."""
    return int(t / (2 * np.pi) * np.log(t / (2 * np.pi * np.e)) + 7 / 8)


def write_synthetic(path: Path, blocks: int) -> int:
    """An archive file with gaps of the GUE surmise's distribution; returns its number of zeros."""
    rng = np.random.default_rng(1)
    first = zeros_below(T0)
    n0 = first
    with path.open("wb") as handle:
        handle.write(struct.pack("<Q", blocks))
        for k in range(blocks):
            t0, t1 = T0 + BLOCK * k, T0 + BLOCK * (k + 1)
            n1 = zeros_below(t1)
            gap = np.sqrt((rng.standard_normal((n1 - n0 + 1, 3)) ** 2).sum(axis=1))
            gap *= BLOCK / gap.sum()  # the last one leads to t1, where no zero lies
            upper = (gap[:-1] * 2.0**37).astype(np.uint64)
            records = np.empty(n1 - n0, dtype=RECORD)
            records["lo"] = rng.integers(0, 1 << 64, n1 - n0, dtype=np.uint64)
            records["mid"], records["hi"] = upper & np.uint64(2**32 - 1), upper >> np.uint64(32)
            handle.write(struct.pack("<ddQQ", t0, t1, n0, n1) + records.tobytes())
            n0 = n1
    return n0 - first


def python_records(path: Path, blocks: int) -> int:
    """Record by record with struct: gamma and gap in two lists."""
    gamma: list[float] = []
    gap: list[float] = []
    with path.open("rb") as handle:
        handle.read(8)
        for _ in range(blocks):
            t0, _, n0, n1 = struct.unpack("<ddQQ", handle.read(32))
            z = 0
            for _ in range(n1 - n0):
                lo, mid, hi = struct.unpack("<QIB", handle.read(13))
                delta = lo + (mid << 64) + (hi << 96)
                z += delta
                gamma.append(t0 + z * UNIT)
                gap.append(delta * UNIT)
    return len(gamma)


def published_reader(path: Path, blocks: int) -> int:
    """LMFDB's published algorithm: a block at a time, exact sums, one height after the other.

    Theirs yields multi-precision reals; here it yields integers of 2^-101, which cost less.
    """

    def block(offset: int) -> Iterator[tuple[int, int]]:
        with path.open("rb") as handle:
            handle.seek(offset)
            t0, _, n0, n1 = struct.unpack("<ddQQ", handle.read(32))
            start, z = int(t0) << 101, 0
            for n in range(n0 + 1, n1 + 1):
                lo, mid, hi = struct.unpack("<QIB", handle.read(13))
                z += (hi << 96) + (mid << 64) + lo
                yield n, start + z

    headers, _ = codec.read_headers(path)
    return sum(len(list(block(header.offset))) for header in headers[:blocks])


def structured(path: Path) -> tuple[Floats, Floats]:
    """As it is usually written with numpy: distances to float64, then cumsum and diff. Inexact."""
    raw = path.read_bytes()
    (blocks,) = struct.unpack_from("<Q", raw)
    offset, parts = 8, []
    for _ in range(blocks):
        t0, _, n0, n1 = struct.unpack_from("<ddQQ", raw, offset)
        records = np.frombuffer(raw, RECORD, n1 - n0, offset + 32)
        delta = records["lo"] * UNIT + records["mid"] * 2.0**-37 + records["hi"] * 2.0**-5
        parts.append(t0 + np.cumsum(delta))
        offset += 32 + 13 * (n1 - n0)
    gamma = np.concatenate(parts)
    return gamma, np.diff(gamma)


def compile_loop(folder: Path) -> Callable[[Path, int], tuple[Floats, Floats]]:
    """The C loop as a function of the path and the number of zeros."""
    library = folder / "read_loop.so"
    source = Path(__file__).with_name("read_loop.c")
    flags = ["-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(source), "-lm"], check=True)
    loop = ctypes.CDLL(str(library)).read_loop
    loop.restype, loop.argtypes = ctypes.c_long, [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]

    def read(path: Path, zeros: int) -> tuple[Floats, Floats]:
        gamma, gap = np.empty(zeros), np.empty(zeros)
        if loop(str(path).encode(), gamma.ctypes.data, gap.ctypes.data) != zeros:
            raise RuntimeError("the C loop read another number of zeros")
        return gamma, gap

    return read


def write_plain(path: Path, payload: bytes) -> None:
    """The same bytes, without thinking."""
    path.write_bytes(payload)


def move_only(path: Path, zeros: int) -> None:
    """What no decoder can leave out: read the file through a buffer, touch two fresh arrays."""
    buffer = bytearray(1 << 18)
    with path.open("rb", buffering=0) as handle:
        while handle.readinto(buffer):
            pass
    for _ in range(2):
        np.empty(zeros).fill(1.0)


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of one run."""
    wall, cpu = time.perf_counter(), time.process_time()
    kept = run()
    taken = time.perf_counter() - wall, time.process_time() - cpu
    del kept
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--blocks", type=int, default=1000)
    parser.add_argument("--slow-blocks", type=int, default=40, help="blocks for the Python readers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        benchmark(Path(scratch), arguments)


def benchmark(folder: Path, arguments: argparse.Namespace) -> None:
    """Write the file, time all readers in turn, print the tables."""
    path = folder / codec.file_name(T0)
    zeros = write_synthetic(path, arguments.blocks)
    size = path.stat().st_size
    headers, _ = codec.read_headers(path)
    slow_blocks = min(arguments.slow_blocks, arguments.blocks)
    slow = headers[slow_blocks - 1].n1 - headers[0].n0
    print(f"{path.name}: {arguments.blocks} blocks, {zeros:,} zeros, {size / 1e6:.1f} MB\n")
    c_loop = compile_loop(folder)
    n, gamma, gap = codec.decode_file(path, None)  # compiles, and fills the page cache
    spacing = zeta.spacings(gamma, gap)
    unfolded = pa.table([n, gamma, spacing], ["n", "gamma", "spacing"])
    out = folder / "out.parquet"
    many = arguments.threads

    def write_table(table: pa.Table, path: Path) -> None:
        with parquet_folders.writing(path, table.schema, "") as writer:
            writer.write_table(table, row_group_size=parquet_folders.ROWS)

    def all_of_it() -> None:
        n, gamma, gap = codec.decode_file(path, None, many)
        found = [n, gamma, zeta.spacings(gamma, gap)]
        write_table(pa.table(found, ["n", "gamma", "spacing"]), out)

    write_table(unfolded, out)
    payload = out.read_bytes()
    source, target = np.ones(1 << 24), np.ones(1 << 24)  # 128 MB each: beyond any cache
    ours, ours_many = "zetalib, 1 thread", f"zetalib, {many} threads"
    readers: dict[str, tuple[int, Callable[[], Any]]] = {
        ours: (zeros, lambda: codec.gamma_and_gap(path, codec.read_headers(path)[0], None)),
        ours_many: (
            zeros,
            lambda: codec.gamma_and_gap(path, codec.read_headers(path)[0], None, many),
        ),
        "C loop, -O3, 1 thread": (zeros, lambda: c_loop(path, zeros)),
        "numpy structured read": (zeros, lambda: structured(path)),
        "LMFDB's algorithm": (slow, lambda: published_reader(path, slow_blocks)),
        "Python, record by record": (slow, lambda: python_records(path, slow_blocks)),
    }
    others: dict[str, Callable[[], Any]] = {
        "headers of the file": lambda: codec.read_headers(path),
        "read + touch the arrays": lambda: move_only(path, zeros),
        "numpy copy": lambda: np.copyto(target, source),
        "unfold": lambda: zeta.spacings(gamma, gap),
        "Parquet alone": lambda: write_table(unfolded, out),
        "the same bytes, plain": lambda: write_plain(folder / "plain", payload),
        "decode + unfold + Parquet": all_of_it,
    }
    runs = {name: run for name, (_, run) in readers.items()} | others
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            seconds, used = timed(run)
            wall[name].append(seconds)
            cpu[name].append(used)

    c, python = ("C loop, -O3, 1 thread", "Python, record by record")
    per = {name: min(wall[name]) / count for name, (count, _) in readers.items()}
    print(f"{'reader':<26}{'M zeros/s':>10}{'median':>9}{'CPU ns':>8}{'x Python':>10}{'x C':>7}")
    for name, (count, _) in readers.items():
        print(
            f"{name:<26}{1e-6 / per[name]:>10.2f}{1e-6 * count / median(wall[name]):>9.2f}"
            f"{1e9 * min(cpu[name]) / count:>8.2f}{per[python] / per[name]:>10.1f}"
            f"{per[c] / per[name]:>7.2f}"
        )
    print(f"(best of {arguments.rounds} rounds; Python readers on {slow:,} zeros; CPU ns a zero)\n")

    for name, (other_gamma, other_gap) in {
        "C loop": c_loop(path, zeros),
        "numpy structured read": structured(path),
    }.items():
        wrong = [np.mean(other_gamma != gamma), np.mean(other_gap[: zeros - 1] != gap[:-1])]
        worst = np.abs(other_gap[: zeros - 1] - gap[:-1]).max() / gap[:-1].mean()
        print(
            f"{name}: {wrong[0]:.2%} of heights and {wrong[1]:.2%} of gaps are not the nearest "
            f"float64, gaps off by up to {worst:.1e} of the mean"
        )

    print(f"\n{'ms':<28}{'best':>8}{'median':>8}")
    for name in others:
        print(f"{name:<28}{1e3 * min(wall[name]):>8.1f}{1e3 * median(wall[name]):>8.1f}")
    whole = min(wall["decode + unfold + Parquet"])
    print(
        f"\ndecode + unfold + Parquet ({len(payload) / 1e6:.0f} MB): "
        f"{whole / min(wall['the same bytes, plain']):.2f} x the plain write of these bytes, "
        f"{whole / min(wall['Parquet alone']):.2f} x writing the Parquet alone; "
        f"{1e-6 * zeros / whole:.1f} M zeros/s"
    )
    bandwidth = 2 * source.nbytes / min(wall["numpy copy"])
    moved = size / zeros + 16
    floor = min(wall["read + touch the arrays"]) / min(wall[ours])
    print(
        f"decode moves {moved:.1f} bytes a zero (16 of them out), "
        f"{moved / per[ours_many] / 1e9:.1f} GB/s with {many} threads; a numpy copy moves "
        f"{bandwidth / 1e9:.1f} GB/s; reading the file and touching fresh arrays alone takes "
        f"{floor:.0%} of the decode with 1 thread"
    )


if __name__ == "__main__":
    main()
