r"""Listings of md5s: what `md5sum`, `md5` and `openssl md5` print, as kept beside archive files.

Lines are ``<md5>  <name>`` (text), ``<md5> *<name>`` (binary), ``<md5> <name>`` (`md5 -r`),
``MD5 (<name>) = <md5>`` (`md5`, `md5sum --tag`) or ``MD5(<name>)= <md5>`` (`openssl md5`). A
backslash before the line says that `\\`, `\n` and `\r` in the name are escaped (GNU coreutils,
"md5sum invocation"). Blank lines, comments (# or ;) and messages of md5sum itself are passed over.
Names may have folders before them; the last part counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from zetalib.archive import codec
from zetalib.archive.manifest import Known
from zetalib.errors import ZetaError

NAMES = ("md5sum.log", "md5.txt", "md5sum.txt", "md5sums.txt", "md5sums", "MD5SUMS", "MD5SUMS.txt")
LONGEST = 1 << 26  # bytes: the archive's own has 811,161
LONGEST_NAME = 255  # characters

_PLAIN = re.compile(r"(\\?)([0-9a-fA-F]{32})[ \t]+\*?(\S.*)")
_TAGGED = re.compile(r"(\\?)MD5 ?\((.+)\) ?= ?([0-9a-fA-F]{32})")
_BARE = re.compile(r"[0-9a-fA-F]{32}")
_PASSED_OVER = ("#", ";", "md5sum: ")
_ESCAPE = re.compile(r"\\(.?)")
_ESCAPED = {"\\": "\\", "n": "\n", "r": "\r"}
_LINE_END = re.compile(r"\r\n|[\n\r\0]")  # NUL: md5sum --zero
_ANEW = "Save it anew, or make it with `md5sum zeros_*.dat > md5sum.log` where the files are good."


class Entry(NamedTuple):
    """A line of a listing: the path as it stands there, the md5 in lower-case hex."""

    path: str
    md5: str
    line: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


class Vouched(NamedTuple):
    """A listing's word for a file: its md5, the listing as seen from the folder, and the line."""

    md5: str
    listing: str
    line: int

    def __str__(self) -> str:
        return f"line {self.line} of {self.listing}"


def parse(text: str, where: str | Path, only: str | None = None) -> list[Entry]:
    """The entries of a listing, in its order.

    Parameters
    ----------
    only : str, optional
        The file that the listing is about, if about one: its md5 may then stand alone.

    Raises
    ------
    ZetaError
        On a line that is none of a listing's.
    """
    entries, bad = _parse(text, only)
    if bad:
        raise _no_line(where, bad)
    return entries


