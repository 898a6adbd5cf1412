"""The codec against bad input: flips, truncation, absurd numbers, files that do not belong."""

import bz2
import gzip
import io
import lzma
import random
import sqlite3
import struct
import time
import tracemalloc
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PLATT, synthetic_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import fuzz_decode
from zetalib.archive import codec, fixed_point
from zetalib.archive.codec import Block, Header
from zetalib.errors import ZetaError

UNIT = 2**101


def decode_or_none(path):
    """n, gamma, gap; None where the file is refused. Any other exception fails the test."""
    try:
        return codec.decode_file(path, None)
    except ZetaError:
        return None


def classify(path, content, truth, offset, bit):
    """Flip one bit, decode, put it back: 'refused', 'harmless' or 'differs'."""
    flipped = bytearray(content)
    flipped[offset] ^= 1 << bit
    with path.open("r+b") as handle:
        handle.seek(offset)
        handle.write(flipped[offset : offset + 1])
    found = decode_or_none(path)
    with path.open("r+b") as handle:
        handle.seek(offset)
        handle.write(content[offset : offset + 1])
    if found is None:
        return "refused"
    n, gamma, gap = found
    t0, t1 = struct.unpack_from("<dd", flipped, 8)
    assert np.array_equal(n, truth[0])  # number and ranks are right in whatever is accepted
    assert t0 <= gamma[0] and gamma[-1] <= t1
    assert (np.diff(gamma) >= 0).all() and (gap[:-1] > 0).all()
    same = np.array_equal(gamma, truth[1]) and np.array_equal(gap[:-1], truth[2][:-1])
    return "harmless" if same else "differs"


