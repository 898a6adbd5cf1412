"""Source `exact` against LMFDB's own first two files: md5, block offsets, speed.

    python -m benchmarks.exact            # computes 30,324 zeros first: minutes
    python -m benchmarks.exact FOLDER     # checks the zeros_14.dat and zeros_5000.dat of a folder

What LMFDB has: the md5 of its zeros_14.dat, and (t0, N(t0), byte offset) of the ten blocks of
zeros_5000.dat in its index.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from pathlib import Path

from zetalib import params
from zetalib.archive import codec
from zetalib.sources import exact

ZEROS_14_MD5 = "56cfdb9e133098a294c145118fc33fa7"
ZEROS_5000_BLOCKS = [
    (5000.0, 4520, 8),
    (7100.0, 6814, 29862),
    (9200.0, 9209, 61029),
    (11300.0, 11681, 93197),
    (13400.0, 14215, 126171),
    (15500.0, 16802, 159834),
    (17600.0, 19435, 194095),
    (19700.0, 22106, 228850),
    (21800.0, 24815, 264099),
    (23900.0, 27555, 299751),
]


def check(folder: Path) -> bool:
    """Print what the two files are beside what LMFDB has; whether all of it is equal."""
    md5 = {
        name: hashlib.md5((folder / name).read_bytes()).hexdigest()
        for name in ("zeros_14.dat", "zeros_5000.dat")
    }
    same = md5["zeros_14.dat"] == ZEROS_14_MD5
    print(f"zeros_14.dat    md5 {md5['zeros_14.dat']}, LMFDB {ZEROS_14_MD5}")
    print(f"zeros_5000.dat  md5 {md5['zeros_5000.dat']}\n")
    headers, _ = codec.read_headers(folder / "zeros_5000.dat")
    found = [(h.t0, h.n0, h.offset) for h in headers]
    print("| block | t0 | N(t0) | offset | LMFDB's offset | |\n|---|---|---|---|---|---|")
    for k, ((t0, n0, offset), theirs) in enumerate(zip(found, ZEROS_5000_BLOCKS, strict=True), 1):
        verdict = "equal" if (t0, n0, offset) == theirs else f"LMFDB has {theirs}"
        print(f"| {k} | {t0:.0f} | {n0} | {offset} | {theirs[2]} | {verdict} |")
    return same and found == ZEROS_5000_BLOCKS


def main() -> None:
    """Compute (unless a folder is given), compare; exit status 1 if anything differs."""
    if len(sys.argv) > 1:
        raise SystemExit(not check(Path(sys.argv[1])))
    base = params.load().download.model_dump()
    wanted = params.Download.model_validate(
        {**base, "source": "exact", "to_height": 26000.0, "max_zeros": None, "directory": None}
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "raw"
        folder.mkdir()
        start = time.perf_counter()
        exact.write(wanted, folder)
        took = time.perf_counter() - start
        zeros = exact.count(26000.0)
        print(f"{zeros:,} zeros in {took:.0f} s: {zeros / took:.0f} zeros/s\n")
        raise SystemExit(not check(folder))


if __name__ == "__main__":
    main()
