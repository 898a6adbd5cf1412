"""Symbolic regression: formulas for the forecast and for the truth from the window so far.

Two searchers behind one interface: PySR where it has been set up, else Operon
(`pyoperon`). What they find is treated alike: the constants of every formula are fitted anew, the
Pareto table is by the loss of its task, and complexity is counted on the sympy form.

A task is a target (the network's forecast, or the true spacing), a statistic of it given the past
(mean or quantile), a set of features, and a class of targets by the number of spacings known: a
network that solves the zeros is another function before and after it has.

- The network's statistics are numbers known at each target: fitted by least squares.
- The truth's mean is found by least squares on the true spacings; a quantile of it by the pinball
  loss (Koenker and Bassett, Econometrica 46, 1978), which the searchers do not have: the
  structures are those found for the mean, the constants those of least pinball loss.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
import operator
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import sympy
from numpy.typing import NDArray
from scipy import optimize, stats
from threadpoolctl import threadpool_limits

from zetalib import atomic, compute, params
from zetalib.analysis import claims
from zetalib.data.window import Windows, density, height_offsets
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError
from zetalib.params import Distill
from zetalib.scoring import bootstrap, skill
from zetalib.theory.primes import first_primes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Search = Callable[[Floats, Floats, Sequence[str], Distill], list[str]]

STEP = 1e-30  # of complex differentiation: no digit is lost
TAIL = (1 - claims.CONFIDENCE) / 2


# Targets and features


@dataclass(frozen=True)
class Targets:
    """Targets of some windows, in the order of height, with what was known before each.

    Attributes
    ----------
    known, window : shape (m,)
        Spacings of the window known; the number of the window.
    y : shape (m,), true spacings
    mixture : shape (m, K), the forecasts; None where formulas are of the truth alone
    lags : shape (m, most), the last spacings, latest first; 1 where fewer are known
    sums : shape (m, 2 P), :func:`prime_sums`
    """

    known: Ints
    window: Ints
    y: Floats
    mixture: Mixture | None
    lags: Floats
    sums: Floats

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Targets:
        return Targets(
            self.known[rows],
            self.window[rows],
            self.y[rows],
            None if self.mixture is None else self.mixture[rows],
            self.lags[rows],
            self.sums[rows],
        )

    @property
    def forecasts(self) -> Mixture:
        """`mixture`, which must be there."""
        if self.mixture is None:
            raise ValueError("targets without forecasts")
        return self.mixture

    def features(self, kind: str, p: Distill) -> tuple[list[str], Floats]:
        """Names and values, (m, f), of a set of features.

        `spacings`: s1 ... sk, s1 the last. `primes`: s1, and C_p and S_p of the first primes; the
        last spacing holds what the zero's place within its own jump of S does, no prime.
        """
        if kind == "spacings":
            return lag_names(p.lags), self.lags[:, : p.lags]
        names = [f"{part}{q}" for q in first_primes(p.primes) for part in "CS"]
        return ["s1", *names], np.column_stack([self.lags[:, :1], self.sums])


def lag_names(k: int) -> list[str]:
    """s1 ... sk: s1 the last spacing, s2 the one before."""
    return [f"s{j}" for j in range(1, k + 1)]


def last_spacings(windows: Windows, most: int) -> Floats:
    """The last spacings at each target, latest first, (W, T - 1, most); 1 where none is known."""
    past = windows.spacing.numpy()[:, :-1]
    padded = np.concatenate([np.ones((len(past), most - 1)), past], 1)
    return np.lib.stride_tricks.sliding_window_view(padded, most, axis=1)[:, :, ::-1]


def prime_sums(windows: Windows, number: int) -> Floats:
    """C_p and S_p before each target: cosine and sine of gamma log p at the last zero gamma, found.

    The zeros gamma_j of the window so far are a sum of the explicit formula's waves, of amplitude
    -log p / (pi sqrt p), on their mean density rho:

        sum_j e^{i (gamma_j - gamma) log p} - integral of rho e^{i h log p}
            = -log p / (2 pi sqrt p) L e^{-i gamma log p} + what other primes put there,

    L the height of the window so far, every zero of weight one. Divided by that amplitude, and
    shrunk by L / (L + 2 pi p / log p): below that length the prime is not told from its neighbours.
    Heights are from the spacings and the rounded height, the last zero their origin.

    Returns
    -------
    shape (W, T - 1, 2 number): C_2, S_2, C_3, S_3, ...
    """
    spacing, height = windows.spacing, windows.heights()
    h = np.zeros(spacing.shape)
    h[:, 1:] = height_offsets(spacing[:, :-1], height).numpy()
    rho = density(height).numpy()[:, None]
    found = []
    for p in first_primes(number):
        log = math.log(p)
        wave = np.exp(1j * log * h)
        excess = wave.cumsum(1) / wave - rho * (1 - 1 / wave) / (1j * log)
        excess *= -2 * math.pi * math.sqrt(p) / log / (h + 2 * math.pi * p / log)
        found += [excess.real, -excess.imag]
    return np.stack(found, -1)[:, 1:]


class Forecasts(Protocol):
    """True spacings (m,) and the forecasts made of them (:mod:`zetalib.forecasting.forecasts`)."""

    @property
    def y(self) -> Floats: ...
    @property
    def mixture(self) -> Mixture: ...


def targets(forecasts: Forecasts | None, windows: Windows, p: Distill) -> Targets:
    """The targets of a split with their features; with forecasts, if there are any.

    Raises
    ------
    ZetaError
        If the forecasts are not of these windows.
    """
    count, length = windows.spacing.shape
    y = windows.spacing[:, 1:].numpy().ravel()
    if forecasts is not None and not np.array_equal(forecasts.y, y):
        problem = "the forecasts are not of the targets of data/windows"
        raise ZetaError("data/forecasts", problem, "Run `dvc repro`.")
    most = max(p.lags, p.max_length, 2 * p.primes + 1)
    return Targets(
        bootstrap.position(count, length),
        np.repeat(np.arange(count), length - 1),
        y,
        None if forecasts is None else forecasts.mixture,
        last_spacings(windows, most).reshape(-1, most),
        prime_sums(windows, p.primes).reshape(len(y), -1),
    )


def check_finite(names: Sequence[str], x: Floats, split: str) -> None:
    """Refuse columns of `x`, (m, names), that are not finite, before a search meets them.

    Raises
    ------
    ZetaError
        Naming the first such column and how many of its values are.
    """
    bad = ~np.isfinite(x)
    if bad.any():
        k = int(np.argmax(bad.any(0)))
        problem = (
            f"{names[k]} is NaN or infinite at {bad[:, k].sum()} of {len(x)} targets of {split}"
        )
        raise ZetaError(
            "data/forecasts", problem, "Run `dvc repro -f window`, and look at what it reads."
        )


def classes(known: Sequence[int], length: int) -> dict[str, tuple[int, int]]:
    """First and last number of spacings known of each class, by its name."""
    ends = [*(start - 1 for start in known[1:]), length - 1]
    return {f"{a}-{b}": (a, b) for a, b in zip(known, ends, strict=True)}


def statistic(mixture: Mixture, name: str) -> Floats:
    """`mean` or a quantile such as `q0.9` of each forecast."""
    return mixture.mean() if name == "mean" else mixture.quantile(float(name[1:]))


# Search


def choose_backend(p: Distill) -> str:
    """The searcher to use: what is asked for, or for `auto` PySR where it works, else Operon.

    That `auto` can be sure of without starting Julia where PySR has been imported once before:
    juliapkg, which finds or downloads a Julia and its packages then, keeps a record of that. Else
    a search might begin with a download, or end with one that failed.

    Raises
    ------
    ZetaError
        If PySR is asked for and not installed.
    """
    if p.backend == "pysr" and not params.installed("pysr"):  # params.load says so before
        problem = "pysr asked for, and the package is not installed"
        raise ZetaError("params.yaml: distill.backend", problem, "pip install -e '.[pysr]'.")
    if p.backend == "auto":
        return "pysr" if params.installed("pysr") and julia_is_ready() else "operon"
    return p.backend


def julia_is_ready() -> bool:
    """Whether juliapkg's record names a Julia that is there, with its project's manifest."""
    if not params.installed("juliapkg"):
        return False
    try:
        from juliapkg.state import STATE

        record = Path(STATE["meta"])
        meta = json.loads(record.read_text())
        manifest = record.parents[1] / "Manifest.toml"
        return os.access(meta["executable"], os.X_OK) and manifest.is_file()
    except Exception:  # whatever another version of it keeps elsewhere: not known to be ready
        return False


def search_operon(x: Floats, y: Floats, names: Sequence[str], p: Distill) -> list[str]:
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "contains no variables": a constant is a fine formula
        front = [f["tree"] for f in regressor.pareto_front_]
        return [regressor.get_model_string(tree, 9, list(names)) for tree in front]


def search_pysr(x: Floats, y: Floats, names: Sequence[str], p: Distill) -> list[str]:
    """Formulas of PySR's hall of fame, as sympy strings."""
    try:
        from pysr import PySRRegressor
    except Exception as error:  # of juliapkg: no network, no room, no Julia that fits
        problem = f"PySR's Julia could not be made ready ({type(error).__name__}: {error})"
        remedy = "See that `python -c 'import pysr'` ends well, or set it to operon."
        raise ZetaError("params.yaml: distill.backend", problem, remedy) from None

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
    regressor.fit(x, y, variable_names=list(names))
    return [str(formula) for formula in regressor.equations_["sympy_format"]]