def test_flipped_bits_of_lmfdb_file_are_refused_or_leave_a_well_formed_answer(lmfdb_file):
    content = PLATT.read_bytes()
    truth = codec.decode_file(lmfdb_file, None)
    rng = random.Random(0)
    flips = [(offset, bit) for offset in range(40) for bit in range(8)]
    flips += [(k, rng.randrange(8)) for k in rng.sample(range(40, len(content)), 12_000)]
    found = Counter()
    for offset, bit in flips:
        outcome = classify(lmfdb_file, content, truth, offset, bit)
        field = ["t0", "t1"][(offset - 8) // 8] if 8 <= offset < 24 else "counts"
        found[field if offset < 40 else "records", outcome] += 1
    assert lmfdb_file.read_bytes() == content
    # Counts cannot lie. Heights can: a t0 that keeps its integer part, a t1 beyond the last zero.
    assert found["counts", "refused"] == 24 * 8
    assert found["t1", "differs"] == 0 and found["t1", "refused"] > 0
    # A flip of a distance moves the zeros after it: too far, or not for the codec to tell. Of the
    # 104 bits nearly half lie below the last bit of float64 heights and gaps: those are harmless.
    assert found["records", "refused"] > 100
    assert min(found["records", "differs"], found["records", "harmless"]) > 4000
    assert sum(found.values()) == len(flips)
    print(dict(found))


def test_every_flipped_bit_of_a_file_of_three_blocks_is_judged_as_by_the_oracle(tmp_path):
    blocks = synthetic_blocks(3, (2.0e5, 2.0e5 + 40, 2.0e5 + 80, 2.0e5 + 120), per_block=8)
    content = codec.encode(blocks)
    headers = fuzz_decode.header_offsets(content)[:-1]
    chained = {at + k for at in headers[1:] for k in [*range(8), *range(16, 24)]}
    chained |= {at + k for at in headers[:-1] for k in range(8, 16)}  # t0, N(t0); t1
    counts = {*range(8)} | {at + k for at in headers for k in range(16, 32)}
    outcomes = Counter()
    for offset in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[offset] ^= 1 << bit
            accepted = fuzz_decode.check(bytes(flipped), 200_000, tmp_path)
            assert not (accepted and offset in chained | counts)
            outcomes[accepted] += 1
    assert outcomes[True] > 1000


def test_truncation_at_every_record_boundary_is_refused(tmp_path):
    content = codec.encode(synthetic_blocks(4, (14.0, 100.0, 200.0), per_block=30))
    path = tmp_path / "zeros_14.dat"
    boundaries = {8 + 32 + 13 * k for k in range(31)}
    boundaries |= {8 + 2 * 32 + 30 * 13 + 13 * k for k in range(30)}
    for size in sorted(boundaries | {k + 5 for k in boundaries} | {0, 3, 8, 20}):
        path.write_bytes(content[:size])
        with pytest.raises(ZetaError, match=r"zeros_14\.dat at byte \d+: truncated"):
            codec.decode_file(path, None)


def test_truncation_at_every_record_boundary_of_lmfdb_file_is_refused(lmfdb_file):
    content = PLATT.read_bytes()
    for size in range(len(content) - 13, 40, -13 * 7):
        with lmfdb_file.open("r+b") as handle:
            handle.truncate(size)
        with pytest.raises(ZetaError, match="truncated"):
            codec.read_headers(lmfdb_file)


COUNTS = [2**31, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("offset", [0, 24, 32])
def test_absurd_counts_allocate_nothing_and_end_at_once(lmfdb_file, count, offset):
    with lmfdb_file.open("r+b") as handle:
        handle.seek(offset)
        handle.write(struct.pack("<Q", count))
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(ZetaError, match="truncated|announces|backwards|beyond 2"):
            codec.decode_file(lmfdb_file, None)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 1


def test_a_file_of_empty_blocks_only_is_bounded_by_its_size(tmp_path):
    path = tmp_path / "zeros_14.dat"
    blocks = [Header(14.0 + k, 15.0 + k, 7, 7, 0) for k in range(50)]
    empty = np.empty((0, 3), dtype=np.uint64)
    content = codec.encode([Block(h, empty) for h in blocks])
    path.write_bytes(content)
    assert [len(a) for a in codec.decode_file(path, None)] == [0, 0, 0]
    path.write_bytes(struct.pack("<Q", 2**64 - 1) + content[8:])
    with pytest.raises(ZetaError, match="truncated: block 51 of 18446744073709551615"):
        codec.decode_file(path, None)


NAN, INF = float("nan"), float("inf")
HEIGHTS = [NAN, INF, -INF, -14.0, -5e-324, 5e-324, 2.0**-102, 1e308, 2.0**91, 2.0**1023]


@pytest.mark.parametrize("t", HEIGHTS)
@pytest.mark.parametrize("offset", [8, 16])
def test_impossible_heights_are_refused(lmfdb_file, t, offset):
    with lmfdb_file.open("r+b") as handle:
        handle.seek(offset)
        handle.write(struct.pack("<d", t))
    with pytest.raises(ZetaError, match=r"at byte 8: block 1 of 1"):
        codec.decode_file(lmfdb_file, None)


@pytest.mark.parametrize("t0", [14.0, 3.0e10, 2.0**79, 2.0**90])
def test_distances_that_sum_beyond_the_block_or_beyond_192_bits_are_refused(tmp_path, t0):
    t1 = float(np.nextafter(2.0**91, 0)) if t0 == 2.0**90 else t0 * 1.25
    count = 4000
    path = tmp_path / codec.file_name(t0)
    distances = b"\xff" * 13 * count  # almost 8 each
    wide = struct.pack("<QddQQ", 1, t0, t1, 0, count) + distances
    path.write_bytes(wide)
    if t1 - t0 > 8 * count:
        assert len(codec.decode_file(path, None)[0]) == count
        t1 = max(t0 + 1024, float(np.nextafter(t0, np.inf)))
        path.write_bytes(wide[:16] + struct.pack("<d", t1) + wide[24:])
    if t1 - t0 < 8 * count:  # at 2^90 one unit in the last place of t1 is room for all
        with pytest.raises(ZetaError, match=r"rank \d+ leads beyond the block's end"):
            codec.decode_file(path, None)


def test_the_topmost_heights_do_not_wrap(tmp_path):
    t0, t1 = 2.0**91 - 2.0**39, 2.0**91 - 2.0**38
    end = fixed_point.float_to_int(t1)
    heights = fixed_point.from_ints(
        [fixed_point.float_to_int(t0) + 1, fixed_point.float_to_int(t0) + 2**104]
    )
    path = tmp_path / codec.file_name(t0)
    path.write_bytes(codec.encode([Block(Header(t0, t1, 0, 2, 0), heights)]))
    _, gamma, gap = codec.decode_file(path, None)
    assert gamma.tolist() == [t0, t0] and gap[0] == (2**104 - 1) / UNIT
    assert end < 2**192


@pytest.mark.parametrize("t1", [2.0**27 + 2100, 2.0**28])  # the short and the long way
def test_carries_run_through_all_limbs(tmp_path, t1):
    t0, z = 2.0**27 - 7, 2**128  # the height 2^27 in units of 2^-101: the third limb begins
    exact = [z - 2**64 - 1, z - 1, z, z + 2**64, z + 2**64 + 2**104 - 1]
    path = tmp_path / codec.file_name(t0)
    block = Block(Header(t0, t1, 0, len(exact), 0), fixed_point.from_ints(exact))
    codec.write_file(path, [block])
    assert fixed_point.to_ints(next(codec.read_blocks(path)).heights) == exact
    for last in (2, 3, 4, 5):  # each but the first as the last zero, whose height stays exact
        short = Block(Header(t0, t1, 0, last, 0), fixed_point.from_ints(exact[:last]))
        codec.write_file(path, [short])
        _, gamma, gap = codec.decode_file(path, exact[last - 1] + 2**100)
        assert gamma.tolist() == [v / UNIT for v in exact[:last]]
        gaps = [b - a for a, b in pairwise(exact[:last])] + [2**100]
        assert gap.tolist() == [g / UNIT for g in gaps]


def test_the_first_fault_is_named_whatever_the_threads(tmp_path):
    blocks = synthetic_blocks(5, tuple(2.0e5 + 40 * k for k in range(40)), per_block=20)
    content = bytearray(codec.encode(blocks))
    offsets = fuzz_decode.header_offsets(content)
    for block, record in [(30, 2), (11, 7), (11, 9)]:
        at = offsets[block] + 32 + 13 * record
        content[at : at + 13] = bytes(13)
    path = tmp_path / "zeros_200000.dat"
    path.write_bytes(content)
    for threads in (1, 2, 4):
        with pytest.raises(ZetaError, match=r"rank 228 is zero") as caught:
            codec.decode_file(path, None, threads)
        assert caught.value.offset == offsets[11] + 32 + 13 * 7


def test_a_file_changed_after_its_headers_were_read_is_refused(lmfdb_file):
    headers, _ = codec.read_headers(lmfdb_file)
    content = bytearray(lmfdb_file.read_bytes())
    lmfdb_file.write_bytes(content[:5000])
    with pytest.raises(ZetaError, match="truncated or changed"):
        codec.decode_run(lmfdb_file, headers, None)
    content[8] ^= 1
    lmfdb_file.write_bytes(content)
    with pytest.raises(ZetaError, match="truncated or changed"):
        codec.decode_run(lmfdb_file, headers, None)


@pytest.mark.parametrize("k", [1, 2, 7, 4520])
def test_a_count_too_small_is_not_taken_for_garbage(lmfdb_file, k):
    with lmfdb_file.open("r+b") as handle:
        handle.seek(32)
        handle.write(struct.pack("<Q", 4520 - k))
    with pytest.raises(ZetaError, match=rf"announces {4520 - k} zeros, but .* {k} more zeros"):
        codec.decode_file(lmfdb_file, None)


def test_garbage_of_thirteen_bytes_is_still_garbage(lmfdb_file):
    content = lmfdb_file.read_bytes()
    for garbage in (bytes(13), b"\xff" * 13, b"\xff" * 13 * 100):
        lmfdb_file.write_bytes(content + garbage)
        assert codec.read_headers(lmfdb_file)[1] == len(garbage)


def folder_of(tmp_path, *starts):
    """Files whose single blocks chain through the heights `starts`, 20 zeros each."""
    blocks = synthetic_blocks(6, starts)
    for block in blocks:
        (tmp_path / codec.file_name(block.header.t0)).write_bytes(codec.encode([block]))
    return [codec.file_name(b.header.t0) for b in blocks]


def chain(folder):
    return list(codec.read_chain(codec.numeric_order(folder)))


def test_a_missing_file_is_named(tmp_path):
    names = folder_of(tmp_path, 14.0, 100.0, 200.0, 300.0, 1000.0)
    assert len(chain(tmp_path)) == 4
    (tmp_path / names[2]).unlink()
    with pytest.raises(ZetaError, match=r"20 zeros are missing .*Add zeros_200\.dat|Add zeros_200"):
        chain(tmp_path)


def test_files_that_swapped_names_are_refused(tmp_path):
    a, b, *_ = folder_of(tmp_path, 14.0, 100.0, 200.0, 300.0)
    (tmp_path / a).rename(tmp_path / "aside")
    (tmp_path / b).rename(tmp_path / a)
    (tmp_path / "aside").rename(tmp_path / b)
    with pytest.raises(ZetaError, match=r"starts at t = 100\.0, but its name says 14"):
        chain(tmp_path)


def test_two_sources_in_one_folder_do_not_chain(tmp_path):
    names = folder_of(tmp_path, 14.0, 100.0, 200.0, 300.0)
    # A table that ends early has its own end of the last block; another source, other counts.
    short = synthetic_blocks(7, (100.0, 190.0), n0=20)
    other = synthetic_blocks(8, (200.0, 300.0), n0=41)
    good = {name: (tmp_path / name).read_bytes() for name in names}
    (tmp_path / names[1]).write_bytes(codec.encode(short))
    with pytest.raises(ZetaError, match=r"zeros_200.* ends at t = 190\.0|190"):
        chain(tmp_path)
    (tmp_path / names[1]).write_bytes(good[names[1]])
    (tmp_path / names[2]).write_bytes(codec.encode(other))
    with pytest.raises(ZetaError, match="its count disagrees with that of the file before it"):
        chain(tmp_path)


def test_fuzz_for_a_moment(tmp_path):
    rng = random.Random(7)
    outcomes = Counter()
    for _ in range(1500):
        content, number, _ = fuzz_decode.case(rng)
        outcomes[fuzz_decode.check(content, number, tmp_path)] += 1
    assert min(outcomes.values()) > 300


# Distances on rounding ties for gaps (54 significant bits, last one set), and their neighbours.
ties = st.builds(
    lambda m, s, d: (2 * m + 1 << s) + d,
    st.integers(2**52, 2**53 - 1),
    st.integers(1, 50),
    st.integers(-1, 1),
)
distances = st.one_of(
    st.sampled_from([1, 2, 2**53 + 1, 2**64 - 1, 2**64, 2**66 - 1, 2**67, 2**67 + 1, 2**104 - 1]),
    st.integers(1, 2**104 - 1),
    st.integers(2**96, 2**102),
    ties,
)


@st.composite
def files(draw):
    """Blocks at any height from 14 to 2^80, some zeros put on ties of the rounding of gamma."""
    t0 = draw(st.one_of(st.sampled_from([14.0, 5e3, 131071.0, 2.0**17, 3.0e10, 2.0**80]),
                        st.integers(14, 2**80).map(float)))  # fmt: skip
    rank, blocks = draw(st.integers(0, 2**62)), []
    for _ in range(draw(st.integers(1, 4))):
        z, heights = fixed_point.float_to_int(t0), []
        for delta in draw(st.lists(distances, max_size=12)):
            ulp = 1 << max((z + delta).bit_length() - 53, 1)
            tie = (z + delta) // ulp * ulp + ulp // 2 + draw(st.integers(-1, 1))
            z = tie if 0 < tie - z < 2**104 and draw(st.booleans()) else z + delta
            heights.append(z)
        t1 = z / UNIT
        while Fraction(t1) * UNIT < z or t1 <= t0:
            t1 = float(np.nextafter(t1, np.inf))
        header = Header(t0, t1, rank, rank + len(heights), 0)
        blocks.append(Block(header, fixed_point.from_ints(heights)))
        t0, rank = t1, rank + len(heights)
    return blocks


@settings(max_examples=300)
@given(files(), st.sampled_from([1, 2]), st.booleans(), st.data())
def test_decode_run_is_the_nearest_float_to_the_exact_rational(
    tmp_path_factory, blocks, threads, more, data
):
    path = tmp_path_factory.mktemp("run") / codec.file_name(blocks[0].header.t0)
    codec.write_file(path, blocks)
    headers, _ = codec.read_headers(path)
    assert codec.encode(list(codec.read_blocks(path))) == path.read_bytes()
    first = data.draw(st.integers(0, len(blocks) - 1))
    last = data.draw(st.integers(first + 1, len(blocks)))
    exact = [z for block in blocks[first:last] for z in fixed_point.to_ints(block.heights)]
    following = (max(exact, default=0) + data.draw(distances)) if more else None
    n, gamma, gap = codec.decode_run(path, headers[first:last], following, threads)
    rank = blocks[first].header.n0
    assert n.tolist() == list(range(rank + 1, rank + 1 + len(exact)))
    assert gamma.tolist() == [float(Fraction(z, UNIT)) for z in exact]
    after = [*exact[1:], following] if more else exact[1:]
    gaps = [float(Fraction(b - a, UNIT)) for a, b in zip(exact, after, strict=False)]
    assert gap.tolist()[: len(gaps)] == gaps
    assert np.isnan(gap[len(gaps) :]).all() and len(gap) == len(exact)


def test_ties_and_both_ways_of_the_kernel_are_really_met():
    """The strategy above covers the short and the long way (a guard for the test itself)."""
    t0 = np.array([14.0, 131071.0, 131072.0, 3.0e10, 2.0**80, 2.0**81, 1e6, 1e6])
    t1 = t0 + np.array([5.0, 5.0, 5.0, 2100.0, 2.0**30, 2.0**30, 3e5, 2100.0])
    count = np.array([5, 5, 5, 5, 5, 5, 5, 1 << 24])
    assert (codec._shifts(t0, t1, count) >= 0).tolist() == [
        False, False, True, True, False, False, False, False,
    ]  # fmt: skip


def _npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def _parquet():
    buffer = io.BytesIO()
    pq.write_table(pa.table({"gamma": [14.1, 21.0]}), buffer)
    return buffer.getvalue()


def _sqlite(folder):
    connection = sqlite3.connect(folder / "x.db")
    connection.execute("create table zero_index(t real)")
    connection.commit()
    connection.close()
    return (folder / "x.db").read_bytes()


OTHERS = {
    "heights": (b"14.134725142\n21.022039639\n25.010857580\n", "text \\('14.134725142 21.0"),
    "one height": (b"14.134725142\n", "text"),
    "utf-8 mark": (b"\xef\xbb\xbf14.134725142\n21.022039639\n", "text"),
    "utf-16": ("14.134725142\n21.022\n".encode("utf-16"), "text"),
    "prose": ("Valeurs données par γ − 267653395647\n".encode(), "text"),
    "page": (b"<!DOCTYPE html>\n<html><head><title>LMFDB</title></head></html>\n", "a web page"),
    "page, late": (b"\n\n  <html>" + b" " * 600, "a web page"),
    "csv": (b"n,gamma\n1,14.134725142\n", "text"),
    "json": (b'{"zeros": [14.134725142]}', "text"),
    "gzip": (gzip.compress(PLATT.read_bytes()), "gzip"),
    "xz": (lzma.compress(PLATT.read_bytes()), "xz"),
    "bzip2": (bz2.compress(PLATT.read_bytes()), "bzip2"),
    "zip": (b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + bytes(90), "a zip archive"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 58800\n", "Git LFS.*git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s58800--4d.dat\n", "git-annex.*git annex get"),
    "annex link": (b"../.git/annex/objects/MD5-s58800--4d/MD5-s58800--4d", "git-annex"),
    "dvc": (b"outs:\n- md5: 56cfdb9e133098a294c145118fc33fa7\n  path: zeros_14.dat\n", "of DVC.*dvc pull"),
    "npy": (_npy(np.arange(14.0, 40.0)), "a NumPy array.*source table"),
    "parquet": (_parquet(), "Parquet.*source table"),
    "bare": (np.linspace(14.1, 5000, 4520).tobytes(), "bare float64 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_that_is_no_archive_file_is_said_to_be_what_it_is(tmp_path, kind):
    content, said = OTHERS[kind]
    path = tmp_path / "zeros_14.dat"
    path.write_bytes(content)
    with pytest.raises(ZetaError, match=f"not an archive file: it looks like .*{said}") as caught:
        codec.read_headers(path)
    assert str(path) in str(caught.value) and "block 1 of" not in str(caught.value)


def test_a_database_is_said_to_be_one(tmp_path):
    path = tmp_path / "zeros_14.dat"
    path.write_bytes(_sqlite(tmp_path))
    with pytest.raises(ZetaError, match="it looks like an SQLite database"):
        codec.read_headers(path)


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    path = tmp_path / "zeros_14.dat"
    path.write_bytes(b"")
    with pytest.raises(ZetaError, match="empty, 0 bytes"):
        codec.read_headers(path)


@pytest.mark.parametrize("blocks", [1, 10, 35_615, 0x8B1F, 0xFFFF, 0x04034B50])
def test_a_true_file_is_never_taken_for_another(tmp_path, blocks):
    """Counts whose bytes are those of gzip or zip too: blocks enough to fill them are right."""
    path = tmp_path / "zeros_14.dat"
    with path.open("wb") as handle:  # sparse
        handle.write(struct.pack("<Q", blocks))
        handle.truncate(8 + 32 * blocks)
    codec._check_kind(path)
