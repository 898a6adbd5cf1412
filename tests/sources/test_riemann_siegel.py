"""Riemann-Siegel against python-flint's balls and LMFDB's own file; counts that must close."""

import itertools
import shutil

import numpy as np
import pytest
from conftest import PLATT, changed
from flint import acb, arb, ctx

from zetalib.archive import codec, layout
from zetalib.errors import ZetaError
from zetalib.sources import exact, riemann_siegel
from zetalib.sources.riemann_siegel import Stretch


def z(t):
    """Z(t) by ball arithmetic; t an arb."""
    theta = acb(arb(0.25), t / 2).lgamma().imag - t / 2 * arb.pi().log()
    return float((acb(0, 1) * acb(theta)).exp().__mul__(acb(arb(0.5), t).zeta()).real)


@pytest.mark.parametrize("center", [202, 1000, 10_000, 1_000_000, 80_000_000, 10_000_000_000])
def test_z_on_a_grid_is_z(center):
    step, size = 0.05, 256
    found = riemann_siegel.z_grid(center, step, size)
    at = [0, 1, 100, 127, 128, 200, 255]
    with ctx.workprec(160):
        true = [z(arb(center) + arb(step) * (k - size // 2)) for k in at]
    bound = 0.017 * (center - 7) ** -2.75 + 1e-15 * center**0.5 * 100 + 3e-11  # Gabcke; rounding
    assert np.abs(found[at] - true).max() < bound


@pytest.mark.parametrize("t", [1000.0, 30_000.0])
@pytest.mark.parametrize("p", [-0.25, 0.0, 0.5, 1.0, 1.25])
def test_the_remainder_holds_a_little_beyond_its_number_of_terms(t, p):
    terms = int(np.sqrt(t / 2 / np.pi))
    t = 2 * np.pi * (terms + p) ** 2
    with ctx.workprec(160):
        ball = arb(t)
        theta = acb(arb(0.25), ball / 2).lgamma().imag - ball / 2 * arb.pi().log()
        angles = [(theta - ball * arb(n).log()).cos() for n in range(1, terms + 1)]
        main = 2 * sum(float(a) / np.sqrt(n) for n, a in enumerate(angles, 1))
        rest = z(ball) - main
    assert riemann_siegel.remainder(np.array([t]), terms)[0] == pytest.approx(rest, abs=1e-9)


@pytest.mark.parametrize("rank", [80, 1000, 1_000_000, 195_600_000, 10_000_000_000])
def test_zeros_and_their_ranks_are_flints(rank):
    known = exact.heights(rank, 4, 150)
    for height in known:
        lo, hi = next(riemann_siegel.pieces_from(height / 2.0**101))
        found = riemann_siegel.stretch(lo, hi)
        offset = (height - (lo << 101)) / 2**101
        place = rank + known.index(height) - found.before - 1
        density = np.log(lo / 2 / np.pi) / 2 / np.pi
        assert abs(found.offset[place] - offset) * density < 2e-8


def test_pieces_cover_a_file_and_do_not_depend_on_the_range_wanted():
    for height in (14.0, 20_000.0, 3e5, 1e8, 3e10):
        bounds = next(layout.bounds(height))
        found = riemann_siegel.pieces(bounds)
        assert found[0][0] == int(bounds[0]) and found[-1][1] == int(bounds[-1])
        assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
        assert all((hi - lo) % 2 == 0 for lo, hi in found)
        middle = (bounds[0] + bounds[-1]) / 2
        assert next(riemann_siegel.pieces_from(middle)) in found


@pytest.fixture
def fetch(defaults, tmp_path):
    def run(**params):
        folder = tmp_path / "-".join(map(str, params.values()))
        folder.mkdir()
        riemann_siegel.fetch(changed(defaults.download, source="siegel", **params), folder)
        return folder

    return run


def test_the_first_file_is_lmfdbs_to_1e_8(fetch):
    folder = fetch(to_height=5000.0)
    ours, _ = codec.read_headers(folder / "zeros_14.dat")
    theirs, _ = codec.read_headers(PLATT)
    assert ours == theirs
    found, known = (codec.decode_file(p, None)[1] for p in (folder / "zeros_14.dat", PLATT))
    assert np.abs(found - known).max() < 1e-8


def test_a_range_by_rank_by_height_and_from_the_start_are_the_same_zeros(fetch):
    whole = fetch(max_zeros=6000)
    paths = codec.numeric_order(whole)
    assert [p.name for p in paths] == ["zeros_14.dat", "zeros_5000.dat"]
    parts = [codec.decode_file(p, None) for p in paths]
    n, gamma, _ = (np.concatenate(a) for a in zip(*parts, strict=True))
    assert n[0] == 1 and n[-1] == 6000

    by_rank = fetch(first_rank=5001, max_zeros=1000)
    (path,) = codec.numeric_order(by_rank)
    rank, height, _ = codec.decode_file(path, None)
    assert (rank == n[5000:]).all()
    assert np.abs(height - gamma[5000:]).max() < 1e-11

    by_height = fetch(from_height=5400.5, to_height=5600.25)
    (path,) = codec.numeric_order(by_height)
    assert path.name == "zeros_5400.dat"
    headers, _ = codec.read_headers(path)
    assert (headers[0].t0, headers[-1].t1) == (5400.5, 5600.25)
    rank, height, _ = codec.decode_file(path, None)
    inside = (gamma > 5400.5) & (gamma <= 5600.25)
    assert (rank == n[inside]).all()
    assert np.abs(height - gamma[inside]).max() < 1e-11


@pytest.mark.parametrize("to_height", [5000.0, 7100.0, 9200.0, 9300.0])
def test_a_range_over_files_ends_where_it_should(fetch, to_height):
    paths = codec.numeric_order(fetch(to_height=to_height))
    headers = [h for path in paths for h in codec.read_headers(path)[0]]
    ends = [h.t1 for h in headers]
    assert ends == sorted({t for t in (5000.0, 7100.0, 9200.0) if t < to_height} | {to_height})
    assert headers[-1].n1 == exact.count(to_height)


def test_a_range_may_start_below_the_first_zero_and_at_any_rank(fetch):
    for rank in (1, 2, 80):
        (path,) = codec.numeric_order(fetch(first_rank=rank, max_zeros=3))
        assert codec.decode_file(path, None)[0].tolist() == [rank, rank + 1, rank + 2]
    (path,) = codec.numeric_order(fetch(from_height=2.0, to_height=30.0))
    assert codec.decode_file(path, None)[0].tolist() == [1, 2, 3]


def test_a_missed_pair_is_searched_again_until_the_count_closes(monkeypatch):
    bounds = riemann_siegel.pieces([26_000.0 + 2100.0 * k for k in range(3)])[:4]
    good = [riemann_siegel.stretch(*b) for b in bounds]
    tried = []
    real = riemann_siegel.stretch

    def search(lo, hi, finer=1):
        tried.append((lo, finer))
        return real(lo, hi, finer)

    monkeypatch.setattr(riemann_siegel, "stretch", search)
    for lost in (1, 2):  # the first stretch only serves to count the second's beginning
        for at in (0, len(good[lost].offset) // 2, len(good[lost].offset) - 2):
            first = good.copy()
            offset = np.delete(good[lost].offset, [at, at + 1])
            first[lost] = _recounted(good[lost], offset)
            found = list(riemann_siegel.closed(first))
            assert len(found) == 3 and (good[lost].lo, 2) in tried
            for a, b in zip(found[1:], good[1:3], strict=True):
                assert a.before == b.before and np.abs(a.offset - b.offset).max() < 1e-9


def test_a_pair_missed_at_the_very_beginning_of_a_range_is_found(monkeypatch, fetch):
    real, lost = riemann_siegel.stretch, next(riemann_siegel.pieces_from(20_000.0))[0]

    def search(lo, hi, finer=1):
        found = real(lo, hi, finer)
        return found if lo != lost or finer > 1 else _recounted(found, found.offset[2:])

    monkeypatch.setattr(riemann_siegel, "stretch", search)
    (path,) = codec.numeric_order(fetch(from_height=float(lost), max_zeros=50))
    n, gamma, _ = codec.decode_file(path, None)
    assert n[0] == exact.count(float(lost)) + 1
    assert gamma[0] == pytest.approx(exact.heights(int(n[0]), 1)[0] / 2**101, abs=1e-9)


def _recounted(found, offset):
    """The stretch as it would be if the search had found these zeros only."""
    excess = riemann_siegel.count_smooth(found.lo + offset) - np.arange(len(offset)) - 0.5
    return Stretch(found.lo, found.hi, round(float(excess.mean())), offset)


def test_a_count_that_never_closes_is_said(monkeypatch, fetch):
    real = riemann_siegel.stretch

    def search(lo, hi, finer=1):
        found = real(lo, hi)
        return _recounted(found, found.offset[2:]) if lo > 300 else found

    monkeypatch.setattr(riemann_siegel, "stretch", search)
    with pytest.raises(ZetaError, match="zeros were found between t = .* counted"):
        fetch(to_height=1000.0)


def test_a_range_may_start_at_a_zero(fetch):
    for k in (265, 1000, 4480):
        height = exact.heights(k, 1)[0] / 2**101
        for start in (height, np.nextafter(height, 0), np.nextafter(height, 1e9)):
            folder = fetch(from_height=float(start), max_zeros=20, seed=int(start == height))
            (path,) = codec.numeric_order(folder)
            n, gamma, _ = codec.decode_file(path, None)
            place = int(np.argmin(np.abs(gamma - exact.heights(int(n[9]), 1)[0] / 2**101)))
            assert place == 9, "ranks and heights belong together"
            shutil.rmtree(folder)


@pytest.mark.parametrize(
    "given",
    [
        {"to_height": 10.0},
        {"from_height": 0.0, "to_height": 14.0},
        {"first_rank": 5000, "to_height": 100.0},
        {"from_height": 199.5, "to_height": 200.5},
        {"to_height": 14.1},
        {"first_rank": 30, "to_height": 101.0},
    ],
)
def test_an_empty_range_is_refused(fetch, given):
    with pytest.raises(ZetaError, match="there is no zero between t ="):
        fetch(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"first_rank": 3_945_951_430_000, "max_zeros": 2_000_000_000_000},
        {"from_height": 999_999_999_999.0, "max_zeros": 3000},
        {"first_rank": 10**13, "max_zeros": 1},
    ],
)
def test_a_range_that_ends_beyond_the_method_is_refused(fetch, given):
    with pytest.raises(ZetaError, match="the range reaches t = "):
        fetch(**given)


def test_ranges_beyond_the_method_are_refused(fetch):
    with pytest.raises(ZetaError, match="reaches t = 2e"):
        fetch(from_height=2e12, max_zeros=10)
