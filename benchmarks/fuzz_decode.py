"""Fuzz the decoder: `python benchmarks/fuzz_decode.py --minutes 10 --seed 1`.

Small valid archive files are mutated with their structure in mind (bit flips, splices,
truncations, blocks swapped or repeated, exactly or nearly, within a file and from one to the next,
header fields set to edge values, random bytes). The oracle reads each with Python integers, record
by record, sharing no code with the library. The library must refuse what the oracle refuses, with
ZetaError, and agree in every bit of n, gamma and gap otherwise, whatever the number of threads. A
failure prints the input and ends the run.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from zetalib.archive import codec, fixed_point
from zetalib.errors import ZetaError

UNIT = 2**101
TOO_LONG = 2.0  # seconds of CPU for one input


class Refused(Exception):  # noqa: N818
    """The oracle's word for a file that must not be decoded."""


def read_slowly(content: bytes, number: int) -> tuple[list[tuple[int, int]], int]:
    """Zeros of an archive file as (rank, height in units of 2^-101), and its trailing bytes.

    `number` is the one in the file's name. Raises Refused.
    """
    zeros, trailing, _, _ = read_file_slowly(content, number)
    return zeros, trailing


def read_file_slowly(
    content: bytes, number: int, previous: bytes = b""
) -> tuple[list[tuple[int, int]], int, list[bytes], bytes]:
    """As :func:`read_slowly`; also the bytes of the blocks that count, and of the last there.

    `previous` is the last block of the file before. A block whose bytes are those of the one before
    is as if it were not there, and the number of blocks may count it or not.
    """

    def number_at(offset: int, size: int) -> int:
        if offset + size > len(content):
            raise Refused("truncated")
        return int.from_bytes(content[offset : offset + size], "little")

    def units(t: float) -> int:
        exact = Fraction(t) * UNIT
        if exact.denominator != 1:
            raise Refused("finer than 2^-101")
        return exact.numerator

    def records(offset: int, count: int, z: int, end: int) -> list[int]:
        found = []
        for k in range(count):
            delta = number_at(offset + 13 * k, 13)
            z += delta
            if delta == 0 or z > end:
                raise Refused("a zero that is not above the one before, or beyond t1")
            found.append(z)
        return found

    blocks, offset = number_at(0, 8), 8
    zeros: list[tuple[int, int]] = []
    own: list[bytes] = []
    passed = 0
    starts = set()
    before = struct.unpack("<ddQQ", previous[:32]) if previous else None
    while True:
        rest = content[offset : offset + max(len(previous), 32)]
        if previous and rest == previous:
            if not own:
                starts.add(int(struct.unpack("<d", rest[:8])[0]))
            passed += 1
            offset += len(previous)
            continue
        announced = len(own) + passed < blocks
        if len(rest) < 32:
            if announced:
                raise Refused("truncated")
            break
        t0, t1, n0, n1 = struct.unpack("<ddQQ", rest[:32])
        follows = before is not None and (t0, n0) == before[1::2]
        if before is not None and not follows and rest[:32] != bytes(32):
            alike = [a == b for a, b in zip((t0, t1, n0, n1), before, strict=True)]
            if (alike[0] and alike[2]) or alike.count(True) > 2:
                if not announced and previous.startswith(rest):
                    break  # the beginning of one more: garbage
                raise Refused("the block before again, but not quite")
        if not announced:
            if follows and len(own) == blocks:
                raise Refused("another block follows")
            if not follows:
                break
        if not (0 <= t0 < t1 < 2**91 and n0 <= n1 < 2**63):
            raise Refused("header")
        if before is not None and not follows:
            raise Refused("chain")
        start, end, first = units(t0), units(t1), offset + 32
        if first + 13 * (n1 - n0) > len(content):
            raise Refused("truncated")
        zs = records(first, n1 - n0, start, end)
        zeros += zip(range(n0 + 1, n1 + 1), zs, strict=True)
        if not own:
            starts.add(int(t0))
        previous = content[offset : first + 13 * (n1 - n0)]
        own.append(previous)
        before, offset = (t0, t1, n0, n1), offset + len(previous)
    if not own or number not in starts:
        raise Refused("nothing of its own, or another name")
    trailing = len(content) - offset
    if trailing and trailing % 13 == 0:
        assert before is not None
        body = offset - len(previous) + 32
        count = (len(previous) - 32 + trailing) // 13
        try:
            records(body, count, units(before[0]), units(before[1]))
        except Refused:
            return zeros, trailing, own, previous
        raise Refused("more zeros of the last block follow")
    return zeros, trailing, own, previous


