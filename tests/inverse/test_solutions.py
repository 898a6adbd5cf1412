"""Solutions kept by stretch and in files, and the contexts of rollouts solved ahead once."""

import numpy as np
import pytest
import safetensors.numpy
from conftest import zeros

from zetalib.errors import ZetaError
from zetalib.inverse import extrapolate, noise, solutions, solver
from zetalib.inverse.solutions import Extrapolation, Solution, SolutionCache

pytestmark = pytest.mark.usefixtures("one_blas_thread")

CONTEXT, STEPS = 60, 12


@pytest.fixture(scope="module")
def stretches():
    """Stretches of 90 zeros and their heights, rounded to three digits."""
    found = [zeros(h, 89) for h in (253_400, 287_700, 301_300, 344_600)]
    return np.stack([s for s, _ in found]), np.array([round(h, -3) for _, h in found])


@pytest.fixture(scope="module")
def solved(stretches):
    return noise.forecasts(*stretches)


@pytest.fixture(scope="module")
def tables(stretches, solved):
    """The zeros ahead of the first `CONTEXT` spacings, as the functions themselves give them."""
    spacing, height = stretches
    misfit = solved[:, CONTEXT - 1, 6]
    calls = zip(spacing[:, :CONTEXT], height.tolist(), misfit.tolist(), strict=True)
    return np.stack([extrapolate.ahead(*call, STEPS) for call in calls])


def refuse(monkeypatch):
    """From now on nothing may be solved."""
    monkeypatch.setattr(noise, "forecasts", None)
    monkeypatch.setattr(extrapolate, "ahead", None)


def test_a_solution_names_the_columns_of_the_solver(stretches, solved):
    spacing, height = stretches
    cache = SolutionCache()
    cache.add(spacing, height, solved)
    found = cache(spacing[:, :30], height)
    assert np.array_equal(np.stack(found, -1), solved[:, :30])
    assert np.array_equal(cache.stacked(spacing[:, :30], height), solved[:, :30])
    assert np.array_equal(found.fine, solved[:, :30, 0]) and found.misfit.shape == (4, 30)
    some = Solution.of(solved).at((slice(1, 3), slice(5, 9)))
    assert np.array_equal(np.stack(some, -1), solved[1:3, 5:9])


def test_known_computes_what_is_missing(stretches, solved, monkeypatch):
    spacing, height = (v[:, :60] if v.ndim > 1 else v for v in stretches)
    known, computed = SolutionCache(), []
    known.add(spacing[:2], height[:2], solved[:2, :60])

    def forecasts(s, h, _):
        computed.extend(h.tolist())
        return np.zeros((*s.shape, 7))

    monkeypatch.setattr(noise, "forecasts", forecasts)
    found = known.stacked(spacing, height)
    assert np.array_equal(found[:2], solved[:2, :60]) and not found[2:].any()
    assert computed == height[2:].tolist()
    assert np.array_equal(known.stacked(spacing[:2, :40], height[:2]), solved[:2, :40])
    assert len(computed) == 2


def test_known_never_gives_another_stretch(stretches, solved, monkeypatch):
    spacing, height = stretches[0][:1, :60], stretches[1][:1]
    known = SolutionCache()
    known.add(spacing, height, solved[:1, :60])
    monkeypatch.setattr(noise, "forecasts", lambda s, *_: np.full((*s.shape, 7), -1.0))
    other = spacing.copy()
    other[0, 59] += 1e-15  # beyond the key
    assert (known.stacked(other, height) == -1).all()
    assert (known.stacked(spacing, height + 1000) == -1).all()
    longer = np.concatenate([spacing, spacing[:, :1]], 1)
    assert (known.stacked(longer, height) == -1).all()


def test_saved_forecasts_come_back(tmp_path, stretches, solved, monkeypatch):
    path = tmp_path / "known.safetensors"
    solutions.save(path, *stretches, solved)
    monkeypatch.setattr(noise, "forecasts", None)
    assert np.array_equal(solutions.load(path).stacked(*stretches), solved)


