import pickle

import mpmath
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import PLATT, synthetic_blocks, write_folder
from hypothesis import assume, given
from hypothesis import strategies as st

from zetalib.archive import codec, manifest
from zetalib.data import decode, parquet_folders, unfold
from zetalib.errors import ZetaError
from zetalib.theory import zeta


def paths(folder):
    return [part.path for part in parquet_folders.parts(folder)]


def exact_spacing(gamma, gap):
    """u(gamma + gap) - u(gamma) with 60 digits."""
    with mpmath.workdps(60):
        u = lambda t: t / (2 * mpmath.pi) * mpmath.log(t / (2 * mpmath.pi * mpmath.e))  # noqa: E731
        g, d = mpmath.mpf(float(gamma)), mpmath.mpf(float(gap))
        return float(u(g + d) - u(g))


@pytest.mark.parametrize("height", [14.134725141734693, 1e3, 1e6, 1e8, 3e10])
def test_variant_b_loses_no_digits_at_any_height(height):
    rng = np.random.default_rng(0)
    gap = rng.uniform(0.01, 3, 200) * 2 * np.pi / np.log(height)
    gamma = np.full(200, height)
    found = zeta.spacings(gamma, gap)
    exact = np.array([exact_spacing(g, d) for g, d in zip(gamma, gap, strict=True)])
    assert np.max(np.abs(found / exact - 1)) < 2e-15


def test_the_naive_formula_would_not_pass():
    gamma, gap = np.array([3e10]), np.array([0.25])
    u = lambda t: t / (2 * np.pi) * np.log(t / (2 * np.pi * np.e))  # noqa: E731
    naive = u(gamma + gap) - u(gamma)
    assert abs(naive[0] / exact_spacing(3e10, 0.25) - 1) > 1e-7


def test_variant_a():
    gamma, gap = np.array([100.0, 1e6]), np.array([2.0, 0.5])
    expected = gap * np.log(gamma) / (2 * np.pi)
    assert zeta.spacings(gamma, gap, "A").tolist() == expected.tolist()


def whole_array(x):
    """The statistics from all spacings at once, by other formulas than the accumulator's."""
    d = x - x.mean()
    found = {"count": len(x), "mean": x.mean(), "std": x.std(), "min": x.min(), "max": x.max()}
    lags = [k for k in unfold.LAGS if k < len(x)]
    return {**found, **{f"acf{k}": (d[:-k] * d[k:]).sum() / (d * d).sum() for k in lags}}


def accumulated(pieces):
    total = unfold.Accumulator()
    for piece in pieces:
        total.add(piece)
    return total


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(0, 2**32))
def test_the_accumulator_is_the_whole_array_however_it_is_cut(sizes, seed):
    x = np.random.default_rng(seed).gamma(6, 1 / 6, sum(sizes))
    assume(len(x) >= 2)
    pieces = np.split(x, np.cumsum(sizes)[:-1])
    one = accumulated(pieces)
    two = unfold.Accumulator()  # each piece on its own, as on a cluster
    for piece in pieces:
        two.merge(accumulated([piece]))
    for found in (one, two):
        assert found.statistics() == pytest.approx(whole_array(x), rel=1e-12, abs=1e-12)
        assert found.above_3 == (x > 3).sum()
        assert found.histogram.tolist() == accumulated([x]).histogram.tolist()
        assert found.head.tolist() == (x - 1)[:10].tolist()
        assert found.tail.tolist() == (x - 1)[-10:].tolist()
        d = x - x.mean()
        every = [(d[:-k] * d[k:]).sum() / (d * d).sum() for k in range(1, min(11, len(x)))]
        assert found.autocorrelation()[: len(every)] == pytest.approx(every, rel=1e-10, abs=1e-12)
        assert np.isnan(found.autocorrelation()[len(every) :]).all()
    assert two.products.tolist() == pytest.approx(one.products.tolist(), rel=1e-12, abs=1e-12)


def test_a_million_spacings_agree_with_numpy_to_thirteen_digits():
    x = np.random.default_rng(1).gamma(6, 1 / 6, 1_000_000)
    found = accumulated(np.split(x, [1, 7, 300_000, 800_000])).statistics()
    assert found == pytest.approx(whole_array(x), rel=1e-13, abs=1e-13)


def test_pieces_on_their_own_give_the_same_bits_as_one_after_the_other():
    x = np.random.default_rng(2).gamma(6, 1 / 6, 10_000)
    files = [[x[:2000], x[2000:5000]], [x[5000:5003]], [x[5003:]]]
    one, two = unfold.Accumulator(), unfold.Accumulator()
    for file in files:
        one.merge(accumulated(file))
        two.merge(pickle.loads(pickle.dumps(accumulated(file))))
    assert one.statistics() == two.statistics()


