"""Data sets of Parquet files, one for each archive file, in the order of height."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zetalib.errors import ZetaError


def write_table(table: pa.Table, path: Path) -> None:
    """Write one Parquet file of a data set: zstd, floats byte-stream-split (they hardly repeat)."""
    floats = [f.name for f in table.schema if pa.types.is_floating(f.type)]
    pq.write_table(
        table, path, compression="zstd", use_dictionary=False, use_byte_stream_split=floats
    )


def parquet_files(folder: str | Path) -> Iterator[Path]:
    """The Parquet files of a data set in the order of height.

    Raises
    ------
    ZetaError
        If there is none.
    """
    paths = sorted(Path(folder).glob("zeros_*.parquet"), key=lambda p: int(p.stem[6:]))
    if not paths:
        raise ZetaError(folder, "no zeros_*.parquet here", "Run `dvc repro` first.")
    return iter(paths)