def _parse(text: str, only: str | None = None) -> tuple[list[Entry], tuple[int, str] | None]:
    """The entries, and the first line that is none, with its number."""
    entries: list[Entry] = []
    bad = None
    for number, line in enumerate(_LINE_END.split(text), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(_PASSED_OVER):
            continue
        entry = _entry(stripped, number, only)
        if entry is not None:
            entries.append(entry)
        elif bad is None:
            bad = number, stripped
    return entries, bad


def _entry(line: str, number: int, only: str | None) -> Entry | None:
    if only is not None and _BARE.fullmatch(line):
        return Entry(only, line.lower(), number)
    if match := _PLAIN.fullmatch(line):
        escaped, md5, path = match.groups()
    elif match := _TAGGED.fullmatch(line):
        escaped, path, md5 = match.groups()
    else:
        return None
    if escaped:
        if any(code not in _ESCAPED for code in _ESCAPE.findall(path)):
            return None
        path = _ESCAPE.sub(lambda m: _ESCAPED[m[1]], path)
    else:
        path = path.replace("\\", "/")  # not from GNU's md5sum: a folder of Windows
    if only is not None and path == "-":
        path = only
    entry = Entry(path, md5.lower(), number)
    return entry if len(entry.name) <= LONGEST_NAME else None


def _no_line(where: str | Path, bad: tuple[int, str]) -> ZetaError:
    number, line = bad
    if line.startswith("<"):
        problem = "a page of HTML, not a listing of md5s"
    else:
        problem = f"line {number} is not '<md5> *<name>': {line[:80]!r}"
    return ZetaError(where, problem, _ANEW)


def decode(content: bytes) -> str:
    """The text of a listing, whatever the editor or shell that saved it."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    return content.decode("utf-8-sig", errors="replace")


def beside(folder: Path, names: Collection[str]) -> tuple[dict[str, Vouched], list[str]]:
    """What the listings in `folder` and above it say about archive files.

    In `folder` these are the files of a usual name (:data:`NAMES`, ``zeros_14.dat.md5``), which
    must be listings, and all others that are and name one of `names`; above it (where LMFDB has
    its own) those of a usual name that are and name one of `names`.

    Returns
    -------
    vouched : dict
        By the name of the archive file.
    listings : list of str
        The listings used, as seen from `folder`.

    Raises
    ------
    ZetaError
        If a listing is damaged, or if two entries disagree about an archive file.
    """
    vouched: dict[str, Vouched] = {}
    listings: list[str] = []
    for path, seen, must in _candidates(folder):
        only = path.stem if path.suffix in codec.MD5_SUFFIXES else None
        entries, bad = _parse(decode(_content(path, must, only)), only)
        if not must and not any(entry.name in names for entry in entries):
            continue
        if bad:
            raise _no_line(path, bad)
        if not entries:
            raise ZetaError(path, "a listing of md5s that lists nothing", _ANEW)
        listings.append(seen)
        for entry in entries:
            if not codec.NAME.fullmatch(entry.name):
                continue
            said = Vouched(entry.md5, seen, entry.line)
            before = vouched.setdefault(entry.name, said)
            if before.md5 != said.md5:
                problem = f"line {said.line} says that the md5 of {entry.name} is {said.md5}, "
                problem += f"{before} that it is {before.md5}"
                raise ZetaError(path, problem, "Remove the listing or the line that is wrong.")
    return vouched, listings


def _candidates(folder: Path) -> Iterator[tuple[Path, str, bool]]:
    """Files that may be listings, the archive's own first; how they are called from `folder`; and
    whether they must be listings.
    """
    found = {e.name for e in os.scandir(folder) if e.is_file() and not e.name.startswith(".")}
    for name in NAMES:
        if name in found:
            yield folder / name, name, True
    for name in sorted(found.difference(NAMES)):
        if not codec.NAME.fullmatch(name):
            path = folder / name
            sidecar = path.suffix in codec.MD5_SUFFIXES and codec.NAME.fullmatch(path.stem)
            yield path, name, bool(sidecar)
    parent = folder.resolve().parent
    for name in NAMES:
        if os.path.isfile(parent / name):  # noqa: PTH113, False where we may not look
            yield parent / name, f"../{name}", False


def _content(path: Path, must: bool, only: str | None) -> bytes:
    """The bytes of a listing; none of a file that cannot be one, unless it must."""
    try:
        with path.open("rb") as handle:
            content = handle.read(4096)
            if not must:
                entries, bad = _parse(decode(content), only)
                if not entries or (bad and bad[0] < entries[0].line):
                    return b""
            content += handle.read(LONGEST)
    except OSError:
        if must:
            raise
        return b""
    if len(content) > LONGEST:
        if must:
            raise ZetaError(path, f"more than {LONGEST} bytes: no listing of md5s", "Move it away.")
        return b""
    return content


def check(path: Path, md5: str, vouched: Vouched | None) -> Known:
    """`md5` of the file at `path` as the manifest keeps it.

    Raises
    ------
    ZetaError
        If a listing gives the file another md5.
    """
    if vouched is None:
        return Known(md5)
    if md5 != vouched.md5:
        problem = f"its md5 is {md5}, {vouched} says {vouched.md5}"
        remedy = "Fetch the file again, or correct the listing if that is what is wrong."
        raise ZetaError(path, problem, remedy)
    return Known(md5, vouched.listing)
