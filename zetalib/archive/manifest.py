"""The manifest beside archive files: which files a source left, so that a later loss is noticed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from zetalib import atomic
from zetalib.archive import codec
from zetalib.errors import ZetaError

NAME = "manifest.json"
_PARTIAL = re.compile(r"\.zeros_\d+\.dat\.partial")  # as lmfdb leaves them


class Known(NamedTuple):
    """The md5 a file should have, in hex, and the listing that says so, if one does."""

    md5: str
    listing: str | None = None


class Besides(NamedTuple):
    """What a source has to say besides the files it left.

    Attributes
    ----------
    known : mapping
        By name, the md5 of files whose bytes the source has hashed already.
    bases : mapping
        `base_height` and `base_rank`, decimal strings, where the heights or ranks of all files
        are above a base.
    """

    known: Mapping[str, Known] = MappingProxyType({})
    bases: Mapping[str, str] = MappingProxyType({})


def write(folder: str | Path, source: str, besides: Besides | None = None) -> dict[str, Any]:
    """Describe the archive files in `folder`, check that they chain, and leave the manifest there.

    Parameters
    ----------
    folder : path
    source : str
        What is said to be their source.
    besides : Besides, optional
        Files whose md5 it does not know are read.

    Returns
    -------
    dict
        `source`, `zeros` and `files`: for each name, bytes, md5, first and last rank; where there
        are such, the listing that vouches for the md5, the bytes after the last block and the
        blocks that repeat the one before them.
    """
    besides = besides or Besides()
    files: list[dict[str, Any]] = []
    for file in codec.read_chain(codec.numeric_order(folder)):
        path = file.path
        md5, listing = besides.known.get(path.name) or Known(md5_of(path))
        entry: dict[str, Any] = {
            "name": path.name,
            "bytes": path.stat().st_size,
            "md5": md5,
            "first_rank": file.headers[0].n0 + 1,
            "last_rank": file.headers[-1].n1,
        }
        if listing:
            entry["listing"] = listing
        if file.trailing:
            entry["bytes_after_last_block"] = file.trailing
        if file.repeats:
            entry["repeated_blocks"] = [
                {
                    "block": number,
                    "offset": header.offset,
                    "t0": header.t0,
                    "t1": header.t1,
                    "first_rank": header.n0 + 1,
                    "last_rank": header.n1,
                }
                for number, header in file.repeats
            ]
        files.append(entry)
    zeros = files[-1]["last_rank"] - files[0]["first_rank"] + 1
    found = {"source": source, "zeros": zeros, **besides.bases, "files": files}
    atomic.write_json(Path(folder) / NAME, found)
    _notes(Path(folder)).unlink(missing_ok=True)
    return found


def ours(folder: str | Path) -> Callable[[Path], bool]:
    """Whether a file in `folder` is one that a source left there: known by name, size and md5.

    Known are those of the manifest and, while a run has no manifest yet, of its :func:`note`.
    """
    folder, entries = Path(folder), []
    for path in (folder / NAME, _notes(folder)):
        try:
            entries += json.loads(path.read_text())["files"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    known = {(e["name"], e.get("bytes"), e["md5"]) for e in entries if {"name", "md5"} <= e.keys()}
    names = {name for name, _, _ in known}

    def is_ours(path: Path) -> bool:
        if path.parent != folder or path.is_symlink():
            return False
        if path.name in (NAME, f".{NAME}.partial") or _PARTIAL.fullmatch(path.name):
            return True
        if path.name not in names:
            return False
        size, md5 = path.stat().st_size, md5_of(path)
        return (path.name, size, md5) in known or (path.name, None, md5) in known

    return is_ours


def note(folder: str | Path, files: Mapping[str, str]) -> None:
    """Leave word beside `folder` of the files (md5 by name) that a run without a manifest has."""
    entries = [{"name": name, "md5": md5} for name, md5 in sorted(files.items())]
    atomic.write_json(_notes(Path(folder)), {"files": entries})


def _notes(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.files.json")


def base_height(raw: str | Path) -> int:
    """What is to be added to the heights of the files in `raw`: 0 but for tables at 10^21."""
    return int(json.loads((Path(raw) / NAME).read_text()).get("base_height", 0))


def check(raw: str | Path, paths: list[Path]) -> dict[str, Known]:
    """Check that `paths` are the files of the manifest in `raw`, in name and size.

    Returns
    -------
    dict
        The md5 of each file, by name, and the listing that vouches for it.

    Raises
    ------
    ZetaError
        Naming the file that is missing, unknown or of another size.
    """
    manifest = Path(raw) / NAME
    try:
        files = {entry["name"]: entry for entry in json.loads(manifest.read_text())["files"]}
        known = {n: Known(str(entry["md5"]), entry.get("listing")) for n, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"the manifest cannot be read ({type(error).__name__})"
        raise ZetaError(manifest, problem, "Run `dvc repro -f download`.") from None
    for path in paths:
        if path.name not in files:
            problem = "the manifest does not know this file"
            raise ZetaError(path, problem, "Move it away, then `dvc repro -f download`.")
        expected, found = files.pop(path.name)["bytes"], path.stat().st_size
        if found != expected:
            problem = f"{found} bytes, the manifest says {expected}"
            remedy = "Move it away, then `dvc repro -f download`."
            raise ZetaError(path, problem, remedy, offset=found)
    for name in files:
        problem = "the manifest names this file, and it is missing"
        raise ZetaError(Path(raw) / name, problem, "Run `dvc repro -f download`.")
    return known


def explained(
    fault: codec.FileFault, known: Mapping[str, Known], again: str, unlisted: str | None = None
) -> ZetaError:
    """`fault` with the remedy that helps: not another copy if the bytes are as published.

    The files at fault are read once more, for their md5.

    Parameters
    ----------
    known : mapping
        The md5 that files should have, by name.
    again : str
        What helps if a file has another md5.
    unlisted : str, optional
        What helps, instead of comparing md5s, if all have theirs but no listing says so.
    """
    listings = []
    for path in fault.files:
        should = known.get(path.name)
        if should is None:
            return fault
        md5 = md5_of(path)
        if md5 != should.md5:
            problem = f"its md5 is {md5}, {should.listing or 'the manifest'} says {should.md5}"
            if fault.where == str(path):
                at = "" if fault.offset is None else f" at byte {fault.offset}"
                problem += f"; seen first{at}: {fault.problem}"
            return ZetaError(path, problem, again)
        listings.append(should.listing)
    remedy = fault.remedy
    if all(listings):
        names = " and ".join(path.name for path in fault.files)
        those = " and ".join(dict.fromkeys(map(str, listings)))
        verb = "is" if len(fault.files) == 1 else "are"
        remedy = (
            f"{names} {verb} as published (md5 as in {those}): the fault is at its source and "
            f"every copy has it, so report it there (LMFDB), and meanwhile {fault.instead}."
        )
    elif unlisted is not None and remedy == codec.AGAIN:
        remedy = f"{unlisted} Meanwhile {fault.instead}."
    return ZetaError(fault.where, fault.problem, remedy, offset=fault.offset)


def md5_of(path: Path) -> str:
    """The md5 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()
