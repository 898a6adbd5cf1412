"""The gate: every fault found and named, no false alarm."""

import itertools
import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from conftest import PLATT, changed, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from zetalib.archive import codec, fixed_point
from zetalib.archive.codec import Block, Header
from zetalib.data import decode, parquet_folders, unfold, verify
from zetalib.data.verify import Fault
from zetalib.errors import ZetaError
from zetalib.sources import download, riemann_siegel
from zetalib.theory import zeta

TRUE = codec.decode_file(PLATT, None)[1]  # LMFDB's first 4520 zeros


def density(t):
    return np.log(t / 2 / np.pi) / 2 / np.pi


def test_s_of_t_and_its_running_mean_stay_small_on_the_true_table():
    s = verify.s_of_t(np.arange(1, len(TRUE) + 1), TRUE)
    assert np.abs(s).max() < 1
    assert np.abs(verify.running_mean(s)).max() < 0.1
    assert verify.locate(np.arange(1, len(TRUE) + 1), TRUE) is None


@settings(max_examples=60)
@given(st.integers(1, len(TRUE) - verify.WINDOW))
def test_counting_alone_finds_any_lost_zero_within_a_few_ranks(rank):
    gamma = np.delete(TRUE, rank - 1)
    fault = verify.locate(np.arange(1, len(gamma) + 1), gamma)
    assert fault.kind == "missing" and abs(fault.rank - rank) <= 6
    assert abs(fault.height - TRUE[rank - 1]) < 6 / density(TRUE[rank - 1]) + 8


@settings(max_examples=60)
@given(st.integers(1, len(TRUE) - verify.WINDOW), st.sampled_from([0.0, 1e-9, 1e-3, 0.3]))
def test_counting_alone_finds_any_zero_too_many_within_a_few_ranks(rank, beyond):
    step = beyond * (TRUE[rank] - TRUE[rank - 1])
    gamma = np.insert(TRUE, rank, TRUE[rank - 1] + step)
    fault = verify.locate(np.arange(1, len(gamma) + 1), gamma)
    assert fault.kind == "extra" and min(abs(fault.rank - rank), abs(fault.rank - rank - 1)) <= 6


@pytest.fixture(scope="module")
def known():
    return riemann_siegel.stretch(*next(riemann_siegel.pieces_from(3000.0)))


def test_recomputing_names_the_fault(known):
    first, last = known.before + 1, known.before + len(known.offset)
    gamma = TRUE[first - 1 : last].copy()
    fault, distance = verify.compare(first, gamma, known, 1e-6)
    assert fault is None and len(distance) == len(gamma) and distance.max() < 1e-8
    for k in (0, 5, len(gamma) - 2):
        fault, distance = verify.compare(first, np.delete(gamma, k), known, 1e-6)
        assert (fault.kind, fault.rank) == ("missing", first + k) and len(distance) == k
        assert fault.height == pytest.approx(gamma[k], abs=1e-7)
        twice = np.insert(gamma, k + 1, gamma[k] + 1e-3)
        fault, _ = verify.compare(first, twice, known, 1e-6)
        assert (fault.kind, fault.rank) == ("extra", first + k + 1)
        moved = gamma.copy()
        moved[k] += 2e-6 / density(moved[k])
        fault, _ = verify.compare(first, moved, known, 1e-6)
        assert (fault.kind, fault.rank) == ("displaced", first + k)
        assert fault.distance == pytest.approx(2e-6, rel=0.01)
        moved[k] = gamma[k] + 0.5e-6 / density(gamma[k])
        assert verify.compare(first, moved, known, 1e-6)[0] is None


def test_only_ranks_that_both_have_are_compared(known):
    first = known.before + 1
    assert verify.compare(first - 50, TRUE[first - 51 : first - 1], known, 1e-6)[0] is None
    fault, distance = verify.compare(first - 50, TRUE[first - 51 : first + 6], known, 1e-6)
    assert fault is None and len(distance) == 7


def test_faults_read_as_sentences():
    assert str(Fault("missing", 7, 40.9)) == "the zero of rank 7 at t = 40.9 is missing"
    assert str(Fault("extra", 7, 40.9)) == "the zero of rank 7 at t = 40.9 is one too many"
    said = str(Fault("displaced", 7, 40.9, 0.123456))
    assert said == "the zero of rank 7 at t = 40.9 is 0.123 mean spacings from its place"