SEARCHES: dict[str, Search] = {"operon": search_operon, "pysr": search_pysr}


# Formulas and their constants


def symbols(names: Sequence[str]) -> list[sympy.Symbol]:
    """Spacings are positive, sums over zeros real."""
    return [sympy.Symbol(name, real=True, positive=name[0] == "s" or None) for name in names]


@dataclass(frozen=True)
class Formula:
    """An expression in features and in constants k1, k2, ..., and the values of these."""

    expression: sympy.Expr
    names: tuple[str, ...]
    constants: Floats

    def __reduce__(self) -> tuple[Any, ...]:
        return Formula, (self.expression, self.names, self.constants)

    @cached_property
    def _function(self) -> Callable[..., Any]:
        arguments = [*symbols(self.names), *_constants(len(self.constants))]
        return sympy.lambdify(arguments, self.expression, "numpy")  # type: ignore[no-any-return]

    def __call__(self, x: Floats, constants: NDArray[Any] | None = None) -> NDArray[Any]:
        """Values at rows of `x`, shape (m, features); NaN where there is none."""
        k = self.constants if constants is None else constants
        with np.errstate(all="ignore"):
            return np.broadcast_to(self._function(*x.T, *k), len(x))

    def jacobian(self, x: Floats, constants: Floats) -> Floats:
        """Derivatives by the constants, (m, constants), exact to rounding (complex step)."""
        steps = constants + STEP * 1j * np.eye(len(constants))
        columns = [self(x, row).imag / STEP for row in steps]
        return np.stack(columns, 1) if columns else np.empty((len(x), 0))

    def terms(self) -> int:
        """How often features occur: AR of as many terms looks at as many spacings."""
        given = set(symbols(self.names))
        return sum(node in given for node in sympy.preorder_traversal(self.expression))

    def complexity(self) -> int:
        """Nodes of the sympy expression."""
        return sum(1 for _ in sympy.preorder_traversal(self.expression))

    def __str__(self) -> str:
        values = (sympy.Float(float(k), 9) for k in self.constants)
        return str(
            self.expression.xreplace(
                dict(zip(_constants(len(self.constants)), values, strict=True))
            )
        )