@pytest.mark.parametrize("damage", ["gone", "cut", "text", "shape", "part"])
def test_damaged_files_are_refused(tmp_path, stretches, solved, damage):
    path = tmp_path / "known.safetensors"
    spacing, height = stretches
    solutions.save(path, spacing, height, solved[:, :-1] if damage == "shape" else solved)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "text":
        path.write_text("forecasts")
    elif damage == "part":
        path.write_bytes(content.replace(b'"height"', b'"weight"'))
    with pytest.raises(ZetaError, match="dvc repro"):
        solutions.load(path)


@pytest.mark.parametrize(
    ("part", "place", "value", "problem"),
    [
        (0, (0, 3), np.nan, "spacing holds float64 or what is not finite"),
        (1, 0, np.inf, "height holds float64 or what is not finite"),
        (2, (0, 3, 0), np.nan, "forecasts holds float64 or what is not finite"),
        (2, (0, 3, 1), 0.0, "a standard deviation is not above 0"),
        (2, (0, 3, 5), -0.1, "a standard deviation is not above 0"),
    ],
)
def test_saved_forecasts_that_mean_nothing_are_refused(
    tmp_path, stretches, solved, part, place, value, problem
):
    parts = [a.copy() for a in (*stretches, solved)]
    parts[part][place] = value
    solutions.save(tmp_path / "known.safetensors", *parts)
    with pytest.raises(ZetaError, match=rf"known\.safetensors: {problem}.*dvc repro -f invert"):
        solutions.load(tmp_path / "known.safetensors")


def test_the_zeros_ahead_that_are_kept_are_those_computed(stretches, tables, monkeypatch):
    spacing, height = stretches[0][:, :CONTEXT], stretches[1]
    cache = SolutionCache()
    cache.prepare(spacing, height, STEPS)
    refuse(monkeypatch)
    assert np.array_equal(cache.ahead(spacing, height, STEPS), tables)
    assert np.array_equal(cache.ahead(spacing[1:3], height[1:3], 5), tables[1:3, :5])
    assert np.array_equal(
        cache.stacked(spacing[:, :30], height)[0], cache.stacked(spacing, height)[0, :30]
    )


def test_fewer_zeros_ahead_are_the_first_of_more(stretches, tables):
    """So that it does not matter what was asked for first."""
    spacing, height = stretches[0][:, :CONTEXT], stretches[1]
    cache = SolutionCache()
    few = cache.ahead(spacing, height, 5)
    np.testing.assert_allclose(few, tables[:, :5], rtol=1e-12, atol=1e-12)
    assert np.array_equal(cache.ahead(spacing, height, STEPS), tables)
    assert np.array_equal(cache.ahead(spacing, height, 5), tables[:, :5])


def test_zeros_ahead_are_computed_where_they_are_missing(stretches, solved, tables, monkeypatch):
    spacing, height = stretches[0][:, :CONTEXT], stretches[1]
    cache, computed = SolutionCache(), []
    cache.add(*stretches, solved)
    cache.add_ahead(spacing[:2], height[:2], tables[:2])

    def ahead(s, h, misfit, number, noise):
        assert noise is None
        computed.append((len(s), h, misfit))
        return np.full((number, len(extrapolate.COLUMNS)), -1.0)

    monkeypatch.setattr(extrapolate, "ahead", ahead)
    found = cache.ahead(spacing, height, STEPS)
    assert np.array_equal(found[:2], tables[:2]) and (found[2:] == -1).all()
    misfit = solved[2:, CONTEXT - 1, 6]
    wanted = zip([CONTEXT] * 2, height[2:].tolist(), misfit.tolist(), strict=True)
    assert sorted(computed) == sorted(wanted)
    other = spacing[:1].copy()
    other[0, -1] += 1e-15  # beyond what is hashed
    for s, h in (
        (other, height[:1]),
        (spacing[:1, :-1], height[:1]),
        (stretches[0][:1, : CONTEXT + 1], height[:1]),
        (spacing[:1], height[:1] + 1000),
    ):
        assert (cache.ahead(s, h, STEPS) == -1).all()