def test_cells_of_the_surmise_sum_to_one_and_have_its_mean():
    edges = np.linspace(0, 10, 2001)
    cells = zeta.surmise_mass(edges)
    assert cells.sum() == pytest.approx(1)
    assert (cells * (edges[1:] + edges[:-1]) / 2).sum() == pytest.approx(1, abs=1e-5)


# ------------------------------------------------------------------------------- whole data sets


@pytest.fixture(scope="module")
def archive_zeros():
    """Zeros up to 9200 as exact heights, by the source `siegel`; those below 5000 are LMFDB's."""
    low = np.concatenate([b.heights for b in codec.read_blocks(PLATT)])
    parts = [
        riemann_siegel.stretch(lo, hi) for lo, hi in riemann_siegel.pieces([5000.0, 7100.0, 9200.0])
    ]
    high = [fixed_point.above(float(p.lo), p.offset) for p in parts]
    return fixed_point.to_ints(np.vstack([low, *high]))


BOUNDS = {14.0: (14.0, 5000.0), 5000.0: (5000.0, 7100.0, 9200.0)}


def verified(folder, heights, defaults, monkeypatch=None, zeta=True, **changes):
    """Archive files of these heights, decoded, unfolded and verified in `folder`."""
    files, n = {}, 0
    for name, bounds in BOUNDS.items():
        files[name] = []
        for t0, t1 in itertools.pairwise(bounds):
            inside = [h for h in heights if t0 * 2**101 < h <= t1 * 2**101]
            block = Header(t0, t1, n, n + len(inside), 0)
            files[name].append(Block(block, fixed_point.from_ints(inside)))
            n += len(inside)
    write_folder(folder / "raw", files)
    decode.decode_folder(folder / "raw", folder / "zeros")
    unfold.unfold_folder(folder / "zeros", folder / "spacings")
    params = changed(defaults.verify, **changes)
    return verify.verify_folders(
        folder / "zeros", folder / "spacings", params, zeta=zeta, val_fraction=0.1
    )


@pytest.fixture(params=[1 << 19, 1000], ids=["one row group", "many"])
def groups(request, monkeypatch):
    monkeypatch.setattr(parquet_folders, "ROWS", request.param)


