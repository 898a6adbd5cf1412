"""The source `table`: what people hold, read exactly, or refused with its line."""

import gzip
import itertools
import re
from decimal import Decimal
from fractions import Fraction

import mpmath
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PLATT, changed

from zetalib import params
from zetalib.archive import codec, fixed_point, manifest
from zetalib.data import decode, unfold
from zetalib.errors import ZetaError
from zetalib.sources import download, tables

# Odlyzko's own words above his tables, but for the number of zeros.
HEADER = """
Values of gamma - {base}, where gamma runs over the heights of the zeros of the
Riemann zeta function numbered {power} + 1 through {power} + {count}. Thus zero # {power} + 1 is
actually 1/2 + i * {first}...

(values are guaranteed to be accurate only to within 10^(-8)).

"""


@pytest.fixture(scope="module")
def gamma():
    return codec.decode_file(PLATT, None)[1]


@pytest.fixture
def fetch(tmp_path, defaults):
    """Write a table, bring it into tmp_path/raw, and read that back: ranks and exact heights."""
    counter = itertools.count()

    def run(content, **more):
        path = tmp_path / f"table{next(counter)}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        given = changed(defaults.download, source="table", table=str(path), **more)
        download.fetch(given, tmp_path / "raw")
        archive = codec.Archive(tmp_path / "raw")
        heights = fixed_point.to_ints(archive.exact(archive.first, archive.last))
        return archive.first, heights

    return run


def units(*numbers):
    return [int(Fraction(str(n)) * 2**102 + 1) // 2 for n in numbers]


def lines(numbers):
    return "".join(f"{n}\n" for n in numbers)


def test_text_is_taken_to_the_last_digit(fetch):
    numbers = [
        "14.134725141734693790457251983562",
        "21.0220396387715549926284795939",
        "25.010857580",
    ]
    assert fetch(lines(numbers)) == (1, units(*numbers))


@pytest.mark.parametrize("comment", ["# zeros computed", "# my zeros", "# zeta zeros"])
def test_a_comment_that_is_no_header_names_no_column(fetch, comment):
    rows = "14.134725\n21.022040\n25.010858\n30.424876\n".splitlines()
    text = "".join(f"{n} {g}\n" for n, g in enumerate(rows, 1))
    assert fetch(f"{comment}\n{text}") == fetch(text) == (1, units(*rows))


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (1, "given to 1 decimals: 0.0.* of a mean spacing; forecasts finer than that"),
        (9, "given to 9 decimals: [0-9.]+e-1"),
        (4.0, "given to multiples of 2.-4: .*finer"),
        (20, "given to 20 decimals: [0-9.]+e-21 "),
    ],
)
def test_how_finely_heights_are_given_is_said(fetch, gamma, capsys, places, said):
    step = Fraction(1, 2**4 if isinstance(places, float) else 10**places)
    coarse = [round(Fraction(g) / step) * step for g in gamma[:400].tolist()]
    fetch(lines(f"{Decimal(c.numerator) / Decimal(c.denominator):f}" for c in coarse))
    assert re.search(said, capsys.readouterr().out)


@pytest.mark.parametrize(
    ("form", "head"),
    [
        ("{g}", ""),
        ("     {g}", "# zeros\n"),
        ("{n} {g}", ""),
        ("{n}\t{g}", "n\tgamma\n"),
        ("{n},{g}", "n,gamma\r\n"),
        ('"{n}","{g}"', '"index","Im"\n'),
        ("{g};{n};x", "height;rank;remark\n"),
        ("{n}, {g}, 0.5", "# k, t, re\n"),
        ("{g}\r", ""),
        ("{g}e0", "some zeros of zeta,\nfound by hand\n\n"),
        ("+{g}0e-0\n", ""),
    ],
)
def test_every_layout_of_text_is_the_same_zeros(fetch, gamma, form, head):
    rows = [form.format(n=k + 1, g=repr(float(g))) for k, g in enumerate(gamma[:200])]
    expected = units(*(repr(float(g)) for g in gamma[:200]))
    text = head + "\n".join(rows)
    assert fetch(text) == (1, expected)
    assert fetch(gzip.compress((text + "\n").encode())) == (1, expected)
    assert fetch(b"\xef\xbb\xbf" + text.encode()) == (1, expected)