def _constants(count: int) -> list[sympy.Symbol]:
    return [sympy.Symbol(f"k{i}") for i in range(1, count + 1)]


def parse(text: str, names: Sequence[str]) -> Formula:
    """A formula from its text: every number but 1, -1 and powers is a constant to be fitted."""
    given = {str(s): s for s in symbols(names)}
    values: list[float] = []

    def part(node: Any) -> Any:
        if node.is_Number and abs(node) != 1:
            values.append(float(node))
            return sympy.Symbol(f"k{len(values)}")
        if node.is_Pow and node.exp.is_Number:
            return sympy.Pow(part(node.base), node.exp)
        return node.func(*map(part, node.args)) if node.args else node

    expression = part(sympy.sympify(text, locals=given))
    return Formula(expression, tuple(names), np.array(values))


def read_form(form: str, names: Sequence[str], constants: Sequence[float]) -> Formula:
    """A formula from the text of its expression in features and k1, k2, ...

    Arithmetic, powers and sqrt, exp, log alone are read: no text of a file is run as code.

    Raises
    ------
    ValueError
        If the text holds anything else, or other names.
    """
    given = {str(s): s for s in [*symbols(names), *_constants(len(constants))]}
    operations: dict[type, Callable[[Any, Any], Any]] = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.Pow: operator.pow,
    }
    functions = {"sqrt": sympy.sqrt, "exp": sympy.exp, "log": sympy.log, "Abs": sympy.Abs}

    def read(node: ast.expr) -> Any:
        match node:
            case ast.BinOp(left, op, right) if type(op) in operations:
                return operations[type(op)](read(left), read(right))
            case ast.UnaryOp(ast.USub(), operand):
                return -read(operand)
            case ast.Call(ast.Name(name), [argument], []) if name in functions:
                return functions[name](read(argument))
            case ast.Name(name) if name in given:
                return given[name]
            case ast.Constant(value) if type(value) in (int, float):
                return sympy.sympify(value)
        raise ValueError(f"{ast.unparse(node)!r} is no part of a formula")

    try:
        expression = read(ast.parse(form, mode="eval").body)
    except (SyntaxError, RecursionError) as error:
        raise ValueError(f"{form[:60]!r} is no formula ({error})") from None
    return Formula(sympy.sympify(expression), tuple(names), np.array(constants, dtype=np.float64))


