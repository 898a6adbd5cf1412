"""The zeros as an inverse problem: derivatives, causality, what is solved and what is not."""

import itertools

import numpy as np
import pytest
from conftest import zeros
from hypothesis import given, settings
from hypothesis import strategies as st

from zetalib.errors import ZetaError
from zetalib.inverse import solver
from zetalib.inverse.solver import WIDTH, Follower
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


def laid_out(height, u):
    """Tables and state of a stretch with columns at `u`, shape (16,)."""
    follower = Follower(height, len(u))
    follower.state.u[0, : len(u)] = u
    return follower.tables, follower.state


def evaluate(x, tables, state, derivatives=False):
    solver._rows(x, 0, 2 * WIDTH, tables, state, derivatives)
    return state.z[: 2 * WIDTH].copy(), state.slope[: 2 * WIDTH].copy()


@pytest.fixture
def point():
    """Tables, state and unknowns of the size they have, at 16 points."""
    rng = np.random.default_rng(3)
    tables, state = laid_out(1e5, np.sort(rng.uniform(0, 200, 2 * WIDTH)))
    return tables, state, rng.normal(size=len(state.x)) / np.sqrt(state.prior)


def test_derivatives_by_the_unknowns(point):
    tables, state, x = point
    _, slope = evaluate(x, tables, state, True)
    rows = state.rows[: 2 * WIDTH] * np.sqrt(slope**2 + 1)[:, None]
    step = 1e-6 / np.sqrt(state.prior)
    for i in range(len(x)):
        aside = np.zeros_like(x)
        aside[i] = step[i]
        z = [evaluate(x + sign * aside, tables, state)[0] for sign in (1, -1)]
        expected = (z[0] - z[1]) / (2 * step[i])
        np.testing.assert_allclose(rows[:, i], expected, rtol=1e-5, atol=1e-9 / step[i])


def test_derivative_by_the_place(point):
    tables, state, x = point
    x[-solver.DEGREE :] = 0  # R is slow: its slope is left out
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
    tables = solver.sums(terms)
    smooth = np.exp(tables.log_n).round().astype(int)
    primes = np.exp(tables.log_p).round().astype(int)
    large = [p * m for p in primes[tables.small :] for m in range(1, terms // p + 1)]
    assert sorted([*smooth, *large]) == list(range(1, terms + 1))
    assert (smooth[tables.rest[1:]] * primes[tables.prime[1:]] == smooth[1:]).all()
    assert smooth[: tables.root].tolist() == list(range(1, tables.root + 1))


@pytest.mark.parametrize("later", [0.0, 1.0, 1e300])
def test_later_spacings_change_nothing(stretches, solved, later):
    spacing, height = stretches
    changed = spacing[0, :90].copy()
    changed[70:] = later
    assert np.array_equal(solver.follow(changed, height[0])[:70], solved[0, :70])


def test_one_by_one_is_all_at_once(stretches, solved):
    follower = Follower(stretches[1][0], 90)
    found = [follower.push(stretches[0][0, t : t + 1]) for t in range(90)]
    assert np.array_equal(np.concatenate(found), solved[0, :90])


def test_a_follower_has_its_room():
    follower = Follower(1e4, 10)
    follower.push(np.ones(8))
    with pytest.raises(ValueError, match="room is left for 2"):
        follower.push(np.ones(3))


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
        Follower(height, 10)


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
    sane(solver.follow(stretches[0][0, :6], solver.HIGHEST))


@settings(max_examples=25)
@given(
    st.floats(100, 1e6),
    st.lists(st.floats(0, 40) | st.floats(0, 1e-6), min_size=1, max_size=40),
)
def test_any_spacings_do_no_harm(height, spacing):
    sane(solver.follow(np.array(spacing), height))
