"""Laws of the spacings: estimates against brute force and theory, and the primes in real zeros."""

import itertools

import numpy as np
import pytest

from zetalib.errors import ZetaError
from zetalib.sources import riemann_siegel
from zetalib.theory import point_statistics, unitary_ensemble, zeta
from zetalib.theory.point_statistics import GUE, POISSON
from zetalib.theory.primes import prime_powers

LENGTHS = np.array([0.5, 1.0, 2.0, 5.0, 10.0, 20.0])
HEIGHT = 1_000_000


@pytest.fixture(scope="module")
def gue():
    return unitary_ensemble.points(1 << 16, np.random.default_rng(0))


@pytest.fixture(scope="module")
def poisson():
    return np.random.default_rng(1).standard_exponential(1 << 16).cumsum()


@pytest.fixture(scope="module")
def zeros():
    """Heights of 76,000 consecutive zeros."""
    pieces = itertools.takewhile(
        lambda p: p[0] < HEIGHT + 40_000, riemann_siegel.pieces_from(HEIGHT)
    )
    return np.concatenate([lo + riemann_siegel.stretch(lo, hi).offset for lo, hi in pieces])


@pytest.fixture(scope="module")
def unfolded(zeros):
    return point_statistics.positions(zeta.spacings(zeros[:-1], np.diff(zeros)))


@pytest.fixture
def few():
    return np.random.default_rng(2).standard_exponential(300).cumsum()


def assert_agree(curve, theory, relative):
    """Within four errors and a bit, and errors small enough for that to say something."""
    off = curve.value - theory
    assert np.abs(off / curve.error).max() < 4.5
    assert (curve.error < relative * np.abs(theory)).all()


def assert_all_agree(curve, theory):
    """Many points: squared errors in units of their standard error are one on average."""
    z = (curve.value - theory) / curve.error
    freedom = point_statistics.BLOCKS - 1
    mean = freedom / (freedom - 2)  # of the square of Student's t
    assert abs(np.square(z).mean() - mean) < 6 / len(z) ** 0.5
    assert abs(z.mean()) < 5 / len(z) ** 0.5


# Estimates against brute force


def test_number_variance_counts(few):
    found = point_statistics.number_variance(few, np.array([3.0]))
    starts = np.arange(few[0], few[-1] - 3, point_statistics.STEP)
    counts = np.array([((few >= a) & (few < a + 3)).sum() for a in starts])
    whole = len(counts) // point_statistics.BLOCKS * point_statistics.BLOCKS
    assert found.value[0] == pytest.approx(((counts - 3) ** 2)[:whole].mean())


def test_rigidity_is_the_best_line(few):
    x = few - few[0]
    found = point_statistics._rigidity(few, 20.0)[:, 0]
    grid = (np.arange(20_000) + 0.5) / 1000
    assert len(found) == int(x[-1] / 20)
    for k in (0, 3, len(found) - 1):
        inside = x[(x >= 20 * k) & (x < 20 * (k + 1))] - 20 * k
        stairs = np.searchsorted(inside, grid)
        line = np.polynomial.Polynomial.fit(grid, stairs, 1)
        expected = np.square(stairs - line(grid)).mean()
        assert found[k] == pytest.approx(expected, rel=2e-3)


def test_an_interval_without_points_is_an_interval():
    position = np.array([0.0, 1.0, 9.5, 10.0, 12.5, 15.1])
    assert point_statistics._rigidity(position, 3.0)[1:3] == pytest.approx(0, abs=1e-12)
    assert point_statistics.structure(position, np.array([1 / 3]), 3)[1:3] == pytest.approx(0)


@pytest.mark.parametrize("orders", [[1, 2, 3], [5, 6, 40]])
def test_structure_is_the_sum(few, orders):
    tau = np.array(orders) / 16
    found = point_statistics.structure(few, tau, 16)
    x = few - few[0]
    for k in (0, 7):
        inside = x[(x >= 16 * k) & (x < 16 * (k + 1))]
        sums = np.exp(2j * np.pi * tau[:, None] * inside).sum(1)
        np.testing.assert_allclose(found[k], np.abs(sums) ** 2 / 16, atol=1e-10)