def linear(names: Sequence[str]) -> Formula:
    """k1 + k2 s1 + ...: least squares as a formula. A search that misses it shows it."""
    k = _constants(len(names) + 1)
    products = (a * s for a, s in zip(k[1:], symbols(names), strict=True))
    return Formula(sum(products, start=k[0]), tuple(names), np.zeros(len(k)))


def losses(value: Floats, y: Floats, q: float | None) -> Floats:
    """Squared errors, or for a quantile the pinball losses, shape (m,)."""
    residual = y - value
    if q is None:
        return np.asarray(residual**2)
    return np.maximum(q * residual, (q - 1) * residual)


def fitted(formula: Formula, x: Floats, y: Floats, q: float | None = None) -> Formula:
    """The formula with constants of least loss, from those it has; as it is where that fails."""
    start = formula.constants
    if not len(start) or not np.isfinite(formula(x)).all():
        return formula
    with np.errstate(all="ignore"):
        try:
            found = optimize.least_squares(
                lambda k: formula(x, k) - y,
                start,
                jac=lambda k: formula.jacobian(x, k),
                method="trf",  # where MINPACK's "lm" ends depends on where in memory arrays lie
                max_nfev=50,
            ).x
        except (ValueError, np.linalg.LinAlgError):  # no finite derivative on the way
            return formula
        if q is not None:
            found = optimize.minimize(
                lambda k: np.nan_to_num(losses(formula(x, k), y, q).mean(), nan=np.inf),
                found,
                jac=lambda k: -(q - (y < formula(x, k))) @ formula.jacobian(x, k) / len(y),
                method="BFGS",
            ).x
    loss = [losses(formula(x, k), y, q).mean() for k in (found, start)]
    return replace(formula, constants=found if loss[0] <= loss[1] else start)


def intervals(
    formula: Formula, x: Floats, y: Floats, window: Ints, seed: int, q: float | None = None
) -> tuple[list[dict[str, float]], bool]:
    """Constants with their intervals, windows drawn with replacement, and whether all are told.

    Each draw's constants are one Gauss-Newton step from the fitted ones (Davidson and MacKinnon,
    Int. Econ. Rev. 40, 1999): exact for formulas linear in them. The pinball loss has for its
    second derivative the density of residuals at zero (Powell's kernel estimate). Constants that
    only act together are not told apart: their intervals mean nothing, the formula's do.
    """
    k, slope = formula.constants, formula.jacobian(x, formula.constants)
    if not len(k):
        return [], True
    residual = y - formula(x)
    if q is None:
        pull, weight = residual, np.ones(len(x))
    else:
        width = residual.std() * len(x) ** -0.2
        pull = q - (residual < 0)
        weight = (np.abs(residual) < width) / (2 * width)
    scale = np.sqrt((slope**2).mean(0)) + 1e-300
    slope = slope / scale
    upper = np.triu_indices(len(k))
    gram = (slope[:, upper[0]] * slope[:, upper[1]] * weight[:, None]).T
    means = bootstrap.bootstrap(np.vstack([(slope * pull[:, None]).T, gram]), window, seed)
    matrix = np.zeros((len(means), len(k), len(k)))
    matrix[:, upper[0], upper[1]] = matrix[:, upper[1], upper[0]] = means[:, len(k) :]
    moved = np.linalg.pinv(matrix, rcond=1e-9, hermitian=True) @ means[:, : len(k), None]
    low, high = np.quantile(k + moved[:, :, 0] / scale, [TAIL, 1 - TAIL], axis=0)
    told = np.linalg.matrix_rank(slope, tol=1e-4 * math.sqrt(len(x))) == len(k)
    rows = [
        {"value": float(v), "low": float(a), "high": float(b)}
        for v, a, b in zip(k, low, high, strict=True)
    ]
    return rows, bool(told)


# Tables


