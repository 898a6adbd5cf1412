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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from zetalib import atomic
from zetalib.coasting import Coasting
from zetalib.errors import ZetaError
from zetalib.memory import Intervention
from zetalib.mixture import Mixture
from zetalib.model import SpacingMDN, similarity_gate
from zetalib.window import Windows

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
    batch: int = 64,
    intervene: Intervention | None = None,
) -> Mixture:
    """Forecasts of positions 2 ... T of each window, given only its earlier spacings.

    Parameters
    ----------
    spacing : tensor, shape (W, T)
    height : tensor, shape (W,)
        Rounded heights of the windows' first zeros (:meth:`zetalib.window.Windows.heights`).
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
        found = model(x, height[i : i + batch].to(device), intervene=intervene)
        parts.append(to_mixture(found))
    return Mixture(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("pi", "mu", "sigma")))


def next_spacing(
    model: SpacingMDN,
    intervene: Intervention | None = None,
    gated: bool = False,
    coasting: Coasting | None = None,
) -> Callable[[Floats, Floats], Mixture]:
    """The model as a function of contexts (B, T) and rounded heights (B,).

    It forecasts the next spacing, (B, K), by a pass over the whole context each time: what
    :class:`zetalib.decoding.Decoder` spares where nothing is done to the model's parts. `gated`:
    memory counts for as much as each context is like the training data
    (:func:`zetalib.model.similarity_gate`). `coasting` is shared by those that take turns in one
    rollout.
    """
    device = next(model.parameters()).device
    if coasting is None and model.config.inversion:
        coasting = Coasting(model.known)

    @torch.no_grad()
    def forecast(context: Floats, height: Floats) -> Mixture:
        model.eval()
        x = torch.from_numpy(context).to(device, model.takes)
        last = torch.tensor([x.shape[1] - 1], device=device)
        h = torch.from_numpy(height).to(device)
        done = intervene
        if gated:
            done = replace(intervene or Intervention(), gate=similarity_gate(model, x, h))
        inverted = None
        if coasting is not None:
            inverted = torch.from_numpy(coasting(context, height)).to(device)
        found = model(x, h, at=last, intervene=done, inverted=inverted)
        log_pi, mu, sigma = (part[:, 0] for part in found)
        return to_mixture((log_pi, mu, sigma))

    return forecast


def forecast(model: SpacingMDN, windows: Windows) -> Forecasts:
    """Forecast positions 2 ... T of each window from its earlier spacings."""
    m = forecast_windows(model, windows.spacing, windows.heights())
    k = m.pi.shape[-1]
    # Spacing j (0-based) of a window whose first spacing follows zero n is closed by n + j + 1.
    n = windows.n.numpy()[:, None] + np.arange(2, windows.spacing.shape[1] + 1)
    flat = Mixture(m.pi.reshape(-1, k), m.mu.reshape(-1, k), m.sigma.reshape(-1, k))
    return Forecasts(n.ravel(), windows.spacing[:, 1:].numpy().ravel(), flat)


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


def read(path: str | Path) -> Forecasts:
    """Read forecasts; ZetaError if the file is missing or not of the interface's form."""
    try:
        table = pq.read_table(path)
        parts = []
        for name in ("pi", "mu", "sigma"):
            column = table[name].combine_chunks()
            values = column.values.to_numpy(zero_copy_only=False).astype(np.float64)
            parts.append(values.reshape(-1, column.type.list_size))
        return Forecasts(table["n"].to_numpy(), table["y"].to_numpy(), Mixture(*parts))
    except (OSError, KeyError, ValueError, AttributeError, pa.ArrowException) as error:
        problem = f"not a table of forecasts ({' '.join(str(error).split())})"
        raise ZetaError(path, problem, "Run `dvc repro`.") from None
