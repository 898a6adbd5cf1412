import hashlib
import itertools
import subprocess
import sys
import textwrap

import flint
import numpy as np
import pytest
from conftest import PLATT, ROOT, changed

from zetalib import atomic
from zetalib.archive import codec, fixed_point, layout
from zetalib.archive.codec import Block, Header
from zetalib.data import decode
from zetalib.errors import ZetaError
from zetalib.sources import download, exact

LMFDB_MD5 = "56cfdb9e133098a294c145118fc33fa7"


@pytest.fixture(scope="module")
def lmfdb():
    """LMFDB's zeros of ranks 1 to 4520, in units of 2^-101."""
    (block,) = codec.read_blocks(PLATT)
    return fixed_point.to_ints(block.heights)


def up_to(defaults, height):
    return changed(defaults.download, source="exact", to_height=height)


def small_files():
    yield [14.0, 60.0, 100.0]
    yield [100.0, 140.0, 170.0, 200.0]
    yield [200.0, 300.0]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(layout, "bounds", small_files)


def test_zeros_14_is_lmfdbs_own_file(tmp_path, defaults, lmfdb, monkeypatch):
    """To the byte. A tenth of its zeros is computed, spread over all; the rest is LMFDB's."""
    computed = exact._in_threads
    spared = []

    def some(first, number):
        if first // exact.BATCH % 8 and first + number < 4520:
            spared.append(number)
            return lmfdb[first - 1 : first - 1 + number]
        return computed(first, number)

    monkeypatch.setattr(exact, "BATCH", 50)
    monkeypatch.setattr(exact, "_in_threads", some)
    found = download.fetch(up_to(defaults, 5000.0), tmp_path / "raw")
    assert hashlib.md5(PLATT.read_bytes()).hexdigest() == LMFDB_MD5
    assert [file["md5"] for file in found["files"]] == [LMFDB_MD5]
    assert (found["source"], found["zeros"]) == ("exact", 4520)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert 3500 < sum(spared) < 4000


@pytest.mark.parametrize("bits", [10, 64, 107, 115])
def test_too_little_precision_is_raised_until_the_rounding_is_sure(bits, lmfdb):
    assert exact.heights(1, 25, bits) == lmfdb[:25]


def test_a_ball_that_reaches_over_a_half_does_not_decide_the_rounding():
    unit = flint.arb(2) ** -101
    with flint.ctx.workprec(180):
        for middle, radius, expected in [
            (7.25, 0.2, 7), (7.25, 0.3, None), (7.75, 0.2, 8), (7.75, 0.3, None), (7.0, 40.0, None),
        ]:  # fmt: skip
            assert exact._nearest(flint.arb(middle, radius) * unit) == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(threads, lmfdb, monkeypatch):
    monkeypatch.setattr(exact.os, "cpu_count", lambda: threads)
    assert exact._in_threads(101, 60) == lmfdb[100:160]
    assert flint.ctx.threads == 1


def test_ranks_must_make_sense():
    assert exact.heights(5, 0) == []
    for first, number in [(0, 3), (1, -1)]:
        with pytest.raises(ValueError, match="ranks start at 1"):
            exact.heights(first, number)


def test_count_steps_at_each_zero_and_nowhere_else(lmfdb):
    """The nearest float64 on either side of a zero tells n - 1 from n."""
    for n in [1, 2, 100, 2617, 4520]:
        near = float(fixed_point.to_floats(fixed_point.from_ints([lmfdb[n - 1]]))[0])
        for t in (np.nextafter(near, 0.0), near, np.nextafter(near, 1e6)):
            expected = n if fixed_point.float_to_int(float(t)) > lmfdb[n - 1] else n - 1
            assert exact.count(float(t)) == expected
    assert [exact.count(t) for t in (-1.0, 0.0, 14.0, 5000.0)] == [0, 0, 0, 4520]
    assert exact.count(30_610_046_000.0) == 103_800_788_359  # the archive's own total
    with pytest.raises(ValueError, match="must be finite"):
        exact.count(float("nan"))


def test_a_last_block_ends_where_the_user_says(tmp_path, defaults, lmfdb):
    download.fetch(up_to(defaults, 500.0), tmp_path / "raw")
    path = tmp_path / "raw" / "zeros_14.dat"
    (header,), trailing = codec.read_headers(path)
    assert header == Header(14.0, 500.0, 0, 269, 8) and trailing == 0
    assert path.read_bytes()[40:] == PLATT.read_bytes()[40:][: 13 * 269]
    assert lmfdb[268] < fixed_point.float_to_int(500.0) < lmfdb[269]