def test_the_true_table_passes(tmp_path, archive_zeros, defaults, groups):
    metrics, plots = verified(tmp_path, archive_zeros, defaults)
    assert metrics["zeros"] == len(archive_zeros) == 9209
    assert metrics["recomputed"]["zeros"] == 9209
    assert metrics["recomputed"]["farthest"] < 1e-8
    assert metrics["counted"]["largest_running_mean"] < 0.1
    assert abs(metrics["s"]["mean"]) < 1e-3
    assert set(plots) == {"density", "stationarity", "autocorrelation", "s_of_t"}
    spacing = np.concatenate(
        [
            parquet_folders.read_group(p.path, g, ["spacing"])["spacing"].to_numpy()
            for p in parquet_folders.parts(tmp_path / "spacings")
            for g in range(len(parquet_folders.groups(p.path)))
        ]
    )
    assert len(plots["stationarity"]) == 10
    tenths = np.split(spacing, [len(spacing) * k // 10 for k in range(1, 10)])
    assert plots["stationarity"]["std"].to_numpy() == pytest.approx([t.std() for t in tenths])
    tail = int(len(spacing) * 0.1)
    train, val = spacing[:-tail], spacing[-tail:]
    assert metrics["val_minus_train"]["std"] == pytest.approx(val.std() - train.std())
    d = spacing - spacing.mean()
    assert metrics["acf"]["4"] == pytest.approx((d[:-4] @ d[4:]) / (d @ d))
    json.dumps(metrics, allow_nan=False)


LAST = 9209


@pytest.mark.parametrize("rank", [1, 4, 100, 1000, 4519, 4520, 4521, 7000, LAST - 3, LAST - 1])
def test_a_lost_zero_is_named(tmp_path, archive_zeros, defaults, groups, rank):
    spoilt = archive_zeros[: rank - 1] + archive_zeros[rank:]
    with pytest.raises(ZetaError) as caught:
        verified(tmp_path, spoilt, defaults)
    gamma = float(archive_zeros[rank - 1] / 2**101)
    assert f"the zero of rank {rank} at t = {gamma:.4f}"[:-1] in str(caught.value)
    assert "is missing" in str(caught.value)


@pytest.mark.parametrize("rank", [1, 100, 4520, 4521, 7000, LAST])
def test_a_zero_too_many_is_named(tmp_path, archive_zeros, defaults, groups, rank):
    twin = archive_zeros[rank - 1] + 2**90
    spoilt = [*archive_zeros[:rank], twin, *archive_zeros[rank:]]
    with pytest.raises(ZetaError, match=f"the zero of rank {rank + 1} at t = .* is one too many"):
        verified(tmp_path, spoilt, defaults)


def test_counting_alone_finds_a_fault_and_recomputing_names_it(tmp_path, archive_zeros, defaults):
    spoilt = archive_zeros[:6000] + archive_zeros[6001:]
    with pytest.raises(ZetaError, match="the zero of rank 6001 at t = .* is missing"):
        verified(tmp_path, spoilt, defaults, recompute=0.0)


def test_a_displaced_zero_is_named_when_all_are_recomputed(tmp_path, archive_zeros, defaults):
    spoilt = archive_zeros.copy()
    spoilt[3000] += 2**85  # 1.5e-5
    verified(tmp_path / "unseen", spoilt, defaults, recompute=0.0)
    with pytest.raises(ZetaError, match=r"rank 3001 at t = .* is 1\.\d+e-05 mean spacings from"):
        verified(tmp_path / "seen", spoilt, defaults)


def test_a_share_of_the_zeros_is_recomputed(tmp_path, archive_zeros, defaults):
    metrics, _ = verified(tmp_path, archive_zeros, defaults, recompute=0.25)
    assert 0.1 * 9209 < metrics["recomputed"]["zeros"] < 0.4 * 9209


def test_a_small_share_still_looks_into_every_file(tmp_path, archive_zeros, defaults):
    metrics, _ = verified(tmp_path, archive_zeros, defaults, recompute=1e-9)
    low, high = (
        riemann_siegel.pieces([14.0, 5000.0])[0],
        riemann_siegel.pieces([5000.0, 7100.0, 9200.0])[0],
    )
    expected = sum(len(riemann_siegel.stretch(*piece).offset) for piece in (low, high))
    assert metrics["recomputed"]["zeros"] == expected


def test_spacings_of_other_zeros_are_refused(tmp_path, archive_zeros, defaults):
    verified(tmp_path / "a", archive_zeros, defaults)
    moved = archive_zeros.copy()
    moved[50] += 2**80
    verified(tmp_path / "b", moved, defaults)
    with pytest.raises(ZetaError, match=r"not the spacings of .*b/zeros/zeros_14\.parquet"):
        verify.verify_folders(
            tmp_path / "b/zeros",
            tmp_path / "a/spacings",
            defaults.verify,
            zeta=True,
            val_fraction=0.1,
        )


@pytest.mark.parametrize("count", [2, 5, 20, 120])
def test_too_few_zeros_are_refused(tmp_path, archive_zeros, defaults, count):
    files = {14.0: [_block(archive_zeros[:count])]}
    write_folder(tmp_path / "raw", files)
    decode.decode_folder(tmp_path / "raw", tmp_path / "zeros")
    unfold.unfold_folder(tmp_path / "zeros", tmp_path / "spacings")
    with pytest.raises(ZetaError, match=f"{count - 1} spacings are too few to verify.*121 zeros"):
        verify.verify_folders(
            tmp_path / "zeros", tmp_path / "spacings", defaults.verify, zeta=True, val_fraction=0.1
        )


def _block(heights):
    return Block(Header(14.0, 400.0, 0, len(heights), 0), fixed_point.from_ints(heights))


def test_the_fewest_zeros_pass(tmp_path, archive_zeros, defaults):
    write_folder(tmp_path / "raw", {14.0: [_block(archive_zeros[:121])]})
    decode.decode_folder(tmp_path / "raw", tmp_path / "zeros")
    unfold.unfold_folder(tmp_path / "zeros", tmp_path / "spacings")
    metrics, _ = verify.verify_folders(
        tmp_path / "zeros", tmp_path / "spacings", defaults.verify, zeta=True, val_fraction=0.1
    )
    json.dumps(metrics, allow_nan=False)


def test_a_spacing_out_of_bounds_is_named(tmp_path, archive_zeros, defaults):
    with pytest.raises(ZetaError, match=r"the spacing after the zero of rank \d+ at t = .* is 2\."):
        verified(tmp_path, archive_zeros, defaults, max_spacing=2.0)


def test_points_that_are_not_zeros_pass_as_a_control_only(tmp_path, defaults):
    download.fetch(changed(defaults.download, source="poisson", max_zeros=9000), tmp_path / "raw")
    decode.decode_folder(tmp_path / "raw", tmp_path / "zeros")
    unfold.unfold_folder(tmp_path / "zeros", tmp_path / "spacings")
    folders = tmp_path / "zeros", tmp_path / "spacings"
    metrics, plots = verify.verify_folders(*folders, defaults.verify, zeta=False, val_fraction=0.1)
    assert "counted" not in metrics and len(plots["s_of_t"]) > 100
    with pytest.raises(ZetaError, match=r"the zero of rank \d at t ="):
        verify.verify_folders(*folders, defaults.verify, zeta=True, val_fraction=0.1)


def spoil(path, change):
    """Rewrite a decoded file with its columns changed, as no stage of ours would."""
    table = pa.concat_tables(
        parquet_folders.read_group(path, k, ["n", "gamma", "gap"])
        for k in range(len(parquet_folders.groups(path)))
    )
    columns = {name: table[name].to_numpy().copy() for name in table.column_names}
    change(columns)
    with parquet_folders.writing(path, decode.SCHEMA, "spoilt") as writer:
        arrays = [pa.array(c, from_pandas=True) for c in columns.values()]
        writer.write_table(pa.table(arrays, schema=decode.SCHEMA))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("n", 5000, "rank 5000 at t = .* follows rank 99"),
        ("gamma", 20.0, "the zero of rank 100 at t = 20.0 lies below the one before"),
        ("gap", 0.0, "the gap after the zero of rank 100 at t = .* is 0.0"),
        ("gap", -1.0, "the gap after the zero of rank 100 at t = .* is -1.0"),
    ],
)
def test_order_is_checked(tmp_path, archive_zeros, defaults, column, value, said):
    verified(tmp_path, archive_zeros, defaults)

    def change(columns):
        columns[column][99] = value

    path = tmp_path / "zeros" / "zeros_14.parquet"
    spoil(path, change)
    with pytest.raises(ZetaError, match=said):
        verify.check_zeros(path, None, 1, LAST, defaults.verify, True)


