"""Damage tables of heights at random and hold the source `table` against a slow reader.

python -m benchmarks.fuzz_tables [--seconds 600] [--seed 0]

The slow reader shares no code with the library: lines split in Python, `fractions.Fraction` for the
numbers. Nothing may be accepted that it refuses, or with other heights or ranks; whatever is
refused must be refused by one ZetaError of one line. What it accepts and the library refuses is
counted and shown: above t = 10^12 ranks that contradict N(t) may be.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import itertools
import random
import re
import tempfile
import time
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zetalib.archive import codec, fixed_point
from zetalib.errors import ZetaError
from zetalib.reports import experiments
from zetalib.sources import tables

NUMBER = re.compile(r'("?)([+-]?)((?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d{1,4})?)\1')
WORDS = re.compile(r'"*[+-]*(nan|inf|infinity)"*', re.IGNORECASE)
NAMES = {"gamma", "t", "height", "heights", "zero", "zeros", "ordinate", "im", "imag", "y", "value"}
RANKS = {"n", "rank", "index", "number", "k", "no", "i"}


class Refused(Exception):  # noqa: N818
    """The slow reader takes it for no table."""


def number(text: str) -> Fraction:
    match = NUMBER.fullmatch(text)
    if match is None or match[2] == "-":
        raise Refused(text)
    return Fraction(re.sub("[dD]", "e", match[3]))


def units(value: Fraction) -> int:
    scaled = value * 2**102 + 1
    found = scaled.numerator // scaled.denominator // 2
    if found >= 2 ** (91 + 101):
        raise Refused("too high")
    return found


def fields(line: str) -> list[str]:
    line = line.strip(" \t\r\v\f")
    return re.split(r"[ \t\r\v\f]*[,;][ \t\r\v\f]*|[ \t\r\v\f]+", line) if line else []


def slow_text(content: bytes) -> tuple[int | None, int, list[int]]:
    """First rank, base and heights (in 2^-101, without the base) of a table in text."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise Refused("gzip") from None
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.lstrip()[:1] == b"<" or b"\0" in content:
        raise Refused("not text")
    lines = content.decode("latin-1").split("\n")
    before: list[str] = []
    start = None
    for k, line in enumerate(lines):
        parts = fields(line)
        if not parts:
            continue
        names = name_columns(before, parts)
        numeric = [bool(NUMBER.fullmatch(p) or WORDS.fullmatch(p)) for p in parts]
        if not parts[0].startswith("#") and (all(numeric) or any(numeric[k] for k in names)):
            start = k
            break
        before.append(line)
    if start is None:
        raise Refused("no numbers")
    width = len(parts)
    height = next((k for k, n in names.items() if n in NAMES), None)
    rank = next((k for k, n in names.items() if n in RANKS), None)
    if height is None:
        if width > 2:
            raise Refused("columns")
        height, rank = width - 1, 0 if width == 2 else None
    if sum(n in NAMES for n in names.values()) > 1 or sum(n in RANKS for n in names.values()) > 1:
        raise Refused("two columns of heights")
    heights, ranks = [], []
    for line in lines[start:]:
        parts = fields(line)
        if not parts or parts[0][:1] == "#":
            continue
        if len(parts) != width:
            raise Refused("columns differ")
        heights.append(units(number(parts[height])))
        if rank is not None:
            found = number(parts[rank])
            if found.denominator != 1 or found < 1:
                raise Refused("rank")
            ranks.append(int(found))
    if any(b - a != 1 for a, b in itertools.pairwise(ranks)):
        raise Refused("ranks jump")
    prose = " ".join(bytes(b, "latin-1").decode("utf-8", "replace") for b in before)
    base = re.search("gamma\\s*[-\u2212\u2013]\\s*(\\d[\\d,]*)", prose)
    power = re.search(r"(\d+)\s*\^\s*(\d+)\s*\+\s*(\d+)", prose) if base else None
    first = ranks[0] if ranks else None
    if power and not ranks and len(power[2]) < 3:
        first = int(power[1]) ** int(power[2]) + int(power[3])
    return first, int(base[1].replace(",", "")) if base else 0, heights