def test_arrays_and_parquet_are_the_same_zeros(fetch, gamma, tmp_path):
    some, expected = gamma[:500], fixed_point.to_ints(fixed_point.from_floats(gamma[:500]))
    np.save(tmp_path / "a.npy", some)
    np.save(tmp_path / "b.npy", np.stack([np.arange(1, 501), some], axis=1))
    np.savez(tmp_path / "c.npz", gamma=some, other=np.arange(3))
    np.savez_compressed(tmp_path / "d.npz", some)
    frame = pd.DataFrame({"rank": np.arange(1, 501), "height": some, "junk": "x"})
    frame.to_parquet(tmp_path / "e.parquet")
    exact = [Decimal(repr(float(g))) for g in some]
    for name in ("a.npy", "b.npy", "c.npz", "d.npz", "e.parquet"):
        assert fetch((tmp_path / name).read_bytes()) == (1, expected), name
    pq.write_table(pa.table({"gamma": pa.array(exact, pa.decimal128(38, 20))}), tmp_path / "f")
    pq.write_table(pa.table({"gamma": [str(d) for d in exact]}), tmp_path / "g")
    for name in ("f", "g"):
        assert fetch((tmp_path / name).read_bytes()) == (1, units(*exact)), name


def test_a_written_table_gives_the_bytes_of_the_archive(fetch, gamma, tmp_path):
    """LMFDB's own zeros, all their 101 bits in decimals: the same records, block bounds and all."""
    (block,) = codec.read_blocks(PLATT)
    with_digits = []
    for u in fixed_point.to_ints(block.heights):
        whole, part = divmod(u, 2**101)
        with_digits.append(f"{whole}.{part * 10**101 >> 101:0101d}")  # exact: 101 binary places
    first, heights = fetch(lines(with_digits))
    assert first == 1 and heights == fixed_point.to_ints(block.heights)
    written = (tmp_path / "raw" / "zeros_14.dat").read_bytes()
    lmfdb = PLATT.read_bytes()
    assert written[40:] == lmfdb[40:]  # the header's t1: the last zero, where LMFDB has 5000
    assert written[:16] == lmfdb[:16] and written[24:40] == lmfdb[24:40]


def test_odlyzko_heights_as_text_give_the_parquet_bytes_of_source_odlyzko(
    monkeypatch, tmp_path, defaults, gamma
):
    table = np.concatenate([gamma, np.arange(5001.0, 7400.0, 0.9)])
    monkeypatch.setattr(download, "odlyzko_table", lambda: table)
    download.fetch(defaults.download, tmp_path / "odlyzko")
    path = tmp_path / "zeros6"
    path.write_text(lines(Decimal(float(g)) for g in table))  # every binary digit
    download.fetch(changed(defaults.download, source="table", table=str(path)), tmp_path / "text")
    for folder in ("odlyzko", "text"):
        decode.decode_folder(tmp_path / folder, tmp_path / f"{folder}-zeros")
    names = [p.name for p in sorted((tmp_path / "odlyzko-zeros").iterdir())]
    assert len(names) == 3
    for name in names:
        one, other = (tmp_path / f"{f}-zeros" / name for f in ("odlyzko", "text"))
        assert one.read_bytes() == other.read_bytes()


def high_table(power, count=600):
    """Points about where zeros 10^power + 1, ... lie: N(t) = n - 1/2 but for a quarter."""
    with mpmath.workdps(60):
        rank = 10**power + 1
        rng = np.random.default_rng(power)
        t = mpmath.mpf(2) * mpmath.pi * rank / mpmath.lambertw(rank / mpmath.e).real
        density = mpmath.log(t / (2 * mpmath.pi)) / (2 * mpmath.pi)

        def count_smooth(x):
            return x / (2 * mpmath.pi) * (mpmath.log(x / (2 * mpmath.pi)) - 1) + mpmath.mpf(7) / 8

        heights = []
        for k in range(count):
            target = rank + k - mpmath.mpf(0.5) + float(rng.uniform(-0.25, 0.25))
            for _ in range(6):
                t -= (count_smooth(t) - target) / density
            heights.append(t)
        base = int(heights[0]) // 1000 * 1000
        offsets = [mpmath.nstr(t - base, 25, strip_zeros=False)[:14] for t in heights]
    first = Decimal(base) + Decimal(offsets[0])
    text = HEADER.format(base=base, power=f"10^{power}", count=count, first=f"{first:,}")
    return rank, base, offsets, text + "".join(f"     {o}\n" for o in offsets)


