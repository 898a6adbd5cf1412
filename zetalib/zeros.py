"""Archive files to Parquet: rank, height and exact gap of every zero."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pyarrow as pa

from zetalib import atomic, manifest, platt
from zetalib.errors import ZetaError
from zetalib.tables import write_table

SCHEMA = pa.schema([("n", pa.int64()), ("gamma", pa.float64()), ("gap", pa.float64())])

Garbage = Literal["report", "refuse"]


def decode_folder(raw: str | Path, out: str | Path, garbage: Garbage = "report") -> int:
    """Decode every archive file of `raw` into a Parquet file of the same stem in `out`.

    Columns: `n` (1-based rank), `gamma` (height), `gap` (gamma_{n+1} - gamma_n from the exact
    integers; null for the very last zero). Gaps across block and file boundaries are exact too.
    Memory is that of one file. Returns the number of zeros.

    Raises
    ------
    ZetaError
        As :func:`zetalib.platt.read_blocks`; when files do not chain or differ from the manifest;
        when bytes follow a file's last block and `garbage` is "refuse" (else they are reported).
    """
    paths = platt.numeric_order(raw)
    manifest.check(raw, paths)
    _check_files(paths, garbage)
    following: list[int | None] = [platt.first_zero(path) for path in paths[1:]] + [None]
    for k in reversed(range(len(following) - 1)):
        if following[k] is None:  # a file without zeros: look past it
            following[k] = following[k + 1]
    zeros = 0
    with atomic.replacing(out) as aside:
        aside.mkdir()
        for path, after in zip(paths, following, strict=True):
            n, gamma, gap = platt.decode_file(path, after)
            arrays = [pa.array(n), pa.array(gamma), pa.array(gap, from_pandas=True)]
            write_table(pa.table(arrays, schema=SCHEMA), aside / f"{path.stem}.parquet")
            zeros += len(n)
            print(f"{path.name}: {len(n):,} zeros", flush=True)
    return zeros


def _check_files(paths: list[Path], garbage: Garbage) -> None:
    for path, _, trailing in platt.read_chain(paths):
        if trailing and garbage == "refuse":
            problem = f"{trailing} bytes after the last block"
            remedy = "Fetch the file again, or set decode.garbage to report."
            raise ZetaError(path, problem, remedy, offset=path.stat().st_size - trailing)
        if trailing:
            print(f"{path}: {trailing} bytes of garbage after the last block, ignored", flush=True)
