"""Unfolding: heights to spacings of mean one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zetalib import atomic
from zetalib.errors import ZetaError
from zetalib.tables import parquet_files, write_table

Floats = NDArray[np.float64]
Variant = Literal["A", "B"]

SCHEMA = pa.schema([("n", pa.int64()), ("gamma", pa.float64()), ("spacing", pa.float64())])
LAGS = (1, 2, 3, 5, 10)


def spacings(gamma: Floats, gap: Floats, variant: Variant = "B") -> Floats:
    """Unfolded spacing after each zero, in mean spacings.

    Variant B is the increment of u(t) = t/(2 pi) log(t/(2 pi e)) from gamma to gamma + gap,

        s = [gap log(gamma/(2 pi e)) + (gamma + gap) log1p(gap/gamma)] / (2 pi),

    in which nothing cancels: u itself is never formed, so at t = 3e10 a spacing keeps all its
    digits where u(gamma + gap) - u(gamma) in float64 keeps five. Variant A is
    s = gap log(gamma) / (2 pi).

    Parameters
    ----------
    gamma, gap : float64 arrays, shape (n,)
        Height of each zero and exact distance to the next.
    """
    if variant == "A":
        return np.asarray(gap * np.log(gamma) / (2 * np.pi))
    density = np.log(gamma / (2 * np.pi * np.e))
    return np.asarray((gap * density + (gamma + gap) * np.log1p(gap / gamma)) / (2 * np.pi))


def autocorrelation(x: Floats, lags: tuple[int, ...] = LAGS) -> Floats:
    """Autocorrelation of `x`, shape (n,), at the given lags; NaN where there is no such lag."""
    d = x - x.mean()
    power = float(d @ d)
    return np.array([float(d[:-k] @ d[k:]) / power if k < len(x) else np.nan for k in lags])


def unfold_folder(zeros: str | Path, out: str | Path, variant: Variant = "B") -> dict[str, float]:
    """Unfold a decoded data set file by file; returns the statistics of the spacings.

    Writes, for each file, Parquet with columns `n`, `gamma` and `spacing`: the spacing from zero
    n to zero n + 1. The last zero of all has none and is left out.
    """
    parts: list[Floats] = []
    with atomic.replacing(out) as aside:
        aside.mkdir()
        for path in parquet_files(zeros):
            table = pq.read_table(path).filter(pa.compute.is_valid(pa.compute.field("gap")))
            gamma, gap = table["gamma"].to_numpy(), table["gap"].to_numpy()
            spacing = spacings(gamma, gap, variant)
            if not (np.isfinite(spacing) & (spacing > 0)).all():
                bad = int(np.argmin(np.isfinite(spacing) & (spacing > 0)))
                rank, height = table["n"][bad].as_py(), gamma[bad]
                problem = f"spacing {spacing[bad]} after the zero of rank {rank} at t = {height}"
                raise ZetaError(path, problem, "Decode again (`dvc repro -f decode`).")
            table = pa.table([table["n"], table["gamma"], pa.array(spacing)], schema=SCHEMA)
            write_table(table, aside / path.name)
            parts.append(spacing)
    return statistics(np.concatenate(parts))


def statistics(spacing: Floats) -> dict[str, float]:
    """Count, mean, std, min, max and autocorrelations of spacings, shape (n,)."""
    found = {
        "count": len(spacing),
        "mean": float(spacing.mean()),
        "std": float(spacing.std()),
        "min": float(spacing.min()),
        "max": float(spacing.max()),
    }
    acf = autocorrelation(spacing)
    found.update({f"acf{k}": float(r) for k, r in zip(LAGS, acf, strict=True) if np.isfinite(r)})
    return found
