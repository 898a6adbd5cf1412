"""Blocks that repeat the one before them: LMFDB's zeros_2546000.dat has one (its issue 7122)."""

import hashlib
import itertools
import json
import random
import struct
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import PLATT, changed, synthetic_blocks, write_folder

from benchmarks import fuzz_decode
from zetalib.archive import codec, fixed_point, manifest
from zetalib.archive.codec import Block, Header
from zetalib.data import decode, parquet_folders, unfold, window
from zetalib.errors import ZetaError
from zetalib.sources import download

FIRST = synthetic_blocks(1, (14.0, 100.0, 200.0))
SECOND = synthetic_blocks(2, (200.0, 300.0, 400.0, 500.0), n0=40)
EMPTY = [Block(Header(500.0, 600.0, 100, 100, 0), fixed_point.from_ints([]))]
A, B, C, D, E, F = map(codec.encode_block, FIRST + SECOND + EMPTY)
SIZE = len(A)  # each but F has 20 zeros
SHORT = E[:24] + struct.pack("<Q", 98) + E[32:-26]  # its last two zeros not counted
EXACT = [z for block in FIRST + SECOND for z in fixed_point.to_ints(block.heights)]


def pack(count, *blocks):
    return struct.pack("<Q", count) + b"".join(blocks)


def put(content, at, piece):
    return content[:at] + piece + content[at + len(piece) :]


def flip(content, at):
    return put(content, at, bytes([content[at] ^ 1]))


def folder_of(tmp_path, second, first=None, name="zeros_200.dat"):
    raw = tmp_path / "raw"
    raw.mkdir(parents=True)
    (raw / "zeros_14.dat").write_bytes(pack(2, A, B) if first is None else first)
    (raw / name).write_bytes(second)
    return raw


def columns(folder):
    found = [pq.read_table(part.path) for part in parquet_folders.parts(folder)]
    return [np.concatenate([t[c].to_numpy() for t in found]) for c in ("n", "gamma", "gap")]


# Bytes of zeros_200.dat, numbers of the blocks passed over, bytes after the last.
WITH_REPEATS = {
    "last, counted": (pack(5, C, D, E, F, F), [5], 0),
    "last, not counted": (pack(4, C, D, E, F, F), [5], 0),
    "middle, counted": (pack(5, C, D, D, E, F), [3], 0),
    "middle, not counted": (pack(4, C, D, D, E, F), [3], 0),
    "first, counted": (pack(5, C, C, D, E, F), [2], 0),
    "twice in a row": (pack(6, C, D, E, E, E, F), [4, 5], 0),
    "twice in a row, one counted": (pack(5, C, D, E, E, E, F), [4, 5], 0),
    "each, none counted": (pack(4, C, C, D, D, E, E, F, F), [2, 4, 6, 8], 0),
    "each, all counted": (pack(8, C, C, D, D, E, E, F, F), [2, 4, 6, 8], 0),
    "after the count, before garbage": (pack(4, C, D, E, F, F, F, b"x" * 27), [5, 6], 27),
    "after the count, the second cut": (pack(4, C, D, E, F, F, F[:20]), [5], 20),
    "zeros pad the file": (pack(4, C, D, E, F, F, bytes(64)), [5], 64),
    "the file before's last, counted": (pack(5, B, C, D, E, F), [1], 0),
    "the file before's last, not counted": (pack(4, B, C, D, E, F), [1], 0),
    "the file before's last, twice": (pack(6, B, B, C, D, E, F), [1, 2], 0),
    "everywhere": (pack(6, B, C, C, D, E, F, F), [1, 3, 7], 0),
}


