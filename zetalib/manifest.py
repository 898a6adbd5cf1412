"""The manifest beside archive files: which files a source left, so that a later loss is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zetalib import atomic, platt
from zetalib.errors import ZetaError

NAME = "manifest.json"


def write(
    folder: str | Path,
    source: str,
    md5s: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe the archive files in `folder`, check that they chain, and leave the manifest there.

    Parameters
    ----------
    folder : path
    source : str
        What is said to be their source.
    md5s : mapping, optional
        md5 in hex by name, of files whose bytes this run has hashed already; others are read.
    more : mapping, optional
        What the source has to say besides: `base_height` and `base_rank`, decimal strings, of
        files whose heights and ranks are above a base.

    Returns
    -------
    dict
        `source`, `zeros` and `files`: for each name, bytes, md5, first and last rank, and the
        bytes after its last block if there are any.
    """
    files: list[dict[str, Any]] = []
    for path, headers, trailing in platt.read_chain(platt.numeric_order(folder)):
        md5 = (md5s or {}).get(path.name)
        if md5 is None:
            with path.open("rb") as handle:
                md5 = hashlib.file_digest(handle, "md5").hexdigest()
        entry = {
            "name": path.name,
            "bytes": path.stat().st_size,
            "md5": md5,
            "first_rank": headers[0].n0 + 1,
            "last_rank": headers[-1].n1,
        }
        if trailing:
            entry["bytes_after_last_block"] = trailing
        files.append(entry)
    zeros = files[-1]["last_rank"] - files[0]["first_rank"] + 1
    found = {"source": source, "zeros": zeros, **(more or {}), "files": files}
    atomic.write_json(Path(folder) / NAME, found)
    return found


def base_height(raw: str | Path) -> int:
    """What is to be added to the heights of the files in `raw`: 0 but for tables at 10^21."""
    return int(json.loads((Path(raw) / NAME).read_text()).get("base_height", 0))


def check(raw: str | Path, paths: list[Path]) -> dict[str, str]:
    """Check that `paths` are the files of the manifest in `raw`, in name and size.

    Returns
    -------
    dict
        The md5 of each file, by name.

    Raises
    ------
    ZetaError
        Naming the file that is missing, unknown or of another size.
    """
    manifest = Path(raw) / NAME
    try:
        files = {entry["name"]: entry for entry in json.loads(manifest.read_text())["files"]}
        md5 = {name: str(entry["md5"]) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"the manifest cannot be read ({type(error).__name__})"
        raise ZetaError(manifest, problem, "Run `dvc repro -f download`.") from None
    for path in paths:
        if path.name not in files:
            problem = "the manifest does not know this file"
            raise ZetaError(path, problem, "Run `dvc repro -f download`.")
        expected, found = files.pop(path.name)["bytes"], path.stat().st_size
        if found != expected:
            problem = f"{found} bytes, the manifest says {expected}"
            raise ZetaError(path, problem, "Run `dvc repro -f download`.", offset=found)
    for name in files:
        problem = "the manifest names this file, and it is missing"
        raise ZetaError(Path(raw) / name, problem, "Run `dvc repro -f download`.")
    return md5