@dataclass(frozen=True)
class Task:
    """What is to be said by a formula, at the targets it is fitted on and at those of the tail.

    Attributes
    ----------
    x, y : shapes (m, f), (m,)
        Features and what a formula is fitted to.
    q : level of the pinball loss, None for least squares
    truth, window : shape (m,)
    tail, model, true : shapes (n, f), (n,), (n,)
        Of the tail: features, the network's statistic, the true spacings.
    level : that of the statistic, None for a mean
    """

    x: Floats
    y: Floats
    q: float | None
    truth: Floats
    window: Ints
    tail: Floats
    model: Floats
    true: Floats
    level: float | None


class Front(NamedTuple):
    """Formulas of a task with their constants fitted, and AR of as many terms, by terms."""

    formulas: list[Formula]
    rivals: dict[int, Formula]


def fit_front(
    x: Floats, y: Floats, q: float | None, lags: Floats, texts: Sequence[str], names: Sequence[str]
) -> Front:
    """Fit what a search found, and least squares; keep what nothing simpler does better.

    Parameters
    ----------
    x : shape (m, f), features by `names`
    y : shape (m,)
    q : level of the pinball loss, None for least squares
    lags : shape (m, most)
        The last spacings, for AR of as many terms as a formula has, fitted by the same loss.
    texts : formulas as a search wrote them
    """
    candidates = [*(parse(text, names) for text in texts), linear(names)]
    table, formulas = pareto(candidates, x, y, q)
    counts = sorted(set(table["terms"].tolist()))
    rivals = {n: fitted(linear(lag_names(n)), lags[:, :n], y, q) for n in counts}
    return Front(formulas, rivals)


def pareto(
    formulas: Sequence[Formula],
    x: Floats,
    y: Floats,
    q: float | None = None,
    *,
    fit: bool = True,
) -> tuple[pd.DataFrame, list[Formula]]:
    """The Pareto table, simplest first, and its formulas with their constants fitted.

    With `fit` False they are as given.

    Columns: complexity, terms, loss (mean square, or pinball for a quantile), score, formula. Only
    formulas that are finite on all rows and better than every simpler one stay. `score` is the
    drop of log loss per unit of complexity from the row above (PySR's measure).
    """
    rows = []
    for formula in formulas:
        best = fitted(formula, x, y, q) if fit else formula
        loss = float(losses(best(x), y, q).mean())
        if np.isfinite(loss):
            rows.append((best.complexity(), loss, best))
    rows.sort(key=lambda row: (row[0], row[1]))
    front: list[dict[str, Any]] = []
    kept: list[Formula] = []
    for nodes, loss, best in rows:
        if front and loss >= front[-1]["loss"]:
            continue
        score = 0.0
        if front:
            gain = np.log(front[-1]["loss"] / max(loss, 1e-300))
            score = float(gain / (nodes - front[-1]["complexity"]))
        row = {"complexity": nodes, "terms": best.terms(), "loss": loss, "score": score}
        front.append({**row, "formula": str(best)})
        kept.append(best)
    return pd.DataFrame(front), kept


def choose(table: pd.DataFrame, rows: int) -> int:
    """Row to quote: that of the least n log loss + complexity log n, n rows fitted on.

    Schwarz's criterion (Ann. Statist. 6, 1978), each node of a formula for a parameter.
    """
    loss = np.maximum(table["loss"].to_numpy(), 1e-300)
    return int(np.argmin(rows * np.log(loss) + table["complexity"].to_numpy() * np.log(rows)))


def explained(value: Floats, y: Floats, q: float | None = None) -> float | None:
    """1 - loss / loss of the best constant: R^2, or for a quantile Koenker and Machado's R^1.

    At most 1, negative when worse than knowing nothing, None when not finite.
    """
    constant = np.full(len(y), y.mean() if q is None else np.quantile(y, q))
    worst = losses(constant, y, q).mean()
    return _finite(1 - losses(value, y, q).mean() / worst)


def noise(value: Floats, y: Floats) -> tuple[float, float]:
    """Mean and standard deviation of what a formula leaves of the truth."""
    residual = y - value
    return float(residual.mean()), float(residual.std())


def nll(value: Floats, y: Floats, own: tuple[float, float]) -> float | None:
    """Mean negative log likelihood, nats, of the formula with its own Gaussian :func:`noise`."""
    return _finite(-stats.norm.logpdf(y - value, *own).mean())


def scores(formula: Formula, task: Task) -> dict[str, float | None]:
    """On the tail: share explained of the network's statistic and of the truth; NLL of the truth.

    The noise of the NLL is fitted where the formula is.
    """
    value = formula(task.tail)
    return {
        "r2_model": explained(value, task.model),
        "r2_true": explained(value, task.true, task.level),
        "nll": nll(value, task.true, noise(formula(task.x), task.truth)),
    }