@pytest.mark.parametrize("power", [12, 21, 22])
def test_offset_tables_keep_every_digit_of_their_spacings(fetch, tmp_path, power, capsys):
    """As Odlyzko's zeros3, zeros4 and zeros5: gamma - base, unfolded against mpmath."""
    rank, base, offsets, text = high_table(power)
    first, _ = fetch(text)
    said = capsys.readouterr().out
    assert f"ranks {rank} to {rank + len(offsets) - 1}, given: as N(t) has them" in said
    above = power > 12
    assert first == (1 if above else rank)
    about = manifest.base_height(tmp_path / "raw")
    assert about == (base if above else 0)
    decode.decode_folder(tmp_path / "raw", tmp_path / "zeros")
    unfold.unfold_folder(tmp_path / "zeros", tmp_path / "spacings")
    (file,) = (tmp_path / "spacings").glob("*.parquet")
    table = pq.read_table(file)
    with mpmath.workdps(60):
        u = [
            t / (2 * mpmath.pi) * mpmath.log(t / (2 * mpmath.pi * mpmath.e))
            for t in (mpmath.mpf(base) + mpmath.mpf(o) for o in offsets)
        ]
        expected = [float(b - a) for a, b in itertools.pairwise(u)]
        heights = [float(mpmath.mpf(base) + mpmath.mpf(o)) for o in offsets]
    assert np.abs(table["spacing"].to_numpy() / expected - 1).max() < 1e-12
    assert table["gamma"].to_pylist() == heights[:-1]


def test_base_and_first_rank_may_be_given_or_counted(fetch, capsys):
    rank, base, offsets, _ = high_table(21)
    bare = lines(offsets)
    first, heights = fetch(bare, base=base, first_rank=rank)
    assert "given: as N(t) has them" in capsys.readouterr().out
    assert fetch(bare, base=base) == (first, heights)
    assert f"ranks {rank} to {rank + len(offsets) - 1}, counted: as N(t)" in capsys.readouterr().out
    whole = lines(f"{base + int(o.split('.')[0])}.{o.split('.')[1]}" for o in offsets)  # no base
    _, again = fetch(whole)
    assert np.diff(again).tolist() == np.diff(heights).tolist()


@pytest.mark.parametrize("power", [13, 21])
def test_wrong_ranks_where_no_later_stage_can_tell(fetch, power):
    rank, base, offsets, text = high_table(power, 1400)
    with pytest.raises(ZetaError, match=r"do not fit N\(t\): by \+(1\.0|0\.9)\d at the lowest"):
        fetch(lines(offsets), base=base, first_rank=rank + 1)
    with pytest.raises(
        ZetaError, match=r"by [-+]0\.0\d at the lowest zeros, by -(1\.0|0\.9)\d at the high"
    ):
        fetch(lines(offsets[:600] + offsets[601:]), base=base, first_rank=rank)
    with pytest.raises(ZetaError, match=f"it is {rank + 1}, but the table itself says {rank}"):
        fetch(text, first_rank=rank + 1)
    with pytest.raises(ZetaError, match=f"base: it is 7, but the table itself says {base}"):
        fetch(text, base=7)


def test_wrong_ranks_where_the_verify_stage_can_tell_are_its_matter(fetch, capsys):
    rank, base, offsets, _ = high_table(12)
    fetch(lines(offsets), base=base, first_rank=rank + 1)
    assert "do not fit N(t): by +1.0" in capsys.readouterr().out


