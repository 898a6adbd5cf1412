"""The codec against LMFDB's own file, against itself, and against damage."""

import hashlib
import itertools
import re
import struct
from decimal import Decimal, localcontext

import numpy as np
import pytest
from conftest import PLATT, synthetic_blocks, write_folder
from hypothesis import given
from hypothesis import strategies as st

from zetalib.archive import codec, fixed_point, layout
from zetalib.archive.codec import Block, Header
from zetalib.errors import ZetaError


def test_lmfdb_file_decodes_to_the_known_zeros():
    n, gamma, gap = codec.decode_file(PLATT, None)
    assert len(n) == 4520 and n[0] == 1 and n[-1] == 4520
    (first,) = fixed_point.to_ints(next(codec.read_blocks(PLATT)).heights[:1])
    with localcontext(prec=32):  # Odlyzko, "The first 100 zeros to over 1000 decimal places"
        assert str(Decimal(first) / 2**101).startswith("14.134725141734693790457251983562")
    assert gamma[0] == first / 2**101
    assert (np.diff(gamma) > 0).all() and gamma[-1] < 5000
    assert np.isnan(gap[-1]) and np.allclose(gap[:-1], np.diff(gamma), rtol=0, atol=2e-12)


def test_encoder_writes_lmfdb_file_back_byte_for_byte_from_exact_integers():
    blocks = list(codec.read_blocks(PLATT))
    integers = [fixed_point.to_ints(block.heights) for block in blocks]
    again = [
        Block(block.header, fixed_point.from_ints(z))
        for block, z in zip(blocks, integers, strict=True)
    ]
    content = codec.encode(again)
    assert content == PLATT.read_bytes()
    assert hashlib.md5(content).hexdigest() == "56cfdb9e133098a294c145118fc33fa7"


@given(
    st.integers(0, 2**32),
    st.integers(0, 30),
    st.sampled_from([(14.0, 15.0), (5e3, 7.1e3, 9.2e3), (3.0e10, 3.0e10 + 2100)]),
)
def test_encode_and_decode_are_inverse(tmp_path_factory, seed, per_block, bounds):
    blocks = synthetic_blocks(seed, bounds, per_block)
    path = tmp_path_factory.mktemp("codec") / codec.file_name(bounds[0])
    path.write_bytes(codec.encode(blocks))
    for wrote, read in zip(blocks, codec.read_blocks(path), strict=True):
        assert fixed_point.to_ints(wrote.heights) == fixed_point.to_ints(read.heights)
        assert (wrote.header.t0, wrote.header.n1) == (read.header.t0, read.header.n1)


def test_gaps_come_from_the_integers_also_across_blocks_and_files(tmp_path):
    first = synthetic_blocks(1, (14.0, 100.0, 200.0))
    second = synthetic_blocks(2, (200.0, 300.0), n0=first[-1].header.n1)
    folder = write_folder(tmp_path / "raw", {14.0: first, 200.0: second})
    exact = [z for block in first + second for z in fixed_point.to_ints(block.heights)]
    following = codec.first_zero(folder / "zeros_200.dat")
    assert following == exact[sum(len(b.heights) for b in first)]
    _, _, gap = codec.decode_file(folder / "zeros_14.dat", following)
    expected = [(b - a) / 2**101 for a, b in itertools.pairwise(exact)]
    assert gap.tolist() == expected[: len(gap)]  # int / int is correctly rounded


def test_a_gap_keeps_digits_that_subtracting_floats_loses(tmp_path):
    start = fixed_point.float_to_int(3.0e10)
    tiny = 2**101 // 1000 + 12345
    heights = fixed_point.from_ints([start + 2**100, start + 2**100 + tiny])
    path = tmp_path / "zeros_30000000000.dat"
    path.write_bytes(codec.encode([Block(Header(3.0e10, 3.0e10 + 2100, 5, 7, 0), heights)]))
    _, gamma, gap = codec.decode_file(path, None)
    assert gap[0] == tiny / 2**101
    assert abs(gamma[1] - gamma[0] - gap[0]) > 1e-7


def test_files_are_ordered_by_number_not_by_name(tmp_path):
    for name in ("zeros_14.dat", "zeros_5000.dat", "zeros_26000.dat", "zeros_236000.dat"):
        (tmp_path / name).touch()
    assert [p.name for p in codec.numeric_order(tmp_path)] == [
        "zeros_14.dat",
        "zeros_5000.dat",
        "zeros_26000.dat",
        "zeros_236000.dat",
    ]


def test_garbage_after_the_last_block_is_tolerated_and_counted(lmfdb_file):
    lmfdb_file.write_bytes(lmfdb_file.read_bytes() + b"\x7fgarbage" * 9)
    headers, trailing = codec.read_headers(lmfdb_file)
    assert len(headers) == 1 and trailing == 72
    assert len(codec.decode_file(lmfdb_file, None)[0]) == 4520