def name_columns(before: list[str], parts: list[str]) -> dict[int, str]:
    """Names of columns by place, from the line right above."""
    if not before:
        return {}
    names = [re.sub("[^a-z]", "", p.lower()) for p in fields(before[-1].strip().lstrip("#"))]
    if len(set(names)) < len(names) or not NAMES & set(names) or len(names) != len(parts):
        return {}
    return dict(enumerate(names))


def slow_array(content: bytes) -> tuple[int | None, int, list[int]]:
    """The same of a .npy or Parquet file, read by numpy and pyarrow themselves."""
    try:
        if content[:4] == b"PAR1":
            table = pq.read_table(io.BytesIO(content))
            (column,) = table.columns  # written with one, whatever damage names it
            found = np.asarray(column.to_numpy(), dtype=np.float64)
        else:
            found = np.asarray(np.load(io.BytesIO(content), allow_pickle=False), dtype=np.float64)
    except Exception:  # whatever they raise
        raise Refused("not readable") from None
    if found.ndim != 1 or not (np.isfinite(found) & (found >= 0)).all():
        raise Refused("no heights")
    return None, 0, [units(Fraction(float(g))) for g in found]


def check_order(base: int, heights: list[int]) -> None:
    gaps = [b - a for a, b in itertools.pairwise(heights)]
    if not heights or (base == 0 and heights[0] == 0) or (base << 101) + heights[0] >= 2**192:
        raise Refused("no first height")
    if any(g <= 0 or g >= 8 << 101 for g in gaps):
        raise Refused("order")


def write(rng: random.Random) -> bytes:
    """A good table in some layout."""
    count = rng.choice([1, 2, 3, 10, 40, 200])
    first = rng.choice([1, 1, 1, 4521, 10**12 + 1, 10**21 + 1])
    start = {1: 14.134725142, 4521: 5000.8}.get(first, 538.498069627)
    gaps = [rng.uniform(0.05, 2.0) for _ in range(count)]
    places = rng.choice([3, 9, 9, 12, 20, 31, 45])
    heights, value = [], Fraction(start).limit_denominator(10**9)
    for gap in gaps:
        value += Fraction(gap)
        whole, part = divmod(value.numerator * 10**places // value.denominator, 10**places)
        heights.append(f"{whole}.{part:0{places}d}")
    kind = rng.choice(["text"] * 12 + ["npy", "parquet"])
    if kind == "npy":
        stream = io.BytesIO()
        np.save(stream, np.array([float(h) for h in heights]))
        return stream.getvalue()
    if kind == "parquet":
        stream = io.BytesIO()
        pq.write_table(pa.table({"gamma": [float(h) for h in heights]}), stream)
        return stream.getvalue()
    end = rng.choice(["\n", "\n", "\r\n", "\n\n"])
    form = rng.choice(["{g}", "   {g}", "{n} {g}", "{n},{g}", '"{n}";"{g}"', "{g},{n},z", "{g}e0"])
    head = ""
    if first > 10**9:
        power = len(str(first)) - 1
        base = {12: 267653395647, 21: 144176897509546973000}[power]
        head = f"Values of gamma - {base}, where gamma ... numbered 10^{power} + 1 through\n\n"
        form = "   {g}"
    elif form.endswith("z"):
        head = "gamma,n,remark\n"
    elif rng.random() < 0.3:
        head = rng.choice(
            ["# zeros\n", "n,gamma\n" if "{n}" in form else "gamma\n", "Some zeros:\n"]
        )
    rows = [form.format(n=first + k, g=g) for k, g in enumerate(heights)]
    content = (head + end.join(rows) + rng.choice(["", end])).encode()
    if rng.random() < 0.1:
        content = b"\xef\xbb\xbf" + content
    return gzip.compress(content, mtime=0) if rng.random() < 0.15 else content


def damage(rng: random.Random, content: bytes) -> bytes:
    """One to three faults."""
    data = bytearray(content)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        at = rng.randrange(len(data) + 1)
        lines = bytes(data).split(b"\n")
        k = rng.randrange(len(lines))
        match rng.randrange(11):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at:at] = rng.choice(
                    [b"nan", b"-", b"e5", b",", b" ", b";", b"\n", b"#", b".", b"0"]
                )
            case 2:
                del data[at : at + rng.choice([1, 1, 2, 9, 40])]
            case 3:
                data = bytearray(b"\n".join([*lines[: k + 1], *lines[k:]]))
            case 4:
                data = bytearray(b"\n".join(lines[:k] + lines[k + 1 :]))
            case 5:
                other = rng.randrange(len(lines))
                lines[k], lines[other] = lines[other], lines[k]
                data = bytearray(b"\n".join(lines))
            case 6:
                data = data[:at]
            case 7:
                data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 4, 30])))
            case 8:
                junk = [
                    b"inf",
                    b"1e28",
                    b"abc",
                    b"1 2",
                    b"",
                    b"\xe2\x88\x9214.1",
                    b"<html>",
                    b"0x1p3",
                ]
                data = bytearray(b"\n".join([*lines[:k], rng.choice(junk), *lines[k:]]))
            case 9 if at < len(data):
                data[at] = rng.choice(b"0123456789.,;- \t\"'eE+")
            case _:
                lines[k] = lines[k].replace(b".", b",", 1)
                data = bytearray(b"\n".join(lines))
    return bytes(data)