def distance(rng: random.Random) -> int:
    """A distance of at most 104 bits; one in four on a rounding tie of the gap or next to it."""
    if rng.random() < 0.25:
        odd = 2 * rng.randrange(1 << 52, 1 << 53) + 1
        return (odd << rng.randrange(51)) + rng.choice([-1, 0, 1])
    bits = rng.choice([1, 40, 53, 54, 64, 67, 90, 100, 101, 103, 104])
    return rng.choice([rng.randrange(1, 1 << bits), (1 << bits) - 1, 1 << (bits - 1)])


def valid(rng: random.Random) -> tuple[bytes, int]:
    """A small valid file, and the number in its name."""
    low = rng.choice([14.0, 5000.0, 2.0**17, 2.0**20 - 3, 81.7e6, 3.0e10, 2.0**52, 2.0**80])
    t0 = float(int(low * rng.uniform(1, 1.5))) if rng.random() < 0.5 else low
    number, rank = int(t0), rng.choice([0, 0, 4520, 10**11, 2**62])
    blocks = rng.choice([1, 1, 2, 3, 5])
    content = struct.pack("<Q", blocks)
    for _ in range(blocks):
        count = rng.choice([0, 1, 2, 5, 12])
        deltas = [distance(rng) for _ in range(count)]
        end = Fraction(t0) + Fraction(sum(deltas) + rng.choice([0, 1, 1 << 99, 1 << 108]), UNIT)
        t1 = float(end)
        while Fraction(t1) < end or t1 <= t0:
            t1 = float(np.nextafter(t1, np.inf))
        content += struct.pack("<ddQQ", t0, t1, rank, rank + count)
        content += b"".join(d.to_bytes(13, "little") for d in deltas)
        t0, rank = t1, rank + count
    return content, number


def header_offsets(content: bytes) -> list[int]:
    """Where the headers of a valid file lie, and its end."""
    offsets = [8]
    for _ in range(int.from_bytes(content[:8], "little")):
        n0, n1 = struct.unpack_from("<QQ", content, offsets[-1] + 16)
        offsets.append(offsets[-1] + 32 + 13 * (n1 - n0))
    return offsets


