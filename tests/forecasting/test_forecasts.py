"""Forecast files of others: what is right is read, every fault is one line with row and rank."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from zetalib.data.window import Windows
from zetalib.errors import ZetaError
from zetalib.forecasting import forecasts

COUNT, LENGTH, K = 6, 11, 4
ROWS = COUNT * (LENGTH - 1)
RNG = np.random.default_rng(8)
WINDOWS = Windows(
    torch.from_numpy(RNG.uniform(0.2, 2, (COUNT, LENGTH))),
    1000 + LENGTH * torch.arange(COUNT),
    torch.linspace(1e4, 2e4, COUNT, dtype=torch.float64),
)


def columns():
    n, y = forecasts.targets(WINDOWS)
    pi = RNG.dirichlet(np.ones(K), ROWS)
    mu, sigma = RNG.normal(1, 0.3, (ROWS, K)), RNG.uniform(0.01, 0.5, (ROWS, K))
    return {"n": n, "y": y, "pi": pi, "mu": mu, "sigma": sigma, "split": np.full(ROWS, "val")}


GOOD = columns()


def arrow(values):
    """Fixed-size lists, as the interface says; other columns as they are."""
    if getattr(values, "ndim", 1) == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def written(path, **changes):
    """A file of forecasts with some columns replaced, or left out where None."""
    content = {k: v for k, v in (GOOD | changes).items() if v is not None}
    pq.write_table(pa.table({k: arrow(v) for k, v in content.items()}), path)
    return path


def read(path):
    return forecasts.read(path, "val", WINDOWS)


def same(found):
    assert (found.n == GOOD["n"]).all() and (found.y == GOOD["y"]).all()
    for name in ("pi", "mu", "sigma"):
        assert (getattr(found.mixture, name) == GOOD[name]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n": GOOD["n"].astype(np.int32)},
        {"n": GOOD["n"].astype(np.uint64)},
        {"pi": pa.array(GOOD["pi"].tolist())},  # lists of any length
        {"mu": pa.array(GOOD["mu"].tolist(), pa.large_list(pa.float64()))},
        {"split": pa.array(["val"] * ROWS).dictionary_encode()},
        {"model": np.full(ROWS, "theirs"), "nll": np.full(ROWS, np.nan)},  # columns of their own
    ],
)
def test_what_says_the_same_is_read(tmp_path, changes):
    same(read(written(tmp_path / "f.parquet", **changes)))
    same(forecasts.read(tmp_path / "f.parquet"))


def test_order_of_columns_and_row_groups_do_not_matter(tmp_path):
    content = {k: arrow(v) for k, v in reversed(GOOD.items())}
    pq.write_table(pa.table(content), tmp_path / "f.parquet", row_group_size=7)
    same(read(tmp_path / "f.parquet"))


def test_weights_of_float32_are_as_good(tmp_path):
    pi = GOOD["pi"].astype(np.float32)
    assert (read(written(tmp_path / "f.parquet", pi=pi)).mixture.pi == pi).all()


def put(name, row, value, entry=1):
    """That column with one number replaced."""
    values = GOOD[name].copy()
    values[(row, entry) if values.ndim == 2 else row] = value
    return {name: values}


def lists(name, row, value):
    """That column as lists of any length, one replaced."""
    content = GOOD[name].tolist()
    content[row] = value
    return {name: pa.array(content, pa.list_(pa.float64()))}


def half(part):
    return {k: v[part] for k, v in GOOD.items()}


SWAPPED = np.arange(ROWS)
SWAPPED[[12, 13]] = 13, 12
RANK = int(GOOD["n"][12])
FAULTS = [
    (
        {"pi": 2 * GOOD["pi"]},
        rf"row 0 \(rank {GOOD['n'][0]}\): pi sums to 2.0.*, expected 1 within",
    ),
    (put("pi", 12, -0.5), rf"row 12 \(rank {RANK}\): pi is -0.5, expected weights from 0"),
    (put("pi", 12, np.nan), rf"row 12 \(rank {RANK}\): pi is nan, expected weights from 0"),
    (
        put("sigma", 12, 0.0),
        rf"row 12 \(rank {RANK}\): sigma is 0.0, expected finite numbers above",
    ),
    (put("sigma", 12, -1.0), rf"row 12 \(rank {RANK}\): sigma is -1.0, expected finite numbers"),
    (put("sigma", 12, np.inf), rf"row 12 \(rank {RANK}\): sigma is inf, expected finite numbers"),
    (put("mu", 12, np.nan), rf"row 12 \(rank {RANK}\): mu is nan, expected finite numbers"),
    (put("mu", 12, -np.inf), rf"row 12 \(rank {RANK}\): mu is -inf, expected finite numbers"),
    (put("y", 12, 0.7), rf"row 12 \(rank {RANK}\): y is 0.7, expected the spacing"),
    (put("y", 12, np.nan), "row 12: y is nan, expected a finite number"),
    ({"y": GOOD["y"].astype(np.float32)}, r"row 0 \(rank .*\): y is .*, expected the spacing"),
    ({"y": GOOD["y"][::-1].copy()}, r"row 0 \(rank .*\): y is .*, expected the spacing"),
    ({"y": [None, *GOOD["y"][1:]]}, "row 0: y is null, expected a number"),
    ({"n": [*GOOD["n"].tolist()[:-1], None]}, f"row {ROWS - 1}: n is null, expected a number"),
    ({"n": GOOD["n"].astype(float)}, "n is double, expected int64"),
    ({"y": GOOD["y"].astype(str)}, "y is (large_)?string, expected double"),
    ({"n": GOOD["n"] - 1}, f"row 0: rank {GOOD['n'][0] - 1}, expected {GOOD['n'][0]}"),
    (put("n", 12, RANK - 1), f"row 12: rank {RANK - 1}, expected {RANK}"),
    ({k: v[SWAPPED] for k, v in GOOD.items()}, f"row 12: rank {RANK + 1}, expected {RANK}"),
    (half(slice(30)), f"30 rows, expected {ROWS}: positions 2 to {LENGTH} of {COUNT} windows"),
    (half(slice(30, None)), f"row 0: rank {GOOD['n'][30]}, expected {GOOD['n'][0]}"),
    (half(np.arange(ROWS + 10) % ROWS), f"{ROWS + 10} rows, expected {ROWS}"),
    (half(np.repeat(np.arange(ROWS), 2)), f"row 1: rank {GOOD['n'][0]}, expected {GOOD['n'][1]}"),
    (half(slice(0)), "no rows, expected one a target"),
    (lists("pi", 12, [1.0]), rf"row 12 \(rank {RANK}\): pi has 1 entries, expected {K} entries"),
    (lists("mu", 12, None), rf"row 12 \(rank {RANK}\): mu is null, expected {K} entries"),
    (lists("mu", 12, [1.0, None, 1.0, 1.0]), rf"row 12 \(rank {RANK}\): mu holds null"),
    (
        {"pi": pa.array([[]] * ROWS, pa.list_(pa.float64()))},
        r"row 0 \(rank .*\): pi has 0 entries, expected 1",
    ),
    ({"sigma": GOOD["sigma"][:, :3].copy()}, f"sigma has 3 entries a row, expected {K} as pi has"),
    ({"mu": GOOD["mu"][:, 0].copy()}, "mu is double, expected lists of double"),
    ({"mu": GOOD["mu"].astype(np.int64)}, "mu is fixed_size_list<.*int64.*>.*, expected lists of"),
    (
        {"split": np.full(ROWS, "train")},
        rf"row 0 \(rank {GOOD['n'][0]}\): split is train, expected",
    ),
    ({"split": ["val"] * 12 + [None] * (ROWS - 12)}, "row 12 .*: split is None, expected val"),
    *(({name: None}, f"0 columns {name}, expected one") for name in GOOD),
]


@pytest.mark.parametrize(("changes", "problem"), FAULTS)
def test_a_fault_is_one_line_with_row_and_rank(tmp_path, changes, problem):
    path = written(tmp_path / "theirs.parquet", **changes)
    with pytest.raises(ZetaError, match=rf"theirs\.parquet: {problem}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["pi", "sigma"])
def test_a_null_row_of_a_fixed_size_list_is_named(tmp_path, name):
    content = GOOD[name].tolist()
    content[12] = None
    column = pa.array(content, pa.list_(pa.float64(), K))
    with pytest.raises(ZetaError, match=rf"row 12 \(rank {RANK}\): {name} is null"):
        read(written(tmp_path / "f.parquet", **{name: column}))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (put("n", 12, RANK - 1), f"row 12: rank {RANK - 1} after {RANK - 1}, expected a higher"),
        (
            {"split": ["val"] * 12 + ["train"] * (ROWS - 12)},
            "row 12 .*: split is train, expected v",
        ),
        (put("sigma", 12, 0.0), "sigma is 0.0"),
    ],
)
def test_without_windows_what_can_be_seen_is_seen(tmp_path, changes, problem):
    with pytest.raises(ZetaError, match=problem):
        forecasts.read(written(tmp_path / "f.parquet", **changes))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"n,y,pi\n1,2,3\n"])
def test_what_is_no_parquet_is_named(tmp_path, content):
    (tmp_path / "f.parquet").write_bytes(content)
    with pytest.raises(ZetaError, match=r"f\.parquet: not a table of forecasts"):
        read(tmp_path / "f.parquet")
    with pytest.raises(ZetaError, match=r"none\.parquet: not a table of forecasts"):
        read(tmp_path / "none.parquet")
