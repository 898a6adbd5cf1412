"""How surely the verify stage finds a fault, and how near the named rank is.

    python benchmarks/verify_faults.py [--faults 200] [--seed 1]

Takes the decoded table of `data/zeros` (run `dvc repro verify` first) and spoils a copy: one zero
deleted, one given twice, one followed by another 1e-5 mean spacings on, each in random places;
then runs the stage's own check on every file from the spoilt one on, as it stands in the Parquet
files. Counting alone (without recomputing) is shown beside it. At the end, zeros are displaced,
less and less, to see what is still noticed. Nothing but `--folder` is written to.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zetalib import params
from zetalib.data import decode, parquet_folders, verify
from zetalib.errors import ZetaError
from zetalib.sources import riemann_siegel

Table = tuple[NDArray[np.float64], NDArray[np.float64]]  # heights and gaps


def read(path: Path) -> Table:
    columns = [
        parquet_folders.read_group(path, k, ["gamma", "gap"])
        for k in range(len(parquet_folders.groups(path)))
    ]
    table = pa.concat_tables(columns)
    return table["gamma"].to_numpy(), table["gap"].to_numpy()


def write(path: Path, first: int, gamma: NDArray[np.float64], gap: NDArray[np.float64]) -> None:
    n = np.arange(first, first + len(gamma))
    arrays = [pa.array(n), pa.array(gamma), pa.array(gap, from_pandas=True)]
    with parquet_folders.writing(path, decode.SCHEMA, "spoilt") as writer:
        writer.write_table(
            pa.table(arrays, schema=decode.SCHEMA), row_group_size=parquet_folders.ROWS
        )


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = [p for p in parquet_folders.parts("data/zeros") if p.rows]
        self.tables = [read(p.path) for p in self.parts]
        self.firsts = np.cumsum([1, *(len(g) for g, _ in self.tables)])
        self.total = int(self.firsts[-1]) - 1
        self.params = params.load().verify
        assert parquet_folders.read_group(self.parts[0].path, 0, ["n"])["n"][0].as_py() == 1

    def found(self, rank: int, change: str, by: float = 0.0) -> tuple[int | None, int | None]:
        """Ranks named by the stage's check and by counting alone, after spoiling `rank`."""
        k = int(np.searchsorted(self.firsts, rank, side="right")) - 1
        gamma, gap = self.tables[k]
        i = rank - int(self.firsts[k])
        step = by / (np.log(gamma[i] / 2 / np.pi) / 2 / np.pi)
        if change == "delete":
            gamma, gap = np.delete(gamma, i), np.delete(gap, i)
            if i:
                gap[i - 1] += self.tables[k][1][i]
        elif change == "double":
            gamma, gap = np.insert(gamma, i + 1, gamma[i] + step), np.insert(gap, i, step)
            gap[i + 1] -= step
        else:
            gamma, gap = gamma.copy(), gap.copy()
            gamma[i] += step
            gap[i] -= step
            if i:
                gap[i - 1] += step
        shift = len(gamma) - len(self.tables[k][0])
        counted = None
        before = self.tables[k - 1][0][-verify.WINDOW :] if k else np.empty(0)
        around = np.concatenate([before, gamma])
        if k + 1 < len(self.tables):
            around = np.concatenate([around, self.tables[k + 1][0][: 2 * verify.WINDOW]])
        first = int(self.firsts[k]) - len(before)
        fault = verify.locate(np.arange(first, first + len(around)), around)
        if fault is not None:
            counted = fault.rank
        path, previous = self.folder / "spoilt.parquet", self.parts[k - 1].path if k else None
        write(path, int(self.firsts[k]), gamma, gap)
        for later in range(k, len(self.parts)):
            if later > k:
                previous, path = path, self.folder / f"later_{later}.parquet"
                write(path, int(self.firsts[later]) + shift, *self.tables[later])
            try:
                verify.check_zeros(path, previous, 1, self.total + shift, self.params, True)
            except ZetaError as error:
                named = re.search(r"of rank (\d+)", str(error))
                assert named is not None, error
                return int(named[1]), counted
            if shift == 0:
                break  # the files after this one are as they were
        return None, counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    riemann_siegel.stretch = lru_cache(maxsize=None)(
        riemann_siegel.stretch
    )  # the same stretches over and over
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        bench = Bench(Path(scratch))
        rng = np.random.default_rng(options.seed)
        print(f"{bench.total:,} zeros, {options.faults} faults of a kind")
        print(
            "| fault | found | rank exact | within 1 | by counting alone: found | exact | "
            "within 2 | farthest |"
        )
        print("|---|---|---|---|---|---|---|---|")
        kinds = [("deleted", "delete", 0.0, 0), ("doubled", "double", 0.0, 1)]
        kinds += [("doubled, 1e-5 apart", "double", 1e-5, 1)]
        for name, change, by, place in kinds:
            ranks = rng.choice(np.arange(2, bench.total), options.faults, replace=False)
            found = [bench.found(int(rank), change, by) for rank in ranks]
            off = [
                abs(f[0] - r - place * (f[0] > r))
                for f, r in zip(found, ranks, strict=True)
                if f[0]
            ]
            counted = [
                abs(f[1] - r - place * (f[1] > r))
                for f, r in zip(found, ranks, strict=True)
                if f[1]
            ]
            print(
                f"| {name} | {len(off)} of {options.faults} | {off.count(0)} | "
                f"{sum(o <= 1 for o in off)} | {len(counted)} | {counted.count(0)} | "
                f"{sum(c <= 2 for c in counted)} | {max(counted)} |",
                flush=True,
            )
        for part, before in zip(bench.parts, [None, *bench.parts[:-1]], strict=True):
            old = before.path if before else None
            verify.check_zeros(part.path, old, 1, bench.total, bench.params, True)
        print("\nno fault in the true table; one zero displaced, in mean spacings:")
        print(
            "| ranks about | height | farthest from its recomputation, as it is | "
            "smallest displacement found, 20 of 20, at tolerance 2e-8 |"
        )
        print("|---|---|---|---|")
        bench.params = bench.params.model_copy(update={"tolerance": 2e-8})
        gamma = np.concatenate([heights for heights, _ in bench.tables])
        for rank in (500, 2_000, 20_000, 200_000, 1_000_000, 1_900_000):
            known = riemann_siegel.stretch(
                *next(riemann_siegel.pieces_from(float(gamma[rank - 1])))
            )
            _, distance = verify.compare(1, gamma, known, bench.params.tolerance)
            ranks = rank + rng.choice(rank // 20, 20, replace=False)
            smallest = np.inf
            for by in 10.0 ** np.arange(-1, -9.01, -0.25):
                if not all(bench.found(int(r), "displace", by)[0] == r for r in ranks):
                    break
                smallest = by
            print(
                f"| {rank:,} | {gamma[rank - 1]:,.0f} | {distance.max():.1e} | {smallest:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
