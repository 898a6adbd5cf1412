"""Rivals rolled out once: what they predict, and the file it is kept in."""

import numpy as np
import pytest
import safetensors.numpy
from conftest import zeros
from test_autoregression import ar2

from zetalib.baselines import autoregression, explicit_formula, rollouts
from zetalib.baselines.rollouts import RolledOut
from zetalib.errors import ZetaError

CONTEXT, HORIZON = 100, 6


@pytest.fixture(scope="module")
def ar():
    return autoregression.fit_ar(ar2(50), 3)


@pytest.fixture(scope="module")
def stretches():
    found = [zeros(height, CONTEXT + HORIZON) for height in (1_004_900, 1_014_900, 1_144_800)]
    return np.stack([s for s, _ in found]), np.array([round(t, -4) for _, t in found])


def test_each_rival_predicts_what_it_predicts(stretches, ar):
    spacing, heights = stretches
    contexts = spacing[:, :CONTEXT]
    found = rollouts.roll_out(contexts, heights, HORIZON, ar, 2)
    assert list(found.predicted) == ["AR(3)", "explicit formula"]
    assert np.array_equal(found.predicted["AR(3)"], ar.rollout(contexts, HORIZON))
    assert set(found.subset) == {"explicit formula"}
    assert found.subset["explicit formula"].tolist() == [0, 2]
    by_formula = found.predicted["explicit formula"]
    for row, i in zip(by_formula, (0, 2), strict=True):
        place, _ = explicit_formula.ahead(contexts[i], float(heights[i]), HORIZON)
        assert np.allclose(row.cumsum(), place)
    true = spacing[[0, 2], CONTEXT:]
    assert np.abs(by_formula - true).mean() < 0.5 * np.abs(1 - true).mean()


def test_the_explicit_formula_is_a_rival_where_it_holds_and_is_asked_for(stretches, ar):
    contexts, heights = stretches[0][:, :CONTEXT], stretches[1]
    for explicit, low in ((0, heights), (2, np.array([1e2, 1e6, 1e6]))):
        found = rollouts.roll_out(contexts, low, HORIZON, ar, explicit)
        assert list(found.predicted) == ["AR(3)"] and found.subset == {}


def rolled():
    """By two contexts, as :func:`rollouts.roll_out` gives it."""
    rng = np.random.default_rng(0)
    few = np.array([0, 3, 6])
    return {
        128: RolledOut({"AR(3)": rng.random((7, 5)), "a < b": rng.random((3, 5))}, {"a < b": few}),
        16: RolledOut({"AR(2)": rng.random((7, 5))[:, ::-1]}, {}),
    }


def test_what_is_written_is_read(tmp_path):
    path, given = tmp_path / "rivals.safetensors", rolled()
    rollouts.write(path, given)
    found = rollouts.read(path)
    assert list(found) == [128, 16]
    for context, one in given.items():
        for part, again in zip(one, found[context], strict=True):
            assert list(part) == list(again)
            for name in part:
                assert np.array_equal(part[name], again[name])
                assert part[name].dtype == again[name].dtype
    content = path.read_bytes()
    for _ in range(5):
        rollouts.write(path, given)
        assert path.read_bytes() == content, "equal runs leave equal files"


def test_no_rivals_are_a_file_too(tmp_path):
    rollouts.write(tmp_path / "rivals.safetensors", {})
    assert rollouts.read(tmp_path / "rivals.safetensors") == {}


@pytest.mark.parametrize("damage", ["gone", "cut", "text", "bare", "part", "names"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = tmp_path / "rivals.safetensors"
    rollouts.write(path, rolled())
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "text":
        path.write_text("rollouts")
    elif damage == "bare":
        path.write_bytes(safetensors.numpy.save({"0": np.ones((2, 2))}))
    elif damage == "part":
        path.write_bytes(content.replace(b'"2":', b'"7":'))
    else:
        said = {"rollouts": "[[128]]"}
        path.write_bytes(safetensors.numpy.save({"0": np.ones((2, 2))}, said))
    with pytest.raises(ZetaError, match=r"rivals\.safetensors: not a file.*dvc repro -f rollouts"):
        rollouts.read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(tmp_path, value):
    given = rolled()
    given[16].predicted["AR(2)"][0, 0] = value
    rollouts.write(tmp_path / "rivals.safetensors", given)
    with pytest.raises(ZetaError, match=r"AR\(2\) beyond 16 spacings: .* expected finite"):
        rollouts.read(tmp_path / "rivals.safetensors")
