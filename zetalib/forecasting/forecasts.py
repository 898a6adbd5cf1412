"""Forecasts as a file: the interface by which anyone can score a model independently.

One row a target, in the order of height: `n` (1-based rank of the zero that closes the target
spacing), `y` (the true spacing), `pi`, `mu`, `sigma` (fixed-size lists of K, in mean spacings
whatever the model works on inside), `split`. Targets are positions 2 ... T of each window; each
forecast was made from the earlier spacings of its window only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from zetalib import atomic
from zetalib.data.window import Windows
from zetalib.densities import mixture
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError
from zetalib.inverse.solutions import Solution, SolutionCache
from zetalib.network.memory import Intervention
from zetalib.network.model import Solve, SpacingMDN, similarity_gate, solver_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Forecasts:
    """Targets and forecasts in the order of height: `n`, `y` of shape (m,), `mixture` (m, K)."""

    n: NDArray[np.int64]
    y: Floats
    mixture: Mixture


def to_mixture(forecast: tuple[Tensor, Tensor, Tensor]) -> Mixture:
    """A forecast as a float64 :class:`Mixture` whose weights sum to one."""
    log_pi, mu, sigma = (a.detach().cpu().numpy().astype(np.float64) for a in forecast)
    pi = np.exp(log_pi)
    return Mixture(pi / pi.sum(-1, keepdims=True), mu, sigma)


@torch.no_grad()
def forecast_windows(
    model: SpacingMDN,
    spacing: Tensor,
    height: Tensor,
    solve: Solve,
    batch: int = 64,
    intervene: Intervention | None = None,
) -> Mixture:
    """Forecasts of positions 2 ... T of each window, given only its earlier spacings.

    Parameters
    ----------
    spacing : tensor, shape (W, T)
    height : tensor, shape (W,)
        Rounded heights of the windows' first zeros (:meth:`zetalib.data.window.Windows.heights`).
    solve : :func:`zetalib.network.model.solver_of` the model
    intervene : what is done to the model's parts, for diagnostics

    Returns
    -------
    Mixture
        Of shape (W, T - 1, K).
    """
    model.eval()
    device = next(model.parameters()).device
    parts = []
    for i in range(0, len(spacing), batch):
        x = spacing[i : i + batch, :-1].to(device, model.takes)
        h = height[i : i + batch].to(device)
        parts.append(to_mixture(model(x, h, solve(x, h), intervene=intervene)))
    return Mixture(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("pi", "mu", "sigma")))


def next_spacing(
    model: SpacingMDN,
    intervene: Intervention | None = None,
    gated: bool = False,
    fade: float = 1.0,
) -> Callable[[Floats, Floats, Solution | None, int], Mixture]:
    """The model as a function of contexts (B, T), rounded heights (B,), solutions (B, T), and step.

    It forecasts the next spacing, (B, K), by a pass over the whole context each time: what
    :class:`zetalib.forecasting.decoding.Decoder` spares where nothing is done to the model's parts.

    Parameters
    ----------
    gated : whether memory counts for as much as each context is like the training data
        (:func:`zetalib.network.model.similarity_gate`)
    fade : of what memory contributes, from one step of a rollout to the next
    """
    device = next(model.parameters()).device

    @torch.no_grad()
    def forecast(
        context: Floats, height: Floats, solution: Solution | None = None, step: int = 0
    ) -> Mixture:
        model.eval()
        x = torch.from_numpy(context).to(device, model.takes)
        last = torch.tensor([x.shape[1] - 1], device=device)
        h = torch.from_numpy(height).to(device)
        if solution is not None:
            solution = Solution(*(torch.from_numpy(part).to(device) for part in solution))
        done = intervene
        if fade != 1.0:
            done = replace(done or Intervention(), fade=fade**step)
        if gated:
            done = replace(done or Intervention(), gate=similarity_gate(model, x, h, solution))
        found = model(x, h, solution, at=last, intervene=done)
        log_pi, mu, sigma = (part[:, 0] for part in found)
        return to_mixture((log_pi, mu, sigma))

    return forecast


def targets(windows: Windows) -> tuple[NDArray[np.int64], Floats]:
    """Rank of the closing zero and true spacing of positions 2 ... T of each window, (m,)."""
    # Spacing j (0-based) of a window whose first spacing follows zero n is closed by n + j + 1.
    n = windows.n.numpy()[:, None] + np.arange(2, windows.spacing.shape[1] + 1)
    return n.ravel(), windows.spacing[:, 1:].numpy().ravel()


def forecast(model: SpacingMDN, windows: Windows, cache: SolutionCache | None = None) -> Forecasts:
    """Forecast positions 2 ... T of each window from its earlier spacings.

    `cache`: what is solved already, for a model that starts from solutions.
    """
    m = forecast_windows(model, windows.spacing, windows.heights(), solver_of(model, cache))
    k = m.pi.shape[-1]
    flat = Mixture(m.pi.reshape(-1, k), m.mu.reshape(-1, k), m.sigma.reshape(-1, k))
    return Forecasts(*targets(windows), flat)


def write(path: str | Path, forecasts: Forecasts, split: str) -> None:
    """Write forecasts to Parquet, atomically."""
    k = forecasts.mixture.pi.shape[1]

    def lists(values: Floats) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), k)

    m = forecasts.mixture
    table = pa.table(
        {
            "n": forecasts.n,
            "y": forecasts.y,
            "pi": lists(m.pi),
            "mu": lists(m.mu),
            "sigma": lists(m.sigma),
            "split": pa.array([split] * len(forecasts.n)),
        }
    )
    with atomic.replacing(path) as aside:
        pq.write_table(table, aside, compression="zstd")


COLUMNS = ("n", "y", "pi", "mu", "sigma", "split")


def read(path: str | Path, split: str | None = None, windows: Windows | None = None) -> Forecasts:
    """Read forecasts, whoever made them; other columns than the interface's are left alone.

    Parameters
    ----------
    split : what the column of that name says throughout; None: one value, whatever it is
    windows : of that split
        The rows must be their targets, each once, in the order of height, with their spacings.
        None: ranks need only ascend.

    Raises
    ------
    ZetaError
        If the file is missing, not of the interface's form or not of these windows, by the first
        row (from 0) and its rank: weights are >= 0 and sum to one within `mixture.SUM`, deviations
        are above 0, all numbers are there and finite.
    """

    def refused(problem: str) -> ZetaError:
        return ZetaError(path, problem, "Correct it (docs/format.md), or run `dvc repro`.")

    try:
        table = pq.read_table(path)
        for name in COLUMNS:
            if table.column_names.count(name) != 1:
                raise refused(f"{table.column_names.count(name)} columns {name}, expected one")
        if not len(table):
            raise refused("no rows, expected one a target")
        n, y = (_numbers(table, name, refused) for name in ("n", "y"))
        _check_targets(n, y, windows, refused)
        parts = [_lists(table, name, n, refused) for name in ("pi", "mu", "sigma")]
        for name, part in zip(("mu", "sigma"), parts[1:], strict=True):
            if part.shape != parts[0].shape:
                k = parts[0].shape[1]
                raise refused(f"{name} has {part.shape[1]} entries a row, expected {k} as pi has")
        if found := mixture.fault(*parts):
            row, problem = found
            raise refused(f"row {row} (rank {n[row]}): {problem}")
        named = table["split"].cast(pa.string()).combine_chunks()
        wanted = named[0].as_py() if split is None else split
        row = pc.index(pc.fill_null(pc.equal(named, wanted), False), False).as_py()
        if row >= 0:
            problem = f"split is {named[row].as_py()}, expected {wanted}"
            raise refused(f"row {row} (rank {n[row]}): {problem}")
        return Forecasts(n, y, Mixture(*parts))
    except (OSError, ValueError, pa.ArrowException) as error:
        problem = f"not a table of forecasts ({' '.join(str(error).split())})"
        raise ZetaError(path, problem, "Run `dvc repro`.") from None


Refused = Callable[[str], ZetaError]


def _numbers(table: pa.Table, name: str, refused: Refused) -> NDArray[Any]:
    """Column n or y: whole numbers, or numbers that are finite; none is missing."""
    column = table[name].combine_chunks()
    whole = name == "n"
    if not (pa.types.is_integer if whole else pa.types.is_floating)(column.type):
        raise refused(f"{name} is {column.type}, expected {'int64' if whole else 'double'}")
    values: NDArray[Any] = column.cast(pa.int64() if whole else pa.float64()).to_numpy(
        zero_copy_only=False
    )
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if missing.any():
        raise refused(f"row {missing.argmax()}: {name} is null, expected a number")
    if not np.isfinite(values).all():
        row = np.isfinite(values).argmin()
        raise refused(f"row {row}: {name} is {values[row]}, expected a finite number")
    return values


def _lists(table: pa.Table, name: str, n: NDArray[np.int64], refused: Refused) -> Floats:
    """Column pi, mu or sigma: lists of one length, no entry missing, shape (m, K)."""
    column = table[name].combine_chunks()
    kind = column.type
    is_list = any(
        f(kind) for f in (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
    )
    if not is_list or not pa.types.is_floating(kind.value_type):
        raise refused(f"{name} is {kind}, expected lists of double")
    length = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    if (length != max(length[0], 1)).any():
        row = (length != max(length[0], 1)).argmax()
        found = "is null" if length[row] < 0 else f"has {length[row]} entries"
        problem = f"{name} {found}, expected {max(length[0], 1)} entries"
        raise refused(f"row {row} (rank {n[row]}): {problem}")
    values = column.flatten()
    missing = values.is_null().to_numpy(zero_copy_only=False)
    if missing.any():
        row = missing.argmax() // length[0]
        raise refused(f"row {row} (rank {n[row]}): {name} holds null, expected numbers")
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
    return np.asarray(numbers.reshape(-1, length[0]))


def _check_targets(
    n: NDArray[np.int64], y: Floats, windows: Windows | None, refused: Refused
) -> None:
    """Rows are the targets of `windows`, or at least in a row."""
    if windows is None:
        if (np.diff(n) <= 0).any():
            row = (np.diff(n) <= 0).argmax() + 1
            raise refused(f"row {row}: rank {n[row]} after {n[row - 1]}, expected a higher one")
        return
    ranks, true = targets(windows)
    same = min(len(n), len(ranks))
    if (n[:same] != ranks[:same]).any():
        row = (n[:same] != ranks[:same]).argmax()
        raise refused(f"row {row}: rank {n[row]}, expected {ranks[row]}")
    if len(n) != len(ranks):
        count, length = windows.spacing.shape
        expected = f"expected {len(ranks)}: positions 2 to {length} of {count} windows"
        raise refused(f"{len(n)} rows, {expected}")
    if (y != true).any():
        row = (y != true).argmax()
        raise refused(f"row {row} (rank {n[row]}): y is {y[row]}, expected the spacing {true[row]}")
