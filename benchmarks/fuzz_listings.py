r"""Fuzz the reader of md5 listings: `python -m benchmarks.fuzz_listings --seconds 120 --seed 1`.

Listings in the forms of GNU, BSD, openssl and Windows tools are made for three small archive files,
mutated (bits, characters, lines, encodings, cuts, HTML, other md5s and names) and put beside the
files under usual and other names. The oracle reads each line character by character and shares no
code with the library. The library must refuse, with a ZetaError of one line, what the oracle
refuses, and otherwise know the same md5 of each file: beside the user's files
(`zetalib.sources.listings.beside`, now and then the whole source `directory`) and as the listing of
a server (`zetalib.sources.lmfdb.parse_listing`). A failure prints the input and ends the run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zetalib import params
from zetalib.archive import codec, fixed_point
from zetalib.archive.codec import Block, Header
from zetalib.errors import ZetaError
from zetalib.sources import download, listings, lmfdb

TOO_LONG = 1.0  # seconds for one input
HEX = set("0123456789abcdefABCDEF")
USUAL = ["md5sum.log", "md5.txt", "md5sum.txt", "md5sums.txt", "md5sums", "MD5SUMS", "MD5SUMS.txt"]
Line = tuple[str, str]  # path, md5


class Refused(Exception):  # noqa: N818
    """The oracle's word for a listing that must not be used."""


def archive_number(name: str) -> int | None:
    """The number in zeros_<number>.dat, None for any other name."""
    if not (name.startswith("zeros_") and name.endswith(".dat") and name[6:-4].isdecimal()):
        return None
    return int(name[6:-4])


def read_line(line: str, own: str | None) -> Line | None:
    """Path and md5 of a line without blanks around it, or None if it is none of a listing's."""

    def is_md5(text: str) -> bool:
        return len(text) == 32 and all(c in HEX for c in text)

    if own is not None and is_md5(line):
        return own, line.lower()
    escaped = line[:1] == "\\"
    rest = line[1:] if escaped else line
    if is_md5(rest[:32]) and rest[32:33] in (" ", "\t") and rest[32:33]:
        md5, path = rest[:32], rest[32:].lstrip(" \t")
        if path[:1] == "*" and path[1:2].strip():
            path = path[1:]
        if not path[:1].strip():
            return None
    elif rest[:3] == "MD5" and is_md5(rest[-32:]):
        md5, middle = rest[-32:], rest[3:-32]
        middle = middle[1:] if middle[:1] == " " else middle
        middle = middle[:-1] if middle[-1:] == " " else middle
        if middle[-1:] != "=":
            return None
        middle = middle[:-1]
        middle = middle[:-1] if middle[-1:] == " " else middle
        if len(middle) < 3 or middle[0] != "(" or middle[-1] != ")" or "\n" in middle:
            return None
        path = middle[1:-1]
    else:
        return None
    if escaped:
        out, k = "", 0
        while k < len(path):
            if path[k] == "\\":
                k += 1
                meant = {"\\": "\\", "n": "\n", "r": "\r"}.get(path[k : k + 1])
                if meant is None:
                    return None
                out += meant
            else:
                out += path[k]
            k += 1
        path = out
    else:
        path = "/".join(path.split("\\"))
    if path == "-" and own is not None:
        path = own
    return None if len(path.split("/")[-1]) > 255 else (path, md5.lower())


def read_slowly(content: bytes, own: str | None = None) -> tuple[list[Line], bool, bool]:
    """Lines of a listing; whether all are good; whether the first that means something is."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", "replace")
    else:
        text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    for end in ("\r\n", "\r", "\0"):
        text = text.replace(end, "\n")
    lines, good, first = [], True, None
    for piece in text.split("\n"):
        line = piece.strip()
        if line == "" or line[0] in "#;" or line[:8] == "md5sum: ":
            continue
        found = read_line(line, own)
        first = found is not None if first is None else first
        if found is None:
            good = False
        else:
            lines.append(found)
    return lines, good, bool(first)


def vouched_slowly(beside: dict[str, bytes], names: set[str]) -> dict[str, str]:
    """The md5 of each archive file that listings name; `beside` holds them by path."""
    known: dict[str, str] = {}
    for where, content in beside.items():
        name = where.split("/")[-1]
        own = None
        for ending in (".md5", ".md5sum"):
            own = name.removesuffix(ending) if name.endswith(ending) else own
        must = "/" not in where and (
            name in USUAL or (own is not None and archive_number(own) is not None)
        )
        lines, good, first = read_slowly(content, own)
        if not must and not (first and any(path.split("/")[-1] in names for path, _ in lines)):
            continue
        if not good or not lines:
            raise Refused(f"{where} is damaged")
        for path, md5 in lines:
            file = path.split("/")[-1]
            if archive_number(file) is not None and known.setdefault(file, md5) != md5:
                raise Refused(f"two md5s of {file}")
    return known


def served_slowly(content: bytes) -> list[tuple[str, int, str]]:
    """Name, height and md5 of the files in a server's listing, by height."""
    lines, good, _ = read_slowly(content)
    if not good:
        raise Refused("damaged")
    found: dict[int, tuple[str, int, str]] = {}
    for path, md5 in lines:
        *folders, name = path.split("/")
        height = archive_number(name)
        if height is None or ".." in folders:
            continue
        if found.setdefault(height, (name, height, md5)) != (name, height, md5):
            raise Refused("two entries")
    if not found:
        raise Refused("nothing")
    return [found[height] for height in sorted(found)]


