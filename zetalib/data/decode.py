"""Archive files to Parquet: rank, height and exact gap of every zero."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import starmap
from pathlib import Path
from typing import Literal

import pyarrow as pa

from zetalib import provenance
from zetalib.archive import codec, fixed_point, manifest
from zetalib.archive.codec import Header
from zetalib.data import parquet_folders
from zetalib.data.parquet_folders import Map, Part
from zetalib.errors import ZetaError

SCHEMA = pa.schema([("n", pa.int64()), ("gamma", pa.float64()), ("gap", pa.float64())])

Garbage = Literal["report", "refuse"]

_DOWNLOAD = "Move it away, then `dvc repro -f download`."
_AS_LEFT = (
    "The file is as the download stage left it, and no listing vouches for its md5: bring it anew "
    "from where it came, then `dvc repro -f download`."
)
TOLD = 10  # repeated blocks told one by one, of a file

_CODE = parquet_folders.code(__file__)


def decode_folder(
    raw: str | Path, out: str | Path, garbage: Garbage = "report", run: Map = starmap
) -> int:
    """Decode every archive file of `raw` into a Parquet file of the same stem in `out`.

    Columns: `n` (1-based rank), `gamma` (height), `gap` (gamma_{n+1} - gamma_n from the exact
    integers; null for the very last zero). Gaps across block and file boundaries are exact too.
    What is in `out` already and would come out the same is kept. Memory is that of
    :data:`zetalib.data.parquet_folders.ROWS` zeros for each of the files `run` has under way, or of
    one block if it is larger. Returns the number of zeros.

    Raises
    ------
    ZetaError
        As :func:`zetalib.archive.codec.read_chain` and :func:`zetalib.archive.codec.decode_run`,
        with the remedy of :func:`zetalib.archive.manifest.explained`; when files differ from the
        manifest; when bytes follow a file's last block and `garbage` is "refuse" (else they are
        reported). `out` is then left without its index.
    """
    raw, out = Path(raw).absolute(), Path(out).absolute()  # a worker may be elsewhere
    paths = codec.numeric_order(raw)
    known = manifest.check(raw, paths)
    base = manifest.base_height(raw)
    calls = (
        (path, headers, following, known[path.name].md5, out / f"{path.stem}.parquet", _CODE, base)
        for path, headers, following in _with_following(paths, garbage)
    )
    zeros = 0
    try:
        with parquet_folders.rebuilding(out) as parts:
            for part, kept in run(decode, calls):
                parts.append(part)
                zeros += part.rows
                said = f"{part.rows:,} zeros{', kept' if kept else ''}"
                print(f"{part.path.name}: {said}", flush=True)
    except codec.FileFault as fault:
        raise manifest.explained(fault, known, _DOWNLOAD, _AS_LEFT) from None
    return zeros


def _with_following(
    paths: list[Path], garbage: Garbage
) -> Iterator[tuple[Path, list[Header], int | None]]:
    """Each file, its headers and the first zero after it, looking past files without zeros."""
    waiting: list[tuple[Path, list[Header]]] = []
    for file in codec.read_chain(paths):
        path, headers, trailing = file.path, file.headers, file.trailing
        if trailing and garbage == "refuse":
            problem = f"{trailing} bytes after the last block"
            at, instead = path.stat().st_size - trailing, "set decode.garbage to report"
            raise codec.FileFault(path, problem, offset=at, instead=instead)
        if trailing:
            print(f"{path}: {trailing} bytes of garbage after the last block, ignored", flush=True)
        for number, h in file.repeats[:TOLD]:
            said = f"t0 = {h.t0!r}, t1 = {h.t1!r}, ranks {h.n0 + 1} to {h.n1}"
            print(
                f"{path} at byte {h.offset}: block {number} repeats the one before it, byte for "
                f"byte ({said}): passed over",
                flush=True,
            )
        if len(file.repeats) > TOLD:
            print(f"{path}: {len(file.repeats) - TOLD} more such blocks", flush=True)
        first = codec.first_of(path, headers)
        if first is not None:
            yield from ((*file, first) for file in waiting)
            waiting.clear()
        waiting.append((path, headers))
    yield from ((*file, None) for file in waiting)


def decode(
    path: Path,
    headers: list[Header],
    following: int | None,
    md5: str,
    out: Path,
    code: str,
    base: int = 0,
) -> tuple[Part, bool]:
    """Bring the Parquet file of one archive file up to date; whether it was so already.

    Parameters
    ----------
    following : int or None
        The next file's first zero in units of 2^-101, None after the very last zero.
    md5 : str
        Of the archive file, as the manifest has it.
    code : str
        Digest of the caller's code, which must be this process's.
    base : int
        Added to every height of the file.
    """
    parquet_folders.check_code(out, code, _CODE)
    # Where the blocks begin: the first may repeat the last of another file.
    begin = headers[0].offset if headers else None
    key = provenance.key(_CODE, md5, begin, following, *([base] if base else []))
    found = parquet_folders.whole(out)
    # The key vouches for the md5 the archive file had then; one changed since is looked at again.
    if (
        found is not None
        and found.key == key
        and (_older(path, out) or manifest.md5_of(path) == md5)
    ):
        return found, True
    rows = 0
    with parquet_folders.writing(out, SCHEMA, key) as writer:
        for start, stop in _runs(headers):
            after = codec.first_of(path, headers[stop:])
            after = following if after is None else after
            n, gamma, gap = codec.decode_run(path, headers[start:stop], after)
            if base:
                heights = codec.exact_heights(path, headers[start:stop])
                gamma = fixed_point.to_floats(
                    fixed_point.add(heights, base << fixed_point.UNIT_BITS)
                )
            arrays = [pa.array(n), pa.array(gamma), pa.array(gap, from_pandas=True)]
            writer.write_table(pa.table(arrays, schema=SCHEMA), row_group_size=max(len(n), 1))
            rows += len(n)
        if manifest.md5_of(path) != md5:
            raise ZetaError(path, "its md5 is not the manifest's", _DOWNLOAD)
    return Part(out, rows, key), False


def _runs(headers: list[Header]) -> Iterator[tuple[int, int]]:
    """Slices of consecutive blocks with at most ROWS zeros each, or of one larger block."""
    start = 0
    for stop in range(1, len(headers) + 1):
        full = stop < len(headers) and headers[stop].n1 - headers[start].n0 > parquet_folders.ROWS
        if full or stop == len(headers):
            if headers[stop - 1].n1 > headers[start].n0:
                yield start, stop
            start = stop


def _older(path: Path, than: Path) -> bool:
    return path.stat().st_mtime_ns < than.stat().st_mtime_ns
