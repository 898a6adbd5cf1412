"""Stage laws: spectra of the zeros, and the published claims about spacings re-tested.

Of the top of the training range, with the val tail beside it. Nothing here depends on a network;
what stage claims holds one against is made ready.
"""

from typing import Any

import numpy as np
import pandas as pd

from zetalib import atomic, params
from zetalib.analysis import claims, late_targets
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.theory import point_statistics

DRAWS = 19_999  # frequencies without a peak


def main() -> None:
    p = params.load()
    fit, near, tail = (window.load("data/windows", split) for split in window.SPLITS)
    tables = []
    metrics: dict[str, Any] = {}
    for name, split in (("val", tail), ("train", fit)):
        gamma, spacing = window.record(split, p.laws.zeros)
        if p.unfold.variant == "A":  # laws are those of spacings of mean 1
            spacing = spacing * np.log(gamma / (2 * np.pi)) / np.log(gamma)
        table = point_statistics.laws(spacing, float(gamma.mean()))
        about = {"zeros": len(gamma), "from": gamma[0], "to": gamma[-1]}
        metrics[name] = about | {"laws": point_statistics.summary(table)}
        tables.append(table.assign(record=name))
    limit = min(p.laws.limit, point_statistics.told_apart(gamma))
    peaks = point_statistics.prime_peaks(gamma, limit, DRAWS, p.laws.seed)
    metrics["peaks"] = point_statistics.peaks_summary(peaks)
    metrics["claims"] = claims.rows(claims.of_spacings(spacing, p.laws.seed))
    targets = late_targets.Targets.of(near, p.laws.windows)
    late_targets.write_means("data/laws.safetensors", late_targets.explicit_means(targets))
    curves = pd.concat(tables).query("law != 'ratio'")  # that is one number
    plots = {"primes": peaks}
    for law, table in curves.groupby("law", sort=False):
        plots[str(law).replace(" ", "_")] = table.drop(columns="law").dropna(axis=1, how="all")
    for name, table in plots.items():
        atomic.write_table(f"plots/laws/{name}.csv", table)
    atomic.write_metrics("metrics/laws.json", metrics)


if __name__ == "__main__":
    run_stage(main)