def test_pair_correlation_counts(few):
    inside = few[few <= few[-1] - 2]
    away = (few[None] - inside[:, None]).ravel()
    counts = np.histogram(away[away > 0], bins=8, range=(0, 2))[0]
    # With a block a point blocks are of equal size, and their mean is the mean over the points.
    found = point_statistics.pair_correlation(few, 2.0, 0.25, blocks=len(inside))
    np.testing.assert_allclose(found.value, counts / (len(inside) * 0.25))
    assert found.x[0] == 0.125


def test_the_last_point_has_no_neighbours_above():
    found = point_statistics.pair_correlation(np.arange(100) * 1.0, 3.0, 0.5, blocks=5)
    np.testing.assert_allclose(found.value, [0, 0, 2, 0, 2, 0])


def test_autocorrelation_and_ratios(few):
    s = np.diff(few)
    found = point_statistics.autocorrelation(s, 3)
    expected = [np.corrcoef(s[:-k], s[k:])[0, 1] for k in (1, 2, 3)]
    np.testing.assert_allclose(found.value, expected, atol=0.02)
    rows = point_statistics.autocorrelation(np.stack([s[:100], s[199:99:-1]]), 2, blocks=10)
    swapped = point_statistics.autocorrelation(np.stack([s[199:99:-1], s[:100]]), 2, blocks=10)
    np.testing.assert_allclose(rows.value, swapped.value)  # joined end to end they would differ
    assert point_statistics.ratios(np.array([1.0, 2.0, 0.5])) == pytest.approx([0.5, 0.25])