def fast(path: Path, folder: Path) -> tuple[int, int, list[int]]:
    """First rank, base and heights above it as the library leaves them."""
    found = experiments.resolve("network-only").download
    params = found.model_copy(update={"source": "table", "table": str(path)})
    with contextlib.redirect_stdout(io.StringIO()):
        more = tables.write(params, folder).bases
    heights = []
    first = None
    for file in codec.numeric_order(folder):
        for block in codec.read_blocks(file):
            first = block.header.n0 + 1 if first is None else first
            heights += fixed_point.to_ints(block.heights)
    assert first is not None
    return first + int(more.get("base_rank", 0)), int(more.get("base_height", 0)), heights


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_tables")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    end = time.monotonic() + chosen.seconds
    accepted = refused = stricter = tried = 0
    with tempfile.TemporaryDirectory() as scratch:
        while time.monotonic() < end:
            seed = f"{chosen.seed}-{tried}"
            rng = random.Random(seed)
            content = damage(rng, write(rng))
            tried += 1
            path, folder = Path(scratch) / "table", Path(scratch) / f"raw{tried}"
            path.write_bytes(content)
            folder.mkdir()
            try:
                rank, base, heights = (
                    slow_array(content)
                    if content[:4] in (b"PAR1", b"\x93NUM")
                    else slow_text(content)
                )
                check_order(base, heights)
                slow: tuple[int | None, list[int]] | None = (
                    rank,
                    [(base << 101) + h for h in heights],
                )
            except Refused:
                slow = None
            try:
                first, above, found = fast(path, folder)
                ours = [(above << 101) + h for h in found]
                assert slow is not None, f"seed {seed}: accepted what the slow reader refuses"
                assert slow[1] == ours, f"seed {seed}: other heights"
                assert slow[0] in (None, first), f"seed {seed}: first rank {first}, not {slow[0]}"
                accepted += 1
            except ZetaError as error:
                assert "\n" not in str(error), f"seed {seed}: more than one line"
                refused += 1
                if slow is not None and "N(t)" not in str(error):
                    stricter += 1
                    print(f"seed {seed}: only the library refuses: {error}", flush=True)
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    print(f"{tried:,} tables: {accepted:,} accepted by both, {refused:,} refused", flush=True)
    print(f"{stricter} of these by the library alone", flush=True)


if __name__ == "__main__":
    main()