def test_zeros_from_the_middle_get_their_ranks_from_the_count(fetch, gamma):
    first, _ = fetch(lines(map(repr, gamma[1000:2000].tolist())))
    assert first == 1001
    with pytest.raises(ZetaError, match="max_zeros: it asks for 50 zeros, .* has 40"):
        fetch(lines(gamma[:40].tolist()), max_zeros=50)
    assert len(fetch(lines(gamma[:40].tolist()), max_zeros=30)[1]) == 30


@pytest.mark.parametrize("start", ["14", "14.0000001", "13.5", "0.001", "5000", "5000.5", "4999"])
def test_tables_that_begin_on_or_beside_a_block_bound(fetch, start):
    numbers = [str(Decimal(start) + k) for k in range(5)]
    assert fetch(lines(numbers))[1] == units(*numbers)
    assert fetch(lines(numbers[:1]))[1] == units(*numbers[:1])


def test_points_that_are_no_zeros_are_brought_too(fetch, capsys):
    points = np.cumsum(np.random.default_rng(0).uniform(0.1, 1.9, 3000)) + 0.3
    first, heights = fetch(lines(points.tolist()))
    assert first == 1 and len(heights) == 3000
    assert "verify.zeta=false" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "no line of numbers"),
        ("gamma\n", "no line of numbers .* 'gamma'"),
        ("<!DOCTYPE html>\n<p>14.1</p>\n", "a page of HTML"),
        ("14.1\n21.0\n25.0\n24.0\n", r": line 4: 24\.0 after 25\.0: out of order"),
        ("# x\n14.1\n\n21.0\n21.0\n", r": line 5: 21\.0 stands twice"),
        ("14.1\n21.0\n-25.0\n", ": line 3: '-25.0' is negative"),
        ("-14.1\n21.0\n", ": line 1: '-14.1' is negative"),
        ("14.1\nnan\n", ": line 2: 'nan' is not a finite number"),
        ("NaN\n14.1\n", ": line 1: 'NaN' is not a finite number"),
        ("14.1\n21.0 3\n", ": line 2: '21.0 3' does not have the 1 column"),
        ("1 14.1\n21.0\n", ": line 2: '21.0' does not have the 2 column"),
        ("1 14.1\n3 21.0\n", ": line 2: rank 3 follows rank 1"),
        ("0 14.1\n1 21.0\n", ": line 1: 0 is no rank"),
        ("14.1 1\n21.0 2\n", ": line 1: 14.1 is no rank"),
        ("14.1\n21.0\nand so on\n", ": line 3: 'and so on' is no height"),
        ("1 2 3\n4 5 6\n", "line 1: 3 columns, and no header"),
        ("n,gamma,t\n1,14.1,3\n", "line 1: columns gamma and t: which is it"),
        ("14.1\n21.0\n30.0\n", r": line 3: 30\.0 after 21\.0: zeros are missing between"),
        ("0\n1.5\n", "its first height is 0"),
        ("14.1\n1e28\n", ": line 2: '1e28' is too high"),
        ("14.1\n21.0\x00\n", "bytes of 0 in it"),
        (b"PK\x03\x04 no zip", "numpy cannot read it .BadZipFile"),
        (b"\x93NUMPY no array", "numpy cannot read it"),
        (b"PAR1 no parquet", "not a whole Parquet file"),
        (gzip.compress(b"14.1\n21.0\n" * 9, mtime=0)[:-9], "damaged gzip"),
        (b"\x1f\x8b\x08 no gzip", "damaged gzip"),
        (
            gzip.compress(b"14.1\n21.0\n" * 9, mtime=0) + b"more",
            "damaged gzip, in bytes 0 to .* or",
        ),
        (gzip.compress(b"PAR1 and more", mtime=0), "a gzip file of Parquet. Unpack it first"),
        (gzip.compress(b"\x93NUMPY\x01\0", mtime=0), "a gzip file of npy. Unpack it first"),
        (b"14,134725\n21,022040\n", "line 1: '14,134725': a decimal comma"),
        (b"14,1347251417346937904572519835624\n", "line 1: .* a decimal comma"),
        (b"rank;height\n1;14,134725\n2;21,022040\n", "line 2: '1;14,134725': a decimal comma"),
        (b'"14,134725"\n', "a decimal comma"),
        (b"zeros, arb\n1, 14.13\n2, 21.02\n", "column zeros begins with 1, a whole number"),
        (b"BZh91AY", "it is bzip2"),
        ("14.1\n".encode("utf-16"), "it is UTF-16"),
        (PLATT.read_bytes(), "one of the archive's files"),
        ("1" * 100_000, "no line of numbers|a line of more than"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(fetch, tmp_path, text, message):
    with pytest.raises(ZetaError, match=message) as caught:
        fetch(text)
    assert "\n" not in str(caught.value) and "table0" in str(caught.value)
    assert not (tmp_path / "raw").exists(), "nothing that looks whole is left"


def test_what_stands_before_the_numbers_is_told(fetch, capsys):
    """A first line that is damaged cannot be told from prose: at least it is not silent."""
    first, heights = fetch("Zeros of zeta\n1 14.13ö47\n2 21.022\n3 25.011\n")
    assert first == 2 and len(heights) == 2
    said = capsys.readouterr().out
    assert "line 1 passed over: Zeros of zeta" in said
    assert "line 2 passed over: 1 14.13ö47" in said


def test_arrays_and_columns_that_are_no_heights(fetch, tmp_path):
    def refused(content, message):
        with pytest.raises(ZetaError, match=message):
            fetch(content)

    def saved(array, **more):
        np.save(tmp_path / "x.npy", array, **more)
        return (tmp_path / "x.npy").read_bytes()

    refused(saved(np.array([14.1, np.nan])), "row 1: a height of nan")
    refused(saved(np.array([14.1, -3.0])), r"row 1: a height of -3\.0")
    refused(saved(np.array([14.1, 14.1])), r"row 1: 14\.1 stands twice")
    refused(saved(np.array([14, 15])), "an array of int64")
    refused(saved(np.zeros((3, 3))), r"an array of shape \(3, 3\)")
    refused(saved(np.array([[1, 14.1], [1.5, 15.1]])), r"row 1: 1\.5 is no rank")
    refused(saved(np.array([])), "no height in it")
    refused(saved(np.array([1e-40, 1.0])), "multiple of 2\\^-101")
    refused(saved(np.array([14.1, None], dtype=object), allow_pickle=True), "cannot read it")

    def parquet(**columns):
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
        return (tmp_path / "x.parquet").read_bytes()

    refused(parquet(gamma=[14.1, None]), "row 1: no value in column gamma")
    refused(parquet(a=[1.0], b=[2.0]), "columns a, b: which holds the heights")
    refused(parquet(gamma=[1, 2]), "column gamma is int64")
    refused(parquet(gamma=["14.1", "x"]), "row 1: 'x' is no positive height")
    refused(parquet(gamma=[14.1, 15.1], n=[1.0, 2.0]), "column n is double")
    refused(parquet(gamma=[14.1, 15.1], n=[1, 3]), "row 1: rank 3 follows rank 1")


def test_a_table_that_is_not_there(tmp_path, defaults):
    for path, message in ((tmp_path / "none", "no such file"), (tmp_path, "a folder")):
        given = changed(defaults.download, source="table", table=str(path))
        with pytest.raises(ZetaError, match=f"download.table: .*{message}"):
            tables.write(given, tmp_path)
    with pytest.raises(ValueError, match="source table needs table"):
        changed(defaults.download, source="table")
    with pytest.raises(ValueError, match="base means nothing to source odlyzko"):
        changed(defaults.download, base=5)
    assert "table" in params.Download.model_fields


def test_pieces_change_nothing(fetch, gamma, monkeypatch):
    rows = [f"{k + 1} {g!r}" for k, g in enumerate(gamma[:1500].tolist())]
    text = "\n\n".join(rows)
    expected = fetch(text)
    monkeypatch.setattr(tables, "PIECE", 1000)
    monkeypatch.setattr(tables, "HEAD", 100)
    assert fetch(text) == expected
    rows[1400] = "1401 x"
    with pytest.raises(ZetaError, match=re.escape(": line 2801: '1401 x' is no height")):
        fetch("\n\n".join(rows))
