"""The controls beside zeta: statistics of the unfolded spacings in one table, GUE theory beside.

    python -m benchmarks.controls [--zeros N] [--sources gue poisson ...]

Each source runs through download, decode and unfold as in the pipeline, in a temporary folder.
Standard errors are those of the mean over STRETCHES equal stretches of the sequence.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import erf

from zetalib import circular, params, sources, tables, unfold, zeros
from zetalib.unfold import LAGS

Floats = NDArray[np.float64]

SOURCES = ("odlyzko", *params.CONTROLS)
STRETCHES = 50
LENGTHS = (1, 10, 100)  # of the intervals of the number variance
EDGES = np.append(np.linspace(0, 4, 81), np.inf)  # bins of the density


def measured(source: str, count: int | None) -> tuple[Floats, float]:
    """Spacings of a source after unfolding, and the seconds its download stage took."""
    chosen = {"source": source, "max_zeros": count}
    download = params.load().download.model_copy(update=chosen)
    with tempfile.TemporaryDirectory() as scratch:
        raw, decoded, unfolded = (Path(scratch) / name for name in ("raw", "zeros", "spacings"))
        with redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            sources.fetch(download, raw)
            seconds = time.perf_counter() - start
            zeros.decode_folder(raw, decoded)
            unfold.unfold_folder(decoded, unfolded)
        parts = [pq.read_table(p, columns=["spacing"]) for p in tables.parquet_files(unfolded)]
        return np.concatenate([part["spacing"].to_numpy() for part in parts]), seconds


def surmise(s: Floats) -> Floats:
    """Distribution function of the GUE surmise (32/pi^2) s^2 exp(-4 s^2/pi)."""
    return np.asarray(erf(2 * s / np.sqrt(np.pi)) - 4 * s / np.pi * np.exp(-4 * s**2 / np.pi))


def binned(distribution: Callable[[Floats], Floats]) -> Floats:
    """Chances of the bins between EDGES."""
    return np.diff(np.append(distribution(EDGES[:-1]), 1.0))


def divergences(chance: Floats) -> dict[str, float]:
    """KL and L1 distance of binned chances from the surmise."""
    expected = binned(surmise)
    filled = chance > 0
    ratio = chance[filled] / expected[filled]
    return {
        "KL to surmise": float(chance[filled] @ np.log(ratio)),
        "L1 to surmise": float(np.abs(chance - expected).sum()),
    }


def statistics(spacing: Floats) -> dict[str, float]:
    """Statistics of a stretch of spacings."""
    found = {"mean": float(spacing.mean()), "std": float(spacing.std())}
    found |= {
        f"acf {k}": float(r) for k, r in zip(LAGS, unfold.autocorrelation(spacing), strict=True)
    }
    found |= divergences(np.histogram(spacing, EDGES)[0] / len(spacing))
    found["fraction > 3"] = float((spacing > 3).mean())
    position = np.cumsum(spacing) / spacing.mean()
    for length in LENGTHS:
        edges = np.arange(0, position[-1], length)
        counts = np.diff(np.searchsorted(position, edges))
        found[f"number variance {length}"] = float(np.mean((counts - length) ** 2))
    return found


def theory() -> dict[str, float]:
    """What :func:`statistics` tends to for the bulk of the GUE."""
    found = {"mean": 1.0, "std": float(np.sqrt(circular.spacing_variances(1)[1]))}
    acf = circular.spacing_autocorrelation(LAGS)
    found |= {f"acf {k}": float(r) for k, r in zip(LAGS, acf, strict=True)}
    found |= divergences(binned(circular.spacing_distribution))
    found["fraction > 3"] = float(1 - circular.spacing_distribution(np.array([3.0]))[0])
    found |= {f"number variance {length}": circular.number_variance(length) for length in LENGTHS}
    return found


def column(spacing: Floats, seconds: float) -> dict[str, str]:
    """A source's column of the table: value and, in brackets, standard error."""
    whole = statistics(spacing)
    parts = [statistics(part) for part in np.array_split(spacing, STRETCHES)]
    cells = {}
    for name, value in whole.items():
        error = np.std([part[name] for part in parts], ddof=1) / np.sqrt(STRETCHES)
        # The density's distances from the surmise grow in short stretches: no error for them.
        cells[name] = f"{value:.6f}" + ("" if "surmise" in name else f" ({error:.6f})")
    cells |= {"min": f"{spacing.min():.3g}", "max": f"{spacing.max():.4f}"}
    return cells | {"spacings": f"{len(spacing):,}", "seconds": f"{seconds:.1f}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zeros", type=int, help="points of each source; 2,001,052 if left out")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    asked = parser.parse_args()
    table = {source: column(*measured(source, asked.zeros)) for source in asked.sources}
    table["GUE theory"] = {name: f"{value:.6f}" for name, value in theory().items()}
    print("| |" + "|".join(table) + "|\n|" + "---|" * (len(table) + 1))
    for name in next(iter(table.values())):
        print(f"|{name}|" + "|".join(cells.get(name, "") for cells in table.values()) + "|")


if __name__ == "__main__":
    main()
