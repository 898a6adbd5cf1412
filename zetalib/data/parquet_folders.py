"""Data sets of Parquet files, one for each archive file, in the order of height.

A data set grows and changes file by file. Each file carries a key of all that decided its bytes;
`_index.json`, written last, names the files: without it the data set is not whole. Readers of a
folder of Parquet (pandas, pyarrow, Spark) pass over names that begin with an underscore.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zetalib import atomic, provenance
from zetalib.errors import ZetaError

INDEX = "_index.json"
INDEXES = (INDEX, "index.json")  # ours: as it is written now, and as it was
ROWS = 1 << 19  # of a row group, about: what a stage holds of a file at a time

# itertools.starmap, or its like in parallel (zetalib.compute.Pool.map).
Map = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]

_KEY = b"zetalib.key"
NAME = re.compile(r"zeros_\d+\.parquet")
_PARTIAL = re.compile(r"\.zeros_\d+\.parquet\.[0-9a-f]+\.partial|\._?index\.json\.partial")
_AGAIN = "Run `dvc repro`; if that finds nothing to do, delete the folder first."


@dataclass(frozen=True)
class Part:
    """One file of a data set."""

    path: Path
    rows: int
    key: str


def code(file: str) -> str:
    """Digest of a stage's code and of the libraries that decide what it writes."""
    return provenance.key(provenance.code(file), pa.__version__, np.__version__)


def check_code(path: Path, asked: str, here: str) -> None:
    """Refuse to make `path` with other code than the stage that asks for it (see :func:`code`)."""
    if asked != here:
        problem = "a Dask worker runs other code or libraries than the stage"
        raise ZetaError(path, problem, "Restart the workers with this checkout and environment.")


def whole(path: Path) -> Part | None:
    """The file at `path` as part of a data set; None if it is missing, cut short or not ours."""
    try:
        metadata = pq.read_metadata(path)
        return Part(path, metadata.num_rows, metadata.metadata[_KEY].decode())
    except (OSError, pa.ArrowException, KeyError, TypeError):
        return None


@contextmanager
def writing(path: Path, schema: pa.Schema, key: str) -> Iterator[pq.ParquetWriter]:
    """Write one file of a data set; it appears under its name when whole, never before.

    The encoding was chosen by measuring (docs/format.md). The partial name is unique: on a cluster
    a task may run twice at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    floats = pa.types.is_floating
    encoding = {
        f.name: "BYTE_STREAM_SPLIT" if floats(f.type) else "DELTA_BINARY_PACKED" for f in schema
    }
    try:
        with aside.open("wb") as handle:
            with pq.ParquetWriter(
                handle,
                schema.with_metadata({_KEY: key}),
                compression="zstd",
                compression_level=1,
                use_dictionary=False,
                column_encoding=encoding,
                write_page_checksum=True,
            ) as writer:
                yield writer
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def is_ours(path: Path) -> bool:
    """Whether a file of a data set's folder was written by a stage, whole or not."""
    if path.name in INDEXES or _PARTIAL.fullmatch(path.name):
        return True
    return NAME.fullmatch(path.name) is not None and (path.stat().st_size == 0 or _has_key(path))


def _has_key(path: Path) -> bool:
    """Whether a file carries our key, or is cut off or damaged before it can be seen."""
    try:
        return _KEY in (pq.read_metadata(path).metadata or {})
    except (OSError, pa.ArrowException):
        with path.open("rb") as handle:
            return handle.read(4) == b"PAR1"


def groups(path: Path) -> list[int]:
    """The rows of each row group of a file."""
    metadata = pq.read_metadata(path)
    return [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]


def read_group(path: Path, group: int, columns: list[str]) -> pa.Table:
    """One row group of a file, its pages checked against their checksums.

    Raises
    ------
    ZetaError
        If the file is damaged.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read_row_group(group, columns=columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        problem = f"damaged in row group {group} ({' '.join(str(error).split())})"
        raise ZetaError(path, problem, "Delete it, then `dvc repro`.") from None


@contextmanager
def rebuilding(folder: Path) -> Iterator[list[Part]]:
    """Make `folder` the data set of the parts put into the list: no other file, and its index.

    From the first moment to the last the folder has no index, so that it does not look whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.check_ours(folder, is_ours)
    for name in INDEXES:
        (folder / name).unlink(missing_ok=True)
    parts: list[Part] = []
    yield parts
    names = {part.path.name for part in parts}
    for path in folder.iterdir():
        if path.name not in names and is_ours(path):
            path.unlink()
    files = [
        {"name": p.path.name, "bytes": p.path.stat().st_size, "rows": p.rows, "key": p.key}
        for p in parts
    ]
    atomic.write_json(folder / INDEX, {"files": files})


def parts(folder: str | Path) -> list[Part]:
    """The files of a data set in the order of height.

    Raises
    ------
    ZetaError
        If the data set is not whole: no index, or a file is missing, unknown or of another size.
    """
    folder = Path(folder)
    try:
        files = {f["name"]: f for f in json.loads((folder / INDEX).read_text())["files"]}
        found = [Part(folder / name, f["rows"], f["key"]) for name, f in files.items()]
        sizes = {name: f["bytes"] for name, f in files.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"the data set is not whole: no good {INDEX} ({type(error).__name__})"
        raise ZetaError(folder, problem, _AGAIN) from None
    for path in folder.glob("zeros_*.parquet"):
        if sizes.pop(path.name, None) != path.stat().st_size:
            problem = f"not the file of this name in {INDEX}: unknown there or of another size"
            raise ZetaError(path, problem, "Delete it, then `dvc repro`.")
    for name in sizes:
        raise ZetaError(folder / name, f"missing, and {INDEX} names it", _AGAIN)
    return found