def archive_files() -> dict[str, bytes]:
    """Three files of two zeros each that chain."""
    files = {}
    for k, (t0, t1) in enumerate([(14.0, 100.0), (100.0, 200.0), (200.0, 300.0)]):
        heights = fixed_point.from_floats(np.array([t0 + 1.25, t0 + 2.5]))
        block = Block(Header(t0, t1, 2 * k, 2 * k + 2, 0), heights)
        files[codec.file_name(t0)] = codec.encode([block])
    return files


def valid(rng: random.Random, files: dict[str, bytes]) -> str:
    """A listing of some of the files, and perhaps of others."""
    prefix = rng.choice(["", "", "", "./", "data/", "./data/", "/mnt/a b/", "data\\", "../x/"])
    form = rng.choice(["{0}  {1}", "{0} *{1}", "{0} {1}", "MD5 ({1}) = {0}", "MD5({1})= {0}"])
    md5s = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    chosen = rng.sample(sorted(md5s), rng.choice([1, 2, 3, 3, 3]))
    lines = [form.format(md5s[name], prefix + name) for name in chosen]
    if rng.random() < 0.3:
        other = rng.choice(["index.db", "zeros_99999.dat", "not one.txt", "a/../zeros_5.dat", "ü"])
        lines.insert(
            rng.randrange(len(lines) + 1), form.format(f"{rng.getrandbits(128):032x}", other)
        )
    if rng.random() < 0.2:
        lines.insert(
            rng.randrange(len(lines) + 1), rng.choice(["", "# by hand", "; x", "md5sum: y"])
        )
    if rng.random() < 0.2:
        lines = [f"\\{line}" if "\\" not in line else line for line in lines]
    end = rng.choice(["\n", "\n", "\n", "\r\n", "\r", "\0"])
    return end.join(lines) + rng.choice([end, end, ""])


def change_characters(text: str, rng: random.Random) -> str:
    out = list(text)
    for _ in range(rng.choice([1, 1, 2, 5])):
        if out:
            out[rng.randrange(len(out))] = rng.choice(
                " *\\/()=\t\n\r\0#;-.0aFg<\x0b\x85\u2028é٣²\ufeff"
            )
    return "".join(out)


def change_digits(text: str, rng: random.Random) -> str:
    at = [k for k, c in enumerate(text) if c in HEX]
    if not at:
        return text
    k = rng.choice(at)
    return text[:k] + rng.choice("0123456789abcdefABCDEF") + text[k + 1 :]


def delete(text: str, rng: random.Random) -> str:
    a = rng.randrange(len(text) + 1)
    return text[:a] + text[a + rng.choice([1, 1, 2, 40]) :]


def insert(text: str, rng: random.Random) -> str:
    a = rng.randrange(len(text) + 1)
    what = [
        " ",
        "*",
        "\\",
        "\n",
        "\\n",
        "\\\\",
        "zeros_14.dat",
        "MD5 (",
        ") = ",
        "0" * 32,
        "x" * 300,
    ]
    return text[:a] + rng.choice(what) + text[a:]


def cut(text: str, rng: random.Random) -> str:
    a, b = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    return rng.choice([text[:b], text[a:], text[a:b], ""])


def lines_of_another(text: str, rng: random.Random) -> str:
    md5 = f"{rng.choice([0, rng.getrandbits(128)]):032x}"
    name = rng.choice(["zeros_14.dat", "zeros_014.dat", "zeros_100.dat", "data/zeros_200.dat", "-"])
    return text + rng.choice([f"{md5}  {name}\n", f"{md5}\n", f"MD5 ({name}) = {md5}\n"])


def html(text: str, rng: random.Random) -> str:
    page = "<!doctype html>\n<title>Are you human?</title>\n"
    return rng.choice([page, page + text, text + page])


def unchanged(text: str, rng: random.Random) -> str:
    return text


MUTATIONS: list[Callable[[str, random.Random], str]] = [
    change_characters, change_digits, delete, insert, cut, lines_of_another, html, unchanged,
]  # fmt: skip


