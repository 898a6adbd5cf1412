"""Symbolic regression: formulas for the forecast from the last k spacings.

Two searchers behind one interface: PySR when Julia and PySR are installed, else Operon
(`pyoperon`). Both return the same Pareto table; complexity is counted the same way for both, on
the sympy form.
"""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sympy
from numpy.typing import NDArray

from zetalib.errors import ZetaError
from zetalib.forecasts import Forecasts
from zetalib.params import Distill

Floats = NDArray[np.float64]
Search = Callable[[Floats, Floats, Distill], list[str]]


@dataclass(frozen=True)
class Task:
    """Regression data: `x` (m, k), column j the (j+1)-th last spacing, and the possible targets."""

    x: Floats
    model: Floats
    true: Floats


def statistic(forecasts: Forecasts, name: str) -> Floats:
    """`mean` or a quantile such as `q0.9` of each forecast."""
    if name == "mean":
        return forecasts.mixture.mean()
    return forecasts.mixture.quantile(float(name[1:]))


def task(forecasts: Forecasts, p: Distill) -> Task:
    """Targets whose last k spacings are themselves targets of the same file, so known exactly.

    Raises
    ------
    ZetaError
        If there is none.
    """
    k = p.lags
    if len(forecasts.n) <= k or not (forecasts.n[k:] - forecasts.n[:-k] == k).any():
        problem = f"no target has {k} consecutive predecessors"
        raise ZetaError("params.yaml: distill.lags", problem, "Lower it.")
    rows = np.flatnonzero(forecasts.n[k:] - forecasts.n[:-k] == k) + k
    x = forecasts.y[rows[:, None] - 1 - np.arange(k)]
    kept = Forecasts(forecasts.n[rows], forecasts.y[rows], forecasts.mixture[rows])
    return Task(x, statistic(kept, p.statistic), kept.y)


def variables(k: int) -> list[sympy.Symbol]:
    """s1 ... sk: s1 the last spacing, s2 the one before."""
    return [sympy.Symbol(f"s{j}", positive=True) for j in range(1, k + 1)]


def choose_backend(p: Distill) -> str:
    """The searcher to use: what is asked for, or for `auto` PySR when Julia is there, else Operon.

    Raises
    ------
    ZetaError
        If PySR is asked for and it or Julia is missing.
    """
    has_pysr = importlib.util.find_spec("pysr") is not None and shutil.which("julia") is not None
    if p.backend == "pysr" and not has_pysr:
        raise ZetaError(
            "params.yaml: distill.backend",
            "pysr asked for, but PySR or Julia is not installed",
            "Install Julia and `pip install -e .[pysr]`, or use operon.",
        )
    return "pysr" if has_pysr and p.backend != "operon" else "operon"