@pytest.mark.parametrize("size", [0, 7, 8, 30, 39, 40, 52, 58_799])
def test_truncation_is_refused_wherever_it_falls(lmfdb_file, size):
    lmfdb_file.write_bytes(lmfdb_file.read_bytes()[:size])
    with pytest.raises(ZetaError, match=r"zeros_14\.dat at byte \d+: truncated"):
        codec.read_headers(lmfdb_file)


def damage(path, offset, packed):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(packed)] = packed
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("offset", "packed", "message"),
    [
        (0, struct.pack("<Q", 0), "at byte 0: the file says it has no blocks"),
        (0, struct.pack("<Q", 2), "truncated: block 2 of 2 needs a header of 32 bytes, 0 are left"),
        (0, struct.pack("<Q", 2**63), "truncated: block 2 of"),
        (24, struct.pack("<QQ", 0, 4521), "announces 4521 zeros .* room for 4520"),
        (24, struct.pack("<QQ", 0, 2**60), "announces 1152921504606846976 zeros"),
        (24, struct.pack("<QQ", 9, 8), "counts backwards"),
        (8, struct.pack("<d", float("nan")), "expected 0 <= t0 < t1, finite"),
        (8, struct.pack("<d", float("inf")), "expected 0 <= t0 < t1, finite"),
        (8, struct.pack("<d", 6000.0), "expected 0 <= t0 < t1, finite"),
        (8, struct.pack("<d", 15.0), "its name says 14"),
        (40 + 13 * 2, bytes(13), "at byte 66: the distance to the zero of rank 3 is zero"),
        (40 + 13 * 2, b"\xff" * 13, r"rank 45\d\d leads beyond the block's end t1 = 5000\.0"),
    ],
)  # fmt: skip
def test_damage_is_named_with_file_and_offset(lmfdb_file, offset, packed, message):
    damage(lmfdb_file, offset, packed)
    with pytest.raises(ZetaError, match=message) as caught:
        codec.decode_file(lmfdb_file, None)
    assert re.search(r"zeros_14\.dat at byte \d+: .*\. \w", str(caught.value))


def test_a_block_count_too_small_is_not_taken_for_garbage(tmp_path):
    path = tmp_path / "zeros_14.dat"
    path.write_bytes(codec.encode(synthetic_blocks()))
    damage(path, 0, struct.pack("<Q", 2))
    with pytest.raises(ZetaError, match="says it has 2 blocks, but another one follows"):
        codec.read_headers(path)


def test_blocks_in_the_wrong_order_do_not_chain(tmp_path):
    a, b, c = synthetic_blocks()
    path = tmp_path / "zeros_14.dat"
    path.write_bytes(codec.encode([a, c, b]))
    with pytest.raises(ZetaError, match=r"block 2 of 3 does not chain: it starts at t = 200\.0"):
        codec.read_headers(path)


@pytest.mark.parametrize("name", ["zeros_14 (1).dat", "zeros_14.dat.part", "zeros_.dat"])
def test_a_name_that_is_almost_right_is_not_passed_over(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ZetaError, match="not that of an archive file"):
        codec.numeric_order(tmp_path)


def test_two_names_of_one_number_are_a_duplicate(tmp_path):
    for name in ("zeros_5000.dat", "zeros_05000.dat"):
        (tmp_path / name).touch()
    with pytest.raises(ZetaError, match="duplicate"):
        codec.numeric_order(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ZetaError, match="no zeros_<height>"):
        codec.numeric_order(tmp_path)


def test_encoder_refuses_what_the_format_cannot_hold():
    good = synthetic_blocks()[0]
    h = good.header
    with pytest.raises(ValueError, match="heights for ranks"):
        codec.encode([Block(Header(h.t0, h.t1, h.n0, h.n1 + 1, 0), good.heights)])
    with pytest.raises(ValueError, match="strictly increase"):
        codec.encode([Block(h, good.heights[::-1].copy())])
    with pytest.raises(ValueError, match="strictly increase"):
        codec.encode([Block(Header(h.t0, 15.0, h.n0, h.n1, 0), good.heights)])
    with pytest.raises(ValueError, match="a block from t = 14.0 to 14.0"):
        codec.encode([Block(Header(14.0, 14.0, 0, 0, 0), good.heights[:0])])
    far = fixed_point.from_ints([fixed_point.float_to_int(14.0) + 2**104])
    with pytest.raises(ValueError, match="104 bits"):
        codec.encode([Block(Header(14.0, 100.0, 0, 1, 0), far)])


def test_archive_layout_is_that_of_the_archive():
    bounds = list(itertools.islice(layout.bounds(), 6))
    starts = [codec.file_name(b[0]) for b in bounds]
    assert starts[:6] == [f"zeros_{n}.dat" for n in (14, 5000, 26000, 236000, 446000, 2546000)]
    assert [len(b) - 1 for b in bounds[:6]] == [1, 10, 100, 100, 1000, 1000]


def exact_of(blocks):
    return [z for block in blocks for z in fixed_point.to_ints(block.heights)]


