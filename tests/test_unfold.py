import mpmath
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import PLATT

from zetalib import manifest, platt, unfold, zeros
from zetalib.tables import parquet_files


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
    found = unfold.spacings(gamma, gap)
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
    assert unfold.spacings(gamma, gap, "A").tolist() == expected.tolist()


def test_autocorrelation_of_known_sequences():
    x = np.tile([1.0, -1.0], 5000)
    assert unfold.autocorrelation(x, (1, 2)) == pytest.approx([-1, 1], abs=1e-3)
    noise = np.random.default_rng(0).standard_normal(100_000)
    smooth = noise[1:] + 0.5 * noise[:-1]  # MA(1): acf1 = 0.5 / 1.25
    assert unfold.autocorrelation(smooth, (1, 2)) == pytest.approx([0.4, 0], abs=0.01)
    assert np.isnan(unfold.autocorrelation(np.array([1.0, 2.0]), (1, 5))[1])


def test_folder_drops_the_last_zero_and_keeps_ranks(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "zeros_14.dat").write_bytes(PLATT.read_bytes())
    manifest.write(raw, "test")
    zeros.decode_folder(raw, tmp_path / "zeros")
    found = unfold.unfold_folder(tmp_path / "zeros", tmp_path / "spacings")
    (path,) = parquet_files(tmp_path / "spacings")
    table = pq.read_table(path)
    assert table["n"].to_pylist() == list(range(1, 4520))
    _, gamma, gap = platt.decode_file(PLATT, None)
    assert table["spacing"].to_numpy().tolist() == unfold.spacings(gamma[:-1], gap[:-1]).tolist()
    assert found["count"] == 4519
    assert found["mean"] == pytest.approx(1, abs=1e-3) and -0.4 < found["acf1"] < -0.3
