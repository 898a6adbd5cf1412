import numpy as np
import pytest
from scipy import stats
from scipy.special import sici

from zetalib.theory import bandlimited, unitary_ensemble


def cmv(alpha, rho):
    """The unitary matrix with these Verblunsky coefficients (Cantero, Moral, Velazquez)."""
    n = len(alpha)
    factors = np.zeros((2, n, n), dtype=complex)
    for k, factor in enumerate(factors):
        np.fill_diagonal(factor, 1)
        for j in range(k, n - 1, 2):
            turn = [[alpha[j].conj(), rho[j]], [rho[j], -alpha[j]]]
            factor[j : j + 2, j : j + 2] = turn
    factors[1, -1, -1] = alpha[-1].conj()
    return factors[0] @ factors[1]


@pytest.mark.parametrize("n", [32, 256, 512])
def test_points_are_the_eigenangles_of_the_unitary_matrix(n):
    values = np.linalg.eigvals(cmv(*unitary_ensemble.verblunsky(n, np.random.default_rng(n))))
    assert np.abs(np.abs(values) - 1).max() < 1e-12
    expected = np.sort(np.angle(values) % (2 * np.pi)) * n / (2 * np.pi)
    found = unitary_ensemble.points(n, np.random.default_rng(n))
    assert np.abs(found - expected).max() < 1e-9


def test_verblunsky_coefficients_follow_their_law():
    n, draws = 8, 20_000
    alpha = np.empty((draws, n), dtype=complex)
    rng = np.random.default_rng(1)
    for row in alpha:
        row[:], rho = unitary_ensemble.verblunsky(n, rng)
        assert np.allclose(np.abs(row[:-1]) ** 2 + rho[:-1] ** 2, 1, rtol=0, atol=1e-15)
    assert np.allclose(np.abs(alpha[:, -1]), 1, rtol=0, atol=1e-15)
    for k in range(n - 1):
        law = stats.beta(1, n - 1 - k)
        assert stats.kstest(np.abs(alpha[:, k]) ** 2, law.cdf).pvalue > 1e-3
    assert stats.kstest(np.angle(alpha).ravel() / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("n", [2, 64, 128, 4096])
def test_tree_agrees_with_the_recursion(n):
    alpha, rho = unitary_ensemble.verblunsky(n, np.random.default_rng(n))
    j = np.unique(np.linspace(0, 4 * n - 1, 50).astype(int))
    theta = np.pi * j / (2 * n)
    z = np.exp(1j * theta)
    phi = star = np.ones_like(z)
    for a, r in zip(alpha, rho, strict=True):
        phi, star = (z * phi - a.conjugate() * star) / r, (star - a * z * phi) / r
    expected = np.sqrt(-alpha[-1]) * np.exp(-0.5j * n * theta) * phi
    found = unitary_ensemble.on_grid(unitary_ensemble.characteristic(alpha, rho), 4)
    assert np.abs(found[j] - expected).max() < 1e-11 * np.abs(found).max()


def test_points_hidden_in_one_interval_of_the_grid_are_found():
    """Seed 69 has three eigenangles between two neighbours of the first grid."""
    n = 1 << 14
    upper = unitary_ensemble.characteristic(
        *unitary_ensemble.verblunsky(n, np.random.default_rng(69))
    )
    f = unitary_ensemble.on_grid(upper, unitary_ensemble.OVERSAMPLINGS[0])
    assert np.sum((f < 0) != (np.roll(f, -1) < 0)) < n - 100, "pairs are hidden too"
    x = unitary_ensemble.points(n, np.random.default_rng(69))
    assert len(x) == n and x[0] >= 0 and x[-1] < n and (np.diff(x) > 0).all()


def test_a_finer_grid_is_taken_when_zeros_are_missing(monkeypatch):
    real, grids = bandlimited.zeros, []

    def blind(samples, first, last):
        grids.append(last - first)
        found = real(samples, first, last)
        return found[2:] if len(grids) == 1 else found

    n = 64
    expected = unitary_ensemble.points(n, np.random.default_rng(1))
    monkeypatch.setattr(bandlimited, "zeros", blind)
    assert unitary_ensemble.points(n, np.random.default_rng(1)) == pytest.approx(expected, abs=1e-9)
    assert grids == [4 * n, 8 * n]


@pytest.fixture(scope="module")
def long_sequence():
    return unitary_ensemble.points(1 << 17, np.random.default_rng(5))


def test_spacings_follow_theory(long_sequence):
    s = np.diff(long_sequence)
    grid = np.linspace(0, 4, 201)
    distance = np.searchsorted(np.sort(s), grid) / len(s) - unitary_ensemble.spacing_distribution(
        grid
    )
    # Kolmogorov's bound for independent values; spacings repel, so theirs is no larger.
    assert np.abs(distance).max() < 1.95 / np.sqrt(len(s))
    lags = (1, 2, 3, 5, 10)
    acf = np.array([np.corrcoef(s[:-k], s[k:])[0, 1] for k in lags])
    off = acf - unitary_ensemble.spacing_autocorrelation(lags)
    assert np.abs(off).max() < 4 / np.sqrt(len(s))


@pytest.mark.parametrize("length", [1, 10, 100, 1000])
def test_rigidity_follows_theory_over_long_stretches(long_sequence, length):
    edges = np.arange(0, len(long_sequence) + 1, length)
    counts = np.diff(np.searchsorted(long_sequence, edges))
    variance = counts.var()
    error = np.sqrt(np.mean((counts - counts.mean()) ** 4) - variance**2) / np.sqrt(len(counts))
    assert abs(variance - unitary_ensemble.number_variance(length)) < 4 * error


@pytest.mark.parametrize("length", [0.5, 1.0, 10.0, 100.0])
def test_number_variance_is_dysons_formula(length):
    si, ci = sici(2 * np.pi * length)
    expected = np.log(2 * np.pi * length) + np.euler_gamma + 1 - np.cos(2 * np.pi * length) - ci
    expected = expected / np.pi**2 + length * (1 - 2 / np.pi * si)
    assert abs(unitary_ensemble.number_variance(length) - expected) < 1e-12


def test_spacing_distribution_is_gaudins():
    s = np.linspace(0, 6, 601)
    cdf = unitary_ensemble.spacing_distribution(s)
    assert abs(cdf[0]) < 1e-12 and (np.diff(cdf) > -1e-12).all()
    assert np.allclose(cdf[1:6], np.pi**2 / 9 * s[1:6] ** 3, rtol=3e-3)
    mean = np.trapezoid(1 - cdf, s)
    second = 2 * np.trapezoid(s * (1 - cdf), s)
    assert (
        abs(mean - 1) < 1e-4 and abs(second - 1 - unitary_ensemble.spacing_variances(1)[1]) < 1e-4
    )


def test_spacing_variances_are_those_in_the_literature():
    """0.180 and 0.248 (nearest and next nearest neighbours; M. L. Mehta, Random Matrices)."""
    v = unitary_ensemble.spacing_variances(2)
    assert v[0] == pytest.approx(0, abs=1e-12)
    assert v[1] == pytest.approx(0.180, abs=5e-4) and v[2] == pytest.approx(0.249, abs=1e-3)
    assert unitary_ensemble.spacing_autocorrelation((1,))[0] == pytest.approx(v[2] / (2 * v[1]) - 1)