def tabulate(task: Task, lags: Task, front: Front) -> tuple[pd.DataFrame, list[Formula]]:
    """The Pareto table of a task with its scores on the tail, and its formulas.

    `lags` is the same task with the last spacings for features: AR of as many terms as a formula
    has stands beside it as `ar_...`.
    """
    table, formulas = pareto(front.formulas, task.x, task.y, task.q, fit=False)
    beside = {}
    for terms in sorted(set(table["terms"])):
        own = replace(lags, x=lags.x[:, :terms], tail=lags.tail[:, :terms])
        beside[terms] = scores(front.rivals[terms], own)
    found = pd.DataFrame([scores(f, task) for f in formulas])
    rival = pd.DataFrame([beside[terms] for terms in table["terms"]]).add_prefix("ar_")
    table = pd.concat([table, found, rival], axis=1)
    table["chosen"] = np.arange(len(table)) == choose(table, len(task.y))
    return table, formulas


Key = tuple[str, str, str]  # of a task of the truth: spacings known, features, statistic
Fronts = dict[Key, Front]


def _level(statistic: str) -> float | None:
    return None if statistic == "mean" else float(statistic[1:])


def _sampled(fit: Targets, length: int, p: Distill) -> dict[str, Targets]:
    """The targets that formulas are fitted on, by class of spacings known."""
    rng, found = np.random.default_rng(p.seed), {}
    for known, (low, high) in classes(p.known, length).items():
        rows = np.flatnonzero((fit.known >= low) & (fit.known <= high))
        found[known] = fit[np.sort(rng.permutation(rows)[: p.samples])]
    return found


def fronts_of_truth(fit: Targets, length: int, p: Distill) -> Fronts:
    """Formulas for the true spacings: nothing of a network is in them.

    The structures are those found for the mean; a quantile's constants are of least pinball loss.
    """
    if "truth" not in p.targets:
        return {}
    with threadpool_limits(1, "blas"):  # as many threads as there are add in another order
        return _fronts_of_truth(fit, length, p)


def _fronts_of_truth(fit: Targets, length: int, p: Distill) -> Fronts:
    backend, given = choose_backend(p), {}
    for known, here in _sampled(fit, length, p).items():
        for features in p.features:
            names, x = here.features(features, p)
            check_finite([*names, "y"], np.column_stack([x, here.y]), "calibration")
            given[known, features] = names, x, here
    searches = [partial(SEARCHES[backend], x, here.y, n, p) for n, x, here in given.values()]
    texts = _searched(searches, backend)
    keys = [(*key, name) for key in given for name in p.statistics]
    calls = []
    for text, (names, x, here) in zip(texts, given.values(), strict=True):
        for name in p.statistics:
            calls.append(partial(fit_front, x, here.y, _level(name), here.lags, text, names))
    found = compute.map_forks(calls, "formulas for the truth")
    return dict(zip(keys, found, strict=True))


def _searched(searches: Sequence[Callable[[], list[str]]], backend: str) -> list[list[str]]:
    # Julia starts once a process, and that takes longer than a search.
    return compute.map_forks(searches, "searches for formulas", forks=backend != "pysr")