def search_operon(x: Floats, y: Floats, p: Distill) -> list[str]:
    """Formulas of Operon's final Pareto front (error against length), as infix strings."""
    from pyoperon.sklearn import SymbolicRegressor

    regressor = SymbolicRegressor(
        allowed_symbols="add,sub,mul,div,sqrt,exp,log,constant,variable",
        objectives=["mse", "length"],
        max_length=p.max_length,
        max_evaluations=p.evaluations,
        generations=p.evaluations,  # the number of evaluations is what ends the search
        population_size=500,
        optimizer_iterations=5,
        epsilon=1e-6,
        n_threads=1,  # more would make the result depend on timing
        random_state=p.seed,
    )
    regressor.fit(x, y)
    names = [str(s) for s in variables(x.shape[1])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "contains no variables": a constant is a fine formula
        return [regressor.get_model_string(f["tree"], 9, names) for f in regressor.pareto_front_]


def search_pysr(x: Floats, y: Floats, p: Distill) -> list[str]:
    """Formulas of PySR's hall of fame, as sympy strings."""
    from pysr import PySRRegressor

    regressor = PySRRegressor(
        binary_operators=["+", "-", "*", "/"],
        unary_operators=["sqrt", "exp", "log"],
        maxsize=p.max_length,
        max_evals=p.evaluations,
        niterations=p.evaluations,
        parallelism="serial",
        deterministic=True,
        random_state=p.seed,
        temp_equation_file=True,
        progress=False,
        verbosity=0,
    )
    names = [str(s) for s in variables(x.shape[1])]
    regressor.fit(x, y, variable_names=names)
    return [str(formula) for formula in regressor.equations_["sympy_format"]]


SEARCHES: dict[str, Search] = {"operon": search_operon, "pysr": search_pysr}


def evaluate(formula: sympy.Expr, x: Floats) -> Floats:
    """Values of a formula in s1 ... sk at rows of `x`, shape (m, k)."""
    function = sympy.lambdify(variables(x.shape[1]), formula, "numpy")
    with np.errstate(all="ignore"):
        return np.broadcast_to(np.asarray(function(*x.T), dtype=np.float64), len(x))


def r_squared(predicted: Floats, y: Floats) -> float:
    """1 - residual variance / variance; at most 1, negative when worse than the mean."""
    return float(1 - ((y - predicted) ** 2).mean() / y.var())


def pareto(formulas: list[str], x: Floats, y: Floats) -> pd.DataFrame:
    """The Pareto table: complexity, loss (mean squared error), score, formula; simplest first.

    Complexity is the number of nodes of the sympy expression. Only formulas that are finite on
    all rows and better than every simpler one stay. `score` is the drop of log loss per unit of
    complexity from the row above (PySR's measure).
    """
    symbols = {str(s): s for s in variables(x.shape[1])}
    rows = []
    for text in formulas:
        expression = sympy.sympify(text, locals=symbols)
        loss = float(((evaluate(expression, x) - y) ** 2).mean())
        if np.isfinite(loss):
            nodes = sum(1 for _ in sympy.preorder_traversal(expression))
            rows.append((nodes, loss, expression))
    rows.sort(key=lambda row: (row[0], row[1]))
    front: list[dict[str, Any]] = []
    for nodes, loss, expression in rows:
        if front and loss >= front[-1]["loss"]:
            continue
        score = 0.0
        if front:
            gain = np.log(front[-1]["loss"] / max(loss, 1e-300))
            score = float(gain / (nodes - front[-1]["complexity"]))
        row = {"complexity": nodes, "loss": loss, "score": score, "formula": str(expression)}
        front.append(row)
    return pd.DataFrame(front)


def choose(table: pd.DataFrame) -> int:
    """Row of the formula to quote: the best score among those within 1.5 times the least loss."""
    good = table[table["loss"] <= 1.5 * table["loss"].min()]
    return int(good["score"].idxmax())


def distill(fit_on: Forecasts, tail: Forecasts, p: Distill) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Search on `fit_on`, score every formula on the val tail.

    Returns
    -------
    table : DataFrame
        The Pareto table with `r2_model` and `r2_true` on the tail: against the model's statistic
        and against the true spacing.
    metrics : dict
        Backend, the formula chosen and its scores, and `linear_r2_model`, `linear_r2_true`: least
        squares on the same k spacings, the yardstick.
    """
    data, test = task(fit_on, p), task(tail, p)
    target = data.model if p.target == "model" else data.true
    rng = np.random.default_rng(p.seed)
    rows = np.sort(rng.permutation(len(target))[: p.samples])
    backend = choose_backend(p)
    # Least squares is in the table as a formula too: a search that misses it shows it.
    linear = _least_squares(data.x[rows], target[rows])
    formulas = [*SEARCHES[backend](data.x[rows], target[rows], p), linear]
    table = pareto(formulas, data.x[rows], target[rows])
    if table.empty:
        raise ZetaError("distill", "no formula is finite on the data", "Raise distill.evaluations.")
    symbols = {str(s): s for s in variables(p.lags)}
    values = [evaluate(sympy.sympify(f, locals=symbols), test.x) for f in table["formula"]]
    table["r2_model"] = [_finite(r_squared(v, test.model)) for v in values]
    table["r2_true"] = [_finite(r_squared(v, test.true)) for v in values]
    best = table.iloc[choose(table)]
    straight = evaluate(sympy.sympify(linear, locals=symbols), test.x)
    metrics = {
        "backend": backend,
        "formula": best["formula"],
        "complexity": int(best["complexity"]),
        "loss": float(best["loss"]),
        "r2_model": best["r2_model"],
        "r2_true": best["r2_true"],
        "linear_r2_model": r_squared(straight, test.model),
        "linear_r2_true": r_squared(straight, test.true),
    }
    return table, metrics


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The Pareto table as plain JSON rows."""
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _least_squares(x: Floats, y: Floats) -> str:
    design = np.column_stack([np.ones(len(x)), x])
    constant, *slopes = np.linalg.lstsq(design, y, rcond=None)[0]
    terms = [f"{b:.9g}*{s}" for b, s in zip(slopes, variables(x.shape[1]), strict=True)]
    return " + ".join([f"{constant:.9g}", *terms])


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