def test_errors_are_those_of_repetitions():
    """Over many records the spread of the estimates is the error each one states."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(60):
        noise = rng.standard_normal(5001)
        found.append(point_statistics.autocorrelation(1 + 0.3 * (noise[1:] - 0.5 * noise[:-1]), 2))
    values, errors = (np.array([getattr(c, k) for c in found]) for k in ("value", "error"))
    np.testing.assert_allclose(values.std(0), np.sqrt(np.square(errors).mean(0)), rtol=0.3)


def test_bootstrap_knows_of_dependence():
    """Of a moving average of ten the mean has ten times the variance that single draws say."""
    noise = np.random.default_rng(4).standard_normal(20_009)
    terms = np.convolve(noise, np.ones(10) / 10**0.5, "valid")[:, None]
    spread = [point_statistics.bootstrap(terms, length, 400, 0).std() for length in (1, 200)]
    assert spread[0] == pytest.approx(1 / 20_000**0.5, rel=0.15)
    assert spread[1] == pytest.approx((10 / 20_000) ** 0.5, rel=0.2)
    again = point_statistics.bootstrap(terms, 200, 400, 0).std()
    assert again == spread[1]


def test_too_short_a_record_is_refused(few):
    with pytest.raises(ZetaError, match="an error needs two"):
        point_statistics.rigidity(few, np.array([few[-1] / 1.5]))
    with pytest.raises(ZetaError, match="blocks of 0"):
        point_statistics.bootstrap(np.ones((5, 1)), 0, 10, 0)
    with pytest.raises(ZetaError, match="does not tell primes near 1000 apart"):
        point_statistics.prime_peaks(np.linspace(100, 200, 100), 1000, 10, 0)


# Theory


def test_number_variance_is_that_of_the_sine_kernel():
    expected = [unitary_ensemble.number_variance(length) for length in LENGTHS]
    np.testing.assert_allclose(GUE.number_variance(LENGTHS), expected, atol=1e-10)


def test_rigidity_has_its_known_limits():
    far = np.array([50.0, 200.0])
    asymptotic = (np.log(2 * np.pi * far) + np.euler_gamma - 1.25) / (2 * np.pi**2)
    np.testing.assert_allclose(GUE.rigidity(far), asymptotic, atol=3e-4)
    found = point_statistics.rigidity_of(POISSON.number_variance, far)
    np.testing.assert_allclose(found, POISSON.rigidity(far), rtol=1e-10)


def test_form_factor_is_the_transform_of_the_pair_correlation():
    tau = np.arange(1, 1000) / 500
    found = point_statistics.finite_form_factor(GUE.pair_correlation, tau, 500)
    np.testing.assert_allclose(found, GUE.form_factor(tau), atol=2e-3)
    assert point_statistics.finite_form_factor(POISSON.pair_correlation, tau, 8) == pytest.approx(1)


@pytest.mark.parametrize(("beta", "mean"), [(0, 0.3863), (1, 0.5359), (2, 0.6027), (4, 0.6762)])
def test_ratio_densities(beta, mean):
    """Means of the surmise as published by Atas et al. (2013)."""
    node, weight = np.polynomial.legendre.leggauss(60)
    r, density = (node + 1) / 2, point_statistics.ratio_density((node + 1) / 2, beta) / 2
    assert weight @ density == pytest.approx(1, abs=1e-12)
    assert weight @ (density * r) == pytest.approx(mean, abs=5e-5)


def test_mean_ratio_of_gue_from_determinants():
    """P(ratio > x) = 2 P(a > x b) - 1 of the gaps a, b beside a point, whose neighbours are

    determinantal with the kernel K(x, y) - K(x, 0) K(0, y).
    """
    node, weight = np.polynomial.legendre.leggauss(24)

    def empty(a, b):
        x = np.concatenate([(node - 1) * a / 2, (node + 1) * b / 2])
        root = np.sqrt(np.concatenate([weight * a / 2, weight * b / 2]))
        kernel = np.sinc(x[:, None] - x) - np.sinc(x)[:, None] * np.sinc(x)
        return np.linalg.det(np.eye(len(x)) - root[:, None] * kernel * root)

    def longer(x):
        b, step = 2.25 * (node + 1), 1e-3  # up to 4.5
        rate = [(empty(x * v, v - step) - empty(x * v, v + step)) / (2 * step) for v in b]
        return 2.25 * weight @ np.array(rate)

    x, w = np.polynomial.legendre.leggauss(16)
    mean = 0.5 * w @ np.array([2 * longer(v) - 1 for v in (x + 1) / 2])
    assert pytest.approx(mean, abs=1e-5) == GUE.ratio


# Simulations against theory


@pytest.mark.parametrize("name", ["gue", "poisson"])
def test_simulations_follow_their_law(name, request):
    points = request.getfixturevalue(name)
    law, other = (GUE, POISSON) if name == "gue" else (POISSON, GUE)
    variance = point_statistics.number_variance(points, LENGTHS)
    assert_agree(variance, law.number_variance(LENGTHS), 0.03)
    rigidity = point_statistics.rigidity(points, LENGTHS)
    assert_agree(rigidity, law.rigidity(LENGTHS), 0.03)
    ratio = point_statistics.mean_ratio(np.diff(points))
    assert_agree(ratio, np.array([law.ratio]), 0.005)
    pairs = point_statistics.pair_correlation(points, 3.0)
    within = point_statistics.pair_correlation(points, 3.0).x[:, None] + np.linspace(
        -0.0245, 0.0245, 50
    )
    expected = law.pair_correlation(within).mean(1)
    assert_all_agree(
        point_statistics.Curve(pairs.x[1:], pairs.value[1:], pairs.error[1:]), expected[1:]
    )
    form = point_statistics.form_factor(points, 2.0)
    expected = point_statistics.finite_form_factor(law.pair_correlation, form.x, 128)
    assert_all_agree(form, expected)
    for curve, wrong in (
        (variance, other.number_variance(LENGTHS)),
        (rigidity, other.rigidity(LENGTHS)),
        (ratio, other.ratio),
        (form, other.form_factor(form.x)),
    ):
        assert np.abs((curve.value - wrong) / curve.error).max() > 20


def test_spacings_of_gue_are_correlated_as_theory_says(gue):
    found = point_statistics.autocorrelation(np.diff(gue), 4)
    expected = unitary_ensemble.spacing_autocorrelation((1, 2, 3, 4))
    assert np.abs((found.value - expected) / found.error).max() < 4
    assert found.error.max() < 0.006


# Real zeros


def test_the_number_variance_of_zeros_saturates(unfolded):
    lengths = np.array([0.5, 2.0, 5.0, 20.0])
    found = point_statistics.number_variance(unfolded, lengths)
    expected = point_statistics.zeros_number_variance(lengths, HEIGHT)
    np.testing.assert_allclose(found.value, expected, rtol=0.05)
    assert found.value[-1] < 0.6 * GUE.number_variance(lengths)[-1]
    assert found.error.max() < 0.003


def test_all_laws_in_one_table(unfolded):
    found = point_statistics.laws(np.diff(unfolded)[:20_000], HEIGHT)
    assert found.law.nunique() == 7
    assert found[["value", "error", "gue", "poisson"]].notna().to_numpy().all()
    ratio = found[found.law == "ratio"].iloc[0]
    assert ratio.value == pytest.approx(0.6055, abs=4 * ratio.error) and ratio.error < 0.003
    near = found[found.law.isin(["number variance", "rigidity"])]
    np.testing.assert_allclose(near.value, near.zeros, rtol=0.1)
    first = found[found.law == "autocorrelation"].iloc[0]
    assert first.gue == pytest.approx(-0.3084, abs=1e-3) and first.value < -0.33


def test_a_summary_says_which_theory_fits(unfolded):
    found = point_statistics.summary(point_statistics.laws(np.diff(unfolded), HEIGHT))
    assert set(found) == set(point_statistics.SAID)
    assert found["ratio"]["0"]["value"] == pytest.approx(0.6055, abs=0.005)
    variance = found["number variance"]
    assert variance["misfit"]["zeros"] < 0.1 * variance["misfit"]["gue"]
    assert variance["64"]["value"] < variance["64"]["gue"]
    assert found["form factor"]["misfit"]["zeros"] is None


def test_ratios_have_the_density_of_the_surmise(gue, poisson):
    """The surmise is off by up to 0.01 for large matrices."""
    for points, beta in ((gue, 2), (poisson, 0)):
        found = point_statistics.ratio_histogram(np.diff(points))
        expected = point_statistics.ratio_density(found.x, beta)
        assert np.abs(found.value - expected).max() < 5 * found.error.max() + 0.01
        assert found.value.mean() == pytest.approx(1)
        assert found.error.max() < 0.03


def test_zeros_reach_the_plateau_of_one(unfolded):
    form = point_statistics.form_factor(unfolded, 2.0)
    far = form.value[form.x > 1.2]
    assert far.mean() == pytest.approx(1, abs=0.02)


def test_the_primes_stand_in_the_spectrum_as_landau_says(zeros):
    found = point_statistics.prime_peaks(zeros, 150, 999, 0)
    assert found.q.tolist()[:9] == [2, 3, 4, 5, 7, 8, 9, 11, 13] and len(found) == 48
    np.testing.assert_allclose(found.amplitude, found.theory, rtol=1e-4)
    assert np.abs(found.imaginary).max() < 1e-4
    assert (found.p == 1 / 1000).all()
    assert (found.null < 1e-3 * found.theory.abs()).all()
    assert point_statistics.peaks_summary(found)["relative"] < 1e-3
    assert 150 < point_statistics.told_apart(zeros) < 200


def test_other_points_have_no_peaks_at_primes(poisson, zeros):
    scale = (zeros[-1] - zeros[0]) / poisson[-1]
    found = point_statistics.prime_peaks(zeros[0] + scale * poisson, 150, 999, 0)
    assert np.abs(found.amplitude - found.theory).mean() > 0.2
    assert 0.35 < found.p.mean() < 0.65 and found.p.min() > 1e-3


def test_landaus_formula_at_a_prime_power():
    q, mangoldt = prime_powers(16)
    assert point_statistics.landau(q, mangoldt)[2] == pytest.approx(-np.log(2) / 2)