def distill(
    fit: Targets, tail: Targets, length: int, p: Distill, truth: Fronts | None = None
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Search and fit on some targets of `fit`, score every formula on `tail`.

    Parameters
    ----------
    truth : :func:`fronts_of_truth` of the same, where they are made already

    Returns
    -------
    table : DataFrame
        Those of all tasks, :func:`tabulate`, led by `target`, `statistic`, `features`, `known`.
    quoted : list of dict
        For the chosen formula of each task: its row; its `form` in constants k1, k2, ..., these
        `constants` with intervals, whether they are `identified`; `by_known`: `r2_model` and
        `r2_true` of targets by spacings known.
    """
    truth = fronts_of_truth(fit, length, p) if truth is None else truth
    with threadpool_limits(1, "blas"):  # as many threads as there are add in another order
        return _distill(fit, tail, length, p, truth)


def _distill(
    fit: Targets, tail: Targets, length: int, p: Distill, truth: Fronts
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    backend, kinds = choose_backend(p), []
    for known, here in _sampled(fit, length, p).items():
        low, high = classes(p.known, length)[known]
        above = tail[(tail.known >= low) & (tail.known <= high)]
        calls = [(t.forecasts, name) for t in (here, above) for name in p.statistics]
        values = compute.map_threads(calls, statistic)
        told = dict(zip(p.statistics, values, strict=False))
        seen = dict(zip(p.statistics, values[len(p.statistics) :], strict=True))
        for split, columns in (("calibration", {**told, "y": here.y}), ("val", seen)):
            check_finite([*columns], np.column_stack([*columns.values()]), split)
        for features in p.features:
            (names, x), (_, z) = here.features(features, p), above.features(features, p)
            check_finite(names, x, "calibration")
            check_finite(names, z, "val")
            kinds.append(_Kind(known, features, here, above, names, x, z, told, seen))
    of_model = [(k, name) for k in kinds for name in p.statistics if "model" in p.targets]
    searches = [partial(SEARCHES[backend], k.x, k.told[n], k.names, p) for k, n in of_model]
    found = _searched(searches, backend)
    texts = {(k.known, k.features, n): t for (k, n), t in zip(of_model, found, strict=True)}
    tasks = [
        (kind, target, name, truth[key] if target == "truth" else texts[key])
        for known in classes(p.known, length)
        for target, name in itertools.product(p.targets, p.statistics)
        for kind in kinds
        if (key := (kind.known, kind.features, name))[0] == known
    ]
    both = compute.map_forks([partial(_tabulated, *t, p) for t in tasks], "tables of formulas")
    return pd.concat([frame for frame, _ in both], ignore_index=True), [row for _, row in both]


@dataclass(frozen=True)
class _Kind:
    """Targets of one class of spacings known and their features, below the tail and in it."""

    known: str
    features: str
    here: Targets
    above: Targets
    names: list[str]
    x: Floats
    z: Floats
    told: dict[str, Floats]  # the network's statistics of `here`
    seen: dict[str, Floats]  # and of `above`


def _tabulated(
    kind: _Kind, target: str, name: str, given: Front | list[str], p: Distill
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table of one task and its chosen formula, from its front or what a search found."""
    here, above, level = kind.here, kind.above, _level(name)
    y, q = (kind.told[name], None) if target == "model" else (here.y, level)
    front = given
    if not isinstance(front, Front):
        front = fit_front(kind.x, y, q, here.lags, front, kind.names)
    task = Task(kind.x, y, q, here.y, here.window, kind.z, kind.seen[name], above.y, level)
    table, formulas = tabulate(task, replace(task, x=here.lags, tail=above.lags), front)
    key = {"target": target, "statistic": name, "features": kind.features, "known": kind.known}
    row = int(np.flatnonzero(table["chosen"])[0])
    quoted = key | _quote(formulas[row], table.iloc[row], task, above.known, p)
    return table.assign(**key)[[*key, *table.columns]], quoted


def write_fronts(path: str | Path, fronts: Fronts) -> None:
    """Keep fronts for :func:`read_fronts`."""
    rows = [
        {
            **dict(zip(("known", "features", "statistic"), key, strict=True)),
            "formulas": [
                {
                    "names": list(f.names),
                    "form": str(f.expression),
                    "constants": f.constants.tolist(),
                }
                for f in front.formulas
            ],
            "rivals": {str(terms): f.constants.tolist() for terms, f in front.rivals.items()},
        }
        for key, front in fronts.items()
    ]
    atomic.write_json(path, rows)


def read_fronts(path: str | Path) -> Fronts:
    """Fronts from their file; nothing of it is run as code.

    Raises
    ------
    ZetaError
        If the file is missing, damaged or of another form.
    """
    try:
        rows = json.loads(Path(path).read_bytes())
        if not isinstance(rows, list):
            raise ValueError("a list is expected")
        return {
            (str(row["known"]), str(row["features"]), str(row["statistic"])): Front(
                [read_form(f["form"], f["names"], f["constants"]) for f in row["formulas"]],
                {
                    int(terms): replace(
                        linear(lag_names(int(terms))),
                        constants=np.array(constants, dtype=np.float64),
                    )
                    for terms, constants in row["rivals"].items()
                },
            )
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"not a file of formulas ({' '.join(str(error).split())})"
        raise ZetaError(path, problem, "Run `dvc repro -f truth`.") from None


def _quote(
    formula: Formula, row: pd.Series[Any], task: Task, known: Ints, p: Distill
) -> dict[str, Any]:
    constants, identified = intervals(formula, task.x, task.y, task.window, p.seed, task.q)
    value, kind = formula(task.tail), skill.position_class(known)
    by_known = {
        str(k): {
            "r2_model": explained(value[kind == k], task.model[kind == k]),
            "r2_true": explained(value[kind == k], task.true[kind == k], task.level),
        }
        for k in np.unique(kind)
    }
    plain = {k: v for k, v in row.items() if k != "chosen"}
    return {
        **{str(k): v.item() if isinstance(v, np.generic) else v for k, v in plain.items()},
        "form": str(formula.expression),
        "constants": constants,
        "identified": identified,
        "by_known": by_known,
    }


# The published constant


def pi(tail: Targets, known: Sequence[int], length: int, seed: int) -> dict[str, Any]:
    """Is 3.1084 in s_n = 3.1084 / (s1 + s2 + s3) an artefact of bias?

    Yes, if forecasts with that constant overshoot and no way of fitting it gives it here, neither
    to true spacings nor to forecasts; no, if some way of fitting the true spacings gives it.

    Returns
    -------
    dict
        `answer`; `constants`: value and interval by series (true spacings, the network's means,
        those of each class of spacings known) and rule; `claims`, settled together, by name.
    """
    rows = tail[tail.known >= 3]
    x, mean = rows.lags[:, :3], rows.forecasts.mean()
    settled = claims.settle(
        [
            claims.is_pi(x, rows.y, "true spacings", seed),
            claims.is_pi(x, mean, "model means", seed),
            claims.is_bias(x, rows.y, mean, seed),
            claims.overshoots(x, rows.y, seed),
        ]
    )
    found = {
        "true spacings": constants_of(x, rows.y, rows.window, seed),
        "model means": constants_of(x, mean, rows.window, seed),
    }
    for name, (low, high) in classes(known, length).items():
        of = (rows.known >= low) & (rows.known <= high)
        found[f"model means, {name} known"] = constants_of(x[of], mean[of], rows.window[of], seed)
    reached = {k: any(c["high"] >= claims.ON_MODEL for c in v.values()) for k, v in found.items()}
    answer = "open"
    if reached["true spacings"]:
        answer = "no"
    elif not any(reached.values()) and settled[-1].verdict == "confirmed":
        answer = "yes"
    return {
        "question": f"is {claims.ON_MODEL} an artefact of bias?",
        "answer": answer,
        "constants": found,
        "claims": {claim.name: asdict(claim) for claim in settled},
    }


def constants_of(x: Floats, y: Floats, window: Ints, seed: int) -> dict[str, dict[str, float]]:
    """The c of y = c / (s1 + s2 + s3) by rules of fitting, with intervals: windows are drawn.

    Least squares; least absolute error; right on average, E[y] / E[1 / (s1 + s2 + s3)].
    """
    law = parse("3.0/(s1 + s2 + s3)", lag_names(3))
    found = {}
    for rule, q in (("least squares", None), ("least absolute error", 0.5)):
        start = claims.constant(x, y) if q is None else claims.least_absolute(x, y)
        best = replace(law, constants=np.array([start]))
        found[rule] = intervals(best, x, y, window, seed, q)[0][0]
    f = 1 / x.sum(1)
    drawn = bootstrap.bootstrap(np.stack([y, f]), window, seed)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [TAIL, 1 - TAIL])
    value = float(y.mean() / f.mean())
    found["right on average"] = {"value": value, "low": float(low), "high": float(high)}
    return found


def fronts(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Pareto fronts of one statistic for a plot: task, complexity, r2, series, formula.

    `r2` on the tail is of the task's own target; that of AR of as many terms stands beside it.
    """
    of = table[table["statistic"] == name]
    task = of["target"] + ", " + of["known"] + " known"
    parts = []
    for prefix, series in (("", ""), ("ar_", "AR, terms as ")):
        own = of[f"{prefix}r2_model"].where(of["target"] == "model", of[f"{prefix}r2_true"])
        part = pd.DataFrame({"task": task, "complexity": of["complexity"], "r2": own})
        parts.append(part.assign(series=series + of["features"], formula=of["formula"]))
    return pd.concat(parts, ignore_index=True).dropna()


BLANK = ("r2_model", "r2_true", "nll", "ar_r2_model", "ar_r2_true", "ar_nll")  # not finite on tail
QUOTED = ("formula", "terms", *BLANK)


def by_task(quoted: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The chosen formulas and their scores by target, statistic, features and spacings known."""
    found: dict[str, Any] = {}
    for row in quoted:
        place = found
        for key in ("target", "statistic", "features"):
            place = place.setdefault(row[key], {})
        place[row["known"]] = {key: row[key] for key in QUOTED}
    return found


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