@pytest.mark.parametrize("case", WITH_REPEATS)
def test_every_reader_passes_over_a_block_that_repeats_the_one_before(case, tmp_path, capsys):
    content, numbers, trailing = WITH_REPEATS[case]
    raw = folder_of(tmp_path, content)
    path = raw / "zeros_200.dat"
    described = manifest.write(raw, "test")["files"][1]
    assert (described["first_rank"], described["last_rank"]) == (41, 100)
    assert described.get("bytes_after_last_block", 0) == trailing
    told = described["repeated_blocks"]
    assert [block["block"] for block in told] == numbers
    for block in told:
        head = struct.unpack_from("<ddQQ", content, block["offset"])
        assert head == (block["t0"], block["t1"], block["first_rank"] - 1, block["last_rank"])

    before, file = codec.read_chain(codec.numeric_order(raw))
    assert [h[:4] for h in file.headers] == [b.header[:4] for b in SECOND + EMPTY]
    assert before.repeats == [] and [r.number for r in file.repeats] == numbers
    gaps = [(b - a) / 2**101 for a, b in itertools.pairwise(EXACT)]
    for threads in (1, 2):
        n, gamma, gap = codec.decode_run(path, file.headers, None, threads)
        assert n.tolist() == list(range(41, 101))
        assert gamma.tolist() == [z / 2**101 for z in EXACT[40:]]
        assert gap[:-1].tolist() == gaps[40:]
    if numbers[0] > 1:  # alone it says all
        assert codec.read_headers(path) == (file.headers, trailing)
        exact = [z for block in codec.read_blocks(path) for z in fixed_point.to_ints(block.heights)]
        assert exact == EXACT[40:] and codec.first_zero(path) == EXACT[40]

    archive = codec.Archive(raw)
    assert (archive.first, archive.last, archive.t0, archive.t1) == (1, 100, 14.0, 600.0)
    for first, last in [(1, 100), (35, 45), (41, 41), (60, 80), (100, 100)]:
        n, gamma, gap = archive.by_rank(first, last)
        assert n.tolist() == list(range(first, last + 1))
        assert gamma.tolist() == [z / 2**101 for z in EXACT[first - 1 : last]]
        assert gap.tolist()[: len(gaps[first - 1 : last])] == gaps[first - 1 : last]
        assert fixed_point.to_ints(archive.exact(first, last)) == EXACT[first - 1 : last]
    assert [archive.count(t) for t in (200.0, 300.0, 400.0, 500.0, 600.0)] == [40, 60, 80, 100, 100]
    assert archive.by_height(150.0, 450.0)[0].tolist() == [
        k for k, z in enumerate(EXACT, 1) if 150.0 < z / 2**101 <= 450.0
    ]

    # `refuse` is about bytes that are no blocks.
    garbage = "report" if trailing else "refuse"
    assert decode.decode_folder(raw, tmp_path / "zeros", garbage) == 100
    said = capsys.readouterr().out
    for block in told:
        assert f"zeros_200.dat at byte {block['offset']}: block {block['block']} repeats" in said
    assert said.count("repeats the one before it") == len(numbers)
    write_folder(tmp_path / "plain", {14.0: FIRST, 200.0: SECOND + EMPTY})
    decode.decode_folder(tmp_path / "plain", tmp_path / "expected")
    for found, expected in zip(
        columns(tmp_path / "zeros"), columns(tmp_path / "expected"), strict=True
    ):
        assert np.array_equal(found, expected, equal_nan=True)


def test_a_file_may_be_named_by_the_block_it_repeats(tmp_path):
    raw = folder_of(tmp_path, pack(5, B, C, D, E, F), name="zeros_100.dat")
    manifest.write(raw, "test")
    assert decode.decode_folder(raw, tmp_path / "zeros") == 100


def test_a_file_that_would_be_read_otherwise_is_not_kept(tmp_path):
    """Its bytes are the same; whether its first block counts is for the file before to say."""
    raw = folder_of(tmp_path, pack(5, B, C, D, E, F), name="zeros_100.dat")
    manifest.write(raw, "test")
    decode.decode_folder(raw, tmp_path / "zeros")
    (raw / "zeros_14.dat").write_bytes(pack(1, A))
    manifest.write(raw, "test")
    assert decode.decode_folder(raw, tmp_path / "zeros") == 100
    assert [part.rows for part in parquet_folders.parts(tmp_path / "zeros")] == [20, 80]