def saved(text: str, rng: random.Random) -> bytes:
    """The bytes of a listing as some editor, shell or bad disk leaves them."""
    kind = rng.random()
    if kind < 0.08:
        return text.encode("utf-16", "replace")
    if kind < 0.12:
        return text.encode("utf-8-sig", "replace")
    content = bytearray(text.encode("utf-8", "replace"))
    if kind < 0.2 and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    if kind > 0.98:
        return rng.randbytes(rng.randrange(300))
    return bytes(content)


def case(rng: random.Random, files: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    """Listings by where they lie, and what was done to them."""
    done = rng.choice(MUTATIONS)
    beside = {}
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        where = rng.choice(
            [*USUAL[:2], rng.choice(USUAL), "../md5sum.log", "../md5.txt", "sums", "README",
             "zeros_14.dat.md5", "zeros_100.dat.md5sum", "all.md5", "zeros.md5"]
        )  # fmt: skip
        text = done(valid(rng, files), rng)
        while rng.random() < 0.15:
            text = rng.choice(MUTATIONS)(text, rng)
        beside[where] = saved(text, rng)
    return beside, done.__name__


def one_line(error: ZetaError) -> None:
    assert "\n" not in str(error) and str(error).isprintable(), repr(str(error))


def check(
    beside: dict[str, bytes],
    files: dict[str, bytes],
    folder: Path,
    whole: Callable[[], object] | None,
) -> bool:
    """Compare the library with the oracle on one case; True if the files are accepted.

    Raises
    ------
    AssertionError
        If they differ, or if it takes too long.
    """
    for where, content in beside.items():
        (folder / where).write_bytes(content)
    try:
        known = vouched_slowly(beside, set(files))
        right = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
        for name, md5 in right.items():
            if known.get(name, md5) != md5:
                raise Refused(f"{name} has another md5")
        why = ""
    except Refused as refused:
        known, why = {}, str(refused)
    began = time.process_time()
    try:
        vouched, _ = listings.beside(folder, set(files))
        for name, content in files.items():
            md5 = hashlib.md5(content).hexdigest()
            listings.check(folder / name, md5, vouched.get(name))
        if whole is not None:
            whole()
    except ZetaError as error:
        one_line(error)
        assert why, f"refused, but the oracle has no objection: {error}"
        return False
    finally:
        for where in beside:
            (folder / where).unlink()
        seconds = time.process_time() - began
        assert seconds < TOO_LONG, f"{seconds:.1f} s"
    assert not why, f"accepted, but the oracle says: {why}"
    assert {name: said.md5 for name, said in vouched.items()} == known
    return True


def check_served(content: bytes) -> bool:
    """The same for one listing as a server's."""
    try:
        expected = served_slowly(content)
    except Refused as refused:
        expected, why = [], str(refused)
    else:
        why = ""
    try:
        found = lmfdb.parse_listing(listings.decode(content), "md5sum.log")
    except ZetaError as error:
        one_line(error)
        assert why, f"refused, but the oracle has no objection: {error}"
        return False
    assert not why, f"accepted, but the oracle says: {why}"
    assert [(file.name, file.height, file.md5) for file in found] == expected
    return True


def setting(scratch: Path) -> tuple[dict[str, bytes], Path, Callable[[], object]]:
    """The files, the folder that holds them, and the whole source `directory` on it."""
    files, folder = archive_files(), scratch / "archive" / "data"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    p = params.load(Path(__file__).parents[1] / "params.yaml").download.model_copy(
        update={"source": "directory", "directory": str(folder), "max_zeros": None}
    )

    def whole() -> None:
        try:
            download.fetch(p, scratch / "raw")
            for name, content in files.items():
                assert (scratch / "raw" / name).read_bytes() == content
        finally:
            shutil.rmtree(scratch / "raw", ignore_errors=True)

    return files, folder, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    tried: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        files, folder, whole = setting(Path(scratch))
        began = time.monotonic()
        while time.monotonic() - began < arguments.seconds:
            beside, mutation = case(rng, files)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    ok = check(beside, files, folder, whole if rng.random() < 0.05 else None)
                    served = [check_served(content) for content in beside.values()]
            except Exception:
                print(f"FAILED after {tried.total():,} cases ({mutation}): {beside!r}", flush=True)
                raise
            tried[mutation] += 1
            accepted[mutation] += ok
            tried["as a server's"] += len(served)
            accepted["as a server's"] += sum(served)
        seconds = time.monotonic() - began
    print(f"{'mutation':<20}{'cases':>10}{'accepted':>10}{'refused':>10}")
    for name in sorted(tried):
        print(
            f"{name:<20}{tried[name]:>10,}{accepted[name]:>10,}{tried[name] - accepted[name]:>10,}"
        )
    print(
        f"{tried.total():,} cases in {seconds:.0f} s ({tried.total() / seconds:.0f}/s), seed "
        f"{arguments.seed}: no crash, no exception but ZetaError of one line, nothing accepted "
        "that the oracle refuses, no other md5"
    )


if __name__ == "__main__":
    main()