def test_a_run_of_blocks_is_that_part_of_the_file(tmp_path):
    blocks = synthetic_blocks(9, tuple(2e5 + 40.0 * k for k in range(9)))
    path = tmp_path / "zeros_200000.dat"
    codec.write_file(path, blocks)
    assert path.read_bytes() == codec.encode(blocks)
    headers, _ = codec.read_headers(path)
    whole = codec.decode_file(path, None)
    for first, last in [(0, 8), (2, 3), (3, 8), (8, 8)]:
        following = codec.first_of(path, headers[last:])
        assert following == (exact_of(blocks[last:])[0] if last < 8 else None)
        part = codec.decode_run(path, headers[first:last], following)
        for column, found in zip(whole, part, strict=True):
            assert np.array_equal(found, column[20 * first : 20 * last], equal_nan=True)
    with pytest.raises(ValueError, match="consecutive"):
        codec.decode_run(path, [headers[0], headers[2]], None)
    with pytest.raises(ValueError, match="strictly increase"):
        codec.decode_run(path, headers[:2], exact_of(blocks)[39])


def test_writing_a_file_leaves_all_of_it_or_nothing(tmp_path):
    a, b, c = synthetic_blocks()
    path = tmp_path / "zeros_14.dat"
    codec.write_file(path, iter([a, b, c]))
    content = path.read_bytes()

    def broken():
        yield a
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError):
        codec.write_file(path, broken())
    with pytest.raises(ValueError, match=r"from t = 200\.0, N = 40 does not chain"):
        codec.write_file(path, [a, c])
    with pytest.raises(ValueError, match="at least one block"):
        codec.write_file(path, [])
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


@pytest.fixture
def folder(tmp_path):
    """Three files, a block without zeros at the end of one and a whole file without."""
    parts = {
        14.0: synthetic_blocks(1, (14.0, 100.0, 200.0)) + synthetic_blocks(0, (200.0, 250.0), 0, 40),
        250.0: synthetic_blocks(0, (250.0, 300.0), 0, 40),
        300.0: synthetic_blocks(2, (300.0, 400.0, 500.0), n0=40),
    }  # fmt: skip
    write_folder(tmp_path / "raw", parts)
    return tmp_path / "raw", exact_of([b for blocks in parts.values() for b in blocks])


def test_random_access_by_rank_equals_the_whole(folder):
    raw, exact = folder
    archive = codec.Archive(raw)
    assert (archive.first, archive.last, archive.t0, archive.t1) == (1, 80, 14.0, 500.0)
    gaps = [(b - a) / 2**101 for a, b in itertools.pairwise(exact)] + [np.nan]
    for first, last in itertools.combinations_with_replacement([1, 2, 20, 21, 40, 41, 60, 80], 2):
        n, gamma, gap = archive.by_rank(first, last, threads=2)
        assert n.tolist() == list(range(first, last + 1))
        assert gamma.tolist() == [z / 2**101 for z in exact[first - 1 : last]]
        assert np.array_equal(gap, gaps[first - 1 : last], equal_nan=True)
        assert fixed_point.to_ints(archive.exact(first, last)) == exact[first - 1 : last]


def test_random_access_by_height_compares_exactly(folder):
    raw, exact = folder
    archive = codec.Archive(raw)
    heights = [14.0, 100.0, 150.0, 200.0, 230.0, 250.0, 300.0, 333.25, 500.0]
    heights += [z / 2**101 for z in exact[::13]]  # rounded: just above or below its zero
    for t0, t1 in itertools.combinations_with_replacement(sorted(heights), 2):
        inside = [k for k, z in enumerate(exact, 1) if t0 * 2**101 < z <= int(t1 * 2**101)]
        n, gamma, gap = archive.by_height(t0, t1)
        assert n.tolist() == inside and len(gamma) == len(gap) == len(inside)
    assert [archive.count(t) for t in (14.0, 100.0, 250.0, 500.0)] == [0, 20, 40, 80]


def test_random_access_says_what_is_not_there_and_what_is(folder):
    archive = codec.Archive(folder[0])
    here = r"raw: .*not in this archive, which holds ranks 1 to 80, 14\.0 < t <= 500\.0"
    for first, last in [(0, 5), (70, 81), (9, 8), (10**20, 10**20)]:
        with pytest.raises(ZetaError, match=here):
            archive.by_rank(first, last)
        with pytest.raises(ZetaError, match=here):
            archive.exact(first, last)
    for t0, t1 in [(13.0, 20.0), (400.0, 501.0), (30.0, 20.0), (float("nan"), 20.0)]:
        with pytest.raises(ZetaError, match=here):
            archive.by_height(t0, t1)


def test_random_access_reads_no_more_than_the_blocks_it_needs(folder):
    raw, _ = folder
    archive = codec.Archive(raw)
    damage(raw / "zeros_14.dat", 8 + 32 + 13 * 3, bytes(13))  # first block: a zero distance
    assert len(archive.by_rank(21, 80)[0]) == 60
    with pytest.raises(ZetaError, match="rank 4 is zero"):
        archive.by_rank(20, 21)