NEAR = {
    "t0, counted": (5, 0, "t0 is"),
    "t1, counted": (5, 8 + 6, "t1 is"),
    "N(t0), counted": (5, 16, r"N\(t0\) is 81 here, 80 there"),
    "N(t1), counted": (5, 24, r"N\(t1\) is 101 here, 100 there"),
    "first distance, counted": (5, 32, "the distance to the zero of rank 81, in units"),
    "last byte, counted": (5, SIZE - 1, "the distance to the zero of rank 100, in units"),
    "t1, not counted": (4, 8 + 6, "t1 is"),
    "N(t1), not counted": (4, 25, r"N\(t1\) is 356 here, 100 there"),
    "a distance, not counted": (
        4,
        32 + 13 * 7 + 3,
        "the distance to the zero of rank 88, in units",
    ),
}


@pytest.mark.parametrize("case", NEAR)
def test_a_near_repeat_is_refused_by_what_differs(case, tmp_path):
    count, at, difference = NEAR[case]
    content = pack(count, C, D, E, flip(E, at), F)
    path = folder_of(tmp_path, content) / "zeros_200.dat"
    with pytest.raises(
        ZetaError, match=rf"block 4 .*repeats the one before it .*{difference}"
    ) as e:
        codec.read_headers(path)
    assert e.value.offset == 8 + 3 * SIZE + at
    assert f"there (at byte {8 + 2 * SIZE + at})" in str(e.value)
    start = at - (at - 32) % 13 if at >= 32 else at - at % 8
    if at >= 32:
        values = [int.from_bytes(x[start : start + 13], "little") for x in (flip(E, at), E)]
        assert f"is {values[0]} here, {values[1]} there" in str(e.value)


@pytest.mark.parametrize("at", [8 + 6, 32 + 13 * 3, SIZE - 1])
def test_a_near_repeat_from_one_file_to_the_next_is_refused(at, tmp_path):
    raw = folder_of(tmp_path, pack(5, flip(B, at), C, D, E, F))
    match = r"block 1 of 5 repeats the last of zeros_14\.dat .* but not in every byte"
    with pytest.raises(ZetaError, match=match) as caught:
        codec.Archive(raw)
    assert caught.value.offset == 8 + at
    assert f"there (at byte {8 + SIZE + at})" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (pack(5, C, D, E, E[:-1]), "truncated or miscounted: block 4 of 5"),
        (pack(4, C, D, C, D, E, F), r"block 3 of 4 does not chain: it starts at t = 200\.0"),
        (pack(2, C, C, D, E, F), "says it has 2 blocks, but another one follows"),
        (pack(3, C, C, D, E, F), "says it has 3 blocks, but another one follows"),
        (pack(4, C, D, E, E, put(F, 8, bytes(8))), "block 5 of 4 runs from t0 = 500"),
        (pack(9, C, D, E, F, F), "truncated: block 6 of 9"),
        (pack(1, B), r"nothing but the last block of the file before it\. Remove it"),
        (pack(3, B, B, B), r"nothing but the last block of the file before it\. Remove it"),
        (pack(4, C, D, SHORT, SHORT, E[-26:]), "block 4 of 4 announces 18 zeros, .* 2 more zeros"),
    ],
)
def test_a_repeat_hides_no_other_fault(content, match, tmp_path):
    with pytest.raises(ZetaError, match=match):
        codec.Archive(folder_of(tmp_path, content))


def test_without_the_file_before_a_repeated_first_block_is_a_wrong_name(tmp_path):
    path = folder_of(tmp_path, pack(5, B, C, D, E, F)) / "zeros_200.dat"
    with pytest.raises(ZetaError, match=r"its name says 200.*put that beside it"):
        codec.read_headers(path)