# ------------------------------------------------------------- above t = 10^12: counted by the gaps


@pytest.fixture(scope="module")
def far_spacings():
    """Unfolded spacings of 4096 true zeros near t = 10^9, to be laid anywhere; S at the first."""
    found = riemann_siegel.stretch(*next(riemann_siegel.pieces_from(1e9)))
    gamma, gap = found.lo + found.offset[:4096], np.diff(found.offset[:4097])
    s = found.before + 0.5 - riemann_siegel.count_smooth(gamma[:1])[0]
    return zeta.spacings(gamma, gap), float(s)


def first_zero(height, s):
    """Rank and height of a zero near `height` at which S is `s`."""
    count = riemann_siegel.count_smooth_exactly(height)
    rank = round(count + Decimal(s + 0.5))
    return rank, height + float(rank - Decimal(s + 0.5) - count) / density(height)


def laid(folder, far, height, drop=(), twice=(), cuts=(), off=0):
    """Data sets of zeros with these spacings near `height`, as decode and unfold leave them."""
    spacing, s = far
    rank, height = first_zero(height, s)
    first_rank = (rank if height < 1e16 else 1) + off  # beyond 2^63 ranks are kept above a base
    offset = np.concatenate([[0.0], np.cumsum(spacing)]) / density(height)
    offset = np.delete(offset, list(drop))
    for k in twice:
        offset = np.insert(offset, k + 1, offset[k] + 0.3 * (offset[k + 1] - offset[k]))
    gamma, gap = height + offset, np.append(np.diff(offset), np.nan)
    n = first_rank + np.arange(len(gamma))
    with parquet_folders.rebuilding(folder / "zeros") as parts:
        for start, stop in itertools.pairwise([0, *cuts, len(n)]):
            path = folder / "zeros" / f"zeros_{start}.parquet"
            arrays = [pa.array(c[start:stop], from_pandas=True) for c in (n, gamma, gap)]
            with parquet_folders.writing(path, decode.SCHEMA, "laid") as writer:
                writer.write_table(pa.table(arrays, schema=decode.SCHEMA))
            parts.append(parquet_folders.Part(path, stop - start, "laid"))
    unfold.unfold_folder(folder / "zeros", folder / "spacings")
    return folder / "zeros", folder / "spacings"


