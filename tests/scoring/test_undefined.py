"""No metric and no plot holds NaN or infinity: what is undefined is null, the rest is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from zetalib import atomic
from zetalib.errors import ZetaError


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.float64(np.nan)])
@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (
            lambda v: {"coverage": {"0.9": {"raw": {"se": 0.1, "width": v}}}},
            "coverage.0.9.raw.width",
        ),
        (lambda v: {"claims": [{"p": None}, {"p": v}]}, "claims.1.p"),
        (lambda v: [(1.0, v)], "0.1"),
        (lambda v: v, "it"),
    ],
)
def test_a_metric_that_is_no_number_is_refused_by_its_keys(tmp_path, content, keys, value):
    path = tmp_path / "metrics.json"
    path.write_text("before")
    with pytest.raises(ZetaError) as caught:
        atomic.write_json(path, content(value))
    assert str(caught.value).startswith(
        f"{path}: {keys} is {float(value)}, a finite number or null"
    )
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_what_is_undefined_is_null(tmp_path):
    atomic.write_json(tmp_path / "m.json", {"r2": None, "nll": -1.5})
    assert json.loads((tmp_path / "m.json").read_text()) == {"r2": None, "nll": -1.5}


def test_other_mistakes_of_json_stay_what_they_are(tmp_path):
    around: list = []
    around.append(around)
    with pytest.raises(RecursionError):
        atomic.write_json(tmp_path / "m.json", around)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_plot_with_a_missing_number_is_refused_by_row_and_column(tmp_path, value):
    table = pd.DataFrame({"h": [1, 2, 3], "err": [0.1, value, 0.3], "series": ["a", "b", "c"]})
    path = tmp_path / "plot.csv"
    with pytest.raises(ZetaError, match=rf"plot\.csv: row 1: err is {value}, a finite number"):
        atomic.write_table(path, table)
    assert not path.exists()


def test_blank_columns_may_be_blank_and_not_infinite(tmp_path):
    table = pd.DataFrame({"x": [1.0, 2.0], "error": [np.nan, 0.5], "label": ["a", "b"]})
    atomic.write_table(tmp_path / "plot.csv", table, ["error"])
    assert (tmp_path / "plot.csv").read_text() == table.to_csv(index=False)
    table.loc[0, "error"] = np.inf
    with pytest.raises(ZetaError, match="row 0: error is inf"):
        atomic.write_table(tmp_path / "plot.csv", table, ["error"])
    nothing = pd.DataFrame(columns=["x", "error"])
    atomic.write_table(tmp_path / "empty.csv", nothing)
    assert (tmp_path / "empty.csv").read_text() == "x,error\n"