def flip(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def splice(content: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    at = rng.randrange(len(content) + 1)
    piece = content[a:b] if rng.random() < 0.7 else valid(rng)[0][a:b]
    keep = at + (len(piece) if rng.random() < 0.5 else 0)
    return content[:at] + piece + content[keep:]


def shuffle_blocks(content: bytes, rng: random.Random) -> bytes:
    offsets = header_offsets(content)
    blocks = [content[a:b] for a, b in pairwise(offsets)]
    k = rng.randrange(len(blocks))
    match rng.randrange(3):
        case 0:
            blocks.insert(k, blocks[k])
        case 1:
            del blocks[k]
        case _:
            rng.shuffle(blocks)
    count = len(blocks) if rng.random() < 0.5 else len(offsets) - 1
    return struct.pack("<Q", count) + b"".join(blocks)


def repeat(content: bytes, rng: random.Random) -> bytes:
    """Some blocks several times, counted or not, one of the repeats perhaps changed or cut."""
    out, number = [content[:8]], int.from_bytes(content[:8], "little")
    blocks = [content[a:b] for a, b in pairwise(header_offsets(content))]
    chosen = rng.randrange(len(blocks))
    for k, block in enumerate(blocks):
        out += [block] * (
            1 + (rng.choice([1, 1, 2, 3]) if k == chosen or rng.random() < 0.2 else 0)
        )
    extra = len(out) - 1 - number
    out[0] = struct.pack("<Q", number + rng.choice([0, extra, rng.randrange(extra + 1), extra + 1]))
    if rng.random() < 0.3:
        k = rng.randrange(1, len(out))
        out[k] = rng.choice([flip, truncate])(out[k], rng)
    return b"".join(out) + rng.choice([b"", b"", rng.randbytes(rng.randrange(60)), bytes(64)])


EDGE_COUNTS = [0, 1, 2, 7, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
EDGE_HEIGHTS = [0.0, -0.0, 1.0, 14.5, -14.0, 5e-324, 2.0**-49, 2.0**-101, 2.0**91, 1e308]
EDGE_HEIGHTS += [float("nan"), float("inf"), -float("inf")]


def edit_header(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    at = rng.choice(header_offsets(content)[:-1])
    field = rng.randrange(5)
    if field == 4:
        struct.pack_into("<Q", out, 0, rng.choice(EDGE_COUNTS))
    elif field >= 2:
        (old,) = struct.unpack_from("<Q", out, at + 8 * field)
        new = rng.choice([*EDGE_COUNTS, old + 1, old + 2, max(old, 1) - 1, old + rng.randrange(40)])
        struct.pack_into("<Q", out, at + 8 * field, new)
    else:
        (old_t,) = struct.unpack_from("<d", out, at + 8 * field)
        near = [float(np.nextafter(old_t, np.inf)), float(np.nextafter(old_t, 0)), old_t * 2]
        struct.pack_into("<d", out, at + 8 * field, rng.choice([*EDGE_HEIGHTS, *near]))
    return bytes(out)


def edit_record(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    offsets = header_offsets(content)
    k = rng.randrange(len(offsets) - 1)
    count = (offsets[k + 1] - offsets[k] - 32) // 13
    if count:
        at = offsets[k] + 32 + 13 * rng.randrange(count)
        out[at : at + 13] = rng.choice([bytes(13), b"\xff" * 13, b"\1" + bytes(12)])
    return bytes(out)


def append(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return content + rng.randbytes(rng.choice([1, 13, 26, 31, 32, 45, 13 * 40]))
    return content + b"\1".ljust(13, b"\0") * rng.choice([1, 2, 50])


def random_bytes(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return rng.randbytes(rng.randrange(200))
    out = bytearray(content)
    at, size = rng.randrange(len(out)), rng.randrange(1, 40)
    out[at : at + size] = rng.randbytes(size)
    return bytes(out)


def unchanged(content: bytes, rng: random.Random) -> bytes:
    return content


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    flip, truncate, splice, shuffle_blocks, edit_header, edit_record, append, random_bytes,
    unchanged, repeat,
]  # fmt: skip


def case(rng: random.Random) -> tuple[bytes, int, str]:
    """One input: its bytes, the number in its name, what was done to it."""
    content, number = valid(rng)
    done = rng.choice(MUTATIONS)
    content = done(content, rng)
    while content and rng.random() < 0.2:
        content = rng.choice([flip, truncate, splice, random_bytes])(content, rng)
    return content, number, done.__name__


def check(content: bytes, number: int, folder: Path, limit: float = TOO_LONG) -> bool:
    """Compare the library with the oracle on one input; True if both decode it.

    Raises
    ------
    AssertionError
        If they differ, or if one input takes too long.
    """
    path = folder / f"zeros_{number}.dat"
    path.write_bytes(content)
    began = time.process_time()
    try:
        n, gamma, gap = codec.decode_file(path, None, threads=2)
        exact = [z for block in codec.read_blocks(path) for z in fixed_point.to_ints(block.heights)]
        again = codec.encode(list(codec.read_blocks(path)))
        one = codec.decode_file(path, None)
    except ZetaError:
        accepted = False
    else:
        accepted = True
    seconds = time.process_time() - began
    path.unlink()
    assert seconds < limit, f"{seconds:.1f} s"
    try:
        zeros, _, blocks, _ = read_file_slowly(content, number)
    except Refused as refused:
        assert not accepted, f"decoded, but the oracle says: {refused}"
        return False
    assert accepted, "refused, but the oracle decodes it"
    heights = [z for _, z in zeros]
    gaps = [(b - a) / UNIT for a, b in pairwise(heights)]
    assert n.tolist() == [rank for rank, _ in zeros], "ranks"
    assert exact == heights, "exact heights"
    assert gamma.tolist() == [z / UNIT for z in heights], "gamma"
    assert gap[:-1].tolist() == gaps and np.isnan(gap[-1:]).all(), "gap"
    for a, b in zip((n, gamma, gap), one, strict=True):
        assert np.array_equal(a, b, equal_nan=True), "one thread against two"
    assert again == struct.pack("<Q", len(blocks)) + b"".join(blocks), "encoded again"
    return True


def pair(rng: random.Random) -> tuple[bytes, bytes, int, int] | None:
    """Two files, the second perhaps beginning with the last block of the first, and their names.

    None where both would have one name.
    """
    content, number = valid(rng)
    blocks = [content[a:b] for a, b in pairwise(header_offsets(content))]
    k = rng.randrange(1, len(blocks)) if len(blocks) > 1 else 1
    first, second = blocks[:k], blocks[k:]
    again = rng.choice([0, 1, 1, 2])
    second = first[-1:] * again + second
    if not second:
        return None
    name = int(struct.unpack("<d", rng.choice([second[0], second[-1], *blocks[k : k + 1]])[:8])[0])
    count = len(second) - (rng.randrange(again + 1) if rng.random() < 0.5 else 0)
    if rng.random() < 0.4:
        j = rng.randrange(len(second))
        second[j] = rng.choice([flip, truncate])(second[j], rng)
    if name <= number:
        return None
    head = struct.pack("<Q", k)
    return head + b"".join(first), struct.pack("<Q", count) + b"".join(second), number, name


def check_pair(first: bytes, second: bytes, number: int, name: int, folder: Path) -> bool:
    """Compare the library's archive of two files with the oracle; True if both read it.

    Raises
    ------
    AssertionError
        If they differ.
    """
    paths = [folder / f"zeros_{number}.dat", folder / f"zeros_{name}.dat"]
    for path, content in zip(paths, (first, second), strict=True):
        path.write_bytes(content)
    try:
        zeros, _, _, last = read_file_slowly(first, number)
        zeros = zeros + read_file_slowly(second, name, last)[0]
    except Refused as refused:
        zeros, why = [], str(refused)
    else:
        why = ""
    try:
        archive = codec.Archive(folder)
        if archive.first <= archive.last:
            n, gamma, gap = archive.by_rank(archive.first, archive.last)
            exact = fixed_point.to_ints(archive.exact(archive.first, archive.last))
        else:
            n, gamma, gap, exact = np.empty(0, np.int64), np.empty(0), np.empty(0), []
    except ZetaError as error:
        assert why, f"refused, but the oracle decodes it: {error}"
        return False
    finally:
        for path in paths:
            path.unlink()
    assert not why, f"decoded, but the oracle says: {why}"
    assert n.tolist() == [rank for rank, _ in zeros], "ranks"
    heights = [z for _, z in zeros]
    assert exact == heights and gamma.tolist() == [z / UNIT for z in heights], "heights"
    assert gap[:-1].tolist() == [(b - a) / UNIT for a, b in pairwise(heights)], "gaps"
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    tried: Counter[str] = Counter()
    decoded: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        check(*valid(rng), Path(scratch), limit=600)  # compiles the kernels
        began = time.monotonic()
        while time.monotonic() - began < 60 * arguments.minutes:
            faulthandler.dump_traceback_later(60, exit=True)  # a hang in compiled code
            content, number, mutation = case(rng)
            try:
                ok = check(content, number, Path(scratch))
            except Exception:
                print(f"FAILED after {tried.total():,} cases on zeros_{number}.dat ({mutation}):")
                print(content.hex(), flush=True)
                raise
            tried[mutation] += 1
            decoded[mutation] += ok
            if (two := pair(rng)) is not None:
                try:
                    ok = check_pair(*two, Path(scratch))
                except Exception:
                    print("FAILED on two files:", *two[2:])
                    print(two[0].hex(), two[1].hex(), sep="\n", flush=True)
                    raise
                tried["two files"] += 1
                decoded["two files"] += ok
        faulthandler.cancel_dump_traceback_later()
        seconds = time.monotonic() - began
    print(f"{'mutation':<16}{'cases':>10}{'decoded':>10}{'refused':>10}")
    for name in sorted(tried):
        print(f"{name:<16}{tried[name]:>10,}{decoded[name]:>10,}{tried[name] - decoded[name]:>10,}")
    print(
        f"{tried.total():,} cases in {seconds:.0f} s ({tried.total() / seconds:.0f}/s), seed "
        f"{arguments.seed}: no crash, no hang, no exception but ZetaError, no wrong answer"
    )


if __name__ == "__main__":
    main()