def test_saved_zeros_ahead_come_back(tmp_path, stretches, solved, tables, monkeypatch):
    path, (spacing, height) = tmp_path / "known.safetensors", stretches
    shorter = tables[:, :3] + 1
    solutions.save(path, spacing, height, solved, {CONTEXT: tables, 20: shorter})
    content = path.read_bytes()
    solutions.save(path, spacing, height, solved, {CONTEXT: tables, 20: shorter})
    assert path.read_bytes() == content
    cache = solutions.load(path)
    refuse(monkeypatch)
    assert np.array_equal(cache.stacked(spacing, height), solved)
    assert np.array_equal(cache.ahead(spacing[:, :CONTEXT], height, STEPS), tables)
    assert np.array_equal(cache.ahead(spacing[:, :20], height, 3), shorter)


def test_a_split_has_what_is_inverted_and_what_rollouts_start_from(
    tmp_path, stretches, solved, tables, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    spacing, height = stretches
    for folder in ("data/inversion", "data/rollouts"):
        (tmp_path / folder).mkdir(parents=True)
    solutions.save("data/inversion/val.safetensors", spacing[:2], height[:2], solved[:2])
    short = spacing[2:, :CONTEXT], height[2:], solved[2:, :CONTEXT]
    solutions.save("data/rollouts/val_scores.safetensors", *short, {CONTEXT: tables[2:]})
    cache = solutions.load_split("val")
    refuse(monkeypatch)
    assert np.array_equal(cache.stacked(spacing[:, :CONTEXT], height), solved[:, :CONTEXT])
    assert np.array_equal(cache.ahead(short[0], short[1], STEPS), tables[2:])
    with pytest.raises(ZetaError, match="train.safetensors: not a file of solutions"):
        solutions.load_split("train")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: {CONTEXT: t[:-1]}, "zeros ahead of 60 spacings have shape"),
        (lambda t: {CONTEXT: t[..., :1]}, "zeros ahead of 60 spacings have shape"),
        (lambda t: {CONTEXT: t[..., 0]}, "zeros ahead of 60 spacings have shape"),
        (lambda t: {0: t}, "zeros ahead of 0 spacings have shape"),
        (lambda t: {90: t}, "zeros ahead of 90 spacings have shape"),
        (lambda t: {CONTEXT: t.astype(np.float32)}, "ahead_60 holds float32"),
        (lambda t: {CONTEXT: np.where(t == t[0, 0, 0], np.nan, t)}, "ahead_60 holds float64 or"),
        (
            lambda t: {CONTEXT: t * [1.0, 0.0, *[1.0] * 5]},
            "a standard deviation ahead of 60 spacings is not",
        ),
        (
            lambda t: {CONTEXT: t * [1.0, -1.0, *[1.0] * 5]},
            "a standard deviation ahead of 60 spacings is not",
        ),
    ],
)
def test_saved_zeros_ahead_that_mean_nothing_are_refused(
    tmp_path, stretches, solved, tables, change, problem
):
    solutions.save(tmp_path / "known.safetensors", *stretches, solved, change(tables))
    with pytest.raises(ZetaError, match=rf"known\.safetensors: {problem}.*dvc repro -f invert"):
        solutions.load(tmp_path / "known.safetensors")


def test_zeros_ahead_of_what_is_no_number_are_refused(tmp_path, stretches, solved, tables):
    path = tmp_path / "known.safetensors"
    parts = dict(zip(("spacing", "height", "forecasts"), (*stretches, solved), strict=True))
    path.write_bytes(safetensors.numpy.save({**parts, "ahead_some": tables}))
    with pytest.raises(ZetaError, match="not a file of solutions"):
        solutions.load(path)


@pytest.fixture
def cache(stretches, solved, tables):
    """All that a rollout from the first `CONTEXT` spacings needs."""
    kept = SolutionCache()
    kept.add(*stretches, solved)
    kept.add_ahead(stretches[0][:, :CONTEXT], stretches[1], tables)
    return kept


def test_what_is_fed_back_moves_the_next_forecast_not_the_zeros(
    cache, stretches, solved, tables, monkeypatch
):
    refuse(monkeypatch)
    start, height = stretches[0][:, :CONTEXT], stretches[1]
    for off in (0.0, 0.01):
        run = Extrapolation(cache, start, height, STEPS - 1)
        assert np.array_equal(np.stack(run.recent(CONTEXT), -1), solved[:, :CONTEXT])
        fed = solved[:, CONTEXT - 1, 0] + off
        run.step(fed)
        found = np.stack(run.recent(CONTEXT + 1), -1)
        place, deviation = tables[:, 1, :2].T
        for column in (0, 2, 4):
            assert np.array_equal(found[:, -1, column], np.clip(place - fed, 0.05, 3.5))
            assert np.array_equal(found[:, -1, column + 1], deviation)
        assert np.array_equal(found[:, -1, 6], solved[:, CONTEXT - 1, 6])
        assert np.array_equal(found[:, :-1], solved[:, :CONTEXT])
        assert np.array_equal(np.stack(run.recent(5), -1), found[:, -5:])


