"""Stage laws: spectra of the zeros, the published claims re-tested, what operator the network is.

Laws are those of the top of the training range, and of the val tail beside it; the network is
looked at on the calibration split.
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from zetalib import atomic, params
from zetalib.analysis import claims, linear_response
from zetalib.baselines import rivals
from zetalib.data import parquet_folders, window
from zetalib.data.window import Windows
from zetalib.errors import run_stage
from zetalib.forecasting import forecasts, interventions, rollout
from zetalib.inverse import solution_cache
from zetalib.network import model
from zetalib.theory import point_statistics
from zetalib.theory.point_statistics import Floats

DRAWS = 19_999  # frequencies without a peak


def record(windows: Windows, zeros: int) -> tuple[Floats, Floats]:
    """Heights and spacings of the last `zeros` of a split."""
    end = int(windows.n[0]) + windows.spacing.numel()
    first = max(int(windows.n[0]), end - zeros)
    found = pq.read_table(
        [part.path for part in parquet_folders.parts("data/spacings")],
        columns=["gamma", "spacing"],
        filters=[("n", ">=", first), ("n", "<", end)],
    )
    return found["gamma"].to_numpy(), found["spacing"].to_numpy()


def main() -> None:
    p = params.load()
    fit, near, tail = (window.load("data/windows", split) for split in window.SPLITS)
    network = model.load(
        "data/model", solution_cache.load("data/inversion/calibration.safetensors")
    )

    plots = []
    metrics: dict[str, Any] = {}
    for name, split in (("val", tail), ("train", fit)):
        gamma, spacing = record(split, p.laws.zeros)
        if p.unfold.variant == "A":  # laws are those of spacings of mean 1
            spacing = spacing * np.log(gamma / (2 * np.pi)) / np.log(gamma)
        table = point_statistics.laws(spacing, float(gamma.mean()))
        about = {"zeros": len(gamma), "from": gamma[0], "to": gamma[-1]}
        metrics[name] = about | {"laws": point_statistics.summary(table)}
        plots.append(table.assign(record=name))
    limit = min(p.laws.limit, point_statistics.told_apart(gamma))
    peaks = point_statistics.prime_peaks(gamma, limit, DRAWS, p.laws.seed)
    metrics["peaks"] = point_statistics.peaks_summary(peaks)

    horizon = p.laws.horizon
    some = rollout.stretches(near, p.laws.trajectories, p.evaluate.contexts[0], horizon)
    generated = rollout.rollout(
        interventions.forecasters(network, p.evaluate.model_copy(update={"horizons": [horizon]})),
        some.contexts,
        some.heights,
        horizon,
        "sample",
        np.random.default_rng(p.laws.seed),
        network.context,
    )
    told = forecasts.read("data/forecasts/calibration.parquet", "calibration", near)
    means = told.mixture.mean()
    ar = rivals.best_ar(fit, p.baselines.ar_orders, p.baselines.ar_skips)
    extracted, kernels, of_network = linear_response.extract(
        network, near, ar, p.laws.windows, p.laws.seed
    )
    found = claims.settle(
        [
            claims.acf_learned(generated, spacing, 10, p.laws.seed),
            *claims.of_spacings(spacing, p.laws.seed),
            *claims.of_forecasts(near.spacing.numpy(), means.reshape(len(near), -1), p.laws.seed),
            *of_network,
        ]
    )
    curves = pd.concat(plots).query("law != 'ratio'")  # that is one number
    for law, table in curves.groupby("law", sort=False):
        kernels[str(law).replace(" ", "_")] = table.drop(columns="law").dropna(axis=1, how="all")
    for name, table in {**kernels, "primes": peaks}.items():
        atomic.write_table(f"plots/laws/{name}.csv", table)
    metrics |= {"operator": extracted, "claims": claims.rows(found)}
    atomic.write_metrics("metrics/laws.json", metrics)
    for claim in found:
        print(f"{claim.name:20s} {claim.statistic:9.4f} p {claim.adjusted:.2g} {claim.verdict}")


if __name__ == "__main__":
    run_stage(main)