def test_histogram_counts_by_hundredths_with_one_open_bin():
    x = np.array([0.004, 0.015, 0.5049, 0.5051, 9.9999, 10.0, 1e100])
    found = accumulated([x]).histogram
    assert {int(k): int(found[k]) for k in np.flatnonzero(found)} == {
        0: 1, 1: 1, 50: 2, 999: 1, 1000: 2
    }  # fmt: skip


def test_autocorrelation_of_known_sequences():
    x = np.tile([2.0, 0.0], 5000)
    assert accumulated([x]).autocorrelation()[:2] == pytest.approx([-1, 1], abs=1e-3)
    noise = np.random.default_rng(0).standard_normal(100_000)
    smooth = noise[1:] + 0.5 * noise[:-1] + 7  # MA(1): acf1 = 0.5 / 1.25
    assert accumulated([smooth]).autocorrelation()[:2] == pytest.approx([0.4, 0], abs=0.01)


def test_folder_drops_the_last_zero_and_keeps_ranks(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "zeros_14.dat").write_bytes(PLATT.read_bytes())
    manifest.write(raw, "test")
    decode.decode_folder(raw, tmp_path / "zeros")
    found = unfold.unfold_folder(tmp_path / "zeros", tmp_path / "spacings").statistics()
    (path,) = paths(tmp_path / "spacings")
    table = pq.read_table(path)
    assert table["n"].to_pylist() == list(range(1, 4520))
    _, gamma, gap = codec.decode_file(PLATT, None)
    assert table["spacing"].to_numpy().tolist() == zeta.spacings(gamma[:-1], gap[:-1]).tolist()
    assert found["count"] == 4519
    assert found["mean"] == pytest.approx(1, abs=1e-3) and -0.4 < found["acf1"] < -0.3


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def decoded(tmp_path):
    blocks = synthetic_blocks(5, (14.0, 100.0, 200.0, 300.0))
    raw = write_folder(tmp_path / "raw", {14.0: blocks[:1], 100.0: blocks[1:2], 200.0: blocks[2:]})
    decode.decode_folder(raw, tmp_path / "zeros")
    return tmp_path / "zeros"


def test_only_files_whose_zeros_changed_are_unfolded_again(decoded, tmp_path, monkeypatch):
    raw, out = tmp_path / "raw", tmp_path / "spacings"
    unfold.unfold_folder(decoded, out)
    added = synthetic_blocks(6, (300.0, 400.0), n0=60)
    (raw / "zeros_300.dat").write_bytes(codec.encode(added))
    manifest.write(raw, "test")
    decode.decode_folder(raw, decoded)
    unfolded, spacings = [], zeta.spacings

    def watched(gamma, *rest):
        unfolded.append(gamma[0])
        return spacings(gamma, *rest)

    monkeypatch.setattr(unfold, "spacings", watched)
    again = unfold.unfold_folder(decoded, out)
    assert len(unfolded) == 2 and 200 < unfolded[0] < 300 < unfolded[1]
    fresh = unfold.unfold_folder(decoded, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")
    assert again.statistics() == fresh.statistics(), "to the last bit"
    unfold.unfold_folder(decoded, out, "A")
    assert contents(out) != contents(tmp_path / "fresh"), "another variant is another file"


def test_a_decoded_folder_that_is_not_whole_is_refused(decoded, tmp_path):
    (decoded / parquet_folders.INDEX).unlink()
    with pytest.raises(ZetaError, match=r"zeros: the data set is not whole.*dvc repro"):
        unfold.unfold_folder(decoded, tmp_path / "spacings")
    assert not (tmp_path / "spacings").exists()


def test_a_spacing_that_is_not_one_is_named_and_the_output_not_whole(decoded, tmp_path):
    path = decoded / "zeros_100.parquet"
    table = pq.read_table(path).to_pydict()
    table["gap"][3] = -1.0
    rows = decode.pa.table(table, schema=decode.SCHEMA)
    index = parquet_folders.parts(decoded)
    with parquet_folders.rebuilding(decoded) as parts:
        with parquet_folders.writing(path, decode.SCHEMA, "another") as writer:
            writer.write_table(rows)
        parts += [parquet_folders.whole(part.path) for part in index]
    with pytest.raises(ZetaError, match=r"zeros_100\.parquet: spacing -.* zero of rank 24 at t = "):
        unfold.unfold_folder(decoded, tmp_path / "spacings")
    assert not (tmp_path / "spacings" / parquet_folders.INDEX).exists()


def test_a_single_zero_has_no_spacing(tmp_path):
    raw = write_folder(tmp_path / "raw", {14.0: synthetic_blocks(1, (14.0, 20.0), per_block=1)})
    decode.decode_folder(raw, tmp_path / "zeros")
    with pytest.raises(ZetaError, match="no two zeros, so no spacing"):
        unfold.unfold_folder(tmp_path / "zeros", tmp_path / "spacings")