def test_zeros_ahead_are_read_off_to_the_last_step(cache, stretches, solved, tables):
    """What is fed back is cut as the solver cuts spacings; forecasts stay within bounds."""
    start, height = stretches[0][:, :CONTEXT], stretches[1]
    rng, run, at = np.random.default_rng(0), Extrapolation(cache, start, height, STEPS - 1), 0.0
    for step in range(1, STEPS):
        fed = rng.gamma(2, 0.5, len(start))
        fed[0] = (-1.0, 1e9)[step % 2]
        run.step(fed)
        at = at + np.clip(fed, 0, solver.MAX_SPACING)
        low, high = extrapolate.STEPS
        np.testing.assert_allclose(
            run.recent(1).fine[:, 0], np.clip(tables[:, step, 0] - at, low, high), atol=1e-12
        )
    assert np.array_equal(
        np.stack(run.recent(CONTEXT + STEPS - 1), -1)[:, :CONTEXT], solved[:, :CONTEXT]
    )


def test_copies_go_on_apart(cache, stretches):
    start, height = stretches[0][:2, :CONTEXT], stretches[1][:2]
    fed = np.array([[0.5, 1.5, 1.0], [1.0, 0.7, 0.9]])
    both = Extrapolation(cache, start, height, 3, copies=3)
    assert np.array_equal(both.recent(9).fine, both.recent(9).fine[[0, 0, 0, 3, 3, 3]])
    both.step(fed.ravel())
    both.step(fed[:, ::-1].ravel())
    for copy in range(3):
        alone = Extrapolation(cache, start, height, 3)
        alone.step(fed[:, copy])
        alone.step(fed[:, 2 - copy])
        found = np.stack(both.recent(CONTEXT + 2), -1)[copy::3]
        assert np.array_equal(found, np.stack(alone.recent(CONTEXT + 2), -1))


@pytest.fixture
def counted(monkeypatch):
    """Shapes followed, and lengths of contexts whose zeros ahead are found, as they come."""
    followed, read, follow, ahead = [], [], noise.forecasts, extrapolate.ahead
    monkeypatch.setattr(
        noise, "forecasts", lambda s, *given: followed.append(s.shape) or follow(s, *given)
    )
    monkeypatch.setattr(
        extrapolate, "ahead", lambda s, *given: read.append(len(s)) or ahead(s, *given)
    )
    return followed, read


def test_contexts_are_solved_once_and_their_beginnings_followed_with_them(stretches, counted):
    spacing, height = stretches[0][:2, :40], stretches[1][:2]
    cache = SolutionCache()
    for length in (40, 40, 30, 30):
        cache.prepare(spacing[:, :length], height, 7)
        run = Extrapolation(cache, spacing[:, :length], height, 6)
        for _ in range(6):
            run.step(run.recent(1).fine[:, 0])
    followed, read = counted
    assert followed == [(2, 40)] and sorted(read) == [30, 30, 40, 40]


def test_nobody_has_to_prepare_for_contexts_to_be_solved_once(stretches, counted):
    spacing, height = stretches[0][:2, :40], stretches[1][:2]
    cache = SolutionCache()
    for length in (40, 40, 30):
        Extrapolation(cache, spacing[:, :length], height, 6)
    followed, read = counted
    assert followed == [(2, 40)] and sorted(read) == [30, 30, 40, 40]


def test_where_contexts_go_does_not_change_what_is_kept(cache, stretches, solved, tables):
    start, height = stretches[0][:, :CONTEXT], stretches[1]
    run = Extrapolation(cache, start, height, 3)
    for _ in range(3):
        run.step(np.full(len(start), 1.7))
    assert np.array_equal(cache.stacked(*stretches), solved)
    assert np.array_equal(cache.ahead(start, height, STEPS), tables)
