import itertools
import pickle
import zlib

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import PLATT, changed
from hypothesis import given
from hypothesis import strategies as st
from sympy import primerange
from test_download import fake_pip

from zetalib.archive import codec, fixed_point, manifest
from zetalib.data import decode, parquet_folders, unfold
from zetalib.errors import ZetaError
from zetalib.params import CONTROLS
from zetalib.sources import controls, download
from zetalib.theory import unitary_ensemble, zeta

COUNT = 3000
SEEDED = ["gue", "poisson", "shuffled"]


@pytest.fixture
def table(monkeypatch, tmp_path):
    """The first 4520 zeros in place of Odlyzko's table."""
    gamma = codec.decode_file(PLATT, None)[1]
    packed = zlib.compress(pickle.dumps(gamma.tolist(), protocol=2))
    fake_pip(monkeypatch, tmp_path, packed)
    digest = download.hashlib.sha256(packed).hexdigest()
    monkeypatch.setattr(download, "ODLYZKO_SHA256", digest)
    return gamma


def fetched(defaults, source, folder, **changes):
    changes = {"max_zeros": COUNT, **changes}
    download.fetch(changed(defaults.download, source=source, **changes), folder)
    return folder


def spacings(raw):
    """What the stages decode and unfold make of archive files."""
    decode.decode_folder(raw, raw.parent / "zeros")
    unfold.unfold_folder(raw.parent / "zeros", raw.parent / "spacings")
    parts = [pq.read_table(part.path) for part in parquet_folders.parts(raw.parent / "spacings")]
    return np.concatenate([part["spacing"].to_numpy() for part in parts])


def wanted(source, seed, gamma):
    rng = np.random.default_rng(seed)
    if source == "gue":
        return np.diff(unitary_ensemble.points(4096, rng)[:COUNT])
    if source == "poisson":
        return rng.standard_exponential(COUNT - 1)
    if source == "shuffled":
        return rng.permutation(zeta.spacings(gamma[: COUNT - 1], np.diff(gamma[:COUNT])))
    p = np.array(list(itertools.islice(primerange(10**6), COUNT)), dtype=float)
    return np.diff(p) / np.log(p[:-1])


@pytest.mark.parametrize("source", CONTROLS)
def test_unfolding_gives_the_spacings_of_a_control_back(source, defaults, tmp_path, table):
    raw = fetched(defaults, source, tmp_path / "raw")
    found = spacings(raw)
    expected = wanted(source, defaults.download.seed, table)
    assert np.abs(found / expected - 1).max() < 4e-15
    gamma = codec.decode_file(codec.numeric_order(raw)[0], None)[1]
    assert gamma[0] == controls.FIRST
    assert pq.read_table(tmp_path / "spacings" / "zeros_14.parquet")["n"][0].as_py() == 1


@pytest.mark.parametrize("source", SEEDED)
def test_same_seed_same_bytes_other_seed_other_bytes(source, defaults, tmp_path, table):
    def md5(name, seed):
        raw = fetched(defaults, source, tmp_path / name, seed=seed)
        content = (raw / manifest.NAME).read_text()
        assert f'"zeros": {COUNT}' in content
        return content

    first = md5("a", 1)
    assert md5("b", 1) == first
    assert md5("c", 2) != first


def test_shuffled_keeps_the_density_and_loses_the_correlation(defaults, tmp_path, table):
    real = zeta.spacings(table[: COUNT - 1], np.diff(table[:COUNT]))
    found = spacings(fetched(defaults, "shuffled", tmp_path / "raw"))
    assert np.allclose(np.sort(found), np.sort(real), rtol=4e-15, atol=0)
    assert np.corrcoef(real[:-1], real[1:])[0, 1] < -0.3
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 4 / np.sqrt(COUNT)


@pytest.mark.parametrize(
    ("source", "limit"), [("shuffled", controls.ZEROS), ("gue", controls.LARGEST_GUE)]
)
def test_more_points_than_there_are_is_said_before_any_work(source, limit, defaults, tmp_path):
    with pytest.raises(ZetaError, match=rf"download\.max_zeros: {limit + 1} points of source"):
        fetched(defaults, source, tmp_path / "raw", max_zeros=limit + 1)
    assert list(tmp_path.iterdir()) == []


def headers_of(folder):
    return [h for path in codec.numeric_order(folder) for h in codec.read_headers(path)[0]]


def test_gaps_too_long_for_a_record_survive(tmp_path):
    """Before the first bound, after it, over several bounds, and over a whole file."""
    wanted = np.array([2.0, 0.5, 9.0, 1.0, 30.0, 0.01, 6000.0, 1.0, 4e5, 14.0, 1.0])
    raw = tmp_path / "raw"
    raw.mkdir()
    controls.write([wanted], raw)
    manifest.write(raw, "test")
    assert np.abs(spacings(raw) / wanted - 1).max() < 4e-15
    headers = headers_of(raw)
    assert (headers[-1].n1, headers[0].n0, headers[0].t0) == (len(wanted) + 1, 0, 14.0)
    assert {5000.0, 7100.0, 26000.0} <= {h.t0 for h in headers}
    assert codec.first_zero(raw / "zeros_26000.dat") is None


def test_real_spacings_need_no_further_blocks(tmp_path, table):
    raw = tmp_path / "raw"
    raw.mkdir()
    controls.write([zeta.spacings(table[:-1], np.diff(table))], raw)
    (header,) = headers_of(raw)
    end = codec.decode_file(raw / "zeros_14.dat", None)[1][-1]
    assert (header.t0, header.n0, header.n1) == (14.0, 0, 4520)
    assert 0 <= header.t1 - end <= np.spacing(end)
    assert end == pytest.approx(table[-1], abs=1e-9)


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(1, 20), st.floats(0.5, 60))
def test_any_points_in_any_chunks_become_the_same_files(tmp_path_factory, seed, n, chunk, heavy):
    """Long gaps everywhere; chunks are a matter of memory only."""
    spacing = np.random.default_rng(seed).standard_exponential(n) ** 2 * heavy + 1e-6
    contents = []
    for size in (chunk, 100):
        raw = tmp_path_factory.mktemp("any") / "raw"
        raw.mkdir()
        controls.write((spacing[k : k + size] for k in range(0, n, size)), raw)
        contents.append({path.name: path.read_bytes() for path in raw.iterdir()})
    assert contents[0] == contents[1]
    paths = codec.numeric_order(raw)
    heights = np.concatenate([b.heights for path in paths for b in codec.read_blocks(path)])
    assert len(list(codec.read_chain(paths))) == len(paths) and len(heights) == n + 1
    if n:
        gap = fixed_point.to_floats(fixed_point.differences(heights))
        found = zeta.spacings(fixed_point.to_floats(heights[:-1]), gap)
        assert np.abs(found / spacing - 1).max() < 4e-15


@given(st.floats(9.0, 4e10), st.lists(st.floats(1e-9, 100.0), min_size=1, max_size=30))
def test_inverse_unfolding_at_any_height(start, spacing):
    start = fixed_point.from_floats(np.array([start]))
    heights = controls.heights(np.array(spacing), start[0])
    gamma = np.vstack([start, heights])
    gap = fixed_point.to_floats(fixed_point.differences(gamma))
    found = zeta.spacings(fixed_point.to_floats(gamma[:-1]), gap)
    assert np.abs(found / spacing - 1).max() < 4e-15
