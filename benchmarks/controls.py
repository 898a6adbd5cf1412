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
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zetalib import params
from zetalib.data import decode, parquet_folders, unfold, verify
from zetalib.data.unfold import LAGS, Accumulator
from zetalib.theory import unitary_ensemble, zeta

Floats = NDArray[np.float64]

SOURCES = ("odlyzko", *params.CONTROLS)
STRETCHES = 50
LENGTHS = (1, 10, 100)  # of the intervals of the number variance
GOLDEN = (np.sqrt(5) - 1) / 2
EDGES = np.linspace(
    0, 5, round(5 / verify.CELL) + 1
)  # cells of the density, as in the stage verify


def measured(source: str, count: int | None) -> tuple[Floats, float]:
    """Spacings of a source after unfolding, and the seconds its download stage took."""
    chosen = {"source": source, "max_zeros": count}
    download = params.load().download.model_copy(update=chosen)
    with tempfile.TemporaryDirectory() as scratch:
        raw, decoded, unfolded = (Path(scratch) / name for name in ("raw", "zeros", "spacings"))
        with redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            download.fetch(download, raw)
            seconds = time.perf_counter() - start
            decode.decode_folder(raw, decoded)
            unfold.unfold_folder(decoded, unfolded)
        parts = [
            pq.read_table(p.path, columns=["spacing"]) for p in parquet_folders.parts(unfolded)
        ]
        return np.concatenate([part["spacing"].to_numpy() for part in parts]), seconds


def divergences(share: Floats) -> dict[str, float]:
    """KL and L1 distance from the GUE surmise of the shares of spacings between EDGES."""
    expected, some = zeta.surmise_mass(EDGES), share > 0
    return {
        "KL to surmise": float((share[some] * np.log(share[some] / expected[some])).sum()),
        "L1 to surmise": float(np.abs(share - expected).sum()),
    }


def statistics(spacing: Floats) -> dict[str, float]:
    """Statistics of a stretch of spacings."""
    seen = Accumulator()
    seen.add(spacing)
    values = seen.statistics()
    found = {name: values[name] for name in ("mean", "std", "min", "max")}
    found |= {f"acf {k}": values[f"acf{k}"] for k in LAGS}
    found |= divergences(np.histogram(spacing, EDGES)[0] / len(spacing))
    found["fraction > 3"] = seen.above_3 / seen.count
    position = np.cumsum(spacing) / spacing.mean()
    for length in LENGTHS:
        # Starts at every phase of the unit: zeta, more rigid than GUE, keeps in step with a grid.
        starts = np.arange(0, position[-1] - length, length + GOLDEN)
        counts = np.searchsorted(position, starts + length) - np.searchsorted(position, starts)
        found[f"number variance {length}"] = float(np.mean((counts - length) ** 2))
    return found


def theory() -> dict[str, float]:
    """What :func:`statistics` tends to for the bulk of the GUE."""
    found = {"mean": 1.0, "std": float(np.sqrt(unitary_ensemble.spacing_variances(1)[1]))}
    acf = unitary_ensemble.spacing_autocorrelation(LAGS)
    found |= {f"acf {k}": float(r) for k, r in zip(LAGS, acf, strict=True)}
    found |= divergences(np.diff(unitary_ensemble.spacing_distribution(EDGES)))
    found["fraction > 3"] = float(1 - unitary_ensemble.spacing_distribution(np.array([3.0]))[0])
    found |= {
        f"number variance {length}": unitary_ensemble.number_variance(length) for length in LENGTHS
    }
    return found


def column(spacing: Floats, seconds: float) -> dict[str, str]:
    """A source's column of the table: value and, in brackets, standard error."""
    whole = statistics(spacing)
    parts = [statistics(part) for part in np.array_split(spacing, STRETCHES)]
    cells = {}
    for name, value in whole.items():
        error = np.std([part[name] for part in parts], ddof=1) / np.sqrt(STRETCHES)
        # Extremes and distances are not means over stretches: no error for them.
        shown = "" if name in ("min", "max") or "surmise" in name else f" ({error:.6f})"
        cells[name] = (f"{value:.3g}" if name == "min" else f"{value:.6f}") + shown
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
