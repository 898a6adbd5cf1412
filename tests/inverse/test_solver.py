"""The zeros as an inverse problem: the kernels against the equations in plain numpy, derivatives,
causality, what is solved and what is not."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from conftest import zeros
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from zetalib.errors import ZetaError
from zetalib.inverse import least_squares, riemann_siegel_model, solver
from zetalib.inverse.simd import WIDTH
from zetalib.inverse.solver import SequentialSolver
from zetalib.sources import riemann_siegel
from zetalib.theory import zeta

HEIGHT = 300_000


pytestmark = pytest.mark.usefixtures("one_blas_thread")


@pytest.fixture(scope="module")
def stretches():
    """Stretches of 176 zeros and their heights, rounded to three digits."""
    found = [zeros(h, 175) for h in (253_400, 287_700, 301_300, 344_600)]
    return np.stack([s for s, _ in found]), np.array([round(h, -3) for _, h in found])


@pytest.fixture(scope="module")
def solved(stretches):
    return solver.forecasts(*stretches)


def height_as_written(u, scale, height):
    """h, dh/du, dh/dscale by Newton's method on u = rho h + T ((1 + w) log(1 + w) - w) / 2 pi,
    w = h / T.
    """
    rho = np.log(height / (2 * np.pi)) / (2 * np.pi) / (1 + scale)
    t = 2 * np.pi * np.exp(2 * np.pi * rho)
    h = u / rho
    for _ in range(20):
        log = np.log1p(h / t)
        du_dh = rho + log / (2 * np.pi)
        h = h - (rho * h + ((t + h) * log - h) / (2 * np.pi) - u) / du_dh
    # By rho and by T, d log T = 2 pi d rho, d rho = -rho d scale / (1 + scale).
    du_drho = h + t * log - h
    return h, 1 / du_dh, du_drho * rho / (1 + scale) / du_dh


@pytest.mark.parametrize("scale", [0.0, 2e-4, -1e-3])
@pytest.mark.parametrize(
    ("height", "spacings"), [(1e6, 255), (1e6, 1024), (8e7, 1024), (1e4, 255), (1e9, 2048)]
)
def test_heights_solve_the_count(height, spacings, scale):
    """To 1e-12 mean spacings, a thousandth of the lowest noise."""
    _, state = laid_out(height, np.zeros(2 * WIDTH))
    u = np.linspace(0, spacings, 50)
    found = riemann_siegel_model.evaluate_height.py_func(u, scale, state)
    expected = height_as_written(u, scale, height)
    density = state.scalars[riemann_siegel_model.DENSITY]
    np.testing.assert_allclose(found[0] * density, expected[0] * density, atol=2e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-9, atol=1e-9)


def z_as_written(x, u, height):
    """Z, dZ/du and dZ/dx, shapes (J,), (J,), (J, U), term by term.

    The slow R has no part in the derivatives by u and by the scale.
    """
    tau = np.sqrt(height / (2 * np.pi))
    n = np.arange(1, int(tau) + 1)
    primes = [p for p in n[1:] if all(p % q for q in range(2, math.isqrt(p) + 1))]
    powers = range(1, int(np.log2(tau)) + 1)
    exponent = sum((n[:, None] % np.array(primes) ** k == 0).astype(int) for k in powers)
    count = len(primes)
    a, b = x[:count] + 1j * x[count : 2 * count], x[2 * count + 2 :]
    theta0, scale = x[2 * count : 2 * count + 2]
    h, dh_du, dh_dscale = (v[:, None] for v in height_as_written(u, scale, height))
    phase = np.pi * u[:, None] + theta0 - h * np.log(n)
    term = 2 * np.prod(a**exponent, 1) * np.exp(1j * phase) / np.sqrt(n)
    k = np.arange(len(b))
    power = (h / tau) ** k / [math.factorial(i) for i in k] / np.sqrt(tau)
    by_a = term @ exponent / a
    by_phase = (1j * term).sum(1).real[:, None]
    by_scale = (-1j * np.log(n) * dh_dscale * term).sum(1).real[:, None]
    slope = (1j * (np.pi - dh_du * np.log(n)) * term).sum(1).real
    rows = np.hstack([by_a.real, -by_a.imag, by_phase, by_scale, power])
    return term.sum(1).real + power @ b, slope, rows


def residuals_as_written(x, u, height):
    """Residuals and their Jacobian at columns `u`: Z and dZ/dx over sqrt((dZ/du)^2 + 1)."""
    z, slope, rows = z_as_written(x, u, height)
    weight = 1 / np.sqrt(slope**2 + 1)
    return weight * z, weight[:, None] * rows


@pytest.fixture(scope="module", params=[60, 150])
def solution(request, stretches):
    """Tables, state, number of zeros, their coordinates and the height of a solved stretch.

    Of real zeros: 60 are fewer than the unknowns, so that the first form is solved; 150 are more.
    """
    n, height = request.param, float(stretches[1][0])
    sequential = SequentialSolver(height, 160)
    sequential.append(stretches[0][0, : n - 1])
    assert (n < len(sequential.state.x)) == (n == 60)
    return sequential.tables, sequential.state, n, sequential.state.u[0, :n].copy(), height


def disturbed(state):
    """Unknowns a hundredth of their prior standard deviation away from the solution."""
    return state.x + 0.01 * np.random.default_rng(5).normal(size=len(state.x)) * state.prior_sd


def rows_of(state, first, stop):
    """Rows of the Jacobian, (stop - first, U), which keeps eight of them side by side."""
    blocks = state.jacobian.reshape(-1, len(state.x), WIDTH)
    return blocks.transpose(0, 2, 1).reshape(-1, len(state.x))[first:stop]


def covariance_as_written(state, u, height, noise):
    """The inverse of J^T J / noise^2 + P at the solution, (U, U)."""
    _, rows = residuals_as_written(state.x, u, height)
    return np.linalg.inv(rows.T @ rows / noise**2 + np.diag(state.prior_sd**-2.0))


def set_up(x, n, noise, tables, state):
    """Linearise all zeros at x and factor their equations."""
    riemann_siegel_model.linearize(x, 0, n, tables, state)
    least_squares.set_targets(x, 0, n, state)
    least_squares.factor(0, n, noise, state)


def test_z_and_its_derivatives_equal_the_plain_sum(solution):
    tables, state, n, u, height = solution
    for x in (state.x, disturbed(state)):
        riemann_siegel_model.linearize(x, 0, n, tables, state)
        z, slope, _ = z_as_written(x, u, height)
        residual, rows = residuals_as_written(x, u, height)
        size = np.abs(rows).max(0)
        np.testing.assert_allclose(state.z[:n], z, atol=1e-10)
        np.testing.assert_allclose(state.slope[:n], slope, atol=1e-6)
        np.testing.assert_allclose(state.residual[:n], residual, atol=1e-10)
        found = rows_of(state, 0, n) / state.prior_sd
        np.testing.assert_allclose(found / size, rows / size, atol=1e-6)


@pytest.mark.parametrize("noise", [0.1, 0.01, 1e-4])
def test_a_step_solves_the_augmented_equations(solution, noise):
    tables, state, n, u, height = solution
    x, sd = disturbed(state), state.prior_sd
    set_up(x, n, noise, tables, state)
    expected_misfit = least_squares.solve(0, n, noise, state)
    residual, rows = residuals_as_written(x, u, height)
    matrix = np.vstack([rows * sd / noise, np.eye(len(x))])
    right = np.concatenate([-residual / noise, (state.prior_mean - x) / sd])
    expected = np.linalg.lstsq(matrix, right, rcond=None)[0]
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose((state.trial - x) / sd, expected, atol=2e-6)
    left = matrix @ expected - right
    assert expected_misfit == pytest.approx(left @ left, rel=1e-5)
    misfit = least_squares.compute_misfit(x, 0, n, noise, state)
    assert misfit == pytest.approx(right @ right, rel=1e-6)


@pytest.mark.parametrize("noise", [0.1, 0.01])
def test_the_posterior_deviation_is_that_of_the_inverse_matrix(solution, noise):
    tables, state, n, u, height = solution
    set_up(state.x, n, noise, tables, state)
    covariance = covariance_as_written(state, u, height, noise)
    places = np.array([u[n // 2], u[-1] + 0.5, u[-1] + 3])
    base = n + WIDTH - n % WIDTH
    state.u[0, base : base + 3] = places
    riemann_siegel_model.linearize(state.x, base, base + 3, tables, state)
    expected = residuals_as_written(state.x, places, height)[1]
    scaled = expected * state.prior_sd
    variances = np.square(least_squares.posterior_vectors(scaled, noise, state)).sum(1)
    for k, row in enumerate(expected):
        sd = np.sqrt(row @ covariance @ row)
        assert least_squares.posterior_sd(base + k, noise, state) == pytest.approx(sd, rel=1e-5)
        assert np.sqrt(variances[k]) == pytest.approx(sd, rel=1e-5)


@pytest.mark.parametrize("noise", [0.01, 1e-8])
def test_a_zero_brought_in_gives_what_all_zeros_factored_at_once_do(solution, noise):
    tables, state, n, *_ = solution
    found = []
    for known in (n, n - 1):
        set_up(state.x, known, noise, tables, state)
        if known < n:
            riemann_siegel_model.linearize(state.x, known, n, tables, state)
            least_squares.set_targets(state.x, known, n, state)
            least_squares.append_zero(0, n, noise, state)
        misfit = least_squares.solve(0, n, noise, state)
        sd = least_squares.posterior_sd(n // 2, noise, state)
        found.append([misfit, sd, *((state.trial - state.prior_mean) / state.prior_sd)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("zeros_known", [12, 23, 24, 40])
def test_solutions_and_deviations_equal_exact_arithmetic(zeros_known):
    """Of the linear equations, at a noise of 1e-8, in 60 digits: fewer zeros than the 23 unknowns,
    as many, more; factored at once, and from half of them on zero by zero.
    """
    n, noise = zeros_known, 1e-8
    u = np.concatenate([[0], zeros(3000, n + 1)[0].cumsum()])
    tables, state = laid_out(3000.0, u)
    unknowns = len(state.x)
    assert unknowns == 23
    rng = np.random.default_rng(n)
    x = state.prior_sd * rng.normal(size=unknowns)
    half = max(n // 2, unknowns + 1 if n > unknowns else 0)
    riemann_siegel_model.linearize(x, 0, n + 2, tables, state)
    rows = rows_of(state, 0, n + 2).copy()
    target = rows[:n] @ rng.normal(size=unknowns) + noise * rng.normal(size=n)
    with mpmath.workdps(60):
        j = mpmath.matrix(rows[:n].tolist()) / mpmath.mpf(noise)
        normal = j.T * j + mpmath.eye(unknowns)
        right = j.T * (mpmath.matrix(target.tolist()) / mpmath.mpf(noise))
        y = np.array(mpmath.lu_solve(normal, right).tolist(), float).ravel()
        deviations = []
        for row in rows[n:]:
            q = mpmath.matrix(row.tolist())
            deviations.append(float(mpmath.sqrt((q.T * mpmath.lu_solve(normal, q))[0])))
    for start in (n, half):
        state.target[:n] = target
        least_squares.factor(0, start, noise, state)
        for known in range(start + 1, n + 1):
            least_squares.append_zero(0, known, noise, state)
        least_squares.solve(0, n, noise, state)
        found = (state.trial - state.prior_mean) / state.prior_sd
        assert np.linalg.norm(found - y) < 1e-6 * np.linalg.norm(y)
        sd = [least_squares.posterior_sd(n + k, noise, state) for k in range(2)]
        np.testing.assert_allclose(sd, deviations, rtol=1e-6)


def test_the_next_zero_is_the_next_root_of_the_plain_sum(solution):
    tables, state, n, u, height = solution
    noise, misfit = 0.01, 1.5 * n
    set_up(state.x, n, noise, tables, state)
    spacing, sd = solver.find_next_zero(state.x, misfit, 0, n, noise, tables, state)
    ahead = u[-1] + np.arange(0.01, 3.5, 1e-3)
    z = z_as_written(state.x, ahead, height)[0]
    change = np.flatnonzero(z[1:] * z[:-1] < 0)[0]
    root = brentq(
        lambda v: z_as_written(state.x, np.array([v]), height)[0][0],
        *ahead[change : change + 2],
        xtol=1e-12,
    )
    assert spacing == pytest.approx(root - u[-1], abs=1e-9)
    _, slope, rows = z_as_written(state.x, np.array([root]), height)
    variance = rows[0] @ covariance_as_written(state, u, height, noise) @ rows[0]
    variance += noise**2 * (slope[0] ** 2 + 1)  # the next zero will have it, too
    variance /= slope[0] ** 2 + solver.SQUARED_SLOPE_OFFSET
    assert sd == pytest.approx(np.sqrt(variance * misfit / n), rel=1e-5)


def laid_out(height, u):
    """Tables and state of a stretch with columns at `u`, shape (16,)."""
    sequential = SequentialSolver(height, len(u))
    sequential.state.u[0, : len(u)] = u
    return sequential.tables, sequential.state


def evaluate(x, tables, state, derivatives=False):
    evaluated = (
        riemann_siegel_model.linearize if derivatives else riemann_siegel_model.evaluate_residuals
    )
    evaluated(x, 0, 2 * WIDTH, tables, state)
    return state.z[: 2 * WIDTH].copy(), state.slope[: 2 * WIDTH].copy()


@pytest.fixture
def point():
    """Tables, state and unknowns of the size they have, at 16 points."""
    rng = np.random.default_rng(3)
    tables, state = laid_out(1e5, np.sort(rng.uniform(0, 200, 2 * WIDTH)))
    return tables, state, rng.normal(size=len(state.x)) * state.prior_sd


def test_derivatives_by_the_unknowns(point):
    tables, state, x = point
    _, slope = evaluate(x, tables, state, True)
    rows = rows_of(state, 0, 2 * WIDTH) / state.prior_sd * np.sqrt(slope**2 + 1)[:, None]
    step = 1e-6 * state.prior_sd
    for i in range(len(x)):
        aside = np.zeros_like(x)
        aside[i] = step[i]
        z = [evaluate(x + sign * aside, tables, state)[0] for sign in (1, -1)]
        expected = (z[0] - z[1]) / (2 * step[i])
        np.testing.assert_allclose(rows[:, i], expected, rtol=1e-5, atol=1e-9 / step[i])


def test_derivative_by_the_place(point):
    tables, state, x = point
    x[tables.remainder :] = 0  # R is slow: its slope is left out
    u = state.u.copy()
    _, slope = evaluate(x, tables, state)
    z = []
    for sign in (1, -1):
        state.u[:] = u + sign * 1e-6
        z.append(evaluate(x, tables, state)[0])
    np.testing.assert_allclose(slope, (z[0] - z[1]) / 2e-6, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("height", [3_000, 100_000, 1_000_000, 100_000_000])
def test_the_true_phases_give_z(height):
    step, size = 0.25, 2 * WIDTH
    t = height + step * np.arange(size)
    u = zeta.spacings(np.full(size, float(height)), t - height)
    tables, state = laid_out(height, u)
    primes = len(tables.log_p)
    x = np.zeros_like(state.x)
    phases = -height * tables.log_p
    x[:primes], x[primes : 2 * primes] = np.cos(phases), np.sin(phases)
    x[2 * primes] = riemann_siegel.theta(height)
    z, _ = evaluate(x, tables, state)
    expected = riemann_siegel.z_grid(height, step, 2 * size)[size:]
    terms = int(np.sqrt(height / (2 * np.pi)))
    # What is left: 1 / 48 t of theta, and the fourth order of h(u).
    np.testing.assert_allclose(z + riemann_siegel.remainder(t, terms), expected, atol=30 / height)


@pytest.mark.parametrize("angle", [0.0, 0.1, 0.5, -0.5, 3.25, -77.7, 525.3])
def test_cosine_and_sine(angle):
    tables, state = laid_out(1e5, np.full(2 * WIDTH, 2 * angle))
    x = np.zeros_like(state.x)
    z, slope = evaluate(x, tables, state)  # of the term n = 1 alone
    assert z == pytest.approx(2 * np.cos(2 * np.pi * angle), abs=1e-11)
    assert slope == pytest.approx(-2 * np.pi * np.sin(2 * np.pi * angle), abs=1e-11)


@pytest.mark.parametrize("terms", [4, 30, 398, 1000])
def test_every_term_is_in_the_sums_once(terms):
    tables = riemann_siegel_model.build_tables(terms)
    smooth = np.exp(tables.log_n).round().astype(int)
    primes = np.exp(tables.log_p).round().astype(int)
    large = [p * m for p in primes[tables.small_primes :] for m in range(1, terms // p + 1)]
    assert sorted([*smooth, *large]) == list(range(1, terms + 1))
    assert (smooth[tables.cofactor[1:]] * primes[tables.largest_prime[1:]] == smooth[1:]).all()
    assert smooth[: tables.sqrt_terms].tolist() == list(range(1, tables.sqrt_terms + 1))


@pytest.mark.parametrize("later", [0.0, 1.0, 1e300])
def test_later_spacings_change_nothing(stretches, solved, later):
    spacing, height = stretches
    changed = spacing[0, :90].copy()
    changed[70:] = later
    assert np.array_equal(solver.follow(changed, height[0])[:70], solved[0, :70])


def test_appending_one_by_one_equals_appending_all(stretches, solved):
    sequential = SequentialSolver(stretches[1][0], 90)
    found = [sequential.append(stretches[0][0, t : t + 1]) for t in range(90)]
    assert np.array_equal(np.concatenate(found), solved[0, :90])


def test_no_more_is_appended_than_the_capacity():
    sequential = SequentialSolver(1e4, 10)
    sequential.append(np.ones(8))
    with pytest.raises(ValueError, match="room is left for 2"):
        sequential.append(np.ones(3))


def test_real_zeros_are_solved(stretches, solved):
    error = np.abs(solved[:, :-1, 0] - stretches[0][:, 1:])
    assert np.median(error[:, 150:]) < 1e-5
    assert error[:, 150:].max() < 1e-2
    assert np.median(solved[:, 150:, 1]) < 1e-4


def test_deviations_of_solved_stretches_are_of_the_errors_size(stretches, solved):
    error = np.abs(solved[:, :-1, 0] - stretches[0][:, 1:])
    ratio = error[:, 60:] / solved[:, 60:-1, 1]
    assert 0.05 < np.median(ratio) < 2


def test_without_arithmetic_nothing_is_claimed():
    spacing = np.random.default_rng(0).exponential(size=(4, 120))
    found = solver.forecasts(spacing, np.full(4, 1e5))[:, :-1]
    assert np.median(found[..., 1]) > 1e-3
    ratio = np.abs(found[..., 0] - spacing[:, 1:]) / found[..., 1]
    assert np.median(ratio) < 300


@pytest.mark.parametrize("height", [np.nan, -1.0, 99.0, 1.1e10, np.inf])
def test_heights_out_of_range_are_refused(height):
    with pytest.raises(ZetaError, match="100 to 1e\\+10"):
        SequentialSolver(height, 10)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ZetaError, match="finite"):
        solver.follow(np.array([1.0, value, 1.0]), 1e5)


def sane(found):
    assert np.isfinite(found).all()
    assert (found[:, 0:6:2] >= 0).all() and (found[:, 0:6:2] < 4).all()
    assert (found[:, 1:6:2] > 0).all() and (found[:, 1:6:2] < 1).all()


STRANGE = {
    "equal": np.ones(48),
    "none": np.zeros(48),
    "tiny": np.full(48, 1e-9),
    "wide": np.full(48, 30.0),
    "huge": np.full(48, 1e300),
    "back": np.full(48, -1.0),
    "both": np.tile([1e-9, 30.0], 24),
}


@pytest.mark.parametrize(("height", "name"), [*itertools.product([100, 5e3, 1e6], STRANGE)])
def test_strange_spacings_do_no_harm(height, name):
    sane(solver.follow(STRANGE[name], height))


def test_great_heights_do_no_harm(stretches):
    sane(solver.follow(stretches[0][0, :6], riemann_siegel_model.MAX_HEIGHT))


@settings(max_examples=25)
@given(
    st.floats(100, 1e6),
    st.lists(st.floats(0, 40) | st.floats(0, 1e-6), min_size=1, max_size=40),
)
def test_any_spacings_do_no_harm(height, spacing):
    sane(solver.follow(np.array(spacing), height))