def far_verified(folders, p, **changes):
    return verify.verify_folders(
        *folders, changed(p.verify, **changes), zeta=True, val_fraction=0.1
    )


@pytest.fixture
def no_tables(monkeypatch):
    """Nothing of the Riemann-Siegel sum may be made."""

    def refuse(*_):
        raise AssertionError("tables of the sum were made")

    for name in ("_turns", "stretch", "z_grid"):
        monkeypatch.setattr(riemann_siegel, name, refuse)


HEIGHTS = [2e12, 1e14, 1e15, 144176897509546973538.0, 1.3709199099319953e21]


@pytest.mark.parametrize("height", HEIGHTS)
def test_zeros_of_great_height_are_counted_by_their_gaps(
    tmp_path, far_spacings, defaults, no_tables, height
):
    folders = laid(tmp_path, far_spacings, height, cuts=(1000, 1100))
    metrics, plots = far_verified(folders, defaults, recompute=0.0)
    assert metrics["counted"]["largest_running_mean"] < 0.3
    by_gaps = metrics["counted"]["by_gaps"]
    assert by_gaps["zeros"] == 4097 and metrics["recomputed"]["zeros"] == 0
    assert by_gaps["first_rank_checked"] == (height <= 1.4e14)
    assert ("the first rank is not checked" in verify.say(metrics)) == (height > 1.4e14)
    spacing = far_spacings[0]
    expected = np.corrcoef(spacing[1:], spacing[:-1])[0, 1]
    assert metrics["acf"]["1"] == pytest.approx(expected, abs=0.01)
    assert len(plots["stationarity"]) == 10
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("lost", [40, 300, 999, 1000, 2048, 4050])
def test_a_zero_lost_at_great_height_is_found(
    tmp_path, far_spacings, defaults, no_tables, height, lost
):
    first = first_zero(height, far_spacings[1])[0] if height < 1e16 else 1
    folders = laid(tmp_path, far_spacings, height, drop=(lost,), cuts=(1000,))
    with pytest.raises(ZetaError, match="is missing") as caught:
        far_verified(folders, defaults, recompute=0.0)
    rank = int(str(caught.value).split("of rank ")[1].split()[0])
    assert abs(rank - (first + lost)) <= 6


@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("twice", [100, 2048, 4000])
def test_a_zero_too_many_at_great_height_is_found(
    tmp_path, far_spacings, defaults, no_tables, height, twice
):
    folders = laid(tmp_path, far_spacings, height, twice=(twice,), cuts=(1000,))
    with pytest.raises(ZetaError, match="is one too many"):
        far_verified(folders, defaults, recompute=0.0)


@pytest.mark.parametrize("height", [2e12, 1e14])
def test_a_first_rank_that_is_wrong_is_seen_while_heights_tell_it(
    tmp_path, far_spacings, defaults, height
):
    with pytest.raises(ZetaError, match="is (missing|one too many)"):
        far_verified(laid(tmp_path, far_spacings, height, off=1), defaults, recompute=0.0)


def test_recomputing_at_great_height_is_refused_before_it_begins(
    tmp_path, far_spacings, defaults, no_tables
):
    folders = laid(tmp_path, far_spacings, 1.3709199099319953e21)
    said = r"verify\.recompute: zeros at t = 1\.371e\+21 .* 1\.5e\+10 terms, 1\.2e\+03 GB of memory"
    with pytest.raises(ZetaError, match=said + ".* Set verify.recompute to 0"):
        far_verified(folders, defaults, recompute=1e-6)
    metrics, _ = verify.verify_folders(*folders, defaults.verify, zeta=False, val_fraction=0.1)
    assert "counted" not in metrics


def test_a_gap_that_is_missing_inside_is_refused(tmp_path, archive_zeros, defaults):
    verified(tmp_path, archive_zeros, defaults)

    def change(columns):
        columns["gap"][99] = np.nan

    path = tmp_path / "zeros" / "zeros_14.parquet"
    spoil(path, change)
    with pytest.raises(ZetaError, match="the gap after the zero of rank 100 at t = .* is nan"):
        verify.check_zeros(path, None, 1, LAST, defaults.verify, True)


def test_the_exact_count_is_the_plain_one():
    for t in (20.0, 1e4, 1e9):
        assert float(riemann_siegel.count_smooth_exactly(t)) == pytest.approx(float(riemann_siegel.count_smooth(np.array([t]))[0]), abs=1e-5)  # fmt: skip