def test_blocks_and_files_are_those_of_the_archive(tmp_path, defaults, lmfdb, small_blocks):
    download.fetch(up_to(defaults, 180.5), tmp_path / "raw")
    files = codec.numeric_order(tmp_path / "raw")
    assert [path.name for path in files] == ["zeros_14.dat", "zeros_100.dat"]
    blocks = [block for path in files for block in codec.read_blocks(path)]
    bounds = [14.0, 60.0, 100.0, 140.0, 170.0, 180.5]
    assert [(b.header.t0, b.header.t1) for b in blocks] == list(itertools.pairwise(bounds))
    found = [height for block in blocks for height in fixed_point.to_ints(block.heights)]
    assert found == [height for height in lmfdb if height <= fixed_point.float_to_int(180.5)]


def test_a_last_block_may_be_without_zeros(tmp_path, defaults, small_blocks):
    found = download.fetch(up_to(defaults, 100.5), tmp_path / "raw")  # 98.83 and 101.32 are zeros
    assert [(f["name"], f["last_rank"]) for f in found["files"]] == [
        ("zeros_14.dat", 29), ("zeros_100.dat", 29),
    ]  # fmt: skip
    assert decode.decode_folder(tmp_path / "raw", tmp_path / "zeros") == 29


def kept_and_killed(tmp_path):
    """A run to t = 200 in a process of its own that dies in the block from 140 to 170."""
    code = f"""
        import os, sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}, {str(ROOT / "tests/sources")!r}]
        from test_exact import changed, download, exact, layout, small_files, up_to
        from zetalib import params
        layout.bounds = small_files
        compute = exact.heights
        exact.heights = lambda n, *rest: os._exit(9) if n > exact.count(140) else compute(n, *rest)
        download.fetch(up_to(params.load({str(ROOT / "params.yaml")!r}), 200.0), {str(tmp_path / "raw")!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == 9
    return tmp_path / "checkpoints" / "exact"


def computed(monkeypatch):
    """The calls of `heights` from now on, as (first, count)."""
    calls, compute = [], exact.heights
    spy = lambda *ranks: (calls.append(ranks), compute(*ranks))[1]  # noqa: E731
    monkeypatch.setattr(exact, "heights", spy)
    return calls


def test_a_killed_run_goes_on_after_its_last_block(tmp_path, defaults, small_blocks, monkeypatch):
    kept = kept_and_killed(tmp_path)
    names = ["zeros_100.dat", "zeros_14.dat", "zeros_60.dat"]
    assert sorted(path.name for path in kept.iterdir()) == names
    assert not (tmp_path / "raw").exists()

    damaged = bytearray((kept / "zeros_60.dat").read_bytes())
    damaged[60] ^= 1  # one bit of the second distance: only the last zero can tell
    (kept / "zeros_60.dat").write_bytes(damaged)
    (header,), _ = codec.read_headers(kept / "zeros_100.dat")
    cut = Block(Header(100.0, 140.0, header.n0, header.n0, 0), fixed_point.from_ints([]))
    atomic.write_bytes(kept / "zeros_100.dat", codec.encode([cut]))  # another count

    calls = computed(monkeypatch)
    resumed = download.fetch(up_to(defaults, 200.0), tmp_path / "raw")
    assert calls == [
        (13, 1),  # 14 to 60 is there: only its last zero is computed
        (29, 1), (14, 16),  # 60 to 100 is damaged
        (30, 19), (49, 16), (65, 15),  # 100 to 140 is another block's; the rest was not there
    ]  # fmt: skip
    assert not kept.exists()
    again = download.fetch(up_to(defaults, 200.0), tmp_path / "anew" / "raw")
    assert resumed == again


@pytest.mark.parametrize("height", [1.0, 14.0, 14.13, 4e10, 1e300])
def test_a_height_without_zeros_or_out_of_reach_is_one_clear_line(height, tmp_path, defaults):
    with pytest.raises(ZetaError, match=r"params\.yaml: download\.to_height: it is .* 14\.13"):
        download.fetch(up_to(defaults, height), tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


def test_progress_says_how_far_and_how_long(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 4.0, 11.0, 31.0])
    monkeypatch.setattr(exact.time, "monotonic", lambda: next(clock))
    progress = exact._Progress(400)
    progress.passed(0)
    progress.computed(100)  # too early for a line
    progress.computed(200)
    progress.computed(400)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("exact: 200 of 400 zeros | 20 zeros/s | ETA: 20s | elapsed: 10s")
    assert last.startswith("exact: 400 of 400 zeros | 13 zeros/s | ETA: 0s | elapsed: 30s")