def test_a_header_of_zeros_is_no_block_even_where_the_file_starts_at_zero(tmp_path):
    path = tmp_path / "zeros_0.dat"
    path.write_bytes(codec.encode(synthetic_blocks(4, (0.0, 100.0))) + bytes(64))
    assert codec.read_headers(path)[1] == 64


def test_a_repeat_costs_no_memory(tmp_path):
    count = 200_000
    block = struct.pack("<ddQQ", 1e6, 2e6, 7, 7 + count) + (b"\0" * 11 + b"\1\0") * count
    path = tmp_path / "zeros_1000000.dat"
    path.write_bytes(pack(2, block, block))
    tracemalloc.start()
    try:
        assert len(codec.scan(path).repeats) == 1
        assert tracemalloc.get_traced_memory()[1] < 5 * codec._BATCH < len(block)
    finally:
        tracemalloc.stop()


def test_many_repeats_are_told_in_few_lines(tmp_path, capsys):
    raw = folder_of(tmp_path, pack(4, C, D, E, F) + F * 500)
    manifest.write(raw, "test")
    assert decode.decode_folder(raw, tmp_path / "zeros") == 100
    said = capsys.readouterr().out
    assert said.count("repeats the one before it") == decode.TOLD
    assert f"{500 - decode.TOLD} more such blocks" in said


def test_the_reports_of_the_download_stay_in_the_manifest(tmp_path, defaults):
    raw = folder_of(tmp_path, pack(4, C, D, E, E, F))
    params = changed(defaults.download, source="directory", directory=str(raw), max_zeros=90)
    download.fetch(params, tmp_path / "copy")
    files = json.loads((tmp_path / "copy" / manifest.NAME).read_text())["files"]
    assert list(files[0]) == ["name", "bytes", "md5", "first_rank", "last_rank"]
    assert files[1]["repeated_blocks"] == [
        {"block": 4, "offset": 8 + 3 * SIZE, "t0": 400.0, "t1": 500.0, "first_rank": 81,
         "last_rank": 100}
    ]  # fmt: skip


def test_two_files_of_the_oracle(tmp_path):
    """The fuzzer's two-file check, for a moment."""
    rng, seen = random.Random(5), {True: 0, False: 0}
    for _ in range(600):
        if (two := fuzz_decode.pair(rng)) is not None:
            seen[fuzz_decode.check_pair(*two, tmp_path)] += 1
    assert min(seen.values()) > 50


def test_windows_of_lmfdbs_own_file_are_the_same_bytes_with_its_block_repeated(tmp_path, defaults):
    content = PLATT.read_bytes()
    windows = {}
    for name, count, times in [("plain", 1, 1), ("inside", 2, 2), ("after", 1, 2), ("both", 2, 4)]:
        work = tmp_path / name
        (work / "mine").mkdir(parents=True)
        file = work / "mine" / "zeros_14.dat"
        file.write_bytes(struct.pack("<Q", count) + content[8:] * times)
        digest = hashlib.md5(file.read_bytes()).hexdigest()
        (work / "mine" / "md5sum.log").write_text(f"{digest} *zeros_14.dat\n")
        p = changed(defaults.download, source="directory", directory=str(work / "mine"))
        described = download.fetch(p, work / "raw")["files"][0]
        assert len(described.get("repeated_blocks", [])) == times - 1
        assert (described["listing"], described["md5"]) == ("md5sum.log", digest)
        decode.decode_folder(work / "raw", work / "zeros", "refuse")
        unfold.unfold_folder(work / "zeros", work / "spacings", "B")
        w = changed(defaults.window, length=32)
        window.window_folder(work / "spacings", work / "windows", w)
        windows[name] = {f.name: f.read_bytes() for f in (work / "windows").iterdir()}
    assert len(windows["plain"]) >= 5
    assert all(found == windows["plain"] for found in windows.values())
